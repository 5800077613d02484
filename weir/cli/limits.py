"""`weir limits`: what the rules' limits have counted, on this host and in the fleet.

    host     the agent's own counters
    fleet    over: what a decision says is exhausted; near: by the windows of streams

Invariant: who cannot be asked, the host or the fleet, is told, and what the other says is shown.
"""

import heapq
import time
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from weir import limits, subjects, topics
from weir.cli import agent_control, in_force, options, output
from weir.cli.broker import Connection, Message, Start
from weir.cli.output import NOT_DONE, CommandError, many
from weir.cli.processes import installed
from weir.control import Question
from weir.decisions import Decision

app = typer.Typer(no_args_is_help=True, help="What limits have counted, on this host and in the fleet.")

NEAR = 0.8
"""Share of its maximum from which a counter is told."""
_WINDOW = b"l:"
"""How the keys of limits begin in weir.windows."""
MOST_ROWS = 500

Number = Annotated[
    int,
    typer.Option("--number", "-n", min=1, max=10_000, help="At most so many of the host, and near ones of the fleet."),
]
HostOnly = Annotated[bool, typer.Option("--host", help="This host only: Kafka is not asked.")]


class Row(NamedTuple):
    where: str
    key: str
    rule: str
    counted: int
    maximum: float
    seconds: float
    until: float

    @property
    def share(self) -> float:
        """Of the maximum."""
        return self.counted / self.maximum if self.maximum > 0 else float("inf")

    @property
    def is_over(self) -> bool:
        return self.share >= 1 if self.where == "fleet" else self.share > 1


@app.command("list")
def list_(
    context: typer.Context,
    directory: agent_control.Directory = None,
    number: Number = 50,
    host_only: HostOnly = False,
    everything: Annotated[bool, typer.Option("--all", help="Also what is far from its maximum.")] = False,
    as_json: options.Json = False,
) -> None:
    """Show what is near its maximum or over it: counters of this host, and those of the fleet."""
    least = 0.0 if everything else NEAR
    rows, counters = _of_host(context, directory, number, needed=host_only or directory is not None)
    rows = [row for row in rows if row.share >= least]
    if not (host_only or directory):
        rows += _of_fleet(context, number, least, needed=counters is None)
    if as_json:
        output.document([row._asdict() for row in rows])
        return
    now = time.time()
    headings = ["Where", "Counts", "Rule", "Count", "Maximum", "Seconds", "Until"]
    styles = ["red" if row.is_over else "" for row in rows[:MOST_ROWS]]
    if rows:
        output.table(headings, [_cells(row, now) for row in rows[:MOST_ROWS]], styles)
    else:
        output.tell("no limit is near its maximum")
    if counters is not None:
        output.tell(f"{many(counters, 'counter')} on this host")


@app.command()
def reset(
    context: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="ITEM=VALUE, or a value of whatever item.")],
    directory: agent_control.Directory = None,
) -> None:
    """Let this host's counters of a value begin anew. What the fleet has counted stays, and may refuse on.

    For all hosts and the fleet: `weir release` of the account or address, or of the limit itself (`limit:…`, as in
    `weir decisions list --all`).

    Exit code 1 if there is none.
    """
    answer = agent_control.ask(context, directory, Question("reset", key=key))
    output.say(f"{many(answer.counters, 'counter')} of {key} forgotten on this host")
    if not answer.counters:
        raise typer.Exit(NOT_DONE)


def _of_host(context: typer.Context, directory: Path | None, number: int, needed: bool) -> tuple[list[Row], int | None]:
    """The fullest counters of this host, and how many it has; None if it cannot be asked, which is told. Raises
    CommandError instead if nobody else is asked."""
    try:
        answer = agent_control.ask(context, directory, Question("limits", number))
    except CommandError as error:
        if needed:
            raise
        output.tell(f"this host is not shown: {error}")
        return [], None
    rows = [
        Row("host", f"{one.item}={one.key}", one.rule, one.count, one.maximum, one.seconds, one.until)
        for one in answer.limits
    ]
    return rows, answer.counters


def _of_fleet(context: typer.Context, number: int, least: float, needed: bool) -> list[Row]:
    """What is exhausted, and the fullest `number` of the others that have at least such a share of their maximum.
    Raises CommandError if Kafka cannot be asked and nothing else is shown."""
    settings = options.settings(context)
    connection = Connection(settings)
    picture = in_force.Picture(settings.default_realm)
    try:
        picture.read(connection, Start(topics.OPERATORS), Start(topics.DECISIONS))
    except CommandError as error:
        if needed:
            raise
        output.tell(f"the fleet is not shown: {error}")
        return []
    now = time.time()
    over = {
        decision.subject: _of_decision(decision)
        for decision in picture.decisions.values()
        if decision.cause == limits.CAUSE and picture.state(decision, now) == "in force"
    }
    near: dict[str, Row] = {}
    try:
        for message in connection.read(Start(topics.WINDOWS)):
            if message.key.startswith(_WINDOW):
                _look(message, picture, now, near, least)
    except CommandError as error:
        output.tell(f"of the fleet only what is over is shown: {error}")
    fullest = heapq.nlargest(
        number, (row for subject, row in near.items() if subject not in over), key=lambda row: row.share
    )
    return sorted(over.values(), key=lambda row: row.until) + fullest


def _of_decision(decision: Decision) -> Row:
    evidence = decision.evidence
    key, rule = _named(decision.subject, evidence.counter)
    return Row("fleet", key, rule, evidence.count, evidence.threshold, evidence.seconds, decision.until)


def _look(message: Message, picture: in_force.Picture, now: float, near: dict[str, Row], least: float) -> None:
    """Note what a record of weir.windows says of a limit; the last one of a limit counts."""
    subject = message.key.removeprefix(_WINDOW).decode(errors="replace")
    near.pop(subject, None)
    concerned = picture.concerned(subject)
    if message.value is None or any(picture.operators.allow(one, now) for one in concerned):
        return
    try:
        window = installed("streams.limits", "streams").decode(message.value)
    except ValueError:
        return  # what is broken there stands still, and `weir status` tells
    window.release(max(window.after, *map(picture.operators.released, concerned)))
    row = Row("fleet", *_named(subject, window.what), window.sum_at(now), window.maximum, window.seconds, window.ends)
    if row.counted and row.share >= least:
        near[subject] = row


def _named(subject: str, what: str) -> tuple[str, str]:
    """Key and rule."""
    return subjects.value(subject).partition(":")[2], what.partition(" ")[2]


def _cells(row: Row, now: float) -> tuple[str, ...]:
    return (
        row.where,
        row.key,
        row.rule,
        str(row.counted),
        f"{row.maximum:g}",
        f"{row.seconds:g}",
        output.at(row.until, now),
    )
