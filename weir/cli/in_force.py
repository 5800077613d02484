"""What is in force: detectors' decisions and operators' words, read together.

Invariants: a record that makes no sense changes nothing and is counted; the order of judgement is the agents': an
expired decision first of all, then a shadow, a release that it did not know, an allow.
"""

from typing import Literal

import msgspec

from weir import decisions, subjects, topics
from weir.cli.broker import Connection, Message, Start
from weir.cli.output import many
from weir.decisions import Decision, Evidence
from weir.envelopes import UNREADABLE
from weir.operators import Operators, Word
from weir.subjects import is_account, is_client, is_limit, owner, value

State = Literal["in force", "shadow", "allowed", "released", "expired"]

MOST_BESIDE = 32
"""Evidence holds no more hosts and subjects than this."""
_HOSTS_SHOWN = 8


class Picture:
    """Decisions and operators' words, as read from their topics."""

    def __init__(self, default_realm: str = "") -> None:
        """The realm is that of accounts without one, which limits may be keyed by."""
        self.decisions: dict[bytes, Decision] = {}
        self.operators = Operators()
        self.not_understood = 0
        self._default_realm = default_realm

    def read(self, connection: Connection, *starts: Start) -> None:
        """Take in weir.decisions, weir.operators or both, to the end. Raises CommandError."""
        for message in connection.read(*starts):
            self.apply(message)

    def apply(self, message: Message) -> None:
        """Take in one record of weir.decisions or weir.operators."""
        try:
            if message.topic == topics.OPERATORS:
                self.operators.apply(message.key, message.value, message.time)
            else:
                self._decide(message)
        except UNREADABLE:
            self.not_understood += 1

    def _decide(self, message: Message) -> None:
        decisions.split_key(message.key)
        if message.value is None:
            self.decisions.pop(message.key, None)
            return
        decision = decisions.decoder.decode(message.value)
        if decision.version != decisions.VERSION or decisions.key(decision.cause, decision.subject) != message.key:
            raise ValueError("expected a decision of our version that agrees with its key")
        self.decisions[message.key] = decision

    def state(self, decision: Decision, now: float) -> State:
        """What has become of a decision."""
        if now >= decision.until:
            return "expired"
        if decision.shadow:
            return "shadow"
        concerned = self.concerned(decision.subject)
        if any(self.operators.released(subject) > decision.after for subject in concerned):
            return "released"
        return "allowed" if any(self.operators.allow(subject, now) for subject in concerned) else "in force"

    def word_state(self, word: Word, now: float) -> State:
        """What has become of an operator's word, the newest of its kind on that subject."""
        if word.word == "release":
            return "released"
        if word.word == "pause":
            return "in force"
        if now >= word.until:
            return "expired"
        return "released" if word.word == "block" and self.operators.block(word.subject, now) is None else "in force"

    def words(self) -> list[tuple[Word, float]]:
        """All words with their times."""
        return [*self.operators.standing.values(), *self.operators.releases.values()]

    def ended_by_release(self, subject: str, now: float) -> list[Decision | Word]:
        """What a release of this subject would end now."""
        ended: list[Decision | Word] = [
            decision
            for decision in self.decisions.values()
            if subject in self.concerned(decision.subject) and self.state(decision, now) in ("in force", "allowed")
        ]
        block = self.operators.block(subject, now)
        return [*ended, block] if block else ended

    def concerned(self, subject: str) -> tuple[str, ...]:
        """What an operator may speak of to concern a decision on this subject: of a limit, whom it counts too."""
        return (subject, owner(subject, self._default_realm)) if is_limit(subject) else (subject,)


def partition(subject: str) -> int | None:
    """Where all decisions lie that concern this subject; None: anywhere, for limits may be keyed by it."""
    return None if is_account(subject) or is_client(subject) else subjects.partition(subject)


def why(decision: Decision) -> str:
    """The evidence in words.

    >>> evidence = Evidence("messages", 61, 60, 60, 0.0, ["mx1", "mx2"], ["client_address:192.0.2.7"])
    >>> why(Decision(1, "0" * 12, "sasl_username:a@example.org", "burst", "521", evidence, 0.0, 0.0))
    '61 messages in 60 s, threshold 60, on mx1 mx2, from 192.0.2.7'
    """
    evidence = decision.evidence
    parts = [f"{evidence.count} {evidence.counter} in {evidence.seconds} s, threshold {evidence.threshold}"]
    if is_limit(decision.subject):  # its counter is a function and a rule's id
        parts = [f"{evidence.counter}: {evidence.count} in {evidence.seconds} s, maximum {evidence.threshold}"]
    if evidence.hosts:
        more = len(evidence.hosts) - _HOSTS_SHOWN
        parts.append("on " + " ".join(evidence.hosts[:_HOSTS_SHOWN]) + (f" and {more} more" if more > 0 else ""))
    if evidence.beside:
        preposition, noun = ("from", "client") if is_account(decision.subject) else ("by", "account")
        parts.append(f"{preposition} {_beside(evidence, noun)}")
    if decision.shadow:
        parts.append(f"shadow: {decision.why_shadow or 'detector'}")
    return ", ".join(parts)


def _beside(evidence: Evidence, noun: str) -> str:
    count = len(evidence.beside)
    if count == 1:
        return value(evidence.beside[0]) or evidence.beside[0]
    return f"{many(count, noun)} or more" if count >= MOST_BESIDE else many(count, noun)


def record(one: msgspec.Struct, **more: object) -> dict[str, object]:
    """One decision or word for JSON: what it holds, and what we know beside it."""
    found: dict[str, object] = msgspec.to_builtins(one)
    return more | found
