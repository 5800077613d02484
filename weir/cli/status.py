"""`weir status`: is every agent heard, is everything counted, and if not, what is wrong.

Invariants: what is judged is pure (records and the time are values); who is not heard is judged by nothing else, since
all else that it said is old.
"""

import time
from typing import Any

import msgspec
import typer

from weir import events, status, topics
from weir.cli import durations, options, output
from weir.cli.broker import Connection, Message, Start
from weir.cli.in_force import Picture
from weir.cli.output import NOT_DONE, many
from weir.envelopes import UNREADABLE
from weir.events import Heartbeat
from weir.operators import EVERYTHING
from weir.status import WorkerStatus
from weir.subjects import PARTITIONS

NOT_HEARD = 15.0
"""Seconds without a word after which an agent or worker counts as away."""
OLD = 10.0
"""Seconds that the fleet's knowledge of a host may be old."""
CLOCK_OFF = 60.0
"""Seconds that an agent's clock may be off."""

_HOSTS_SHOWN = 8

_worker_decoder = msgspec.json.Decoder(WorkerStatus)


class Fleet:
    """The newest state of each agent and worker, as read from weir.status."""

    def __init__(self) -> None:
        self.agents: dict[str, Heartbeat] = {}
        self.workers: dict[str, WorkerStatus] = {}
        self.not_understood = 0

    def apply(self, message: Message) -> None:
        """Take in one record of weir.status; None as value forgets that agent or worker."""
        kind, _, name = message.key.decode(errors="replace").partition(" ")
        known: dict[str, Any] = self.agents if kind == "agent" else self.workers
        if message.value is None:
            known.pop(name, None)
            return
        try:
            record = _agent(message) if kind == "agent" else _worker(message)
        except UNREADABLE:
            self.not_understood += 1
        else:
            known[name] = record

    def unowned(self, now: float) -> list[int]:
        """Partitions that no worker counts which is heard."""
        owned = {number for one in self.workers.values() if not away(one.time, now) for number in one.partitions}
        return [number for number in range(PARTITIONS) if number not in owned]

    def problems(self, now: float) -> list[str]:
        """All that is wrong, one line each."""
        found = [f"agent {host}: {text}" for host, one in self.agents.items() for text in agent_problems(one, now)]
        found += [f"worker {name}: {text}" for name, one in self.workers.items() for text in worker_problems(one, now)]
        if unowned := self.unowned(now):
            found.append(f"nobody counts {'partition' if len(unowned) == 1 else 'partitions'} {ranges(unowned)}")
        if not self.agents:
            found.append("no agent has ever been heard")
        return found + self._different_rules(now)

    def _different_rules(self, now: float) -> list[str]:
        """Who runs which rules, if agents that are heard differ: their limits then count apart."""
        hosts: dict[str, list[str]] = {}
        for host, one in sorted(self.agents.items()):
            if not away(one.time - one.clock_offset, now):
                hosts.setdefault(one.rules, []).append(host)
        if len(hosts) < 2:
            return []
        groups = sorted(hosts.items(), key=lambda group: (-len(group[1]), group[1]))
        return [f"hosts run different rules: {'; '.join(_rules_of(*group) for group in groups)}"]


def agent_problems(agent: Heartbeat, now: float) -> list[str]:
    """What is wrong with an agent."""
    heard = agent.time - agent.clock_offset
    if away(heard, now):
        return [_not_heard(heard, now)]
    found = []
    if agent.freshness < 0:
        found.append("counts alone: nothing was ever heard from streams")
    elif agent.freshness > OLD:
        found.append(f"counts alone: what the fleet knows of it is {durations.shown(agent.freshness)} old")
    if agent.stale:
        found.append("decisions and operators' words are not read to their end")
    if agent.dropped:
        found.append(f"{many(agent.dropped, 'event')} dropped since its start")
    if agent.unasked:
        messages = many(agent.unasked, "message")
        were = "was" if agent.unasked == 1 else "were"
        found.append(f"{messages} with a login {were} never asked about: is Weir in main.cf?")
    if abs(agent.clock_offset) > CLOCK_OFF:
        found.append(f"its clock is {_offset(agent.clock_offset)} off")
    return found


def _rules_of(digest: str, hosts: list[str]) -> str:
    more = len(hosts) - _HOSTS_SHOWN
    return f"{digest or 'none'} on {', '.join(hosts[:_HOSTS_SHOWN])}" + (f" and {more} more" if more > 0 else "")


def worker_problems(worker: WorkerStatus, now: float) -> list[str]:
    """What is wrong with a worker."""
    if away(worker.time, now):
        return [_not_heard(worker.time, now)]
    return ["the brake is on: what detectors decide is a shadow"] if worker.brake else []


def away(heard: float, now: float) -> bool:
    return now - heard > NOT_HEARD


def ranges(numbers: list[int]) -> str:
    """Rising numbers in short.

    >>> ranges([0, 1, 2, 5, 7, 8])
    '0-2, 5, 7-8'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def show(context: typer.Context, as_json: options.Json = False) -> None:
    """Show agents and workers, and what is wrong; exit code 1 if anything is."""
    connection = Connection(options.settings(context))
    picture, fleet = Picture(), Fleet()
    for message in connection.read(Start(topics.STATUS), Start(topics.OPERATORS)):
        (fleet if message.topic == topics.STATUS else picture).apply(message)
    now = time.time()
    problems = fleet.problems(now)
    if as_json:
        output.document(_document(fleet, picture, problems, now))
    else:
        _show(fleet, picture, problems, now)
    if problems:
        raise typer.Exit(NOT_DONE)


def _agent(message: Message) -> Heartbeat:
    record = events.decoder.decode(message.value or b"")
    if not isinstance(record, Heartbeat) or status.agent_key(record.host) != message.key:
        raise ValueError("expected a heartbeat that agrees with its key")
    return record


def _worker(message: Message) -> WorkerStatus:
    record = _worker_decoder.decode(message.value or b"")
    if record.version != status.VERSION or status.worker_key(record.name) != message.key:
        raise ValueError("expected a worker's status of our version that agrees with its key")
    return record


def _not_heard(heard: float, now: float) -> str:
    return f"not heard for {durations.shown(now - heard)}"


def _document(fleet: Fleet, picture: Picture, problems: list[str], now: float) -> dict[str, object]:
    pause = picture.operators.standing.get(EVERYTHING)
    return {
        "time": now,
        "problems": problems,
        "paused": pause[0] if pause else None,
        "partitions_not_counted": fleet.unowned(now),
        "agents": list(fleet.agents.values()),
        "workers": list(fleet.workers.values()),
    }


def _show(fleet: Fleet, picture: Picture, problems: list[str], now: float) -> None:
    agents, workers = _by_name(fleet.agents), _by_name(fleet.workers)
    output.table(
        ["Agent", "Version", "Heard", "Freshness", "Spool", "Dropped", "Clock", "Decisions", "Rules", "Stale"],
        [_agent_row(one, now) for one in agents],
        ["red" if agent_problems(one, now) else "" for one in agents],
    )
    output.say("")
    output.table(
        ["Worker", "Version", "Heard", "Partitions", "Lag", "Last transaction", "Accounts", "Brake"],
        [_worker_row(one, now) for one in workers],
        ["red" if worker_problems(one, now) else "" for one in workers],
    )
    output.say("")
    if picture.operators.paused:
        word, since = picture.operators.standing[EVERYTHING]
        output.say(f"paused since {output.at(since, now)} by {word.who}: {word.reason}")
    if unknown := fleet.not_understood + picture.not_understood:
        output.tell(f"left out: {many(unknown, 'record')} that could not be understood")
    for problem in problems or ["all is well"]:
        output.say(problem)


def _by_name(known: dict[str, Any]) -> list[Any]:
    return [known[name] for name in sorted(known)]


def _agent_row(agent: Heartbeat, now: float) -> tuple[str, ...]:
    return (
        agent.host,
        agent.version,
        _ago(agent.time - agent.clock_offset, now),
        f"{agent.freshness:.1f} s" if agent.freshness >= 0 else "never",
        _size(agent.spool_bytes),
        str(agent.dropped),
        _offset(agent.clock_offset),
        str(agent.decisions),
        agent.rules or "–",
        "yes" if agent.stale else "no",
    )


def _worker_row(worker: WorkerStatus, now: float) -> tuple[str, ...]:
    return (
        worker.name,
        worker.weir,
        _ago(worker.time, now),
        ranges(sorted(set(worker.partitions))) or "none",
        str(worker.lag),
        _ago(worker.last_transaction, now) if worker.last_transaction else "never",
        str(worker.accounts),
        "on" if worker.brake else "off",
    )


def _ago(moment: float, now: float) -> str:
    """Short below a day, else the time itself; what seems to come from the future (clocks differ) is now."""
    age = max(0.0, now - moment)
    return f"{age:.0f} s ago" if age < 3600 else output.at(moment, now)


def _offset(seconds: float) -> str:
    return f"{seconds * 1000:+.0f} ms" if abs(seconds) < 1 else f"{seconds:+.1f} s"


def _size(count: int) -> str:
    sizes = {"GiB": 2**30, "MiB": 2**20, "KiB": 2**10}
    return next((f"{count // size} {unit}" for unit, size in sizes.items() if count >= size), f"{count} B")
