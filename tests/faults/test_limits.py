"""Limits over the fleet: three agents on a real Kafka and a real worker, random traffic, and the design's oracle.

a local refusal     equals that of one postfwd that sees this host alone
a fleet's refusal   only while the sum over 13 twelfths of the seconds is at least the maximum
an acceptance       only while the exact sliding sum, as of a short delay ago, is below the maximum
"""

import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import pytest

from fleet.load import Smtpd
from fleet.own import Agent, Table
from fleet.process import wait_until
from fleet.reading import read_events, read_topic
from tests.faults.system import COUNTS, System, kill
from weir import topics
from weir.events import Request

pytestmark = [pytest.mark.fleet, pytest.mark.soak, pytest.mark.timeout(240)]

DELAY = 2.0
"""Seconds from a request to the refusal of the next ones on all hosts, at most; on an idle fleet it is some 20 ms."""
PHASE_SECONDS = 3.0
"""So long each account sends at its rate, then at another."""


class Limit(NamedTuple):
    rule: str
    key: str
    """The event's field that it is keyed by."""
    maximum: int
    seconds: float
    action: str


LIMITS = (
    Limit("ACCOUNT", "sasl_username", 20, 12.0, "REJECT account"),
    Limit("CLIENT", "client_address", 45, 18.0, "450 4.7.1 client"),
)


def rules(system: System, limits: tuple[Limit, ...]) -> Table:
    """Settings of agents with a rule for each of these limits."""
    path = system.directory / "rules.cf"
    path.write_text(
        "".join(
            f"id={one.rule}; protocol_state==RCPT; "
            f"action=rate({one.key}/{one.maximum}/{one.seconds:g}/{one.action} $$ratecount)\n"
            for one in limits
        )
    )
    return {"rules": {"files": [str(path)], "dns": False}}


class Counter:
    """postfwd's, by a list of what it needs to know: a window from its first hit, its end included."""

    def __init__(self, seconds: float) -> None:
        self._length = int(seconds * 1_000_000)
        self._until = -1
        self._count = 0

    def count(self, time: float) -> int:
        moment = int(time * 1_000_000)
        if moment > self._until:
            self._until, self._count = moment + self._length, 0
        self._count += 1
        return self._count


@contextmanager
def traffic(system: System, seed: int) -> Iterator[None]:
    """Each agent is asked about random accounts, some of them more than others, until the block ends."""
    stop = threading.Event()

    def ask(agent: Agent, number: int) -> None:
        chosen = random.Random(f"{seed} {number}")
        accounts = [(f"user{one}@{system.name}.test", f"192.0.2.{one % 4}") for one in range(8)]
        with Smtpd(agent.host, agent.socket, system.truth) as smtpd:
            while not stop.is_set():
                weights = [chosen.choice((0, 1, 1, 4, 20)) for _ in accounts]
                rate = chosen.choice((5, 20, 60))
                end = time.monotonic() + chosen.uniform(0.3, PHASE_SECONDS)
                while time.monotonic() < end and not stop.wait(chosen.expovariate(rate)):
                    (one,) = chosen.choices(accounts, [weight + 0.01 for weight in weights])
                    smtpd.try_recipient(*one)

    threads = [
        threading.Thread(target=ask, args=(agent, number)) for number, agent in enumerate(system.agents.values())
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def requests_of(system: System) -> list[tuple[str, Request]]:
    """Host and event, in the order in which each host judged them."""
    found = read_events(system.kafka.bootstrap)
    return [
        (host, event)
        for (host, _, _), event in sorted(found.items())
        if host in system.agents and isinstance(event, Request)
    ]


class Oracle:
    """Holds all requests that reached a limit, in each host's order, against what they should have been answered."""

    def __init__(self, limit: Limit, asked: list[tuple[str, Request]], outages: list[tuple[float, float]]) -> None:
        self.local = self.fleet = self.passed = 0
        """Refusals by the host's own count and by the fleet's, and what went on."""
        self.worst = 0.0
        """The longest that a limit was passed after it was exhausted, outside the outages; seconds."""
        self.wrong: list[str] = []
        self._limit = limit
        self._outages = outages
        self._accepted: dict[str, list[float]] = defaultdict(list)
        self._counters: dict[tuple[str, str], Counter] = defaultdict(lambda: Counter(limit.seconds))
        for _, event in asked:
            if event.action == "DUNNO":
                self._accepted[getattr(event, limit.key)].append(event.time)
        for host, event in asked:
            if not event.rule or event.rule >= limit.rule:  # no earlier rule refused it
                self._judge(host, event, getattr(event, limit.key))

    def _judge(self, host: str, event: Request, key: str) -> None:
        limit = self._limit
        count = self._counters[host, key].count(event.time)
        if count > limit.maximum:
            self.local += 1
            trouble = "" if event.action == f"{limit.action} {count}" else f"{count} on this host alone"
        elif event.rule == limit.rule:
            self.fleet += 1
            trouble = self._refused(key, event.time)
        else:
            self.passed += 1
            trouble = self._passed(key, event.time)
        if trouble:
            self.wrong.append(f"{host} {key} at {event.time}: {event.action}, but {trouble}")

    def _refused(self, key: str, at: float) -> str:
        since = at - self._limit.seconds * 13 / 12 - 0.001
        most = sum(since < one <= at for one in self._accepted[key])
        return f"the fleet had {most} in 13 twelfths" if most < self._limit.maximum else ""

    def _passed(self, key: str, at: float) -> str:
        inside = sorted(one for one in self._accepted[key] if at - self._limit.seconds < one < at)
        if len(inside) < self._limit.maximum or any(since <= at <= until for since, until in self._outages):
            return ""
        delay = at - inside[self._limit.maximum - 1]
        self.worst = max(self.worst, delay)
        return f"it was exhausted {delay:.3f} s before" if delay > DELAY else ""


def test_random_traffic_through_three_agents_equals_the_oracle(
    system: System, chosen: random.Random, seed: int
) -> None:
    system.start(COUNTS, agents=3, of_agents=rules(system, LIMITS))
    (worker,) = system.workers.values()
    with traffic(system, seed):
        time.sleep(chosen.uniform(18, 24))
        killed = kill(worker)
        system.wait_all_owned()
        outages = [(killed, time.time() + DELAY)]
        time.sleep(chosen.uniform(24, 30))
    system.assert_exact()
    asked = requests_of(system)
    for limit in LIMITS:
        found = Oracle(limit, asked, outages)
        print(f"{limit.rule}: {found.local} refused by the host, {found.fleet} by the fleet, {found.passed} passed")
        print(f"{limit.rule}: passed at most {1000 * found.worst:.0f} ms after it was exhausted")
        assert found.wrong == []
        assert found.passed > 100
        assert found.fleet > 100
    before, after = (
        [event.rule for _, event in asked if is_before == (event.time < killed) and event.rule] for is_before in (1, 0)
    )
    assert {*before} == {*after} == {"ACCOUNT", "CLIENT"}
    wait_until(lambda: not exhausted(system), 60, "all decisions to be removed when their windows are empty", 1.0)


def exhausted(system: System) -> set[bytes]:
    """Keys of this test's limits in weir.decisions that are not removed."""
    last = {message.key or b"": message.value for message in read_topic(system.kafka.bootstrap, topics.DECISIONS)}
    ours = {key for key in last if key.endswith(f"@{system.name}.test".encode())}
    assert ours
    return {key for key in ours if key.startswith(b"limit ") and last[key] is not None}


LONG = (
    Limit("ACCOUNT", "sasl_username", 12, 600.0, "REJECT account"),
    Limit("CLIENT", "client_address", 40, 600.0, "450 4.7.1 client"),
)


def send(system: System, account: str, client: str, times: int, only: str = "") -> list[str]:
    """Ask so often about one recipient, the agents in turn; returns the actions."""
    with ExitStack() as stack:
        smtpds = [
            stack.enter_context(Smtpd(agent.host, agent.socket, system.truth))
            for host, agent in system.agents.items()
            if only in host
        ]
        return [smtpds[number % len(smtpds)].try_recipient(account, client) for number in range(times)]


def wait_answers(system: System, account: str, client: str, beginning: str, only: str = "") -> None:
    wait_until(
        lambda: all(action.startswith(beginning) for action in send(system, account, client, 3, only)),
        10.0,
        f"{account} to be answered {beginning}",
    )


def test_operators_words_on_accounts_reach_the_limits_that_are_keyed_by_them(system: System) -> None:
    system.start(COUNTS, agents=3, of_agents=rules(system, LONG))

    bob = (f"bob@{system.name}.test", "192.0.2.77")
    assert send(system, *bob, 12) == ["DUNNO"] * 12
    wait_answers(system, *bob, "REJECT account")
    system.operator("release", bob[0], "--reason", "a test")
    wait_answers(system, *bob, "DUNNO")

    carol = (f"carol@{system.name}.test", "192.0.2.78")
    assert [action.split()[0] for action in send(system, *carol, 13, "mx1")] == [*["DUNNO"] * 12, "REJECT"]
    wait_answers(system, *carol, "REJECT account")
    system.operator("release", carol[0], "--reason", "a test")
    wait_answers(system, *carol, "DUNNO", "mx1")

    dave = (f"dave@{system.name}.test", "192.0.2.79")
    assert send(system, *dave, 12) == ["DUNNO"] * 12
    wait_answers(system, *dave, "REJECT account")
    system.operator("allow", dave[0], "--for", "1h", "--reason", "a test")
    wait_answers(system, *dave, "DUNNO")
    send(system, *dave, 40)
    wait_answers(system, *dave, "450 4.7.1 client")
    for agent in system.agents.values():
        assert agent.metrics()["weir_agent_limits_exceeded_total fleet"] > 0
