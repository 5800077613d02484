"""Seeds, a Kafka, and for each test a system of agents and workers of its own on it.

WEIR_SEEDS=N runs each test with N random seeds (`make soak`), WEIR_SEED=K with that one; else each has a fixed one.
"""

import itertools
import os
import random
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Literal

import pytest

from fleet.kafka import Kafka
from fleet.process import run_directory
from tests.faults.system import System, create_topics

_numbers = itertools.count(1)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", _seeds(metafunc.function.__name__), ids=lambda seed: f"seed={seed}")


def _seeds(name: str) -> list[int]:
    if one := os.environ.get("WEIR_SEED"):
        return [int(one)]
    if number := os.environ.get("WEIR_SEEDS"):
        return [random.SystemRandom().randrange(2**32) for _ in range(int(number))]
    return [zlib.crc32(name.encode())]


class TestsFailedError(Exception):
    """Tells run_directory that a test of the module failed: its files are wanted."""


def _scope(fixture_name: str, config: pytest.Config) -> Literal["module", "function"]:
    """The tests of a module share a Kafka, which takes some seconds to start; of many runs each has its own."""
    return "function" if "WEIR_SEEDS" in os.environ else "module"


@pytest.fixture(scope=_scope)
def directory(request: pytest.FixtureRequest) -> Iterator[Path]:
    failed_before = request.session.testsfailed
    with suppress(TestsFailedError), run_directory() as path:
        yield path
        if request.session.testsfailed > failed_before:
            raise TestsFailedError


@pytest.fixture(scope=_scope)
def kafka(directory: Path) -> Iterator[Kafka]:
    with Kafka(directory / "kafka") as broker:
        create_topics(broker, directory)
        yield broker


@pytest.fixture
def chosen(seed: int) -> random.Random:
    """Whatever a test leaves to chance."""
    return random.Random(seed)


@pytest.fixture
def system(directory: Path, kafka: Kafka, seed: int) -> Iterator[System]:
    number = next(_numbers)
    with System(directory / f"test{number}", kafka, f"t{number}", seed) as made:
        yield made
