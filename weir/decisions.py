"""Decisions of detectors: what streams decide and every agent carries out.

Invariants: the key of a record is its cause and its subject, so the newest decision of a cause replaces the one before
it; the id follows from subject, cause and `since`, so the same facts give the same decision again. A decision is in
force while `now < until`, unless it is a shadow, or an operator's word outranks it (`weir.operators`).
"""

import hashlib

import msgspec

VERSION = 1


class Evidence(msgspec.Struct, omit_defaults=True):
    """Why: the numbers at the moment of decision."""

    counter: str
    """What was counted, such as `messages`."""
    count: int
    threshold: int
    seconds: int
    """Length of the window."""
    time: float
    """Time of the event that crossed the threshold, Unix seconds by the broker's clock."""
    hosts: list[str] = []
    """Mail hosts that it came through, at most 32."""
    beside: list[str] = []
    """For an account its clients, for a client its accounts; at most 32."""


class Decision(msgspec.Struct, omit_defaults=True):
    """One record of weir.decisions. Times are Unix seconds by the broker's clock."""

    version: int
    id: str
    subject: str
    cause: str
    """The detector, such as `burst`."""
    action: str
    """The reply to Postfix, whole."""
    evidence: Evidence
    since: float
    until: float
    after: float = 0.0
    """Time of the newest release of the subject that was taken into account."""
    change: int = 0
    """Counts the records of one decision."""
    decided: float = 0.0
    """The worker's wall clock when it decided."""
    shadow: bool = False
    """Recorded and told, but not carried out."""
    why_shadow: str = ""
    """`detector`, `pause` or `brake`."""
    who: str = "weir"


encoder = msgspec.json.Encoder()
decoder: msgspec.json.Decoder[Decision] = msgspec.json.Decoder(Decision)


def key(cause: str, subject: str) -> bytes:
    """Key of the record in weir.decisions."""
    return f"{cause} {subject}".encode()


def split_key(record_key: bytes) -> tuple[str, str]:
    """Cause and subject of a record, of a tombstone too. Raises ValueError for what is no key of ours."""
    cause, space, subject = record_key.decode().partition(" ")
    if not (cause and space and subject):
        raise ValueError(f"expected 'CAUSE SUBJECT', got {record_key!r}")
    return cause, subject


def decision_id(subject: str, cause: str, since: float) -> str:
    """Twelve hexadecimal digits that a customer can read out on the phone."""
    return hashlib.sha256(f"{subject}\n{cause}\n{int(since)}".encode()).hexdigest()[:12]


def action(text: str, cause: str, identity: str) -> str:
    """The reply of a block: 521 refuses for good, and Postfix ends the session."""
    return f"521 5.7.1 {text} [weir {cause} {identity}]"
