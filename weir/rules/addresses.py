"""IP addresses and networks, as numbers. (Signatures; being written.)"""

from typing import NamedTuple


class Network(NamedTuple):
    """`bits`: 32 or 128; the first `prefix` of them are `start`, as a number."""

    bits: int
    prefix: int
    start: int


def network(text: str) -> Network:
    """An address, or a network as ADDRESS/PREFIX (bits behind the prefix do not matter).

    Raises ValueError if it is neither.
    """
    raise NotImplementedError
