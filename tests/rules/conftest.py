"""How the recorded cases are told: by their own lines alone."""

import pytest


def pytest_report_teststatus(report: pytest.CollectReport | pytest.TestReport) -> tuple[str, str, str] | None:
    """A case that is right has its line `ok NAME`, and needs no sign beside it."""
    if report.passed and report.when == "call" and "test_conformance.py" in report.nodeid:
        return "passed", "", ""
    return None
