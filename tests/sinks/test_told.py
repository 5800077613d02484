"""Which records of weir.decisions are told: each decision once, a shadow that becomes a block again, the brake once."""

from typing import Any

import pytest

from sinks.told import BRAKE_SECONDS, MOST, Told
from weir import decisions, limits
from weir.decisions import Decision, Evidence

NOON = 1_790_000_000.0
ALICE, BOB = "sasl_username:alice@example.org", "sasl_username:bob@example.org"


def record(subject: str = ALICE, since: float = NOON, cause: str = "burst", **fields: Any) -> Decision:
    known: dict[str, Any] = {"id": decisions.decision_id(subject, cause, since), "until": since + 3600}
    known |= {"version": 1, "subject": subject, "cause": cause, "action": "521 no", "since": since}
    known |= {"decided": since + 1}
    known["evidence"] = Evidence("messages", 61, 60, 60, since)
    return Decision(**(known | fields))


def shadow(subject: str = ALICE, why: str = "detector", **fields: Any) -> Decision:
    return record(subject, shadow=True, why_shadow=why, **fields)


def braked(number: int, decided: float) -> Decision:
    return shadow(f"sasl_username:user{number}@example.org", "brake", decided=decided)


@pytest.mark.parametrize(
    ("records", "told"),
    [
        pytest.param([record()], [True], id="the first"),
        pytest.param([record(), record()], [True, False], id="read again"),
        pytest.param([record(), record(change=1, until=NOON + 7200)], [True, False], id="extended"),
        pytest.param([record(), record(since=NOON - 5, change=1)], [True, False], id="moved, so with another id"),
        pytest.param([record(), record(since=NOON + 3600)], [True, True], id="the next block"),
        pytest.param([record(), record(BOB)], [True, True], id="another's"),
        pytest.param([shadow(), record(change=1)], [True, True], id="a shadow that becomes a block"),
        pytest.param([shadow(), shadow(change=1)], [True, False], id="a shadow that stays one"),
        pytest.param([shadow(), record(change=1), shadow(), record(change=1)], [True, True, False, False], id="again"),
        pytest.param([shadow(), record(since=NOON - 5, change=1)], [True, True], id="moved and not a shadow any more"),
        pytest.param([shadow(why="pause")], [True], id="a pause's"),
        pytest.param([record(cause=limits.CAUSE)], [False], id="a limit"),
        pytest.param([record(change=1)], [True], id="one whose first record is gone"),
    ],
)
def test_a_record_is_told(records: list[Decision], told: list[bool]) -> None:
    memory = Told()
    assert [memory.take(each) for each in records] == told


def test_the_brake_is_told_once_as_long_as_it_holds_blocks_back() -> None:
    memory = Told()
    ten_minutes = [braked(number, NOON + number * 30) for number in range(40)]
    assert [memory.take(each) for each in ten_minutes] == [True] + [False] * 39
    assert not memory.take(braked(40, ten_minutes[-1].decided + BRAKE_SECONDS))
    assert memory.take(braked(41, ten_minutes[-1].decided + 2 * BRAKE_SECONDS + 1))


def test_a_block_that_the_brake_held_back_is_told_when_it_comes() -> None:
    memory = Told()
    memory.take(braked(1, NOON))
    assert not memory.take(braked(2, NOON))
    assert memory.take(record("sasl_username:user2@example.org", change=1))


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST > 100_000
    monkeypatch.setattr("sinks.told.MOST", 2)
    memory = Told()
    first, *others = (record(f"sasl_username:user{number}@example.org") for number in range(3))
    for each in (first, *others):
        assert memory.take(each)
    assert not any(memory.take(each) for each in others)
    assert memory.take(first)
