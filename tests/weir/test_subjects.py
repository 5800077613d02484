"""Subjects: the same account or address gives the same subject, whoever asks."""

import ipaddress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from weir import subjects
from weir.limits import MAX_KEY

TEXTS = st.text(min_size=1, max_size=400)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Alice@Example.ORG", "sasl_username:alice@example.org"),
        ("alice", "sasl_username:alice@example.org"),
        ("bob@example.net", "sasl_username:bob@example.net"),
        ("", ""),
    ],
)
def test_account_is_lower_case_with_realm(name: str, expected: str) -> None:
    assert subjects.sasl_username(name, "example.org") == expected


def test_account_without_a_realm_stays_without() -> None:
    assert subjects.sasl_username("alice") == "sasl_username:alice"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.10", "client_address:192.0.2.10"),
        ("::ffff:192.0.2.10", "client_address:192.0.2.10"),
        ("2001:DB8:0:1:ffff::7", "client_address:2001:db8:0:1::/64"),
        ("2001:db8:0:1::/64", "client_address:2001:db8:0:1::/64"),
        ("fe80::1%eth0", "client_address:fe80::/64"),
        ("unknown", ""),
        ("", ""),
        ("192.0.2.300", ""),
        ("192.0.2.010", ""),
        ("192.0.2.1\0", ""),
    ],
)
def test_address_in_its_canonical_form(address: str, expected: str) -> None:
    assert subjects.client_address(address) == expected


@given(st.ip_addresses(v=6))
def test_addresses_of_one_ipv6_network_are_one_subject(address: ipaddress.IPv6Address) -> None:
    neighbour = ipaddress.IPv6Address(int(address) ^ 1)
    if address.ipv4_mapped is None:
        assert subjects.client_address(str(address)) == subjects.client_address(str(neighbour))
    else:
        assert subjects.client_address(str(address)) != subjects.client_address(str(neighbour))


@given(TEXTS, st.sampled_from(["", "example.org"]))
@example("İ" * 150, "")
@example("x" * 400, "")
def test_canonical_is_idempotent_short_and_one_line(text: str, realm: str) -> None:
    canonical = subjects.sasl_username(text, realm)
    assert subjects.sasl_username(subjects.value(canonical), realm) == canonical
    assert len(canonical) <= subjects.MAX_LENGTH
    assert not set("\r\n\0") & set(canonical)


@given(TEXTS, st.sampled_from(["", "example.org"]))
@example("client_address:192.0.2.1", "")
@example("sasl_username:192.0.2.1", "")
@example("sasl_username: x", "")
@example("uid:33", "example.org")
@example("uid:0033", "")
def test_a_parsed_subject_parses_to_itself(text: str, realm: str) -> None:
    try:
        canonical = subjects.parse(text, realm)
    except ValueError:
        return
    assert subjects.parse(canonical, realm) == canonical
    kinds = (subjects.is_account, subjects.is_client, subjects.is_uid, subjects.is_limit)
    assert sum(is_kind(canonical) for is_kind in kinds) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alice", "sasl_username:alice@example.org"),
        (" Alice@example.net ", "sasl_username:alice@example.net"),
        ("sasl_username:192.0.2.10", "sasl_username:192.0.2.10@example.org"),
        ("192.0.2.10", "client_address:192.0.2.10"),
        ("client_address:2001:db8::1", "client_address:2001:db8::/64"),
        ("2001:db8::1", "client_address:2001:db8::/64"),
        (" uid:033 ", "uid:33"),
        ("sasl_username:uid:33", "sasl_username:uid:33@example.org"),
    ],
)
def test_an_operator_may_write_it_short(text: str, expected: str) -> None:
    assert subjects.parse(text, "example.org") == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "a\nb",
        "a\0b",
        "sasl_username:",
        "client_address:alice",
        "client_address:",
        "uid:",
        "uid:www",
        "uid:-1",
        "uid:³",
    ],
)
def test_what_is_no_subject_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        subjects.parse(text)


def test_long_names_that_differ_at_their_end_stay_apart() -> None:
    one, other = (subjects.sasl_username("x" * 1000 + end) for end in "ab")
    assert one != other


def test_each_partition_has_its_heartbeat_subject() -> None:
    heartbeats = [subjects.heartbeat(number) for number in range(subjects.PARTITIONS)]
    assert [subjects.partition(one) for one in heartbeats] == list(range(subjects.PARTITIONS))
    assert all(subjects.is_heartbeat(one) for one in heartbeats)


def test_the_partition_of_a_subject_never_changes() -> None:
    """Windows and decisions of a running fleet lie where these numbers say."""
    assert subjects.partition("sasl_username:alice@example.org") == 1
    assert subjects.partition("client_address:192.0.2.10") == 2
    assert subjects.partition("sasl_username:bob@example.net") == 4


def test_kind_and_value() -> None:
    assert subjects.kind("client_address:2001:db8::/64") == "client_address"
    assert subjects.value("client_address:2001:db8::/64") == "2001:db8::/64"


@pytest.mark.parametrize(
    ("item", "value", "owner"),
    [
        ("sasl_username", "Alice@Example.org", "sasl_username:alice@example.org"),
        ("sasl_username", "alice", "sasl_username:alice@example.org"),
        ("client_address", "2001:db8::7", "client_address:2001:db8::/64"),
        ("client_address", "192.0.2.7", "client_address:192.0.2.7"),
        ("client_address", "unknown", ""),
        ("sender", "alice@example.org", ""),
        ("sender", "a=b:c@example.org", ""),
    ],
)
def test_a_limit_knows_whom_it_counts(item: str, value: str, owner: str) -> None:
    limit = subjects.limit("0123456789abcdef", subjects.limit_key(item, value))
    assert subjects.is_limit(limit)
    assert subjects.kind(limit) == "limit"
    assert subjects.owner(limit, "example.org") == owner
    assert subjects.parse(limit) == limit


@given(st.sampled_from(["sasl_username", "sender"]), TEXTS, TEXTS)
def test_keys_of_limits_are_short_plain_and_told_apart(item: str, one: str, other: str) -> None:
    keys = [subjects.limit_key(item, value) for value in (one, other)]
    assert (keys[0] == keys[1]) == (one == other)
    for key in keys:
        assert key.startswith(f"{item}=")
        assert len(key) <= MAX_KEY
        assert not any(ord(character) < 32 or ord(character) == 127 for character in key)
        assert len(subjects.limit("f" * 16, key)) <= subjects.MAX_LENGTH


@pytest.mark.parametrize("text", ["limit:", "limit:abc:x=y", "limit:0123456789abcdef:", "limit:0123456789abcdef:x"])
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="16 hexadecimal digits"):
        subjects.parse(text)
