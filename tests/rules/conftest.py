"""How the recorded cases are told: by their own lines alone."""

import pytest


def pytest_report_teststatus(report: pytest.CollectReport | pytest.TestReport) -> tuple[str, str, str] | None:
    """A case has its line `ok NAME` or `FAIL NAME: …`, and needs no sign beside it."""
    if report.when == "call" and "test_conformance.py" in report.nodeid:
        return report.outcome, "", ""
    return None
