"""The folder of a module of tests on real parts."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from fleet.process import run_directory


class TestsFailedError(Exception):
    """Tells run_directory that a test of the module failed: its files are wanted."""


@pytest.fixture(scope="module")
def directory(request: pytest.FixtureRequest) -> Iterator[Path]:
    failed_before = request.session.testsfailed
    with suppress(TestsFailedError), run_directory() as path:
        yield path
        if request.session.testsfailed > failed_before:
            raise TestsFailedError
