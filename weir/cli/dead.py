"""`weir dead`: records that nobody could understand, and how to have them read once more."""

import base64
import time
from typing import Annotated, NamedTuple

import typer

from weir import dead_letters, topics
from weir.cli import options, output
from weir.cli.broker import Connection, Start
from weir.cli.output import NOT_DONE, REFUSED, CommandError, many
from weir.dead_letters import DeadLetter
from weir.envelopes import UNREADABLE

app = typer.Typer(no_args_is_help=True, help="Records that nobody could understand.")

HEADINGS = ["Id", "Found", "By", "Error"]

Id = Annotated[str, typer.Argument(metavar="ID", help="As listed: topic/partition/offset.")]


class Found(NamedTuple):
    id: str
    """Where it lay: topic/partition/offset."""
    time: float
    letter: DeadLetter


@app.command("list")
def list_(context: typer.Context, as_json: options.Json = False) -> None:
    """Show what was found in the last 14 days."""
    letters = _read(Connection(options.settings(context)))
    now = time.time()
    if as_json:
        output.document(
            [{"id": one.id, "time": one.time, "by": one.letter.by, "error": one.letter.error} for one in letters]
        )
    elif letters:
        rows = [(one.id, output.at(one.time, now), one.letter.by, one.letter.error) for one in letters]
        output.table(HEADINGS, rows)
    else:
        output.tell("no dead letters")


@app.command()
def show(context: typer.Context, identity: Id, as_json: options.Json = False) -> None:
    """Show one, with all that is kept of it. Exit code 1 if there is none of this id."""
    one = _one(Connection(options.settings(context)), identity)
    value = base64.b64decode(one.letter.value).decode(errors="backslashreplace")
    key = base64.b64decode(one.letter.key).decode(errors="backslashreplace")
    if as_json:
        output.document(
            {
                "id": one.id,
                "time": one.time,
                "by": one.letter.by,
                "error": one.letter.error,
                "key": key,
                "value": value,
                "cut": one.letter.cut,
            }
        )
        return
    output.say(f"{one.id}, found by {one.letter.by} at {output.at(one.time, time.time())}")
    output.say(f"error: {one.letter.error}")
    output.say(f"key:   {key}")
    for line in value.split("\n"):
        output.say(line)
    if one.letter.cut:
        output.tell("the rest was not kept")


@app.command()
def replay(
    context: typer.Context,
    identities: Annotated[list[str], typer.Argument(metavar="ID…", help="As listed: topic/partition/offset.")],
    as_json: options.Json = False,
) -> None:
    """Send events to the sinks once more, after what was wrong has been mended.

    What is stored already is left out, so that a second replay does no harm. Only weir.events can be replayed: a count
    or a word that was not understood is overtaken by those that came after it.
    """
    connection = Connection(options.settings(context))
    letters = {one.id: one for one in _read(connection)}
    for identity in identities:
        if identity not in letters:
            raise CommandError(f"no dead letter {identity}", NOT_DONE)
        letter = letters[identity].letter
        if letter.topic != topics.EVENTS:
            raise CommandError(f"{identity}: expected one of {topics.EVENTS}: others are overtaken", REFUSED)
        if letter.cut:
            raise CommandError(f"{identity}: it was too long to be kept whole", REFUSED)
    for identity in identities:
        letter = letters[identity].letter
        value, key = base64.b64decode(letter.value), base64.b64decode(letter.key)
        connection.send(letter.topic, key, value, letter.partition, {dead_letters.REPLAYED: "1"})
    if as_json:
        output.document({"replayed": identities})
    else:
        output.say(f"sent once more: {many(len(identities), 'record')}")


def _one(connection: Connection, identity: str) -> Found:
    for one in _read(connection):
        if one.id == identity:
            return one
    raise CommandError(f"no dead letter {identity}", NOT_DONE)


def _read(connection: Connection) -> list[Found]:
    """All of the topic, each once: who found it may have died before it could go on, and found it again."""
    found: dict[str, Found] = {}
    strange = 0
    for message in connection.read(Start(topics.DEAD)):
        try:
            letter = dead_letters.decoder.decode(message.value or b"")
        except UNREADABLE:
            strange += 1
            continue
        identity = f"{letter.topic}/{letter.partition}/{letter.offset}"
        found.setdefault(identity, Found(identity, message.time, letter))
    if strange:
        output.tell(f"left out: {many(strange, 'record')} that are no dead letters")
    return list(found.values())
