"""`bench latency`: from the last byte of the request that crosses a threshold to the decision applied on all agents.

Three agents, one worker, real Kafka. An attack is a new account with one message more than it may send, spread over
the agents; when a decision was applied is read from the agents' logs, so that nothing is polled while it counts.
"""

import itertools
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import datetime

from benchmarks.fleet import OFF, SETTINGS, running_kafka
from benchmarks.measure import percentile, show
from fleet.own import CHECKOUT, Agent, Worker, merged
from fleet.policy_client import PolicyClient, new_instance
from fleet.process import run_directory, wait_until

ALLOWED = 2
"""Messages in a minute."""
BURST = merged(SETTINGS, {"detectors": {"burst": {"account": {**OFF, "messages_per_minute": ALLOWED}}}})
IDLE = ("500 attacks, idle", 500, 20.0, 0)
BUSY = ("500 attacks beside 5,000 events/s", 500, 20.0, 5000)
MANY = ("3,000 attacks, 300 decisions/s", 3000, 300.0, 0)

_numbers = itertools.count(1)


def main() -> None:
    rows: list[tuple[str, ...]] = []
    with run_directory() as directory, running_kafka(directory) as kafka, ExitStack() as stack:
        worker = stack.enter_context(Worker("w1", directory / "w1", kafka.bootstrap, BURST))
        agents = [
            stack.enter_context(Agent(host, directory / host, kafka.bootstrap, BURST)) for host in ("mx1", "mx2", "mx3")
        ]
        for agent in agents:
            agent.wait_serving()
        worker.wait_counting()
        clients = [stack.enter_context(PolicyClient(agent.socket)) for agent in agents]
        _attacks(agents, clients, 20, 20.0)  # the first decisions of a process are slower: connections, producer ids
        for name, number, rate, events in (IDLE, BUSY, MANY):
            load = _background(agents, events, number / rate + 5) if events else []
            if load:
                time.sleep(2)  # until the load is steady: part of what is measured, not a condition to wait for
            delays = _attacks(agents, clients, number, rate)
            for process in load:
                process.wait()
            rows.append(
                (name, str(len(delays)), *(f"{percentile(delays, share):.1f}" for share in (0.5, 0.95, 0.99, 1.0)))
            )
    show(
        "request that crosses → decision applied on the slowest of three agents, ms",
        ("load", "decisions", "p50", "p95", "p99", "slowest"),
        rows,
    )


def _attacks(agents: list[Agent], clients: list[PolicyClient], number: int, rate: float) -> list[float]:
    """Run attacks, so many a second; the delays in ms, each that of its slowest agent."""
    crossed: dict[str, float] = {}
    start = time.perf_counter()
    for index in range(number):
        account = f"attacked{next(_numbers)}@example.org"
        time.sleep(max(0.0, start + index / rate - time.perf_counter()))
        for turn in range(ALLOWED + 1):
            clients[(index + turn) % len(clients)].at_recipient(account, "192.0.2.10", new_instance())
        crossed[f"sasl_username:{account}"] = time.time()
    applied: dict[str, list[float]] = {}

    def all_applied() -> bool:
        applied.clear()
        for agent in agents:
            for line in agent.logged("decision applied"):
                if line["subject"] in crossed:
                    applied.setdefault(line["subject"], []).append(
                        datetime.fromisoformat(line["timestamp"]).timestamp()
                    )
        return len(applied) == number and all(len(times) >= len(agents) for times in applied.values())

    wait_until(all_applied, 60, "all decisions", 0.5)
    return [(max(times) - crossed[subject]) * 1000 for subject, times in applied.items()]


def _background(agents: list[Agent], events: int, seconds: float) -> list[subprocess.Popen[bytes]]:
    """Requests at all agents from a process of its own; its accounts begin one message each, so none is blocked."""
    argv = [sys.executable, "-m", "benchmarks.background", str(events // len(agents)), str(seconds)]
    return [subprocess.Popen([*argv, str(agent.socket)], cwd=CHECKOUT) for agent in agents]


if __name__ == "__main__":
    main()
