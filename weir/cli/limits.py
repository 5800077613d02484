"""`weir limits`: what the rules' limits have counted, on this host and in the fleet.

Invariant: the host is asked first; a fleet that cannot be reached is told, and what the host says is shown.
"""

import time
from typing import Annotated, NamedTuple

import typer

from weir import control, limits, subjects, topics
from weir.cli import agent_control, in_force, options, output
from weir.cli.broker import Connection, Start
from weir.cli.output import NOT_DONE, CommandError, many
from weir.control import Question

app = typer.Typer(no_args_is_help=True, help="What limits have counted, on this host and in the fleet.")

NEAR = 0.8
"""Share of its maximum from which a counter is told."""
MOST_ROWS = 500

Number = Annotated[int, typer.Option("--number", "-n", min=1, max=10_000, help="At most so many of this host.")]
HostOnly = Annotated[bool, typer.Option("--host", help="This host only: Kafka is not asked.")]


class Row(NamedTuple):
    where: str
    key: str
    rule: str
    counted: int
    maximum: float
    seconds: float
    until: float


@app.command("list")
def list_(
    context: typer.Context,
    directory: agent_control.Directory = None,
    number: Number = 50,
    host_only: HostOnly = False,
    everything: Annotated[bool, typer.Option("--all", help="Also what is far from its maximum.")] = False,
    as_json: options.Json = False,
) -> None:
    """Show what is near its maximum or over it: counters of this host, and limits that are exhausted in the fleet."""
    answer = agent_control.ask(context, directory, Question("limits", number))
    rows = [row for row in map(_of_host, answer.limits) if everything or row.counted >= NEAR * row.maximum]
    if not (host_only or directory):
        rows += _of_fleet(context)
    if as_json:
        output.document([row._asdict() for row in rows])
        return
    now = time.time()
    headings = ["Where", "Counts", "Rule", "Count", "Maximum", "Seconds", "Until"]
    styles = ["red" if row.counted > row.maximum or row.where == "fleet" else "" for row in rows[:MOST_ROWS]]
    if rows:
        output.table(headings, [_cells(row, now) for row in rows[:MOST_ROWS]], styles)
    else:
        output.tell("no limit is near its maximum")
    output.tell(f"{many(answer.counters, 'counter')} on this host")


@app.command()
def reset(
    context: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="ITEM=VALUE, or a value of whatever item.")],
    directory: agent_control.Directory = None,
) -> None:
    """Let this host's counters of a value begin anew. (`weir release` does so in the whole fleet.)

    Exit code 1 if there is none.
    """
    answer = agent_control.ask(context, directory, Question("reset", key=key))
    output.say(f"{many(answer.counters, 'counter')} of {key} forgotten on this host")
    if not answer.counters:
        raise typer.Exit(NOT_DONE)


def _of_host(counter: control.LimitCount) -> Row:
    key = f"{counter.item}={counter.key}"
    return Row("host", key, counter.rule, counter.count, counter.maximum, counter.seconds, counter.until)


def _of_fleet(context: typer.Context) -> list[Row]:
    """Limits that a decision says are exhausted."""
    picture = in_force.Picture()
    try:
        picture.read(Connection(options.settings(context)), Start(topics.OPERATORS), Start(topics.DECISIONS))
    except CommandError as error:
        output.tell(f"the fleet is not shown: {error}")
        return []
    now = time.time()
    found = []
    for decision in picture.decisions.values():
        if decision.cause == limits.CAUSE and picture.state(decision, now) == "in force":
            evidence = decision.evidence
            key = subjects.value(decision.subject).partition(":")[2]
            rule = evidence.counter.partition(" ")[2]
            found.append(Row("fleet", key, rule, evidence.count, evidence.threshold, evidence.seconds, decision.until))
    return sorted(found, key=lambda row: row.until)


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
