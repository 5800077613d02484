"""The way of a message over all hosts, and the newest messages of a subject, from the history.

    message id ─▶ (host, queue id, submission) of each host that had it ─▶ their events ─▶ requests of the same instance
                     │ ▲
                     ▼ │ parent: what came out of it there (its notification, from a filter), and what it came out of

Invariants: queue ids come again, so a message is known by its host, its queue id and when it was submitted; a message
id is a name that senders choose, so no more than MOST_MESSAGES are followed. Nothing here says FINAL, with which
ClickHouse may leave its indexes of message ids and queue ids aside: what is stored twice is told once by its seq.
"""

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from sinks.reader import Reader
from sinks.store import in_parts, quoted
from sinks.timeline import FACTS, Entry, entry, is_of, moment
from weir.maillog.patterns import QUEUE_ID

MOST_MESSAGES = 100
MOST_EVENTS = 10_000
MOST_GENERATIONS = 5
"""A notification of a notification there is none, but filters may stand behind one another."""
_CLOSE = 5
"""Seconds: a host's clock offset is measured anew, so its messages' submissions move a little."""
_SESSION = 3600
"""Seconds for which a message may be on its way into the queue."""
_is_queue_id = re.compile(QUEUE_ID).fullmatch
_OF_QUEUE = "kind IN ('submitted', 'delivery', 'removed')"


class Message(NamedTuple):
    """As one host had it in its queue."""

    host: str
    queue_id: str
    submitted: int
    """Unix seconds."""
    message_id: str
    parent: str
    """Queue id, on this host, of the message that it came out of."""


class Summary(NamedTuple):
    """A message, and what became of it on the host that a user gave it to."""

    time: float
    host: str
    queue_id: str
    message_id: str
    sender: str
    recipients: int
    size: int
    sent: int
    """Recipients; so of `bounced`."""
    bounced: int
    deferred: int
    """Tries."""
    how: str
    """How it left the queue, or `held` or `released`; empty: it waits in it."""


def way(history: Reader, name: str, since: float) -> list[Entry]:
    """All events of the messages of this message id or queue id, oldest first. Raises StoreError."""
    names = {name, f"<{name}>"}
    found: list[Message] = []
    if _is_queue_id(name):
        found = _with_relatives(history, _apart(_messages(history, f"queue_id = {quoted(name)}", since)), since)
        names = {message.message_id for message in found if message.message_id}
    for ids in in_parts(names):
        found += _messages(history, f"message_id IN ({ids})", since)
    messages = _with_relatives(history, _apart(found), since)
    others = {message.message_id for message in messages if message.message_id} - names
    for ids in in_parts(others):  # of what a notification tells of, on other hosts
        messages = _apart([*messages, *_messages(history, f"message_id IN ({ids})", since)])
    if not messages:
        return []
    rows = _events(history, messages)
    tied = [row for row in rows if _belongs(row, messages)]
    unique = {row.identity: row for row in tied + _of_instances(history, tied)}
    return [row.entry for row in sorted(unique.values(), key=_place)]


def newest(history: Reader, subject: str, since: float, most: int) -> list[Summary]:
    """The newest messages of a subject, oldest first. Raises StoreError."""
    start = moment(int(since) // 60 * 60)
    rows = history.query(
        "SELECT toUnixTimestamp64Milli(time), host, queue_id, message_id, sender, recipient_count, size, "  # noqa: S608 (numbers, texts in quotes)
        f"toUInt32(submitted) FROM events FINAL WHERE minute >= {start} AND {is_of(subject)} AND kind = 'submitted' "
        f"ORDER BY time DESC, host, epoch, seq DESC LIMIT {most}"
    )
    became: dict[tuple[str, str], list[list[Any]]] = {}
    for ids in in_parts({row[2] for row in rows}):
        for host, queue_id, *result in history.query(
            "SELECT host, queue_id, toUInt32(submitted) AS began, countIf(status = 'sent'), "  # noqa: S608
            "countIf(status = 'bounced'), countIf(status = 'deferred'), argMaxIf(how, time, how != '') "
            f"FROM events FINAL WHERE minute >= {start} AND {is_of(subject)} AND kind IN ('delivery', 'removed') "
            f"AND queue_id IN ({ids}) GROUP BY host, queue_id, began"
        ):
            became.setdefault((host, queue_id), []).append(result)
    found = []
    for milliseconds, host, queue_id, message_id, sender, recipients, size, submitted in reversed(rows):
        results = [one[1:] for one in became.get((host, queue_id), []) if abs(one[0] - submitted) <= _CLOSE]
        sent, bounced, deferred = (sum(int(one[place]) for one in results) for place in range(3))
        how = next((one[3] for one in results if one[3]), "")
        found.append(
            Summary(
                milliseconds / 1000,
                host,
                queue_id,
                message_id,
                sender,
                int(recipients),
                int(size),
                sent,
                bounced,
                deferred,
                how,
            )
        )
    return found


class _Row(NamedTuple):
    entry: Entry
    identity: tuple[str, str, int]
    """Host, epoch, seq."""
    submitted: int
    client: str
    """As the table's key has it."""


def _place(row: _Row) -> tuple[Any, ...]:
    """In a second of a host the requests come first: a mail log with whole seconds does not tell their order."""
    entry = row.entry
    return int(entry.time), entry.host, entry.kind != "request", entry.time, row.identity


def _messages(history: Reader, which: str, since: float) -> list[Message]:
    rows = history.query(
        "SELECT host, queue_id, toUInt32(submitted) AS began, message_id, max(parent) FROM events "  # noqa: S608 (texts in quotes)
        f"WHERE minute >= {moment(int(since) // 60 * 60)} AND {which} AND {_OF_QUEUE} "
        f"GROUP BY host, queue_id, began, message_id ORDER BY began DESC LIMIT {MOST_MESSAGES}"
    )
    return [
        Message(host, queue_id, int(began), message_id, parent) for host, queue_id, began, message_id, parent in rows
    ]


def _apart(found: Iterable[Message]) -> list[Message]:
    """Each message once, although its submission moved a little."""
    apart: list[Message] = []
    for one in sorted(found):
        last = apart[-1] if apart else None
        if last is None or last[:2] != one[:2] or one.submitted - last.submitted > _CLOSE:
            apart.append(one)
        elif one.parent and not last.parent:
            apart[-1] = last._replace(parent=one.parent)
    return apart


def _with_relatives(history: Reader, messages: list[Message], since: float) -> list[Message]:
    """These messages, and those that they came out of or that came out of them, on the same host."""
    for _ in range(MOST_GENERATIONS):
        if not messages:
            break
        hosts = ", ".join(map(quoted, sorted({message.host for message in messages})))
        ids = {message.queue_id for message in messages}
        around: list[Message] = []
        for names in in_parts(ids | {message.parent for message in messages if message.parent}):
            around += _messages(history, f"host IN ({hosts}) AND queue_id IN ({names})", since)
        first = min(message.submitted for message in messages) - _CLOSE
        for names in in_parts(ids):
            around += _messages(history, f"host IN ({hosts}) AND parent IN ({names})", max(since, first))
        known = {message[:3] for message in messages}
        everyone = _apart([*around, *messages])
        related = list(messages)
        for one in everyone:
            parent = _parent(one, everyone)
            if parent is not None and one[:3] in known and parent[:3] not in known:
                related.append(parent)
            elif parent is not None and parent[:3] in known and one[:3] not in known:
                related.append(one)
        related = _apart(related)[:MOST_MESSAGES]
        if len(related) == len(messages):
            break
        messages = related
    return messages


def _parent(one: Message, everyone: list[Message]) -> Message | None:
    """The message that this one came out of: the last of that queue id that was submitted before it."""
    if not one.parent:
        return None
    before = [
        other for other in everyone if other[:2] == (one.host, one.parent) and other.submitted <= one.submitted + _CLOSE
    ]
    return max(before, key=lambda other: other.submitted, default=None)


def _belongs(row: _Row, messages: list[Message]) -> bool:
    """Whether the event of a queue id is one of these messages', not another's of that id."""
    of_queue = row.entry.kind in ("submitted", "delivery", "removed")
    for message in messages:
        if (row.entry.host, row.entry.facts.get("queue_id")) != message[:2]:
            continue
        if of_queue and abs(row.submitted - message.submitted) <= 2 * _CLOSE:
            return True
        if not of_queue and -_CLOSE <= row.entry.time - message.submitted <= _SESSION:
            return True
    return False


def _events(history: Reader, messages: list[Message]) -> list[_Row]:
    since = min(message.submitted for message in messages) - _CLOSE
    hosts = ", ".join(map(quoted, sorted({message.host for message in messages})))
    ids = ", ".join(map(quoted, sorted({message.queue_id for message in messages})))
    return _rows(history, f"minute >= {moment(since // 60 * 60)} AND host IN ({hosts}) AND queue_id IN ({ids})")


def _of_instances(history: Reader, tied: list[_Row]) -> list[_Row]:
    """Requests of the same instances, which came before there was a queue id."""
    found: list[_Row] = []
    asked: dict[tuple[str, str, str], list[_Row]] = {}
    for row in tied:
        if row.entry.facts.get("instance"):
            key = row.entry.host, str(row.entry.facts.get("sasl_username", "")), row.client
            asked.setdefault(key, []).append(row)
    for (host, account, client), rows in asked.items():
        first, last = (int(pick(row.entry.time for row in rows)) for pick in (min, max))
        of_session = (
            f"toStartOfHour(minute) BETWEEN {moment((first - _SESSION) // 3600 * 3600)} AND "
            f"{moment(last // 3600 * 3600)} AND sasl_username = {quoted(account)} AND client = {quoted(client)} "
            f"AND host = {quoted(host)} AND kind = 'request'"
        )
        for instances in in_parts({row.entry.facts["instance"] for row in rows}):
            found += _rows(history, f"{of_session} AND instance IN ({instances})")
    return found


def _rows(history: Reader, which: str) -> list[_Row]:
    rows = history.query(
        "SELECT toUnixTimestamp64Milli(time), kind, host, epoch, seq, toUInt32(submitted), client, "  # noqa: S608 (texts in quotes)
        f"{', '.join(FACTS)} FROM events WHERE {which} ORDER BY time LIMIT {MOST_EVENTS}"
    )
    return [
        _Row(
            entry(milliseconds, kind, host, FACTS, facts),
            (host, epoch, int(seq)),
            int(submitted),
            client,
        )
        for milliseconds, kind, host, epoch, seq, submitted, client, *facts in rows
    ]
