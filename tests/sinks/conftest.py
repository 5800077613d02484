"""A history in ClickHouse's engine, in this process: one for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from sinks import schema
from sinks.embedded import Embedded

KEEP_DAYS = 3650
"""Rows of the past would be gone at once otherwise."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Embedded]:
    with Embedded(tmp_path / "history", "weir") as opened:
        schema.migrate(opened, KEEP_DAYS)
        yield opened
