"""What the mail hosts say of a release: how much of the subject's mail they hold, released or deleted.

Invariant: a host that does not answer in time is told; nothing waits for it longer, nor at all for one that is away.
"""

from collections.abc import Callable, Iterator

from confluent_kafka import OFFSET_END

from weir import envelopes, topics
from weir.cli import output
from weir.cli.broker import Connection, Start
from weir.cli.output import many
from weir.cli.status import Fleet, away
from weir.events import Queue
from weir.events import decoder as event_decoder

SECONDS = 3.0
"""How long answers are waited for: Postfix's queue is slow with many messages, and the history has what comes later."""

_DONE = {
    "released": "released and tried now",
    "deleted": "deleted",
    "left": "still on hold",
}


def gather(connection: Connection, word: str, act: Callable[[], float]) -> tuple[float, dict[str, Queue | None]]:
    """Do `act` (write the word, whose id this is), and gather the answers to it.

    Returns what `act` did, and for each host its answer, None if it is away or gave none in time. Raises CommandError.
    """
    hosts, others = _hosts(connection)
    answers: dict[str, Queue | None] = dict.fromkeys(hosts)
    done = 0.0
    for message in connection.follow(Start(topics.EVENTS, OFFSET_END), seconds=SECONDS):
        if message is None:
            done = act()
            if not hosts:
                break
            continue
        for host, event in _answers(message.value or b"", word):
            answers[host] = event
        if done and all(answers.values()):
            break
    return done, dict.fromkeys(others) | answers


def show(answers: dict[str, Queue | None]) -> None:
    """A line for each host that has something to say."""
    for host, answer in sorted(answers.items()):
        if answer is None:
            continue
        if answer.messages or answer.error:
            trouble = f", and not all: {answer.error}" if answer.error else ""
            output.say(f"  {host}: {many(answer.messages, 'message')} {_DONE.get(answer.how, answer.how)}{trouble}")
    given = [answer for answer in answers.values() if answer is not None]
    if any(answer.how == "left" and answer.messages for answer in given):
        output.say("  --queue release sends what Weir holds of it, --queue delete deletes it")
    if given and not any(answer.messages or answer.error for answer in given):
        output.say("  none of its mail is on hold")
    if silent := sorted(host for host, answer in answers.items() if answer is None):
        output.tell(
            f"no word of their queues from {', '.join(silent)}: they follow no mail log, are slow, or are away and do "
            "what was said when they are back"
        )


def _hosts(connection: Connection) -> tuple[list[str], list[str]]:
    """Those that are heard, and those that are away."""
    fleet = Fleet()
    now = 0.0
    for message in connection.read(Start(topics.STATUS)):
        fleet.apply(message)
        now = max(now, message.time)
    found: tuple[list[str], list[str]] = ([], [])
    for host, agent in fleet.agents.items():
        found[away(agent.time - agent.clock_offset, now)].append(host)
    return found


def _answers(value: bytes, word: str) -> Iterator[tuple[str, Queue]]:
    if word.encode() not in value:
        return  # almost all events are about something else
    try:
        head, events = envelopes.decode(value, event_decoder)
    except envelopes.UNREADABLE:
        return
    for event in events:
        if isinstance(event, Queue) and event.cause == word:
            yield head.host, event
