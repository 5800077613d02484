"""How old the fleet's knowledge of a host is, against a plain account of every event."""

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import freshness
from agents.freshness import Freshness
from weir.subjects import PARTITIONS


def heard(now: float) -> Freshness:
    """One that heard an echo of each partition at `now`."""
    known = Freshness()
    for partition in range(PARTITIONS):
        known.echo(partition, 0, now, now)
    return known


def test_unknown_until_each_partition_had_an_echo() -> None:
    known = Freshness()
    for partition in range(PARTITIONS):
        assert known.age(100.0) == -1.0
        known.echo(partition, 0, 99.0, 99.5)
    assert known.age(100.0) == 0.5


def test_what_is_not_counted_is_as_old_as_its_oldest_event() -> None:
    known = heard(100.0)
    known.appended(3, 100.0)
    known.appended(3, 104.0)
    assert known.age(110.0) == 10.0
    known.delivered(3, 7, 104.0)
    assert known.age(111.0) == 11.0
    known.echo(3, 7, 112.0, 112.0)  # counted up to before offset 7
    assert known.age(112.0) == 12.0
    for partition in range(PARTITIONS):
        known.echo(partition, 8, 113.0, 113.0)
    assert known.age(113.0) == 0.0


def test_the_worst_partition_counts() -> None:
    known = heard(100.0)
    for partition in range(PARTITIONS):
        known.echo(partition, 0, 105.0, 105.0 + partition)
    assert known.age(120.0) == 15.0


def test_silence_of_the_streams_makes_it_older() -> None:
    assert heard(100.0).age(160.0) == 60.0


def test_a_topic_made_anew_voids_what_waited_in_the_former_one() -> None:
    known = heard(100.0)
    known.delivered(5, 1000, 101.0)
    known.delivered(5, 0, 102.0)
    for partition in range(PARTITIONS):
        known.echo(partition, 1, 103.0, 103.0)
    assert known.age(103.0) == 0.0


def test_an_echo_before_the_report_counts_too() -> None:
    known = heard(100.0)
    known.appended(5, 101.0)
    for partition in range(PARTITIONS):
        known.echo(partition, 8, 102.0, 102.0)
    known.delivered(5, 7, 101.0)
    assert known.age(102.5) == 0.5


@dataclass
class Sent:
    """One event and what became of it."""

    time: float
    offset: int | None = None


APPEND = st.tuples(st.just("append"), st.integers(1, 3))
DELIVER = st.tuples(st.just("deliver"), st.integers(1, 2))
ECHO = st.tuples(st.just("echo"), st.integers(0, 3))
step = st.one_of(APPEND, DELIVER, APPEND, DELIVER, ECHO)


@pytest.mark.parametrize("marks", [4, 128])
@settings(max_examples=200, deadline=None)
@given(steps=st.lists(st.tuples(st.floats(0.0, 10.0), step), min_size=20, max_size=80))
def test_never_younger_than_the_truth_and_exact_when_all_is_counted(
    marks: int, steps: list[tuple[float, tuple[str, int]]]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(freshness, "MAX_MARKS", marks)
        known = heard(1000.0)
        now, offset, counted, echoed = 1000.0, 0, 0, 1000.0
        sent: list[Sent] = []
        for passed, (what, number) in steps:
            now += passed
            waiting = [event for event in sent if event.offset is None]
            if what == "append":
                for _ in range(number):
                    now += 0.001
                    sent.append(Sent(now))
                    known.appended(2, now)
            elif what == "deliver" and waiting:
                for event in waiting[:number]:
                    event.offset = offset
                known.delivered(2, offset, waiting[:number][-1].time)
                offset += 1
            elif what == "echo":
                counted = min(offset, counted + number)
                echoed = now
                known.echo(2, counted, now, now)
            for partition in set(range(PARTITIONS)) - {2}:
                known.echo(partition, 0, now, now)
            uncounted = [event.time for event in sent if event.offset is None or event.offset >= counted]
            truth = now - (uncounted[0] if uncounted else echoed)
            assert known.age(now) >= truth
            if not uncounted:
                assert known.age(now) == truth
        assert len(known._partitions[2].marks) <= marks


@given(times=st.lists(st.floats(0.0, 50.0), min_size=1, max_size=50), offset=st.floats(-5.0, 5.0))
def test_clock_offset_is_the_smallest_difference_of_the_last_minute(times: list[float], offset: float) -> None:
    known = Freshness()
    assert known.clock_offset == 0.0
    now = 1000.0
    echoes: list[tuple[float, float]] = []
    for delay in times:
        now += delay
        echoes.append((now, offset + delay / 10))
        known.echo(0, 0, now - echoes[-1][1], now)
        recent = [difference for received, difference in echoes if received >= now - freshness.CLOCK_SECONDS]
        assert known.clock_offset == pytest.approx(min(recent))


def test_quiet_are_partitions_that_got_nothing_for_five_seconds() -> None:
    known = Freshness()
    assert known.quiet(100.0) == list(range(PARTITIONS))
    known.appended(3, 100.0)
    known.delivered(4, 0, 102.0)
    assert known.quiet(104.9) == [0, 1, 2, 5, 6, 7, 8, 9, 10, 11]
    assert known.quiet(105.1) == [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11]
