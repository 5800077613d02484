"""Echoes: how far each partition of the tallies is counted, told on weir.echo once a second by who counts it.

Invariant: an echo tells what is committed, never what is only counted.
"""

from typing import Annotated

import msgspec

from weir.subjects import PARTITIONS

VERSION = 1


class Echo(msgspec.Struct):
    """All of `partition` of weir.tallies below `next` is counted and committed. The key is the partition."""

    version: int
    partition: Annotated[int, msgspec.Meta(ge=0, lt=PARTITIONS)]
    next: int
    worker: str = ""


encoder = msgspec.json.Encoder()
decoder: msgspec.json.Decoder[Echo] = msgspec.json.Decoder(Echo)
