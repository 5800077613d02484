"""`weir decisions`: who is blocked or allowed, why, by whom and until when."""

import re
import time
from collections.abc import Iterator
from typing import Annotated, NamedTuple

import typer
from confluent_kafka import OFFSET_END

from weir import limits, operators, topics
from weir.cli import in_force, options, output
from weir.cli.broker import Connection, Message, Start
from weir.cli.in_force import Picture, State
from weir.cli.output import NOT_DONE, many
from weir.decisions import Decision
from weir.operators import EVERYTHING, Word

app = typer.Typer(no_args_is_help=True, help="Who is blocked or allowed, why, by whom and until when.")

HEADINGS = ["State", "Subject", "By", "Why", "Since", "Until"]
IDENTITY = "[0-9a-f]{12}"
MOST_ROWS = 500
"""Nobody reads more of a table, and drawing it takes longer than reading Kafka."""
STYLES = {"in force": "", "shadow": "yellow", "allowed": "dim", "released": "dim", "expired": "dim"}


class Entry(NamedTuple):
    """A decision or a word, with what has become of it."""

    state: State
    since: float
    record: Decision | Word

    @property
    def stands(self) -> bool:
        return self.state in ("in force", "shadow", "allowed")


@app.command("list")
def list_(
    context: typer.Context,
    subject: Annotated[
        str, typer.Argument(metavar="[SUBJECT]", help="Only this account or address, or the one decision of this id.")
    ] = "",
    everything: Annotated[bool, typer.Option("--all", help="Also what is over, released or expired.")] = False,
    as_json: options.Json = False,
) -> None:
    """Show what is in force: decisions of detectors, operators' blocks and allows, a pause.

    Limits of rules that are exhausted are shown with --all, or by whom they count, their subject or id. (See `weir
    limits list`.)

    Exit code 1 if a subject or an id is given and nothing is found.
    """
    settings = options.settings(context)
    canonical = options.subject(subject, settings) if subject else ""
    narrow = in_force.partition(canonical) if subject and not re.fullmatch(IDENTITY, subject) else None
    picture = Picture(settings.default_realm)
    picture.read(Connection(settings), Start(topics.OPERATORS), Start(topics.DECISIONS, partition=narrow))
    now = time.time()
    known = sorted(entries(picture, now), key=lambda one: one.since)
    if subject:
        known = [one for one in known if canonical in picture.concerned(one.record.subject) or one.record.id == subject]
    elif not everything:
        known = [one for one in known if not _is_limits(one.record)]
    shown = [one for one in known if everything or one.stands or one.record.id == subject]
    if as_json:
        output.document([_record(one) for one in shown])
    elif shown:
        newest = shown[-MOST_ROWS:]
        output.table(HEADINGS, [_row(one, now) for one in newest], [STYLES[one.state] for one in newest])
        if len(newest) < len(shown):
            output.tell(f"the newest {MOST_ROWS} of {len(shown)}; --json prints all")
    if picture.not_understood:
        output.tell(f"left out: {many(picture.not_understood, 'record')} that could not be understood")
    if not shown:
        over = f" ({len(known)} over: --all)" if known else ""
        output.tell(f"nothing is in force{f' on {subject}' if subject else ''}{over}")
    if subject and not shown:
        raise typer.Exit(NOT_DONE)


@app.command()
def watch(context: typer.Context, as_json: options.Json = False) -> None:
    """Show decisions and operators' words as they come, until Ctrl-C."""
    settings = options.settings(context)
    connection = Connection(settings)
    picture = Picture(settings.default_realm)
    live = False
    try:
        for message in connection.follow(Start(topics.OPERATORS), Start(topics.DECISIONS, OFFSET_END)):
            if message is None:
                live = True
                output.tell("watching; Ctrl-C ends it")
            elif live:
                _show(picture, message, as_json)
            else:
                picture.apply(message)  # words of before decide what a decision of now means
    except KeyboardInterrupt:
        return


def entries(picture: Picture, now: float) -> Iterator[Entry]:
    """All that is known and what has become of it."""
    for word, since in picture.words():
        yield Entry(picture.word_state(word, now), since, word)
    for decision in picture.decisions.values():
        yield Entry(picture.state(decision, now), decision.since, decision)


def _is_limits(record: Decision | Word) -> bool:
    return isinstance(record, Decision) and record.cause == limits.CAUSE


def _record(entry: Entry) -> dict[str, object]:
    kind = "decision" if isinstance(entry.record, Decision) else "word"
    return in_force.record(entry.record, kind=kind, state=entry.state, since=entry.since)


def _row(entry: Entry, now: float) -> tuple[str, ...]:
    record = entry.record
    if isinstance(record, Decision):
        by, reason = f"{record.cause} {record.id}", in_force.why(record)
    else:
        by, reason = f"{record.word} {record.id}", f"{record.who}: {record.reason}"
    subject = "all subjects" if record.subject == EVERYTHING else record.subject
    until = output.at(record.until, now) if record.until else "–"
    return entry.state, subject, by, reason, output.at(entry.since, now), until


def _show(picture: Picture, message: Message, as_json: bool) -> None:
    """Print what a record that just came says."""
    before = picture.not_understood
    picture.apply(message)
    now = time.time()
    if picture.not_understood > before:
        output.tell(f"a record of {message.topic} could not be understood, key {message.key!r}")
    elif (entry := _newest(picture, message, now)) is None:
        _show_end(message, as_json)
    elif as_json:
        output.line(_record(entry))
    else:
        state, subject, by, reason, _, until = _row(entry, now)
        output.say(f"{output.at(now, now)} {state}: {subject}, {by}, {reason}, until {until}")


def _newest(picture: Picture, message: Message, now: float) -> Entry | None:
    """What stands under the record's key now."""
    if message.topic == topics.DECISIONS:
        decision = picture.decisions.get(message.key)
        return Entry(picture.state(decision, now), decision.since, decision) if decision else None
    group, subject = operators.split_key(message.key)
    words = picture.operators.standing if group == operators.STANDING else picture.operators.releases
    found = words.get(subject)
    return Entry(picture.word_state(found[0], now), found[1], found[0]) if found else None


def _show_end(message: Message, as_json: bool) -> None:
    key = message.key.decode()
    if key.startswith(f"{limits.CAUSE} "):
        return  # it was over long before
    subject = key.partition(" ")[2]
    is_resume = message.topic == topics.OPERATORS and subject == EVERYTHING
    by = f", by {message.who}" if message.who else ""
    if as_json:
        output.line(
            {
                "kind": "resume" if is_resume else "end",
                "topic": message.topic,
                "key": key,
                "time": message.time,
                "who": message.who,
            }
        )
    else:
        output.say(f"{output.at(message.time, time.time())} {'resumed' if is_resume else f'ended: {key}'}{by}")
