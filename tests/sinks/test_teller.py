"""A teller: few messages in a storm, tries until it is out, gives up at last, and says how far it is."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from fleet.process import wait_until
from sinks import teller
from sinks.alerts import Message
from sinks.teller import GAP_SECONDS, TOGETHER_SECONDS, Pace, Teller
from tests.sinks.test_told import record
from weir.decisions import Decision


@contextmanager
def telling(send: Callable[[Message], str]) -> Iterator[Teller]:
    made = Teller("1 test", send)
    try:
        yield made
    finally:
        made.stop()
        made.join()
        assert not made.alive


def lasting(number: int = 0) -> Decision:
    return record(f"sasl_username:user{number}@example.org", until=4e9)


def over() -> Decision:
    return record(until=1.0)


def test_the_first_waits_shortly_and_a_storm_ever_longer() -> None:
    """500 decisions, one each second."""
    pace, messages, free = Pace(), 0, 0.0
    for second in range(500):
        if second >= free:  # the one before went out
            free = second + pace.wait(float(second))
            pace.sent(free)
            messages += 1
            if second == 0:
                assert free == TOGETHER_SECONDS
    assert messages < 20


def test_after_a_quiet_time_the_pace_is_the_first_one() -> None:
    pace = Pace()
    now = 0.0
    for _ in range(10):
        now += pace.wait(now)
        pace.sent(now)
    assert pace.wait(now) == GAP_SECONDS[1]
    pace.sent(now)
    assert pace.wait(now + GAP_SECONDS[1]) == TOGETHER_SECONDS


def test_what_comes_together_is_one_message() -> None:
    sent: list[Message] = []

    def send(message: Message) -> str:
        sent.append(message)
        return ""

    with telling(send) as made:
        for number in range(10):
            made.give(lasting(number))
        made.give(over())
        wait_until(lambda: made.finished == 11, 5, "the message")
    assert [message.title for message in sent] == ["Weir blocked 10 senders"]
    assert (made.counts.sent, made.counts.over, made.counts.messages) == (10, 1, 1)


def test_what_comes_while_it_fails_is_in_the_message_that_goes_out() -> None:
    sent: list[Message] = []
    more = threading.Event()

    def send(message: Message) -> str:
        sent.append(message)
        if len(sent) == 1:
            more.wait(5)
            return "away"
        return ""

    with telling(send) as made:
        made.give(lasting(1))
        wait_until(lambda: sent, 5, "the first attempt")
        made.give(lasting(2))
        assert made.finished == 0
        more.set()
        wait_until(lambda: made.finished == 2, 5, "the second attempt")
    assert [message.title[:16] for message in sent] == ["Weir blocked use", "Weir blocked 2 s"]
    assert (made.counts.failures, made.counts.messages) == (1, 1)


def test_it_gives_up_after_a_time_and_tells_what_comes_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teller, "GIVE_UP_SECONDS", TOGETHER_SECONDS + 0.2)
    works = threading.Event()

    with telling(lambda _: "" if works.is_set() else "away") as made:
        made.give(lasting(1))
        wait_until(lambda: made.finished == 1, 10, "giving up")
        assert (made.counts.given_up, made.counts.sent, made.waiting) == (1, 0, 0)
        works.set()
        made.give(lasting(2))
        wait_until(lambda: made.finished == 2, 10, "the next")
        assert (made.counts.given_up, made.counts.sent) == (1, 1)


def test_it_stops_at_once_while_it_fails() -> None:
    tried = threading.Event()

    def send(_: Message) -> str:
        tried.set()
        return "away"

    with telling(send) as made:
        made.give(lasting())
        assert tried.wait(5)
    assert made.finished == 0
