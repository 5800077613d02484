"""Tallies: what one event means for one subject."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir import subjects, tallies
from weir.events import Heartbeat, Request
from weir.limits import Hit
from weir.tallies import Tally

ACCOUNT = "sasl_username:alice@example.org"
CLIENT = "client_address:192.0.2.10"


def request(**more: object) -> Request:
    given_: dict[str, object] = {
        "seq": 7,
        "time": 1000.0,
        "protocol_state": "RCPT",
        "sasl_username": "alice@example.org",
        "client_address": "192.0.2.10",
        "messages": 1,
        "recipients": 2,
        "attempted_messages": 1,
        "attempted_recipients": 2,
    }
    return Request(**given_ | more)  # type: ignore[arg-type]


def test_account_and_client_are_counted_and_know_each_other() -> None:
    assert tallies.tallies(request()) == [
        Tally(7, ACCOUNT, 1000.0, 1, 2, 0, 1, 2, CLIENT),
        Tally(7, CLIENT, 1000.0, 1, 2, 0, 1, 2, ACCOUNT),
    ]


def test_time_is_by_the_brokers_clock() -> None:
    assert {one.time for one in tallies.tallies(request(clock_offset=30.0))} == {970.0}


def test_without_a_login_the_client_alone_is_counted() -> None:
    assert [one.subject for one in tallies.tallies(request(sasl_username=""))] == [CLIENT]


def test_without_an_address_the_account_alone_is_counted() -> None:
    found = tallies.tallies(request(client_address="unknown"))
    assert [(one.subject, one.beside) for one in found] == [(ACCOUNT, "")]


def test_what_counts_nothing_gives_no_tally() -> None:
    counts = dict.fromkeys(("messages", "recipients", "attempted_messages", "attempted_recipients"), 0)
    assert tallies.tallies(request(**counts)) == []


def test_a_refused_message_counts_as_attempted_only() -> None:
    account, _ = tallies.tallies(request(messages=0, recipients=0, action="521 5.7.1 no"))
    assert (account.messages, account.recipients, account.attempted_recipients) == (0, 0, 2)


def test_a_heartbeat_counts_nothing_and_reaches_each_quiet_partition() -> None:
    found = tallies.tallies(
        Heartbeat(seq=9, time=1000.0, clock_offset=-1.0, version="1", host="mx1", quiet_partitions=[0, 5])
    )
    assert [(one.seq, one.time, subjects.partition(one.subject)) for one in found] == [(9, 1001.0, 0), (9, 1001.0, 5)]
    assert all(subjects.is_heartbeat(one.subject) and one.messages == 0 for one in found)


DAILY = Hit("ab" * 8, "sasl_username=alice@example.org", 3, 100.0, 86400.0, "rcpt DAILY")


def test_a_limit_that_counted_an_accepted_request_is_a_tally_of_its_own() -> None:
    *_, one = tallies.tallies(request(limits=[DAILY], clock_offset=30.0))
    assert one.subject == "limit:abababababababab:sasl_username=alice@example.org"
    assert (one.seq, one.time, one.increment, one.maximum, one.seconds) == (7, 970.0, 3, 100.0, 86400.0)
    assert (one.what, one.messages, one.recipients) == ("rcpt DAILY", 0, 0)


def test_limits_count_where_accounts_and_clients_do_not() -> None:
    counts = dict.fromkeys(("messages", "recipients", "attempted_messages", "attempted_recipients"), 0)
    assert [one.increment for one in tallies.tallies(request(**counts, limits=[DAILY]))] == [3]


@pytest.mark.parametrize("action", ["REJECT", "450 later", "521 no", "DEFER_IF_PERMIT x", "discard"])
def test_limits_do_not_count_what_is_refused(action: str) -> None:
    assert not any(subjects.is_limit(one.subject) for one in tallies.tallies(request(limits=[DAILY], action=action)))


def test_a_limit_that_counted_twice_gives_one_tally() -> None:
    other = Hit("cd" * 8, DAILY.key, 1, 100.0, 86400.0)
    found = [one for one in tallies.tallies(request(limits=[DAILY, other, DAILY])) if subjects.is_limit(one.subject)]
    assert [one.increment for one in found] == [6, 1]


@given(st.text(max_size=50), st.text(max_size=50), st.integers(0, 10), st.integers(0, 10))
def test_no_subject_twice_in_one_event(name: str, address: str, messages: int, recipients: int) -> None:
    found = tallies.tallies(
        request(sasl_username=name, client_address=address, messages=messages, recipients=recipients)
    )
    assert len({one.subject for one in found}) == len(found)
    assert {one.seq for one in found} <= {7}


def test_a_tally_is_read_as_it_was_written() -> None:
    tally = tallies.tallies(request())[0]
    assert tallies.decoder.decode(tallies.encoder.encode(tally)) == tally


@pytest.mark.parametrize(
    "line", [b'{"seq":-1,"subject":"x","time":0.0}', b'{"seq":1,"subject":"x","time":0.0,"messages":-1}', b"[]"]
)
def test_a_tally_out_of_range_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError, match="Expected"):
        tallies.decoder.decode(line)
