"""A made history: rows from a seed, in ClickHouse's engine (chdb) and as plain Python for a count of one's own.

Invariants: every row of `minutes`, `host_outcomes`, `decisions` and `words` is written twice and never merged, sums
first with less in them, so that a query without FINAL counts wrong.
"""

import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chdb.session import Session

from dashboards import fleet, query

SCHEMA = sorted((Path(__file__).parents[2] / "sinks/schema").glob("*.sql"))
END = 1_800_000_000 + 17
"""The end of the chosen time, in the middle of a minute."""
START = END - 3600
HOSTS = [f"mx{number}" for number in range(1, 24)]
NASTY = ["o'hara@example.org", "eve'; rm -rf ~ #@x.org", "-n@example.org", "bob", "192.0.2.9", "client_address:a@x.org"]
ACCOUNTS = ["", *NASTY, *(f"user{number}@example.org" for number in range(30))]
CLIENTS = ["", "2001:db8::/64", *(f"192.0.2.{number}" for number in range(25))]


_SUMS = ", ".join(
    f"sum({column})" for column in ("events", "messages", "recipients", "attempted_recipients", "refused", "blocked")
)
_COLUMNS = "events, messages, recipients, attempted_recipients, refused, blocked"
SUMMED = (
    f"INSERT INTO host_minutes (minute, host, {_COLUMNS}) "
    f"SELECT minute, host, {_SUMS} FROM minutes FINAL GROUP BY minute, host",
    f"INSERT INTO account_hours (hour, sasl_username, {_COLUMNS}, clients, hosts) "
    f"SELECT toStartOfHour(minute) AS hour, sasl_username, {_SUMS}, uniqExactState(client), uniqExactState(host) "
    "FROM minutes FINAL WHERE sasl_username != '' GROUP BY hour, sasl_username",
    f"INSERT INTO client_hours (hour, client, {_COLUMNS}, accounts, hosts) "
    f"SELECT toStartOfHour(minute) AS hour, client, {_SUMS}, "
    "uniqExactStateIf(sasl_username, sasl_username != ''), uniqExactState(host) "
    "FROM minutes FINAL WHERE client != '' GROUP BY hour, client",
)
"""The coarser sums, from those of minutes as they are so far."""


@dataclass(frozen=True)
class Mail:
    """A row of `minutes`; `minute` in Unix seconds."""

    minute: int
    sasl_username: str
    client: str
    host: str
    events: int
    messages: int
    recipients: int
    attempted_recipients: int
    refused: int
    blocked: int


@dataclass(frozen=True)
class Told:
    """A row of `host_outcomes`; `minute` in Unix seconds."""

    minute: int
    host: str
    outcome: str
    reason: str
    count: int


@dataclass(frozen=True)
class Decided:
    """A record of `decisions`; times in Unix seconds."""

    id: str
    change: int
    subject: str
    cause: str
    since: float
    until: float
    after: float
    shadow: bool
    why_shadow: str
    count: int
    hosts: list[str]


@dataclass(frozen=True)
class Said:
    """A row of `words`; times in Unix seconds."""

    time: float
    subject: str
    word: str
    who: str
    reason: str
    until: float


class History:
    """Rows of some hours around the chosen time, and the engine that holds them."""

    def __init__(self, directory: Path, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self.mails = self._mails()
        self.decisions = self._decisions()
        self.words = self._words()
        self.outcomes = self._outcomes()
        self._session = Session(str(directory / "chdb"))
        for statement in ";".join(file.read_text() for file in SCHEMA).split(";"):
            if statement.strip():
                self._session.query(statement)
        self._session.query("SYSTEM STOP MERGES")
        less = [
            replace(one, events=one.events - 1, messages=one.messages // 2, recipients=one.recipients // 2, refused=1)
            for one in self.mails
        ]
        for mails in (less, self.mails):
            self._insert("minutes", mails)
            for statement in SUMMED:
                self._session.query(statement)
        self._insert("host_outcomes", [replace(one, count=one.count - 1) for one in self.outcomes])
        self._insert("host_outcomes", self.outcomes)
        for _ in range(2):
            self._insert("decisions", self.decisions, counter="messages", threshold=60, seconds=60)
            self._insert("decisions", self._exhausted(), counter="rate DAILY", threshold=60, seconds=60)
            self._insert("words", self.words, id="w")

    def close(self) -> None:
        self._session.close()

    def ask(
        self, title: str, interval_seconds: int = 60, hosts: Sequence[str] = (), end: int = END
    ) -> list[dict[str, Any]]:
        """The rows that the panel of this title gets."""
        (sql,) = [asked.sql for asked in fleet.queries() if asked.title == title]
        answer = self._session.query(query.expand(sql, START, end, interval_seconds, hosts), "JSON")
        rows: list[dict[str, Any]] = json.loads(str(answer))["data"]
        return rows

    def keys(self, asked: fleet.Query) -> str:
        """How ClickHouse would find the rows of this query."""
        return str(self._session.query(f"EXPLAIN indexes = 1 {query.expand(asked.sql, START, END)}", "TSVRaw"))

    def newest(self) -> list[Decided]:
        """Each decision as its last change left it."""
        return list({one.id: one for one in sorted(self.decisions, key=lambda one: one.change)}.values())

    def _insert(self, table: str, rows: Iterable[Any], **more: object) -> None:
        lines = [json.dumps(_columns(row, table) | more) for row in rows]
        self._session.query(f"INSERT INTO {table} FORMAT JSONEachRow {' '.join(lines)}")

    def _mails(self) -> list[Mail]:
        made: dict[tuple[int, str, str, str], Mail] = {}
        for _ in range(3000):
            minute = (END - self._random.randrange(-300, 5400)) // 60 * 60
            # Some hosts and accounts have more than others, as they do.
            host = HOSTS[int(len(HOSTS) * self._random.random() ** 2)]
            account = ACCOUNTS[int(len(ACCOUNTS) * self._random.random() ** 1.5)]
            client = self._random.choice(CLIENTS)
            messages, refused = self._random.randrange(20), self._random.choice([0, 0, self._random.randrange(9)])
            recipients = messages + self._random.randrange(50)
            made[minute, account, client, host] = Mail(
                minute,
                account,
                client,
                host,
                events=messages + refused + 2,
                messages=messages,
                recipients=recipients,
                attempted_recipients=recipients + refused,
                refused=refused,
                blocked=self._random.randrange(refused + 1),
            )
        return list(made.values())

    def _outcomes(self) -> list[Told]:
        made: dict[tuple[int, str, str, str], Told] = {}
        for _ in range(2000):
            minute = (END - self._random.randrange(-300, 5400)) // 60 * 60
            host, outcome = self._random.choice(HOSTS), self._random.choice(["sent", "bounced", "deferred"])
            reason = "" if outcome == "sent" else self._random.choice(["listed", "unknown_recipient", "rate", ""])
            made[minute, host, outcome, reason] = Told(minute, host, outcome, reason, self._random.randrange(1, 30))
        return list(made.values())

    def _decisions(self) -> list[Decided]:
        made: list[Decided] = []
        for number in range(150):
            account = self._random.random() < 0.7
            subject = (
                f"sasl_username:{self._random.choice(ACCOUNTS[1:])}"
                if account
                else f"client_address:{self._random.choice(CLIENTS[1:])}"
            )
            since = END - self._random.choice([self._random.uniform(-600, 7200), self._random.uniform(0, 29 * 86400)])
            since = int(since)
            until = since + self._random.choice([600, 3600, 30 * 86400])
            after = self._random.choice([0.0, since - 100.0])
            shadow = self._random.random() < 0.3
            for change in range(self._random.choice([1, 1, 3])):
                made.append(
                    Decided(
                        f"{number:012x}",
                        change,
                        subject,
                        self._random.choice(["burst", "spread"]) if change == 0 else made[-1].cause,
                        since,
                        until + 60 * change,
                        after,
                        shadow != (change == 2),
                        "brake",
                        61 + number + change,
                        self._random.sample(HOSTS, 2),
                    )
                )
        self._random.shuffle(made)
        return made

    def _exhausted(self) -> list[Decided]:
        """That limits of rules are exhausted: no panel here shows these."""
        subject = f"limit:{'0' * 16}:sasl_username={ACCOUNTS[1]}"
        since = END - 100.0
        return [
            Decided(f"{number:012x}", 0, subject, "limit", since, END + 1000.0, 0.0, False, "", 61, HOSTS[:1])
            for number in range(1000, 1005)
        ]

    def _words(self) -> list[Said]:
        subjects = sorted({one.subject for one in self.decisions})
        made = [
            Said(END - 1000.5, "*", "pause", "ann", "too many", 0.0),
            Said(END - 900.5, "*", "resume", "ann", "", 0.0),
        ]
        for number in range(60):
            word = self._random.choice(["block", "allow", "release", "end"])
            time = END - self._random.uniform(-300, 9000)
            until = time + self._random.choice([600.0, 86400.0]) if word in ("block", "allow") else 0.0
            subject = self._random.choice(subjects)
            made.append(Said(round(time, 3), subject, word, "ann", f"it's {number}", round(until, 3)))
        return made


def text(moment: float) -> str:
    """Unix seconds as ClickHouse writes a DateTime64(3) in UTC."""
    return datetime.fromtimestamp(round(moment, 3), UTC).isoformat(" ", "milliseconds").removesuffix("+00:00")


def _columns(row: Any, table: str) -> dict[str, Any]:
    columns = asdict(row)
    if table in ("minutes", "host_outcomes"):
        return columns
    for field in fields(row):
        if field.type in (float, "float"):
            columns[field.name] = text(columns[field.name])
    columns["day"] = (columns.get("since") or columns["time"])[:10]
    return columns
