"""IP addresses and networks, as numbers.

Invariants: an IPv4 address that is written as IPv6 (`::ffff:192.0.2.1`) is that IPv4 address; the network 0.0.0.0/0 is
everything but nothing: every text that is not empty is in it.
"""

import ipaddress
import socket
from collections.abc import Iterable
from typing import NamedTuple

_IPV4_IN_IPV6 = 0xFFFF


class Network(NamedTuple):
    """`bits`: 32 or 128; the first `prefix` of them are `start`, as a number."""

    bits: int
    prefix: int
    start: int


EVERYTHING = Network(32, 0, 0)


def network(text: str) -> Network:
    """An address, or a network as ADDRESS/PREFIX (bits behind the prefix do not matter).

    Raises ValueError if it is neither.
    """
    found = ipaddress.ip_network(text, strict=False)
    bits, prefix = found.max_prefixlen, found.prefixlen
    start = int(found.network_address) >> (bits - prefix)
    if bits == 128 and prefix >= 96 and start >> (prefix - 96) == _IPV4_IN_IPV6:
        return Network(32, prefix - 96, start & ((1 << (prefix - 96)) - 1))
    return Network(bits, prefix, start)


def number(text: str) -> tuple[int, int] | None:
    """An address as its bits, 32 or 128, and its number; None if it is none."""
    try:
        if ":" not in text:
            return 32, int.from_bytes(socket.inet_pton(socket.AF_INET, text), "big")
        packed = socket.inet_pton(socket.AF_INET6, text.partition("%")[0])
    except (OSError, ValueError):
        return None
    found = int.from_bytes(packed, "big")
    return (32, found & 0xFFFFFFFF) if found >> 32 == _IPV4_IN_IPV6 else (128, found)


class Networks:
    """Networks with marks, which are sets of bits: of many networks, those that an address is in are found at once."""

    def __init__(self, marked: Iterable[tuple[Network, int]]) -> None:
        self._everything = 0
        starts: dict[tuple[int, int], dict[int, int]] = {}
        for one, marks in marked:
            if one == EVERYTHING:
                self._everything |= marks
            else:
                of_prefix = starts.setdefault((one.bits, one.prefix), {})
                of_prefix[one.start] = of_prefix.get(one.start, 0) | marks
        self._starts = {
            bits: [(bits - prefix, found) for (of, prefix), found in sorted(starts.items()) if of == bits]
            for bits in (32, 128)
        }

    def find(self, text: str) -> int:
        """The marks of all networks that an address is in, together; 0: of none."""
        marks = self._everything if text else 0
        found = number(text)
        if found is not None:
            bits, value = found
            for shift, starts in self._starts[bits]:
                marks |= starts.get(value >> shift, 0)
        return marks
