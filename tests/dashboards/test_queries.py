"""Each query of the dashboard on a made history, against a count of the same rows in plain Python."""

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dashboards import fleet, mail, query
from tests.dashboards.history import END, START, History, Mail, Said, text
from weir import subjects

SOME_HOSTS = ["mx2", "mx7"]
CHOICES = [(), SOME_HOSTS]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    made = History(tmp_path_factory.mktemp("history"))
    yield made
    made.close()


KEYS = {"host_minutes": "minute", "host_outcomes": "minute", "account_hours": "hour", "client_hours": "hour"}
HOURS = START // 3600 * 3600, (END + 3599) // 3600 * 3600
"""The chosen time, in whole hours."""


def chosen(history: History, hosts: list[str], start: int = START, end: int = END) -> list[Mail]:
    """Mail of these hosts (none: all) with start <= minute < end."""
    return [one for one in history.mails if start <= one.minute < end and (not hosts or one.host in hosts)]


def test_every_query_is_tested() -> None:
    source = Path(__file__).read_text()
    for asked in fleet.queries():
        name, by_host, _ = asked.title.partition(" by host")
        assert (f'("{name}", "' in source) if by_host else (f'"{asked.title}"' in source)


def test_mail_is_found_by_the_beginning_of_the_tables_key(history: History) -> None:
    for asked in fleet.queries():
        key = next((key for table, key in KEYS.items() if f"FROM {table}" in asked.sql), "")
        if key:
            _, _, primary_key = history.keys(asked).partition("PrimaryKey")
            assert primary_key.replace("│", " ").split()[:2] == ["Keys:", key]


@pytest.mark.parametrize("hosts", CHOICES)
@pytest.mark.parametrize(
    ("title", "column"),
    [
        ("Messages per minute", "messages"),
        ("Recipients per minute", "recipients"),
        ("Refused per minute", "refused"),
    ],
)
def test_the_last_five_whole_minutes(history: History, title: str, column: str, hosts: list[str]) -> None:
    now = END // 60 * 60
    expected = sum(getattr(one, column) for one in chosen(history, hosts, now - 300, now)) / 5
    assert expected > 0
    assert history.ask(title, hosts=hosts) == [{"per_minute": expected}]


@pytest.mark.parametrize("hosts", CHOICES)
@pytest.mark.parametrize("interval", [60, 300])
@pytest.mark.parametrize(
    ("title", "column"),
    [
        ("Messages", "messages"),
        ("Recipients", "recipients"),
        ("Refused", "refused"),
        ("Blocked", "blocked"),
    ],
)
def test_a_time_series_by_host(history: History, title: str, column: str, interval: int, hosts: list[str]) -> None:
    mails = chosen(history, hosts, START // interval * interval, END // interval * interval)
    totals: Counter[str] = Counter()
    for one in mails:
        totals[one.host] += getattr(one, column)
    busiest = {host for _, host in sorted((-total, host) for host, total in totals.items())[: mail.MOST_HOSTS]}
    expected: Counter[tuple[str, str]] = Counter()
    for one in mails:
        name = one.host if one.host in busiest else mail.OTHERS
        expected[text(one.minute // interval * interval)[:19], name] += getattr(one, column)
    rows = history.ask(f"{title} by host", interval, hosts)
    assert {(row["time"], row["name"]): row["per_minute"] for row in rows} == pytest.approx(
        {key: count * 60 / interval for key, count in expected.items()}
    )
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
    assert len(rows) == len(expected)
    if not hosts:
        assert mail.OTHERS in {row["name"] for row in rows}


@pytest.mark.parametrize("hosts", CHOICES)
@pytest.mark.parametrize("interval", [60, 300])
@pytest.mark.parametrize(("title", "outcome"), [("Bounces by kind", "bounced"), ("Deferred by kind", "deferred")])
def test_why_it_was_not_delivered(history: History, title: str, outcome: str, interval: int, hosts: list[str]) -> None:
    start, end = START // interval * interval, END // interval * interval
    expected: Counter[tuple[str, str]] = Counter()
    for one in history.outcomes:
        if one.outcome == outcome and start <= one.minute < end and (not hosts or one.host in hosts):
            name = one.reason.replace("_", " ") or "other"
            expected[text(one.minute // interval * interval)[:19], name] += one.count
    rows = history.ask(title, interval, hosts)
    assert {name for _, name in expected} == {"listed", "unknown recipient", "rate", "other"}
    assert {(row["time"], row["name"]): row["per_minute"] for row in rows} == pytest.approx(
        {key: count * 60 / interval for key, count in expected.items()}
    )
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)


def test_the_top_accounts(history: History) -> None:
    by_account: defaultdict[str, list[Mail]] = defaultdict(list)
    for one in chosen(history, [], *HOURS):
        if one.sasl_username:
            by_account[one.sasl_username].append(one)
    expected: list[dict[str, Any]] = [
        {
            "account": account,
            "tried": sum(one.attempted_recipients for one in mails),
            "recipients": sum(one.recipients for one in mails),
            "messages": sum(one.messages for one in mails),
            "refused": sum(one.refused for one in mails),
            "blocked": sum(one.blocked for one in mails),
            "from_clients": len({one.client for one in mails}),
            "through_hosts": len({one.host for one in mails}),
        }
        for account, mails in by_account.items()
    ]
    expected.sort(key=lambda row: (-row["tried"], row["account"]))
    rows = history.ask("Top accounts")
    looks = {row["account"]: row.pop("look") for row in rows}
    assert rows == expected[:20]
    for account, look in looks.items():
        program, command, name = shlex.split(look)
        assert (program, command) == ("weir", "history")
        assert not name.startswith("-")
        assert subjects.parse(name) == f"sasl_username:{account}"


def test_the_command_of_a_plain_account_is_short(history: History) -> None:
    rows = history.ask("Top accounts")
    (look,) = [row["look"] for row in rows if row["account"] == "user0@example.org"]
    assert look == "weir history user0@example.org"


def test_the_top_clients(history: History) -> None:
    by_client: defaultdict[str, list[Mail]] = defaultdict(list)
    for one in chosen(history, [], *HOURS):
        if one.client:
            by_client[one.client].append(one)
    expected: list[dict[str, Any]] = [
        {
            "address": client,
            "tried": sum(one.attempted_recipients for one in mails),
            "recipients": sum(one.recipients for one in mails),
            "for_accounts": len({one.sasl_username for one in mails} - {""}),
            "refused": sum(one.refused for one in mails),
        }
        for client, mails in by_client.items()
    ]
    expected.sort(key=lambda row: (-row["tried"], row["address"]))
    assert history.ask("Top clients") == expected[:20]


def test_the_age_of_the_history(history: History) -> None:
    newest = max(one.minute for one in history.mails if one.minute <= END)
    assert history.ask("History is behind") == [{"behind": END - newest}]
    last = max(one.minute for one in history.mails)
    assert history.ask("History is behind", end=last + 1000) == [{"behind": 1000}]
    assert history.ask("History is behind", end=last + 86401) == [{"behind": None}]


def test_the_hosts_to_choose_from(history: History) -> None:
    assert [row["host"] for row in history.ask("host")] == sorted({one.host for one in chosen(history, [])})


class Operators:
    """What operators said of one subject by the end of the chosen time."""

    def __init__(self, words: list[Said], subject: str) -> None:
        said = sorted((one for one in words if one.subject == subject and one.time <= END), key=lambda one: one.time)
        self.released = max((one.time for one in said if one.word == "release"), default=0.0)
        standing = [one for one in said if one.word in ("block", "allow", "end")][-1:]
        in_force = [one for one in standing if one.until > END]
        self.allows = any(one.word == "allow" for one in in_force)
        self.blocks = any(one.word == "block" and one.time > self.released for one in in_force)


def states(history: History) -> dict[str, str]:
    """Decision → what has become of it by the end of the chosen time."""
    found = {}
    for one in history.newest():
        operators = Operators(history.words, one.subject)
        if one.until <= END:
            found[one.id] = "expired"
        elif one.shadow:
            found[one.id] = "shadow"
        elif operators.released > one.after:
            found[one.id] = "released"
        else:
            found[one.id] = "allowed" if operators.allows else "in force"
    return found


def test_blocks_in_force(history: History) -> None:
    by_machine = [one.id for one in history.newest() if states(history)[one.id] == "in force" and one.since <= END]
    by_hand = [one for one in {word.subject for word in history.words} if Operators(history.words, one).blocks]
    assert by_machine
    assert by_hand
    assert history.ask("Blocks in force") == [{"blocks": len(by_machine) + len(by_hand)}]


def test_the_table_of_blocks(history: History) -> None:
    found = states(history)
    shown = [one for one in history.newest() if one.since <= END and one.until >= START and not one.shadow]
    shown.sort(key=lambda one: (-one.since, one.id))
    rows = history.ask("Blocks by detectors")
    undo = [(row.pop("undo"), row["subject"]) for row in rows]
    assert rows == [
        {
            "since": text(one.since),
            "subject": one.subject,
            "cause": one.cause,
            "state": found[one.id],
            "why": f"{one.count} messages in 60 s, threshold 60",
            "seen_on": " ".join(one.hosts),
            "until": text(one.until),
            "id": one.id,
        }
        for one in shown[:100]
    ]
    assert {row["state"] for row in rows} == {"in force", "allowed", "released", "expired"}
    for command, subject in undo:
        assert shlex.split(command) == ["weir", "release", subject, "--reason"]


def test_shadow_decisions(history: History) -> None:
    shadows = [one for one in history.newest() if one.shadow and START <= one.since <= END]
    shadows.sort(key=lambda one: (-one.since, one.id))
    assert shadows
    assert history.ask("Shadow decisions") == [{"shadows": len(shadows)}]
    assert history.ask("Shadow decisions: nobody was blocked") == [
        {
            "since": text(one.since),
            "subject": one.subject,
            "cause": one.cause,
            "why_shadow": "brake",
            "why": f"{one.count} messages in 60 s, threshold 60",
            "id": one.id,
        }
        for one in shadows
    ]


@pytest.mark.parametrize("interval", [60, 300])
def test_decisions_over_time(history: History, interval: int) -> None:
    expected: Counter[tuple[str, str]] = Counter()
    for one in history.newest():
        if START // interval * interval <= one.since <= END:
            time = text(one.since // interval * interval)[:19]
            expected[time, one.cause + (" (shadow)" if one.shadow else "")] += 1
    rows = history.ask("New decisions by cause", interval)
    assert {(row["time"], row["name"]): row["decisions"] for row in rows} == expected
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)


def test_operators_words(history: History) -> None:
    said = [one for one in history.words if START <= one.time <= END]
    said.sort(key=lambda one: -one.time)
    assert {one.word for one in said} == {"block", "allow", "release", "end", "pause", "resume"}
    assert history.ask("Operators' words") == [
        {
            "time": text(one.time),
            "who": one.who,
            "word": one.word,
            "subject": one.subject,
            "reason": one.reason,
            "until": text(one.until) if one.until else None,
        }
        for one in said
    ]


class TestExpand:
    def test_all_macros(self) -> None:
        sql = "SELECT $__timeInterval(minute), $__interval_s WHERE minute >= $__fromTime AND minute < $__toTime"
        assert query.expand(sql, 60, 120, 30) == (
            "SELECT toStartOfInterval(toDateTime(minute), INTERVAL 30 second), 30 "
            "WHERE minute >= toDateTime(60) AND minute < toDateTime(120)"
        )

    def test_hosts(self) -> None:
        assert query.expand(query.CHOSEN_HOSTS, 0, 1) == "1=1"
        assert query.expand(query.CHOSEN_HOSTS, 0, 1, hosts=["a", "b'$"]) == r"host IN ('a', 'b\'$')"

    @pytest.mark.parametrize(
        "sql", ["SELECT $__timeFilter(minute)", "SELECT $host", "SELECT $__timeInterval(f(minute))"]
    )
    def test_what_is_not_known_is_an_error(self, sql: str) -> None:
        with pytest.raises(ValueError, match="expected macros that are known"):
            query.expand(sql, 0, 1)
