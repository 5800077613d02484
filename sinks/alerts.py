"""What people are told: decisions as one message, whose first lines say all that is needed at night.

Invariants: pure; a message has one line of title, at most MOST_NAMED decisions by name, and no character that would
steer a terminal or a shell, whatever login names clients choose; what is over already is only counted.
"""

import shlex
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from sinks.told import BRAKE
from weir import subjects
from weir.cli.output import many, plain
from weir.decisions import Decision

MOST_NAMED = 20
_MOST_BESIDE = 8
_MOST_LETTERS = 80
"""Of a name in a title or a list; in the commands of a single decision it is whole."""

REASONS = {
    "detector": "its detector is in shadow",
    "pause": "detectors are paused, and weir resume ends that",
    BRAKE: "the brake is on",
}
_BRAKE = """\
Too many accounts were blocked at once, which is more likely a mistake of ours than an attack. What is blocked stays;
further blocks are held back, as shadows, until fewer come. This is told once, not for each of them.

To look: weir decisions list
If it is a mistake: weir pause --reason '…', and weir release SUBJECT --reason '…' for each
If it is an attack: weir block SUBJECT --for 12h --reason '…'
"""

Urgency = Literal["failure", "warning", "info"]


class Message(NamedTuple):
    title: str
    body: str
    urgency: Urgency
    """`failure` for the brake, `warning` for blocks, `info` for shadows and for what is over."""
    over: int = 0
    """Decisions in it that are only counted."""


TEST = Message("Weir: a test", "This is the test of weir notify --test. Blocks will be told here.", "info")


def compose(records: Sequence[Decision], now: float) -> Message:
    """One message of all the records, of which there is at least one; `now` in Unix seconds."""
    standing = sorted((record for record in records if record.until > now), key=_rank)
    over = len(records) - len(standing)
    parts = [*_paragraphs(standing)]
    if over:
        parts.append(f"{_were_over(over)}: weir decisions list --all")
    return Message(_title(standing, over), "\n\n".join(parts) + "\n", _urgency(standing), over)


def _rank(record: Decision) -> int:
    return 0 if record.why_shadow == BRAKE else 2 if record.shadow else 1


def _urgency(standing: Sequence[Decision]) -> Urgency:
    ranks = {_rank(record) for record in standing}
    return "failure" if 0 in ranks else "warning" if 1 in ranks else "info"


def _title(standing: Sequence[Decision], over: int) -> str:
    if not standing:
        return f"Weir: {_were_over(over)}"
    first = standing[0]
    if first.why_shadow == BRAKE:
        return "Weir's brake is on: further blocks are held back"
    if len(standing) == 1:
        verb = f"would block (shadow: {plain(first.why_shadow)})" if first.shadow else "blocked"
        return f"Weir {verb} {_cut(_short(first.subject))}: {_count(first)}"
    blocked = sum(not record.shadow for record in standing)
    shadows = len(standing) - blocked
    told = [many(blocked, "sender")] if blocked else []
    told += [f"{many(shadows, 'sender')} in shadow"] if shadows else []
    return f"Weir {'blocked' if blocked else 'would block'} {' and '.join(told)}"


def _were_over(number: int) -> str:
    return f"{many(number, 'decision')} {'was' if number == 1 else 'were'} over before anybody could be told"


def _paragraphs(standing: Sequence[Decision]) -> Iterable[str]:
    if standing and standing[0].why_shadow == BRAKE:
        yield _BRAKE.rstrip()
        yield "Held back first:"
        yield from _single(standing[0])
        standing = standing[1:]
        if standing:
            yield "At the same time:"
    if len(standing) == 1:
        yield from _single(standing[0])
    elif standing:
        yield "To look: weir history SUBJECT\nTo undo: weir release SUBJECT --reason '…'"
        lines = [_line(record) for record in standing[:MOST_NAMED]]
        if len(standing) > MOST_NAMED:
            lines.append(f"and {len(standing) - MOST_NAMED} others: weir decisions list")
        yield "\n".join(lines)


def _single(record: Decision) -> Iterable[str]:
    evidence = record.evidence
    subject = plain(shlex.quote(record.subject))
    answer = plain(record.action)
    if record.shadow:
        reason = plain(REASONS.get(record.why_shadow, record.why_shadow))
        what = f"nothing is blocked, since {reason}; the answer would be: {answer}"
        last = f"To keep it so: weir allow {subject} --for 12h --reason '…'"
    else:
        what = f"blocked on all hosts, by {plain(record.cause)}; the answer is: {answer}"
        last = f"To undo: weir release {subject} --reason '…'"
    yield "\n".join(
        (
            f"Who: {plain(record.subject)}",
            f"What: {what}",
            f"Why: {_count(record)}, more than {evidence.threshold}, at {_at(evidence.time)}",
            f"Until: {_at(record.until)}",
            f"Decision: {plain(record.id)}",
        )
    )
    yield f"To look: weir history {subject}\n{last}"
    beside = "Accounts" if subjects.is_client(record.subject) else "Clients"
    named = {"Hosts": evidence.hosts, beside: [_short(each) for each in evidence.beside]}
    if lines := [f"{name}: {_named(values)}" for name, values in named.items() if values]:
        yield "\n".join(lines)


def _line(record: Decision) -> str:
    shadow = f" (shadow: {plain(record.why_shadow)})" if record.shadow else ""
    return f"- {_cut(_short(record.subject))}{shadow}: {_count(record)}, until {_at(record.until)} [{plain(record.id)}]"


def _count(record: Decision) -> str:
    evidence = record.evidence
    return f"{evidence.count} {plain(evidence.counter)} in {evidence.seconds} s"


def _named(values: Sequence[str]) -> str:
    text = ", ".join(_cut(plain(value)) for value in values[:_MOST_BESIDE])
    return text if len(values) <= _MOST_BESIDE else f"{text} and {len(values) - _MOST_BESIDE} others"


def _short(subject: str) -> str:
    """A subject as an operator may type it."""
    value = subjects.value(subject)
    try:
        return plain(value if subjects.parse(value) == subject else subject)
    except ValueError:
        return plain(subject)


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 1]}…"


def _at(moment: float) -> str:
    """Times out of all range, as garbage may have them, are told as they are."""
    try:
        return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{moment:g}"
