"""What `weir release` tells of the hosts' queues."""

import pytest

from weir.cli import queue_answers
from weir.events import Queue


def answer(how: str, messages: int, error: str = "") -> Queue:
    return Queue(seq=1, time=0.0, subject="uid:33", how=how, messages=messages, cause="word", error=error)


def test_each_host_tells_what_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    queue_answers.show({"mx2": answer("released", 0, "no helper"), "mx1": answer("released", 3), "mx3": None})
    told = capsys.readouterr()
    assert told.out.splitlines() == [
        "  mx1: 3 messages released and tried now",
        "  mx2: 0 messages released and tried now, and not all: no helper",
    ]
    assert "no word of their queues from mx3" in told.err


def test_what_is_left_on_hold_is_told_with_the_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    queue_answers.show({"mx1": answer("left", 1), "mx2": answer("left", 0)})
    told = capsys.readouterr().out.splitlines()
    assert told[0] == "  mx1: 1 message still on hold"
    assert "--queue release" in told[1]
    queue_answers.show({"mx1": answer("left", 0), "mx2": answer("left", 0)})
    assert capsys.readouterr().out == "  none of its mail is on hold\n"


def test_without_hosts_there_is_nothing_to_tell(capsys: pytest.CaptureFixture[str]) -> None:
    queue_answers.show({})
    assert capsys.readouterr().out == ""
