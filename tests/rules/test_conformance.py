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
    _tell(request.config.pluginmanager, line)
    assert line == f"ok {case['name']}"


def _tell(plugins: pytest.PytestPluginManager, line: str) -> None:
    """Print a line of its own, whatever is captured and wherever the cursor is."""
    capture, reporter = plugins.get_plugin("capturemanager"), plugins.get_plugin("terminalreporter")
    assert capture is not None
    assert reporter is not None
    with capture.global_and_fixture_disabled():
        reporter.ensure_newline()
        reporter.write_line(line)
