"""Every recorded case of postfwd, by name; see `tests.rules.conformance`. Prints a line for each, captured or not."""

import os
from pathlib import Path

import pytest

from tests.rules import conformance
from tests.rules.conformance import Case, CasesError

try:
    CASES = conformance.load(os.environ.get(conformance.ENVIRONMENT))
except CasesError as error:
    raise pytest.Collector.CollectError(f"{conformance.ENVIRONMENT}: {error}") from None


@pytest.mark.fleet
@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_case(case: Case, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    try:
        replies = conformance.run(case, tmp_path)
    except Exception as error:  # no case is left out, and there is no third state
        replies = [f"<{type(error).__name__}: {error}>"]
    line = conformance.line(case, replies)
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    assert reporter is not None
    reporter.ensure_newline()
    reporter.write_line(line)
    assert line == f"ok {case['name']}"
