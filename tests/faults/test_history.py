"""The history under faults: raw events and roll-ups hold each event once."""

import itertools
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.clickhouse import KEEP_DAYS, ClickHouse, Given, given_or_own
from fleet.kafka import Kafka
from fleet.own import Sink, Table
from fleet.process import wait_until
from fleet.reading import read_topic
from tests.faults.history import Sinks, Stream
from tests.faults.system import create_topics, kill
from weir import topics

pytestmark = [pytest.mark.fleet, pytest.mark.soak, pytest.mark.timeout(240)]

DAY = 86400.0
_numbers = itertools.count(1)


@pytest.fixture
def kafka(directory: Path) -> Iterator[Kafka]:
    """Of its own for each test: a history holds all that its topics do."""
    where = directory / f"kafka{next(_numbers)}"
    with Kafka(where) as broker:
        create_topics(broker, where)
        yield broker


@pytest.fixture
def clickhouse(directory: Path) -> Iterator[ClickHouse]:
    with ClickHouse(directory / f"clickhouse{next(_numbers)}") as server:
        yield server


@pytest.fixture
def any_clickhouse(directory: Path) -> Iterator[ClickHouse | Given]:
    with given_or_own(directory / f"clickhouse{next(_numbers)}") as server:
        yield server


@pytest.fixture(params=["server", "embedded"])
def history(request: pytest.FixtureRequest) -> Table:
    """Settings of a history in Debian's ClickHouse, or in the sink itself."""
    if request.param == "embedded":
        return {"keep_days": KEEP_DAYS}
    server: ClickHouse | Given = request.getfixturevalue("any_clickhouse")
    made = server.history(f"weir_faults{next(_numbers)}")
    return {"server": made.server, "database": made.database, "keep_days": KEEP_DAYS}


@pytest.fixture
def sinks(directory: Path, kafka: Kafka, history: Table) -> Iterator[Sinks]:
    name = f"h{next(_numbers)}"
    with Sinks(directory / name, kafka, name, history) as made:
        yield made


@pytest.fixture
def server_sinks(directory: Path, kafka: Kafka, clickhouse: ClickHouse) -> Iterator[Sinks]:
    name = f"s{next(_numbers)}"
    made = {"server": clickhouse.history().server, "keep_days": KEEP_DAYS}
    with Sinks(directory / name, kafka, name, made) as sinks:
        yield sinks


@pytest.fixture
def stream(kafka: Kafka, seed: int) -> Stream:
    return Stream("h", kafka.bootstrap, seed)


def test_the_sink_is_killed_between_inserts_and_commits(sinks: Sinks, stream: Stream, chosen: random.Random) -> None:
    sink = sinks.add()
    for _ in range(3):
        stream.write(3000)
        stream.decide(20)
        stored = sink.metrics().get("weir_sink_events_total", 0.0)
        wait_until(lambda: sink.metrics().get("weir_sink_events_total", 0.0) > stored, 30, "an insert")  # noqa: B023
        stream.write(3000)
        time.sleep(chosen.random() * 8)  # any moment: before an insert, after it, among the roll-ups, after a commit
        kill(sink)
    stream.begin_epoch()
    stream.write(2000)
    stream.send_again(300)
    sinks.assert_exact(stream)


def test_events_are_sent_again_and_days_begin_in_the_middle_of_a_batch(sinks: Sinks, stream: Stream) -> None:
    sinks.add()
    midnight = time.time() // DAY * DAY
    stream.write(4000, midnight - 2000, 4000)
    sinks.wait_committed()
    stream.send_again(300)
    stream.begin_epoch()
    stream.write(1000, midnight - 100, 200)
    stream.send_again(300)
    stream.garbage()
    sinks.assert_exact(stream)
    dead = read_topic(sinks._kafka.bootstrap, topics.DEAD)
    assert len({letter.key for letter in dead}) == 12


def test_two_sinks_share_the_work_and_one_of_them_is_frozen(server_sinks: Sinks, stream: Stream) -> None:
    sinks = server_sinks
    first, second = sinks.add(), sinks.add()
    stream.write(4000)
    sinks.wait_committed()
    first.freeze()
    stream.write(4000)
    stream.decide(20)
    sinks.wait_committed()  # by the second alone, once the group has given the first up
    first.thaw()
    stream.write(4000)
    sinks.assert_exact(stream)
    assert first.restarts == second.restarts == 0


def test_kafka_is_stopped_and_started(sinks: Sinks, stream: Stream, kafka: Kafka) -> None:
    sink = sinks.add()
    stream.write(3000)
    wait_until(lambda: sink.metrics().get("weir_sink_events_total", 0.0) > 0, 30, "an insert")
    kafka.stop()
    time.sleep(8)  # longer than a commit waits
    kafka.start()
    stream.write(3000)
    sinks.assert_exact(stream)
    assert sink.restarts == 0


def test_clickhouse_is_stopped_killed_and_started(
    server_sinks: Sinks, clickhouse: ClickHouse, stream: Stream, chosen: random.Random
) -> None:
    sink, other = server_sinks.add(), server_sinks.add()
    for stop in (clickhouse.stop, clickhouse.kill):
        stream.write(3000)
        time.sleep(chosen.random() * 2)
        stop()
        stream.write(3000)
        errors = _errors(sink)
        wait_until(lambda: _errors(sink) > errors, 30, "a refusal")  # noqa: B023
        if stop == clickhouse.kill:  # the group changes while the sink waits
            assigned = len(sink.logged("assigned"))
            kill(other)
            wait_until(lambda: len(sink.logged("assigned")) > assigned, 30, "the other's share")  # noqa: B023
        clickhouse.start()
    server_sinks.assert_exact(stream)
    assert sink.restarts == 0


def _errors(sink: Sink) -> float:
    return sink.metrics().get("weir_sink_store_errors_total", 0.0)
