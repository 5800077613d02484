"""What an agent keeps of weir.decisions."""

import pytest

from agents import decisions as module
from agents.decisions import GRACE, Decisions
from weir import decisions
from weir.decisions import Decision, Evidence

ALICE = "sasl_username:alice@example.org"
NOW = 1000.0
KEY = decisions.key("burst", ALICE)


def decision(subject: str = ALICE, cause: str = "burst", until: float = NOW + 60, **other: object) -> Decision:
    identity = decisions.decision_id(subject, cause, NOW)
    made = Decision(
        decisions.VERSION,
        identity,
        subject,
        cause,
        decisions.action("Too much mail", cause, identity),
        Evidence("messages", 61, 60, 60, NOW),
        NOW,
        until,
    )
    for name, value in other.items():
        setattr(made, name, value)
    return made


def apply(known: Decisions, made: Decision) -> Decision | None:
    return known.apply(decisions.key(made.cause, made.subject), decisions.encoder.encode(made), NOW)


def action(known: Decisions, subject: str = ALICE, now: float = NOW, released: float = 0.0) -> str:
    found = known.blocking(subject, now, released)
    return found.action if found else ""


def test_a_decision_blocks_until_it_is_over() -> None:
    known = Decisions()
    made = decision()
    assert apply(known, made) == made
    assert action(known) == made.action
    assert action(known, now=NOW + 59.9) == made.action
    assert action(known, now=NOW + 60) == ""
    assert action(known, "sasl_username:bob@example.org") == ""


def test_the_newest_record_of_a_cause_replaces() -> None:
    known = Decisions()
    apply(known, decision())
    apply(known, decision(until=NOW + 100))
    assert action(known, now=NOW + 80)
    apply(known, decision(cause="limit", until=NOW + 200))
    assert known.apply(KEY, None, NOW) is None
    assert "[weir limit" in action(known), "another cause still blocks"
    known.apply(decisions.key("limit", ALICE), None, NOW)
    assert action(known) == ""
    assert len(known) == 0


@pytest.mark.parametrize("harmless", [{"shadow": True}, {"until": NOW}, {"until": NOW - GRACE}])
def test_a_shadow_or_an_old_one_blocks_nobody_and_replaces(harmless: dict[str, object]) -> None:
    known = Decisions()
    apply(known, decision())
    assert apply(known, decision(**harmless)) is None  # type: ignore[arg-type]
    assert action(known) == ""


def test_a_decision_that_seems_over_by_a_wrong_clock_blocks_when_the_clock_is_corrected() -> None:
    known = Decisions()
    made = decision(until=NOW - 60)
    assert apply(known, made) is None
    known.expire(NOW, 10)
    assert action(known, now=NOW - 61) == made.action


def test_a_release_that_was_not_taken_into_account_voids() -> None:
    known = Decisions()
    apply(known, decision(after=500.0))
    assert action(known, released=500.0)
    assert action(known, released=500.1) == ""


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (KEY, b""),
        (KEY, b"{}"),
        (KEY, b"\xff\xfe"),
        (KEY, b"[" * 100_000),
        (KEY, decisions.encoder.encode(decision(version=99))),
        (KEY, decisions.encoder.encode(decision(subject="sasl_username:bob@example.org"))),
        (b"", decisions.encoder.encode(decision())),
        (b"\xff \xff", None),
        (b"nospace", None),
    ],
)
def test_garbage_is_told_and_changes_nothing(key: bytes, value: bytes | None) -> None:
    known = Decisions()
    made = decision()
    apply(known, made)
    with pytest.raises((ValueError, RecursionError)):
        known.apply(key, value, NOW)
    assert action(known) == made.action


def test_expiry_in_slices() -> None:
    known = Decisions()
    for number in range(100):
        apply(known, decision(f"sasl_username:u{number}", until=NOW + (1 if number % 2 else 100)))
    over = NOW + GRACE + 50
    known.expire(over, 10)
    assert 90 <= len(known) < 100
    for _ in range(20):
        known.expire(over, 10)
    assert len(known) == 50
    assert action(known, "sasl_username:u0")
    apply(known, decision("sasl_username:new", until=NOW + 1))
    for _ in range(12):
        known.expire(over + 500, 10)
    assert len(known) == 0
    known.expire(over + 500, 10)


def test_of_limits_there_are_never_more_than_memory_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SUBJECTS", 3)
    known = Decisions()
    for number in range(5):
        made = decision(f"limit:{'0' * 16}:sender={number}", "limit")
        assert (apply(known, made) is not None) == (number < 3)
    assert (len(known), known.left_out) == (3, 2)
    apply(known, decision(f"limit:{'0' * 16}:sender=0", "limit", until=NOW + 90))
    assert known.blocking(f"limit:{'0' * 16}:sender=0", NOW + 80, 0.0), "what is there may go on"
    assert apply(known, decision()), "whom a detector blocks finds room"
    known.expire(NOW + 90 + GRACE, 10)
    assert apply(known, decision(f"limit:{'0' * 16}:sender=4", "limit"))


def test_an_action_is_kept_whole_whatever_it_holds() -> None:
    known = Decisions()
    for text in ("521 5.7.1 no id in it", "REJECT", "", "521 \0 x"):
        apply(known, decision(action=text))
        assert action(known) == text.replace("\0", " ")
