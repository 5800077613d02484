"""`weir block`, `release`, `allow`, `pause`, `resume`: an operator's word to the whole fleet.

Invariants: a word counts when all in-sync replicas have it, and only then is it told; its `until` is by the broker's
clock, so an operator's clock may be wrong; what a word replaces or ends is told with it.
"""

import getpass
import os
import secrets
import socket
import time
from enum import StrEnum
from typing import Annotated, Literal

import typer

from weir import decisions, operators, subjects, topics
from weir.cli import durations, in_force, options, output, queue_answers
from weir.cli.broker import Connection, Start
from weir.decisions import Decision
from weir.operators import EVERYTHING, Word
from weir.settings_checks import text_of_reply


class QueueOption(StrEnum):
    LEAVE = "leave"
    RELEASE = "release"
    DELETE = "delete"


TEXT = "Sending is blocked by the operators of this mail system"
CLOCK_TOLERANCE = 1.0
"""Seconds that the operator's clock may differ from the broker's before `until` is corrected."""


def block(
    context: typer.Context,
    subject: options.Subject,
    seconds: options.For,
    reason: options.Reason,
    text: Annotated[str, typer.Option("--text", help="What the refused client is told.")] = TEXT,
    as_json: options.Json = False,
) -> None:
    """Refuse an account or an address on all hosts, whatever is counted."""
    if expected := text_of_reply(text):
        raise typer.BadParameter(f"expected {expected}", param_hint="--text")
    _stand(context, "block", subject, seconds, reason, as_json, text)


def allow(
    context: typer.Context,
    subject: options.Subject,
    seconds: options.For,
    reason: options.Reason,
    as_json: options.Json = False,
) -> None:
    """Let an account or an address send: detectors do not act on it."""
    _stand(context, "allow", subject, seconds, reason, as_json)


def release(
    context: typer.Context,
    subject: options.Subject,
    reason: options.Reason,
    queue: Annotated[
        QueueOption, typer.Option("--queue", help="What becomes of its mail that Weir holds in the hosts' queues.")
    ] = QueueOption.LEAVE,
    as_json: options.Json = False,
) -> None:
    """End all blocks of an account or an address, and count from now on only."""
    settings = options.settings(context)
    canonical = options.subject(subject, settings)
    connection = Connection(settings)
    picture = in_force.Picture(settings.default_realm)
    decided = Start(topics.DECISIONS, partition=in_force.partition(canonical))
    picture.read(connection, Start(topics.OPERATORS), decided)
    now = time.time()
    ended = picture.ended_by_release(canonical, now)
    allowed = picture.operators.allow(canonical, now)
    word = _word("release", canonical, reason)
    word.queue = queue.value
    if subjects.is_account(canonical) or subjects.is_uid(canonical):
        when, answers = queue_answers.gather(connection, word.id, lambda: _write(connection, word))
    else:
        when, answers = _write(connection, word), {}
    if as_json:
        output.document(in_force.record(word, time=when, ended=ended, queues=answers))
        return
    output.say(f"released {canonical} [{word.id}]: what was sent before {output.at(when, now)} counts no more")
    for one in ended:
        cause = one.cause if isinstance(one, Decision) else f"block by {one.who}"
        output.say(f"  ended: {cause} [{one.id}], until {output.at(one.until, now)}")
    if not ended:
        output.say("  no block was in force")
    queue_answers.show(answers)
    if allowed:
        output.say(f"  still allowed until {output.at(allowed.until, now)}, by {allowed.who}: {allowed.reason}")


def pause(context: typer.Context, reason: options.Reason, as_json: options.Json = False) -> None:
    """Detectors decide in shadow only, on all subjects, until `weir resume`."""
    connection = Connection(options.settings(context))
    word = _word("pause", EVERYTHING, reason)
    when = _write(connection, word)
    if as_json:
        output.document(in_force.record(word, time=when))
        return
    output.say(f"paused [{word.id}]: detectors block nobody new, what is blocked stays; weir resume ends it")


def resume(context: typer.Context, as_json: options.Json = False) -> None:
    """End the pause: detectors block again."""
    connection = Connection(options.settings(context))
    picture = in_force.Picture()
    picture.read(connection, Start(topics.OPERATORS))
    before = picture.operators.standing.get(EVERYTHING)
    when = connection.write(topics.OPERATORS, operators.key(_word("pause", EVERYTHING, "")), None, _who())
    if as_json:
        output.document({"word": "resume", "who": _who(), "time": when, "ended": before[0] if before else None})
    elif before:
        output.say(f"resumed: it was paused since {output.at(before[1], when)} by {before[0].who}: {before[0].reason}")
    else:
        output.say("resumed: it was not paused")


def _stand(
    context: typer.Context,
    kind: Literal["block", "allow"],
    subject: str,
    seconds: int,
    reason: str,
    as_json: bool,
    text: str = "",
) -> None:
    """Say a standing word, and tell what it replaces."""
    settings = options.settings(context)
    canonical = options.subject(subject, settings)
    if subjects.is_limit(canonical):
        raise typer.BadParameter(f"a limit can be released; {kind} takes an account, an address or a local user")
    connection = Connection(settings)
    picture = in_force.Picture()
    picture.read(connection, Start(topics.OPERATORS))
    now = time.time()
    replaced = picture.operators.block(canonical, now) or picture.operators.allow(canonical, now)
    word = _word(kind, canonical, reason, now + seconds)
    if kind == "block":
        word.action = decisions.action(text, "operator", word.id)
    when = _write(connection, word)
    if not now - CLOCK_TOLERANCE <= when <= time.time() + CLOCK_TOLERANCE:
        output.tell(
            f"this host's clock is {abs(when - now):.0f} s {'behind' if when > now else 'ahead of'} the broker's"
        )
        word.until = when + seconds
        _write(connection, word)
    if as_json:
        output.document(in_force.record(word, time=when, replaced=replaced))
        return
    done = "blocked" if kind == "block" else "allowed"
    output.say(f"{done} {canonical} for {durations.shown(seconds)}, until {output.at(word.until, when)} [{word.id}]")
    if replaced:
        output.say(f"  instead of: {replaced.word} by {replaced.who} [{replaced.id}], {replaced.reason}")


def _word(kind: Literal["block", "allow", "release", "pause"], subject: str, reason: str, until: float = 0.0) -> Word:
    return Word(operators.VERSION, secrets.token_hex(6), kind, subject, _who(), reason, until)


def _who() -> str:
    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def _write(connection: Connection, word: Word) -> float:
    """Returns the broker's time of it."""
    return connection.write(topics.OPERATORS, operators.key(word), operators.encoder.encode(word))
