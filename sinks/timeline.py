"""What the history says of one subject: its sums, and all that happened, as one line of time."""

from typing import Any, NamedTuple

from sinks.reader import Reader
from sinks.store import quoted
from weir import subjects

DECISION, WORD = "decision", "word"


class Sums(NamedTuple):
    """Of a subject since a time."""

    events: int
    messages: int
    recipients: int
    refused: int
    beside: int
    """For an account its client addresses, for a client its accounts."""
    hosts: int


class Outcome(NamedTuple):
    """What the mail log told of a subject, by the submission of its messages."""

    outcome: str
    """`submitted`, `sent`, `bounced`, `deferred` (each try), `rejected`, `login`, `login_failed`."""
    reason: str
    """Of a bounce or a deferral its kind; of a failed login why; `weir` if the refusal is ours."""
    number: int


class Entry(NamedTuple):
    time: float
    """Unix seconds, by the broker's clock."""
    kind: str
    """Of an event, or `decision` or `word`."""
    host: str
    """Empty for what was decided for all."""
    facts: dict[str, Any]


FACTS = (
    *("protocol_state", "sasl_username", "client_address", "sender", "recipient", "queue_id", "instance"),
    *("messages", "recipients", "bytes", "action", "decision", "rule", "details", "message_id", "parent", "login"),
    *("unasked", "status", "relay", "dsn", "bounce", "list", "text", "how", "code", "service", "tries", "failed"),
)
"""Columns of events that tell what happened."""
_DECISION = ("id", "change", "cause", "counter", "count", "threshold", "seconds", "hosts", "beside", "shadow")
_WORD = ("word", "id", "who", "reason")


def sums(history: Reader, subject: str, since: float, host: str = "") -> Sums:
    """Of the minutes since then; of a local user, who asks for nothing, no more than zeros. Raises StoreError."""
    if subjects.is_uid(subject):
        return Sums(0, 0, 0, 0, 0, 0)
    beside = "client" if subjects.is_account(subject) else "sasl_username"
    (row,) = history.query(
        "SELECT sum(events), sum(messages), sum(recipients), sum(refused), "  # noqa: S608 (numbers, texts in quotes)
        f"uniqExactIf({beside}, {beside} != ''), uniqExact(host) FROM minutes FINAL "
        f"WHERE toStartOfHour(minute) >= {moment(int(since) // 3600 * 3600)} "  # in the words of the table's key
        f"AND minute >= {moment(int(since) // 60 * 60)} AND {is_of(subject)} {_at(host)}"
    )
    return Sums(*map(int, row))


def outcomes(history: Reader, subject: str, since: float, host: str = "") -> list[Outcome]:
    """Of messages submitted in the hours since then. Raises StoreError."""
    hour = moment(int(since) // 3600 * 3600)
    rows = history.query(
        "SELECT outcome, reason, sum(count) FROM outcomes FINAL "  # noqa: S608 (numbers, texts in quotes)
        f"WHERE toStartOfHour(minute) >= {hour} AND hour >= {hour} AND {is_of(subject)} {_at(host)} "
        "GROUP BY outcome, reason ORDER BY outcome, reason"
    )
    return [Outcome(outcome, reason, int(count)) for outcome, reason, count in rows]


def entries(
    history: Reader, subject: str, since: float, host: str = "", kind: str = "", most: int | None = None
) -> list[Entry]:
    """The newest `most` entries since then, oldest first. Raises StoreError."""
    limit = f"LIMIT {most}" if most is not None else ""
    found: list[Entry] = []
    if kind not in (DECISION, WORD):
        wanted = f"AND kind = {quoted(kind)}" if kind else ""
        rows = history.query(
            f"SELECT toUnixTimestamp64Milli(time), kind, host, {', '.join(FACTS)} FROM events FINAL "  # noqa: S608
            f"WHERE minute >= {moment(int(since) // 60 * 60)} AND time >= {_exact(since)} "
            f"AND {is_of(subject)} {_at(host)} {wanted} ORDER BY time DESC, host, epoch, seq DESC {limit}"
        )
        found += [entry(milliseconds, kind, host, FACTS, rest) for milliseconds, kind, host, *rest in rows[::-1]]
    if kind in ("", DECISION) and not host:
        found += _told(history, "decisions", subject, since, limit, DECISION, "since", _DECISION)
    if kind in ("", WORD) and not host:
        found += _told(history, "words", subject, since, limit, WORD, "time", _WORD)
    found.sort(key=lambda entry: entry.time)  # stable: what came within a millisecond stays in its order
    return found[-most:] if most is not None else found


def _told(
    history: Reader, table: str, subject: str, since: float, limit: str, kind: str, time: str, columns: tuple[str, ...]
) -> list[Entry]:
    rows = history.query(
        f"SELECT toUnixTimestamp64Milli({time}), toUnixTimestamp64Milli(until), {', '.join(columns)} "  # noqa: S608
        f"FROM {table} FINAL WHERE subject = {quoted(subject)} AND {time} >= {_exact(since)} "
        f"ORDER BY {time} DESC {limit}"
    )
    return [
        entry(milliseconds, kind, "", ("until", *columns), [until / 1000, *rest]) for milliseconds, until, *rest in rows
    ]


def entry(milliseconds: int, kind: str, host: str, columns: tuple[str, ...], values: list[Any]) -> Entry:
    facts = {column: value for column, value in zip(columns, values, strict=True) if value not in ("", 0, [])}
    return Entry(milliseconds / 1000, kind, host, facts)


def is_of(subject: str) -> str:
    if subjects.is_uid(subject):
        # It has no login and no client: in the words of the tables' keys.
        return f"sasl_username = '' AND client = '' AND uid = {int(subjects.value(subject))}"
    column = "sasl_username" if subjects.is_account(subject) else "client"
    return f"{column} = {quoted(subjects.value(subject))}"


def _at(host: str) -> str:
    return f"AND host = {quoted(host)}" if host else ""


def moment(seconds: int) -> str:
    return f"toDateTime({seconds}, 'UTC')"


def _exact(seconds: float) -> str:
    return f"fromUnixTimestamp64Milli({round(seconds * 1000)}, 'UTC')"
