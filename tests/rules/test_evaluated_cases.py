"""The recorded cases of postfwd, evaluated in process: what `test_conformance` does in a real agent, in a second."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rules import conformance, driving
from tests.rules.conformance import Case

CASES = conformance.load(os.environ.get(conformance.ENVIRONMENT))


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_case(case: Case, tmp_path: Path) -> None:
    assert conformance.line(case, driving.run(case, tmp_path)) == f"ok {case['name']}"
