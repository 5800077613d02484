"""Message counts: one message is counted once, wherever Weir is asked."""

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import message_counts
from agents.message_counts import Counts, MessageCounts
from weir.events import Request

EOM = "END-OF-MESSAGE"


class Asked(NamedTuple):
    """A request, as `MessageCounts.count` is told of it."""

    state: str
    instance: str
    recipient_count: int = 0
    size: int = 0
    accepted: bool = True
    time: float = 1000.0


def total(asked: list[Asked], counts: MessageCounts | None = None) -> Counts:
    counts = MessageCounts() if counts is None else counts
    return Counts(*map(sum, zip(*(counts.count(*one) for one in asked), strict=True))) if asked else Counts()


def at_recipients(instance: str, recipients: int) -> list[Asked]:
    return [Asked("RCPT", instance)] * recipients


def test_recipients_and_then_the_end() -> None:
    counts = MessageCounts()
    assert counts.count(*Asked("RCPT", "a")) == Counts(1, 1, 0, 1, 1)
    assert counts.count(*Asked("RCPT", "a")) == Counts(0, 1, 0, 0, 1)
    assert counts.count(*Asked("DATA", "a", 2)) == Counts()
    assert counts.count(*Asked(EOM, "a", 3, 700)) == Counts(0, 1, 700, 0, 1)
    assert len(counts) == 0


def test_what_is_refused_is_attempted_only() -> None:
    counts = MessageCounts()
    assert counts.count(*Asked("RCPT", "a", accepted=False)) == Counts(0, 0, 0, 1, 1)
    assert counts.count(*Asked("RCPT", "a")) == Counts(1, 1, 0, 0, 1)
    assert counts.count(*Asked(EOM, "a", 2, 700, accepted=False)) == Counts()


@pytest.mark.parametrize("state", ["CONNECT", "EHLO", "HELO", "MAIL", "VRFY", "ETRN", "", "nonsense"])
def test_other_states_count_nothing(state: str) -> None:
    assert total([Asked(state, "a", 3, 700)]) == Counts()


def test_a_request_without_an_instance_counts_by_itself() -> None:
    assert total(at_recipients("", 2)) == Counts(2, 2, 0, 2, 2)
    assert total([Asked(EOM, "", 3, 700)]) == Counts(1, 3, 700, 1, 3)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 9999)), max_size=6), st.data())
def test_sums_agree_for_all_placements(messages: list[tuple[int, int]], data: st.DataObject) -> None:
    """(recipients, size) of accepted messages, their requests mixed as concurrent sessions mix them."""
    placements: list[list[Asked]] = [[], [], []]
    for number, (recipients, size) in enumerate(messages):
        rcpt = at_recipients(str(number), recipients)
        end = [Asked(EOM, str(number), recipients, size)]
        for placement, asked in zip(placements, (rcpt, end, rcpt + end), strict=True):
            placement.append(asked)  # type: ignore[arg-type]
    at_rcpt, at_end, both = (total(mixed(placement, data)) for placement in placements)  # type: ignore[arg-type]
    assert at_end == both
    assert at_rcpt == both._replace(bytes=0)
    recipients = sum(count for count, _ in messages)
    assert both == (len(messages), recipients, sum(size for _, size in messages), len(messages), recipients)


def mixed(sessions: list[list[Asked]], data: st.DataObject) -> list[Asked]:
    """One order of all requests that keeps each session's own."""
    turns = data.draw(st.permutations([number for number, session in enumerate(sessions) for _ in session]))
    left = [iter(session) for session in sessions]
    return [next(left[number]) for number in turns]


asked_at_random = st.builds(
    Asked,
    st.sampled_from(["RCPT", "RCPT", "DATA", EOM, "MAIL"]),
    st.sampled_from(["a", "b", "c", ""]),
    st.integers(0, 5),
    st.integers(0, 100),
    st.booleans(),
)


@given(st.lists(asked_at_random, max_size=12), st.integers(0, 12))
def test_replaying_events_restores_the_state(asked: list[Asked], restart: int) -> None:
    straight = MessageCounts()
    expected = [straight.count(*one) for one in asked]
    restarted = MessageCounts()
    for one in asked[:restart]:
        restarted.replay(
            Request(
                seq=1,
                time=one.time,
                protocol_state=one.state,
                action="DUNNO" if one.accepted else "521 5.7.1 no",
                instance=one.instance,
                recipient_count=one.recipient_count,
                size=one.size,
            )
        )
    assert [restarted.count(*one) for one in asked[restart:]] == expected[restart:]


@given(st.lists(asked_at_random, max_size=20))
def test_accepted_never_exceeds_attempted(asked: list[Asked]) -> None:
    sums = total(asked)
    assert sums.messages <= sums.attempted_messages
    assert sums.recipients <= sums.attempted_recipients


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_counts, "MAX_MESSAGES", 10)
    monkeypatch.setattr(message_counts, "BATCH", 5)
    counts = MessageCounts()
    for number in range(100):
        counts.count(*Asked("RCPT", str(number)))
        assert len(counts) <= 15
    assert (len(counts), counts.forgotten) == (10, 90)
    assert counts.count(*Asked(EOM, "89", 1)).messages == 1, "the oldest went"
    assert counts.count(*Asked(EOM, "90", 1)).messages == 0


def test_a_message_is_forgotten_after_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message_counts, "BATCH", 3)
    counts = MessageCounts()
    counts.count(*Asked("RCPT", "old", time=0.0))
    counts.count(*Asked("RCPT", "young", time=1.0))
    counts.count(*Asked("RCPT", "new", time=3600.5))
    assert (len(counts), counts.forgotten) == (2, 0)
