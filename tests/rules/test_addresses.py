"""Addresses and networks, alone and many at once."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.rules.addresses import Network, Networks, network, number


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", Network(32, 32, 0xC0000201)),
        ("192.0.2.1/24", Network(32, 24, 0xC00002)),
        ("0.0.0.0/0", Network(32, 0, 0)),
        ("2001:db8::/32", Network(128, 32, 0x20010DB8)),
        ("::ffff:192.0.2.0/120", Network(32, 24, 0xC00002)),
        ("::ffff:0:0/96", Network(32, 0, 0)),
        ("::/0", Network(128, 0, 0)),
    ],
)
def test_networks_are_read(text: str, expected: Network) -> None:
    assert network(text) == expected


@pytest.mark.parametrize(
    "text", ["", "x", "2001:db8:", "10.0.0.0/8 192.0.2.0/24", "192.0.2.256", "10.0.0.0/33", "!1.1.1.1"]
)
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="network"):
        network(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("192.0.2.1", (32, 0xC0000201)),
        ("::ffff:192.0.2.1", (32, 0xC0000201)),
        ("::1", (128, 1)),
        ("fe80::1%eth0", (128, 0xFE80 << 112 | 1)),
        ("", None),
        ("unknown", None),
        ("1.2.3", None),
        ("192.0.2.1/24", None),
        ("\ud800", None),
        ("1\0", None),
    ],
)
def test_addresses_are_read(text: str, expected: tuple[int, int] | None) -> None:
    assert number(text) == expected


def test_everything_is_all_but_nothing() -> None:
    everything = Networks([(network("0.0.0.0/0"), 1), (network("::/0"), 2)])
    assert [everything.find(text) for text in ("", "192.0.2.1", "::1", "unknown")] == [0, 1, 3, 1]


_ADDRESSES = st.one_of(
    st.integers(0, 2**12 - 1).map(lambda value: str(ipaddress.IPv4Address(0xC0000000 | value))),
    st.integers(0, 2**12 - 1).map(lambda value: str(ipaddress.IPv6Address(0x20010DB8 << 96 | value))),
)
_NETWORKS = st.one_of(
    st.tuples(st.integers(0, 2**12 - 1), st.integers(18, 32)).map(
        lambda found: ipaddress.ip_network((0xC0000000 | found[0], found[1]), strict=False)
    ),
    st.tuples(st.integers(0, 2**12 - 1), st.integers(112, 128)).map(
        lambda found: ipaddress.ip_network((0x20010DB8 << 96 | found[0], found[1]), strict=False)
    ),
)


@given(st.lists(_NETWORKS, max_size=20), _ADDRESSES)
def test_many_networks_are_found_as_one_by_one(
    networks: list[ipaddress.IPv4Network | ipaddress.IPv6Network], text: str
) -> None:
    found = Networks((network(str(one)), 1 << place) for place, one in enumerate(networks)).find(text)
    address = ipaddress.ip_address(text)
    assert [bool(found >> place & 1) for place in range(len(networks))] == [address in one for one in networks]
