"""`weir trace`: the way of a message over all hosts, or the newest messages of somebody."""

import time
from typing import Annotated, Any

import typer

from weir import subjects
from weir.cli import durations, history, options, output
from weir.cli.output import NOT_DONE
from weir.cli.processes import installed
from weir.settings import Settings

HEADINGS = ["Time", "Host", "Queue id", "What", "Who", "From → to", "Outcome"]
OF_SUBJECT = ["Time", "Host", "Queue id", "Message id", "Sender", "Recipients", "Outcome"]
MESSAGE_SECONDS = 7 * 86400
SUBJECT_SECONDS = 86400
MOST_MESSAGES = 50


def trace(
    context: typer.Context,
    what: Annotated[
        str, typer.Argument(metavar="MESSAGE-ID|QUEUE-ID|SUBJECT", help="A message, or who sent it (as in history).")
    ],
    since: Annotated[
        int | None,
        typer.Option(
            "--since",
            metavar="DURATION",
            parser=options.duration,
            help="How far back: 90s, 30m, 12h, 7d; 7d for a message, 24h for a subject if it is not given.",
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Show the way of a message over all hosts, from the history; of a subject, its newest messages.

    What may be both, an account and a message id, is the account if that has messages: a message id in angle brackets
    is nothing else. Exit code 1 if the history holds nothing of it.
    """
    settings = options.settings(context)
    tracing = installed("sinks.trace", "sinks")
    reader = installed("sinks.reader", "sinks")
    now = time.time()
    steps: list[Any] = []
    messages: list[Any] = []
    with history.errors(), reader.reader(settings.history) as found:
        subject = _subject(what, settings)
        is_subject = _is_subject(what)
        if subject and (is_subject or "@" in what):  # senders choose message ids: they hide nobody behind one
            messages = tracing.newest(found, subject, now - (since or SUBJECT_SECONDS), MOST_MESSAGES)
        if not messages and not is_subject:
            steps = tracing.way(found, what, now - (since or MESSAGE_SECONDS))
        if not messages and not steps and subject and not is_subject and "@" not in what:
            messages = tracing.newest(found, subject, now - (since or SUBJECT_SECONDS), MOST_MESSAGES)
    if as_json:
        events = [{"time": one.time, "kind": one.kind, "host": one.host, **one.facts} for one in steps]
        output.document({"events": events, "messages": [one._asdict() for one in messages]})
    elif steps:
        output.table(HEADINGS, [_step(one, now) for one in steps])
        if len(steps) >= tracing.MOST_EVENTS:
            output.tell(f"there may be more: the first {tracing.MOST_EVENTS} of them")
    elif messages:
        output.table(OF_SUBJECT, [_message(one, now) for one in messages])
        if len(messages) == MOST_MESSAGES:
            output.tell(f"the newest {MOST_MESSAGES}")
    else:
        length = since or (SUBJECT_SECONDS if subject else MESSAGE_SECONDS)
        output.tell(f"the history holds no message of {what} in the last {durations.shown(length)}")
    if not steps and not messages:
        raise typer.Exit(NOT_DONE)


def _is_subject(what: str) -> bool:
    """Whether it can be nothing else; an account may look as a message id or a queue id does."""
    return what.startswith(("sasl_username:", "uid:")) or subjects.is_client(_parsed(what))


def _subject(what: str, settings: Settings) -> str:
    return "" if what.startswith("<") else _parsed(what, settings.default_realm)


def _parsed(what: str, default_realm: str = "") -> str:
    try:
        return subjects.parse(what, default_realm)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="MESSAGE-ID|QUEUE-ID|SUBJECT") from None


def _step(entry: Any, now: float) -> tuple[str, ...]:
    when, host, what, who, ways, outcome = history.row(entry, now)
    return when, host, entry.facts.get("queue_id", ""), what, who, ways, outcome


def _message(one: Any, now: float) -> tuple[str, ...]:
    counts = [(one.sent, "sent"), (one.bounced, "bounced"), (one.deferred, "deferred")]
    outcome = ", ".join([*(f"{count} {name}" for count, name in counts if count), one.how or "in the queue"])
    return output.at(one.time, now), one.host, one.queue_id, one.message_id, one.sender, str(one.recipients), outcome
