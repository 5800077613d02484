"""The codec: every split of the bytes, both ways of parsing, limits, and replies."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import policy_protocol
from agents.policy_protocol import (
    MAX_ACTION,
    MAX_LINE,
    MAX_REQUEST,
    MAX_VALUE,
    PolicyRequest,
    ProtocolError,
    RequestReader,
    parse,
    parse_attributes,
    reply,
)

POSTFIX = b"""request=smtpd_access_policy
protocol_state=RCPT
protocol_name=ESMTP
client_address=192.0.2.9
client_name=unknown
client_port=38925
reverse_client_name=unknown
server_address=127.0.0.11
server_port=2587
helo_name=client.test
sender=alice@weir.test
recipient=x@dest.test
recipient_count=0
queue_id=
instance=4703.6b05ae03.c4c9.0
size=121
etrn_domain=
sasl_method=PLAIN
sasl_username=alice@weir.test
ccert_subject=
encryption_protocol=TLSv1.3
encryption_keysize=256
policy_context=submission
"""

Outcome = list[dict[str, object] | str]


def attributes(request: PolicyRequest) -> dict[str, object]:
    """What a request holds to rely on."""
    return {name: getattr(request, name) for name in [*PolicyRequest.__annotations__, "cut"]}


def outcome(chunks: list[bytes]) -> Outcome:
    """What comes out of a connection: requests, and `fault` where it ends."""
    reader = RequestReader(parse)
    found: Outcome = []
    for chunk in chunks:
        reader.receive(chunk)
        try:
            while (request := reader.next_request()) is not None:
                found.append(attributes(request))
        except ProtocolError:
            return [*found, "fault"]
    return found


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


def test_request_of_postfix() -> None:
    expected = PolicyRequest(
        seq=0,
        time=0.0,
        protocol_state="RCPT",
        sasl_username="alice@weir.test",
        sasl_method="PLAIN",
        sender="alice@weir.test",
        recipient="x@dest.test",
        client_address="192.0.2.9",
        client_name="unknown",
        client_port="38925",
        helo_name="client.test",
        server_address="127.0.0.11",
        instance="4703.6b05ae03.c4c9.0",
        size=121,
        encryption_protocol="TLSv1.3",
        policy_context="submission",
    )
    assert outcome([POSTFIX + b"\n"]) == [attributes(expected)]


def test_every_single_split() -> None:
    data = 2 * (POSTFIX + b"\n")
    whole = outcome([data])
    assert len(whole) == 2
    for place in range(len(data) + 1):
        assert outcome([data[:place], data[place:]]) == whole
    assert outcome([data[place : place + 1] for place in range(len(data))]) == whole


value = st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b""))
line = st.one_of(
    st.tuples(
        st.sampled_from([b"sender", b"size", b"sasl_username", b"cut", b"=", b"", b"request", b"seq", b"kind"]), value
    ).map(b"=".join),
    value,
)
requests = st.lists(line, max_size=4).map(lambda lines: b"\n".join([b"request=smtpd_access_policy", *lines]) + b"\n\n")


@given(st.lists(st.one_of(requests, st.binary(max_size=20)), max_size=4), st.lists(st.integers(0, 10_000), max_size=8))
def test_any_bytes_in_any_split(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(parts)
    assert outcome(split(data, cuts)) == outcome([data])


@given(requests)
def test_fast_way_and_line_by_line_agree(data: bytes) -> None:
    request = data.removesuffix(b"\n\n")
    try:
        expected = policy_protocol._parse_lines(request)
    except ProtocolError:
        with pytest.raises(ProtocolError):
            parse(request)
    else:
        assert attributes(parse(request)) == attributes(expected)


def test_lines_may_end_with_a_return_in_any_split() -> None:
    data = 2 * (POSTFIX.replace(b"\n", b"\r\n") + b"\r\n") + POSTFIX + b"\n"
    whole = outcome([data])
    assert whole == 3 * outcome([POSTFIX + b"\n"])
    for place in range(len(data) + 1):
        assert outcome([data[:place], data[place:]]) == whole


@given(requests)
def test_attributes_agree_with_the_lines(data: bytes) -> None:
    lines = data.removesuffix(b"\n\n")
    pairs = [line.decode("utf-8", "backslashreplace").partition("=") for line in lines.split(b"\n")]
    assert parse_attributes(lines) == {name: value for name, equals, value in pairs if equals}


def test_attributes_of_any_name_and_kind_are_read() -> None:
    assert parse_attributes(b'request=other\nnew=a=b\nsize=\nhelo_name="$$(x)"\nnew=last') == {
        "request": "other",
        "new": "last",
        "size": "",
        "helo_name": '"$$(x)"',
    }
    assert "request" not in parse_attributes(b"sender=a@b")


def test_long_attributes_are_cut_as_postfwd_does() -> None:
    found = parse_attributes(b"request=smtpd_access_policy\nhelo_name=" + b"h" * 1000 + b"\nsender=" + b"s" * 512)
    assert (len(found["helo_name"]), len(found["sender"])) == (MAX_VALUE, 512)
    assert parse_attributes(b"helo_name=" + b"h" * 2 * MAX_LINE) == {"helo_name": "h" * MAX_VALUE}
    with pytest.raises(ProtocolError):
        parse_attributes(b"helo_name=" + b"h" * MAX_REQUEST)


def test_lines_that_are_no_attributes_are_passed_over_as_in_postfwd() -> None:
    assert parse_attributes(b"\nhello\nsender=a@b\n" + b"x" * MAX_VALUE) == {"sender": "a@b"}
    assert parse_attributes(b"x" * 2 * MAX_VALUE) == {}


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"request=smtpd_access_policy\nsender",
        b"request=something_else",
        b"sender=a@b",
        b"GET / HTTP/1.1\r\nHost: x\r\n",
        b"\n\n",
        b"",
    ],
)
def test_what_is_no_policy_request_is_a_fault(request_bytes: bytes) -> None:
    assert outcome([request_bytes + b"\n\n"]) == ["fault"]


def test_what_was_asked_before_a_fault_comes_out() -> None:
    found = outcome([POSTFIX + b"\n" + b"nonsense\n\n" + POSTFIX + b"\n"])
    assert [isinstance(one, dict) for one in found] == [True, False]


def filler(length: int) -> bytes:
    """Lines of that many bytes in all, the last one without its line break."""
    lines = [b"x=" + b"y" * 4000] * (length // 4003)
    rest = length - sum(len(line) + 1 for line in lines)
    return b"\n".join([*lines, b"x=" + b"y" * (rest - 2)])


def test_limits() -> None:
    head = b"request=smtpd_access_policy\n"
    longest_line = b"x=" + b"y" * (MAX_LINE - 2)
    largest = head + filler(MAX_REQUEST - len(head))
    assert len(largest) == MAX_REQUEST
    for good in (head + longest_line, largest):
        for chunks in ([good + b"\n\n"], [good, b"\n\n"], [good + b"\n", b"\n"]):
            assert len(outcome(chunks)) == 1
            assert "fault" not in outcome(chunks)
    too_large = head + filler(MAX_REQUEST - len(head) + 1)
    for bad in (head + longest_line + b"y", too_large):
        assert outcome([bad + b"\n\n"]) == ["fault"]
    assert outcome([too_large + b"y"]) == ["fault"], "it is not held until its end comes"


def test_endless_line_is_not_held() -> None:
    reader = RequestReader(parse)
    for _ in range(64):
        reader.receive(b"y" * 1024)
        assert reader.next_request() is None
    reader.receive(b"yy")
    with pytest.raises(ProtocolError, match="request of at most"):
        reader.next_request()


@pytest.mark.parametrize(
    ("text", "number"),
    [(b"17", 17), (b"", 0), (b"-1", 0), (b"x", 0), (b"9" * 40, 0), (b"1 ", 0), (b"\xff", 0)],
)
def test_a_number_that_is_none_is_zero(text: bytes, number: int) -> None:
    assert parse(b"request=smtpd_access_policy\nsize=" + text).size == number


def test_long_texts_are_cut_and_marked_but_logins_are_not() -> None:
    request = parse(b"request=smtpd_access_policy\nsender=" + b"s" * 513 + b"\nsasl_username=" + b"u" * 600)
    assert (len(request.sender), request.cut, len(request.sasl_username)) == (512, True, 600)
    assert not parse(b"request=smtpd_access_policy\nsender=" + b"s" * 512).cut


def test_quotes_backslashes_equal_signs_and_bytes_that_are_no_utf8() -> None:
    request = parse(b'request=smtpd_access_policy\nsender="a\\b"@x=y\nrecipient=\xff\xc3\xa9\nhelo_name=a","size":"9')
    assert request.sender == '"a\\b"@x=y'
    assert request.recipient == "\\xffé"
    assert (request.helo_name, request.size) == ('a","size":"9', 0)


def test_reply() -> None:
    assert reply("DUNNO") == b"action=DUNNO\n\n"
    assert reply("521 5.7.1 no\n\naction=OK\r\0") == b"action=521 5.7.1 no  action=OK  \n\n"


@given(st.text(max_size=700))
def test_reply_is_one_line_within_bounds(action: str) -> None:
    data = reply(action)
    assert data.startswith(b"action=")
    assert data.endswith(b"\n\n")
    text = data.removeprefix(b"action=").removesuffix(b"\n\n")
    assert len(text) <= MAX_ACTION
    assert not {*text} & ({*range(0x20), 0x7F} - {9})
    text.decode()
