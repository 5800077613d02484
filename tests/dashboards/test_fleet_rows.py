"""Each panel's query on rows that the real fleet made, against a count of the events that the agents sent."""

import io
import json
import time
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import pytest
from rich.console import Console

from dashboards import fleet, query
from fleet.demo import history
from fleet.demo.__main__ import Demo, running_fleet, the_decision
from fleet.demo.traffic import VICTIM, Ledger, Traffic
from fleet.mail_log import Outcome, counted
from fleet.process import run_directory, wait_until
from fleet.reading import read_events
from weir import operators, subjects
from weir.events import Request, is_accepted

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(180)]

INTERVAL = 60
BY_HOST = {"Messages": "messages", "Recipients": "recipients", "Refused": "refused", "Blocked": "blocked"}
NOTHING = {
    "Shadow decisions": [{"shadows": 0}],
    "Shadow decisions: nobody was blocked": [],
    "Deferred by kind": [],
}


class Asked(NamedTuple):
    """A policy request, as it lies on weir.events."""

    host: str
    event: Request

    def number(self, column: str) -> int:
        if column in ("refused", "blocked"):
            refused = not is_accepted(self.event.action)
            return int(refused and (column == "refused" or self.event.decision != ""))
        return int(getattr(self.event, column))


class Made(NamedTuple):
    """What a fleet did, and what each panel shows of it."""

    asked: list[Asked]
    bounced: int
    """Recipients that did not get a message, by the mail logs."""
    decision: dict[str, Any]
    panels: dict[str, list[dict[str, Any]]]

    def sum(self, column: str) -> int:
        return sum(one.number(column) for one in self.asked)

    def by_host(self, column: str) -> Counter[str]:
        return _counted((one.host, one.number(column)) for one in self.asked)


@pytest.fixture(scope="module")
def made() -> Iterator[Made]:
    """Usual mail on three Postfix hosts, a stolen login, its block, and its release."""
    console = Console(file=io.StringIO())
    with run_directory() as directory, running_fleet(console, directory) as demo:
        start = int(time.time())
        traffic = Traffic(demo.hosts, seed=2)
        with traffic.usual_mail(1.0, newsletter_pause=0.2):
            wait_until(lambda: _is_lively(traffic.ledger), 60, "the usual mail")
            traffic.attack()
        decision = the_decision(demo)
        demo.weir("release", VICTIM, "--reason", "password changed")
        checks = history.check(demo.sink, demo.hosts)
        assert all(check.holds for check in checks), checks
        _wait_for_word(demo)
        asked = [
            Asked(host, event)
            for (host, _, _), event in read_events(demo.kafka.bootstrap).items()
            if isinstance(event, Request)
        ]
        end = int(time.time()) // INTERVAL * INTERVAL + INTERVAL  # the whole of the present minute
        panels = {
            title: _rows(demo, query.expand(sql, start // INTERVAL * INTERVAL, end, INTERVAL))
            for title, sql in fleet.queries()
        }
        logged = sum((counted(host.maillog) for host in demo.hosts), Counter[Outcome]())
        bounced = sum(number for one, number in logged.items() if one.what == "bounced")
        yield Made(asked, bounced, decision, panels)


def test_every_panel_is_held_against_a_count() -> None:
    tested = {
        *(f"{title} by host" for title in BY_HOST),
        *(f"{title} per minute" for title in ("Messages", "Recipients", "Refused")),
        *NOTHING,
        *("Blocks in force", "History is behind", "New decisions by cause", "Top accounts", "Top clients"),
        *("Blocks by detectors", "Operators' words", "host", "Bounces by kind"),
    }
    assert {title for title, _ in fleet.queries()} == tested


@pytest.mark.parametrize("title", BY_HOST)
def test_by_host(made: Made, title: str) -> None:
    expected = made.by_host(BY_HOST[title])
    assert expected.total() > 0
    shown = _counted((row["name"], row["per_minute"] * INTERVAL / 60) for row in made.panels[f"{title} by host"])
    assert shown == expected


@pytest.mark.parametrize("title", ["Messages", "Recipients", "Refused"])
def test_now(made: Made, title: str) -> None:
    assert made.panels[f"{title} per minute"] == [{"per_minute": pytest.approx(made.sum(title.lower()) / 5)}]


def test_the_top_accounts(made: Made) -> None:
    tried = _counted((one.event.sasl_username, one.number("attempted_recipients")) for one in made.asked)
    shown = {row["account"]: row for row in made.panels["Top accounts"]}
    assert {account: row["tried"] for account, row in shown.items()} == dict(_most(tried, 20))
    victim = [one for one in made.asked if one.event.sasl_username == VICTIM]
    row = shown[VICTIM]
    for column in ("messages", "recipients", "refused", "blocked"):
        assert row[column] == sum(one.number(column) for one in victim)
    assert row["from_clients"] == len({one.event.client_address for one in victim})
    assert row["through_hosts"] == 3
    assert row["look"] == f"weir history {VICTIM}"


def test_the_top_clients(made: Made) -> None:
    tried = _counted((one.event.client_address, one.number("attempted_recipients")) for one in made.asked)
    shown = made.panels["Top clients"]
    assert {row["address"]: row["tried"] for row in shown} == dict(_most(tried, 20))
    for row in shown:
        mails = [one for one in made.asked if one.event.client_address == row["address"]]
        assert row["for_accounts"] == len({one.event.sasl_username for one in mails})
        assert row["refused"] == sum(one.number("refused") for one in mails)


def test_the_block_and_its_end(made: Made) -> None:
    assert made.panels["Blocks in force"] == [{"blocks": 0}]
    (row,) = made.panels["Blocks by detectors"]
    evidence = made.decision["evidence"]
    assert (row["id"], row["subject"], row["state"]) == (made.decision["id"], made.decision["subject"], "released")
    assert row["why"] == f"{evidence['count']} messages in 60 s, threshold {evidence['threshold']}"
    assert row["seen_on"].split() == evidence["hosts"]
    (decided,) = made.panels["New decisions by cause"]
    assert (decided["name"], decided["decisions"]) == ("burst", 1)
    (word,) = made.panels["Operators' words"]
    assert (word["word"], word["subject"], word["reason"]) == (
        operators.RELEASE,
        subjects.sasl_username(VICTIM),
        "password changed",
    )
    for title, expected in NOTHING.items():
        assert made.panels[title] == expected


def test_the_bounces(made: Made) -> None:
    shown = _counted((row["name"], row["per_minute"] * INTERVAL / 60) for row in made.panels["Bounces by kind"])
    assert shown == {"unknown recipient": made.bounced}
    assert made.bounced > 0


def test_the_hosts_and_the_age(made: Made) -> None:
    assert [row["host"] for row in made.panels["host"]] == ["mx1", "mx2", "mx3"]
    (row,) = made.panels["History is behind"]
    assert 60 <= row["behind"] <= 180


def _is_lively(ledger: Ledger) -> bool:
    """More accounts than a panel shows, with enough messages to tell them apart."""
    accepted = [sent.account for sent in list(ledger.entries) if sent.answer.accepted]
    return len(accepted) >= 100 and len(set(accepted)) >= 25


def _rows(demo: Demo, sql: str) -> list[dict[str, Any]]:
    url = f"http://{demo.sink.queries}/?default_format=JSON"
    with urllib.request.urlopen(url, sql.encode(), timeout=30) as answer:
        rows: list[dict[str, Any]] = json.load(answer)["data"]
        return rows


def _wait_for_word(demo: Demo) -> None:
    """The history learns of words by another topic than of events."""
    deadline = time.monotonic() + 30
    while not _rows(demo, "SELECT 1 FROM words"):
        assert time.monotonic() < deadline, "the release did not come into the history"
        time.sleep(0.2)


def _counted(pairs: Iterable[tuple[str, float]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for name, number in pairs:
        counts[name] += round(number)
    return +counts


def _most(counts: Counter[str], number: int) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:number]
