"""Which messages Weir was asked about: by the smtpd and its order, and by queue id."""

import pytest

from agents.maillog import asked
from agents.maillog.asked import AskedMessages
from weir.events import Request

PID = 0x4703
NOW = 1_795_534_339.0
ID = "4jYmyW0Nsyz1SWGt"


def request(
    message: int = 0,
    time: float = NOW,
    queue_id: str = "",
    state: str = "RCPT",
    action: str = "DUNNO",
    pid: int = PID,
) -> Request:
    return Request(
        seq=1,
        time=time,
        protocol_state=state,
        instance=f"{pid:x}.6b05ae03.c4c9.{message}",
        queue_id=queue_id,
        action=action,
    )


def noted(*requests: Request) -> AskedMessages:
    known = AskedMessages()
    for one in requests:
        known.note(one)
    return known


def test_a_request_is_of_the_message_that_begins_after_it() -> None:
    known = noted(request())
    assert known.began(ID, PID, NOW)
    assert not known.began(ID, PID, NOW)


def test_of_several_recipients_it_is_one_message() -> None:
    known = noted(request(), request(time=NOW + 1), request(time=NOW + 2, queue_id="4jYmyW0Nsyz1SWGt"))
    assert known.began(ID, PID, NOW)
    assert not known.began(ID, PID, NOW + 3)
    assert known.knows("4jYmyW0Nsyz1SWGt")


def test_messages_of_one_session_that_the_log_tells_later() -> None:
    known = noted(*(request(number, NOW + 10 * number) for number in range(3)))
    assert [known.began(ID, PID, NOW + 10 * number) for number in range(4)] == [True, True, True, False]


def test_one_that_was_not_asked_about_leaves_the_next_ones_request() -> None:
    known = noted(request(0, NOW), request(2, NOW + 20))
    assert [known.began(ID, PID, NOW + 10 * number) for number in range(3)] == [True, False, True]


def test_another_smtpds_request_is_not_its_own() -> None:
    known = noted(request(pid=1))
    assert not known.began(ID, PID, NOW)
    assert known.began(ID, 1, NOW)


@pytest.mark.parametrize("one", [request(action="521 5.7.1 no"), request(state="MAIL"), request(time=NOW - 3600)])
def test_what_asks_about_no_message_of_now(one: Request) -> None:
    assert not noted(one).began(ID, PID, NOW)


def test_what_decides_nothing_by_itself_is_no_refusal() -> None:
    assert noted(request(action="DEFER_IF_REJECT later")).began(ID, PID, NOW)
    assert not noted(request(action="DEFER_IF_PERMIT later")).began(ID, PID, NOW)


def test_after_a_restart_requests_of_messages_that_had_begun_do_not_count_again() -> None:
    requests = [request(number, NOW + number) for number in range(3)]
    before = noted(*requests)
    assert before.began(ID, PID, NOW)
    assert before.began(ID, PID, NOW + 1)
    again = noted(*requests)
    again.passed.update(before.passed)
    assert again.began(ID, PID, NOW + 2)
    assert not again.began(ID, PID, NOW + 2)


def test_a_line_that_is_read_before_its_request_is_noted() -> None:
    known = AskedMessages()
    assert not known.began(ID, PID, NOW)
    known.note(request())
    assert known.knows(ID)
    assert not known.began("B", PID, NOW + 1)
    assert not known.knows("B")
    assert not known.knows(ID)


def test_one_request_for_both_is_taken_once() -> None:
    known = AskedMessages()
    assert not known.began(ID, PID, NOW)
    known.note(request())
    known.note(request(queue_id=ID, state="END-OF-MESSAGE"))
    assert known.knows(ID)
    assert not known.began("B", PID, NOW + 1)


@pytest.mark.parametrize("apart", [0.01, 1.0])
def test_nothing_is_said_of_messages_whose_requests_had_to_be_forgotten(
    monkeypatch: pytest.MonkeyPatch, apart: float
) -> None:
    """The log is behind, and one smtpd takes more meanwhile than is remembered of it."""
    monkeypatch.setattr(asked, "MAX_BEGUN", 5)
    times = [NOW + number * apart for number in range(20)]
    known = noted(*(request(number, time) for number, time in enumerate(times)))
    assert all(known.began(ID, PID, time) for time in [*times, times[14]])
    assert not known.began(ID, PID, NOW + 40)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "MAX_SMTPDS", 5)
    monkeypatch.setattr(asked, "MAX_QUEUE_IDS", 5)
    monkeypatch.setattr(asked, "MAX_UNSURE", 5)
    known = AskedMessages()
    for number in range(1, 21):
        known.note(request(pid=number))
        known.note(request(queue_id=f"A{number}"))
        known.began(f"B{number}", number + 100, NOW)
    assert [number for number in range(1, 21) if known.knows(f"A{number}")] == list(range(11, 21))
    assert len(known.passed) == len(known._smtpds) == len(known._unsure) == 5
