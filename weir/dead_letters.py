"""Dead letters: records that could not be understood, kept for people with their error and origin (weir.dead)."""

import base64

import msgspec

VERSION = 1
MAX_VALUE = 512 * 1024


class DeadLetter(msgspec.Struct, omit_defaults=True):
    version: int
    topic: str
    partition: int
    offset: int
    error: str
    by: str
    """Who found it, such as `streams`."""
    key: str = ""
    """Base64, as `value`."""
    value: str = ""
    cut: bool = False
    """The value was longer than is kept."""


decoder: msgspec.json.Decoder[DeadLetter] = msgspec.json.Decoder(DeadLetter)

REPLAYED = "weir-replay"
"""Header of a record that is sent once more: its seqs are older than those that came after it."""


def encode(origin: tuple[str, int, int], key: bytes | None, value: bytes | None, error: str, by: str) -> bytes:
    """A record for weir.dead; `origin` is topic, partition and offset."""
    topic, partition, offset = origin
    whole = value or b""
    letter = DeadLetter(
        VERSION,
        topic,
        partition,
        offset,
        error[:1000],
        by,
        base64.b64encode((key or b"")[:4096]).decode(),
        base64.b64encode(whole[:MAX_VALUE]).decode(),
        len(whole) > MAX_VALUE,
    )
    return msgspec.json.encode(letter)


def key(origin: tuple[str, int, int]) -> bytes:
    """Key of the record: the origin, such as `weir.tallies/3/1017`."""
    return "/".join(map(str, origin)).encode()
