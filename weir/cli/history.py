"""`weir history`, `weir forget`: what happened to an account or an address, and how to have it forgotten."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from weir import events, subjects
from weir.cli import durations, options, output
from weir.cli.output import NOT_DONE, REFUSED, UNREACHABLE, CommandError, many
from weir.cli.processes import installed
from weir.envelopes import UNREADABLE
from weir.settings import Settings

HEADINGS = ["Time", "Host", "What", "Who", "From → to", "Outcome"]
MOST_ROWS = 200
"""The newest; --json prints all."""


def history(
    context: typer.Context,
    subject: options.Subject,
    since: Annotated[
        int,
        typer.Option("--since", metavar="DURATION", parser=options.duration, help="How far back: 90s, 30m, 12h, 7d."),
    ] = "24h",  # type: ignore[assignment]  # the parser's input
    host: Annotated[str, typer.Option("--host", metavar="HOST", help="Only what this mail host saw.")] = "",
    kind: Annotated[
        str, typer.Option("--kind", metavar="KIND", help="Only request, decision, word or another kind of event.")
    ] = "",
    as_json: options.Json = False,
) -> None:
    """Show what an account or an address did and what was decided about it, from the history.

    Exit code 1 if the history holds nothing about it.
    """
    settings = options.settings(context)
    canonical = options.subject(subject, settings)
    timeline = installed("sinks.timeline", "sinks")
    reader = installed("sinks.reader", "sinks")
    start = time.time() - since
    with errors(), reader.reader(settings.history) as found:
        sums = timeline.sums(found, canonical, start, host)
        outcomes = timeline.outcomes(found, canonical, start, host)
        entries = timeline.entries(found, canonical, start, host, kind, None if as_json else MOST_ROWS + 1)
    if as_json:
        output.document(
            {
                "subject": canonical,
                "since": start,
                "sums": sums._asdict(),
                "outcomes": [one._asdict() for one in outcomes],
                "entries": [{"time": one.time, "kind": one.kind, "host": one.host, **one.facts} for one in entries],
            }
        )
    else:
        _show(canonical, since, sums, outcomes, entries)
    if not entries:
        raise typer.Exit(NOT_DONE)


def forget(
    context: typer.Context,
    subject: options.Subject,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: options.Json = False,
) -> None:
    """Remove a person from the history: all that is stored about an account or an address.

    Kafka's own copies go by themselves, after 3 days (events) and 35 days (decisions).
    """
    settings = options.settings(context)
    canonical = options.subject(subject, settings)
    if subjects.is_uid(canonical):  # its number alone stands in many an event that is not about it
        raise typer.BadParameter("a local user is no person: forget takes an account or an address")
    if not yes and not typer.confirm(f"Remove all that the history holds about {canonical}?", err=True):
        raise typer.Exit(NOT_DONE)
    module = installed("sinks.forget", "sinks")
    with errors(), _store(settings) as store:
        counts = module.forget(store, canonical, settings.default_realm)
    if as_json:
        output.document({"subject": canonical, "forgotten": counts})
    else:
        output.say(f"forgotten: {canonical} ({', '.join(f'{count} {name}' for name, count in counts.items())})")
    if not any(counts.values()):
        raise typer.Exit(NOT_DONE)


def _show(subject: str, since: int, sums: Any, outcomes: list[Any], entries: list[Any]) -> None:
    if sums.events:
        beside = many(sums.beside, "client" if subject.startswith("sasl_username:") else "account")
        output.say(
            f"{subject}, last {durations.shown(since)}: {many(sums.messages, 'message')} to "
            f"{many(sums.recipients, 'recipient')}, {sums.refused} refused, {beside}, {many(sums.hosts, 'host')}"
        )
    if outcomes:
        output.say(f"by the mail log: {_told(outcomes)}")
    shown = entries[-MOST_ROWS:]
    now = time.time()
    if shown:
        output.table(HEADINGS, [row(one, now) for one in shown])
    else:
        output.tell(f"the history holds nothing about {subject} in the last {durations.shown(since)}")
    if len(shown) < len(entries):
        output.tell(f"the newest {MOST_ROWS}; --json prints all")


WORDS = {"sent": "delivered", "login": "logins", "login_failed": "failed logins"}
"""Outcomes that have another name here."""
QUEUE = {"held": "put on hold", "left": "left on hold"}
"""What became of mail in the queues, where another word tells more."""
ORDER = ("submitted", "sent", "bounced", "deferred", "rejected", "login", "login_failed")


def _told(outcomes: list[Any]) -> str:
    """What the mail log told: `3 delivered, 2 bounced (1 listed, 1 spam), 5 deferred`."""
    parts = []
    for name in sorted({one.outcome for one in outcomes}, key=lambda name: (*ORDER, name).index(name)):
        same = [one for one in outcomes if one.outcome == name]
        reasons = [f"{one.number} {one.reason.replace('_', ' ')}" for one in same if one.reason]
        count = sum(one.number for one in same)
        parts.append(f"{count} {WORDS.get(name, name)}" + (f" ({', '.join(reasons)})" if reasons else ""))
    return ", ".join(parts)


def row(entry: Any, now: float) -> tuple[str, ...]:
    facts = entry.facts
    when = output.at(entry.time, now)
    if entry.kind == "decision":
        why = f"{facts.get('count', 0)} {facts.get('counter', '')} in {durations.shown(facts.get('seconds', 0))}"
        what = "shadow" if facts.get("shadow") else "blocked"
        through = f"through {', '.join(facts.get('hosts', []))}"
        return (
            when,
            "",
            f"decision {facts['id']}",
            facts["cause"],
            through,
            f"{what}: {why}, until {_until(facts, now)}",
        )
    if entry.kind == "word":
        until = f", until {_until(facts, now)}" if facts.get("until") else ""
        return when, "", facts.get("word", ""), facts.get("who", ""), "", facts.get("reason", "") + until
    what = facts.get("protocol_state", entry.kind) if entry.kind == "request" else entry.kind
    who = " ".join(filter(None, (facts.get("sasl_username"), facts.get("client_address"))))
    ways = f"{facts.get('sender', '')} → {facts.get('recipient', '')}"
    return when, entry.host, what, who, ways if len(ways) > 3 else "", outcome(entry.kind, facts)


def outcome(kind: str, facts: dict[str, Any]) -> str:
    """What an event came to, in a few words."""
    if kind == "request":
        return str(facts.get("action", ""))
    if kind == "login":
        words = [facts.get("service", ""), f"failed: {facts['failed']}" if "failed" in facts else "done"]
        if facts.get("tries", 1) > 1:
            words.append(f"{facts['tries']} times")
        return " ".join(filter(None, words))
    if kind == "queue":
        return _queue(facts.get("details", ""))
    if kind == "submitted":
        words = [
            facts.get("message_id", ""),
            "no policy request was seen" if facts.get("unasked") else "",
            _out_of(facts),
        ]
        return " ".join(filter(None, words))
    if kind == "rejected":
        words = [facts.get(name, "") for name in ("protocol_state", "code", "dsn")]
        return " ".join(str(word) for word in words if word) + (
            f" [weir {facts['decision']}]" if "decision" in facts else ""
        )
    words = [facts.get(name, "") for name in ("how", "status", "bounce", "list", "dsn", "relay", "text")]
    return " ".join(filter(None, [*words, _out_of(facts)]))


def _queue(details: str) -> str:
    """What an agent did with mail in its host's queues."""
    try:
        told = events.decoder.decode(details)
    except UNREADABLE:
        return ""
    if not isinstance(told, events.Queue):
        return ""
    done = QUEUE.get(told.how, told.how)
    return f"{many(told.messages, 'message')} {done} [{told.cause}]" + (f", {told.error}" if told.error else "")


def _out_of(facts: dict[str, Any]) -> str:
    """What a message came out of, such as the one that it notifies of."""
    return f"[out of {facts['parent']}]" if "parent" in facts else ""


def _until(facts: dict[str, Any], now: float) -> str:
    return output.at(facts.get("until", 0.0), now)


def _store(settings: Settings) -> Any:
    """The history to write to. A history without a server is its sink's alone."""
    history = settings.history
    if history.server:
        return installed("sinks.clickhouse", "sinks").ClickHouse(history, answer_seconds=3600)
    embedded = installed("sinks.embedded", "embedded")
    try:
        return embedded.Embedded(history.path, history.database)
    except installed("sinks.store", "sinks").StoreError as error:
        raise CommandError(
            f"{error} (if a sink has it: stop the sink, and start it again after this)", REFUSED
        ) from None


@contextmanager
def errors() -> Iterator[None]:
    """What the history says against it becomes a CommandError."""
    failure = installed("sinks.store", "sinks").StoreError
    try:
        yield
    except failure as error:
        raise CommandError(f"history: {error}", REFUSED if error.code else UNREACHABLE) from None
