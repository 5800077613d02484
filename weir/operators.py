"""Operators' words: what people tell the fleet. They outrank what detectors decide.

    block SUBJECT    refuse it until a time, whatever is counted
    allow SUBJECT    detectors do not act on it until a time
    release SUBJECT  a fact with a time: what was before it counts no more, decisions from before it are void
    pause            detectors decide in shadow only

Invariants: a record's time is the broker's (LogAppendTime), never the operator's clock; a subject has one standing word
(block or allow) and one release, the newest of each; a release voids an older block and leaves an allow.
`Operators` is what agents, streams and the command line know of the topic; it alone says what a word means.
"""

from typing import Literal

import msgspec

VERSION = 1
EVERYTHING = "*"
"""Subject of `pause`."""

STANDING = "standing"
RELEASE = "release"


class Word(msgspec.Struct, omit_defaults=True):
    """One record of weir.operators, keyed by `key`."""

    version: int
    id: str
    word: Literal["block", "allow", "release", "pause"]
    subject: str
    who: str
    reason: str
    until: float = 0.0
    """Unix seconds; 0 for a release, which has a time only, and for a pause, which is ended by a tombstone."""
    action: str = ""
    """For a block: the reply to Postfix, whole."""
    queue: Literal["", "leave", "release", "delete"] = ""
    """For a release: what becomes of the subject's mail that agents hold in the queues; empty: as `leave`."""


encoder = msgspec.json.Encoder()
decoder: msgspec.json.Decoder[Word] = msgspec.json.Decoder(Word)


def key(word: Word) -> bytes:
    """Key of the record: a release stands beside the standing word, it does not replace it."""
    group = RELEASE if word.word == "release" else STANDING
    return f"{group} {word.subject}".encode()


def split_key(record_key: bytes) -> tuple[str, str]:
    """Group (`standing` or `release`) and subject. Raises ValueError for what is no key of ours."""
    group, _, subject = record_key.decode().partition(" ")
    if group not in (STANDING, RELEASE) or not subject:
        raise ValueError(f"expected 'standing SUBJECT' or 'release SUBJECT', got {record_key!r}")
    return group, subject


class Operators:
    """All operators' words, as read from the topic."""

    def __init__(self) -> None:
        self.standing: dict[str, tuple[Word, float]] = {}
        """Subject → block, allow or (for `*`) pause, and the record's time."""
        self.releases: dict[str, tuple[Word, float]] = {}

    def apply(self, record_key: bytes, value: bytes | None, time: float) -> None:
        """Take in one record, `time` its LogAppendTime in Unix seconds; None as value ends what stood under that key.

        Raises ValueError (as msgspec's decoding errors are) for a record that makes no sense, and changes nothing.
        """
        group, subject = split_key(record_key)
        words = self.standing if group == STANDING else self.releases
        if value is None:
            words.pop(subject, None)
            return
        word = decoder.decode(value)
        if word.version != VERSION or word.subject != subject or key(word) != record_key:
            raise ValueError(f"expected a word of version {VERSION} that agrees with its key {record_key!r}")
        words[subject] = (word, time)

    def released(self, subject: str) -> float:
        """Time of the newest release of this subject, 0 if there is none."""
        found = self.releases.get(subject)
        return found[1] if found else 0.0

    def block(self, subject: str, now: float) -> Word | None:
        """The operator's block in force on this subject."""
        found = self.standing.get(subject)
        if found is None:
            return None
        word, time = found
        in_force = word.word == "block" and now < word.until and time > self.released(subject)
        return word if in_force else None

    def allow(self, subject: str, now: float) -> Word | None:
        """The operator's allow in force on this subject."""
        found = self.standing.get(subject)
        if found is None or found[0].word != "allow" or now >= found[0].until:
            return None
        return found[0]

    @property
    def paused(self) -> bool:
        found = self.standing.get(EVERYTHING)
        return found is not None and found[0].word == "pause"
