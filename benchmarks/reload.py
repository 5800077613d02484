"""`bench reload`: how long a request waits while `weir agent --standalone` reads its rules again (SIGHUP).

A request is due every 10 ms, on one connection; its time counts from then, so that one which waits is not the only one
that is slow. Only the time of the reloads counts.
"""

import random
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.measure import percentile, show
from benchmarks.rules import many
from fleet.own import CHECKOUT
from fleet.policy_client import PolicyClient, new_instance
from fleet.process import Process, free_port, run_directory, wait_until

RELOADS = 3
EVERY = 0.01
"""Seconds between two requests."""
IDLE_SECONDS = 5.0
NETWORKS = 200_000


def main() -> None:
    rows = []
    with run_directory() as directory:
        networks = directory / "networks"
        networks.write_text(_networks())
        rules = many()
        rows.append(_row("no reload", *_measure(directory / "none", rules, 0)))
        rows.append(_row("2,000 rules", *_measure(directory / "rules", rules, RELOADS)))
        for kind in ("file", "lfile"):
            with_list = f"id=NETWORKS; client_address={kind}:{networks}; action=REJECT\n{rules}"
            name = f"and {kind}: with {NETWORKS:,} networks"
            rows.append(_row(name, *_measure(directory / kind, with_list, RELOADS)))
    show("a request every 10 ms while rules are reloaded", ("", "a reload, s", "p50 ms", "p99 ms", "longest ms"), rows)


def _networks() -> str:
    chosen = random.Random(5)
    return "".join(
        f"{10 + chosen.randrange(90)}.{chosen.randrange(1 << 8)}.{line % 256}.0/24\n" for line in range(NETWORKS)
    )


def _row(name: str, seconds: float, answers: list[float]) -> tuple[str, ...]:
    shown = (percentile(answers, 0.5), percentile(answers, 0.99), max(answers))
    return (name, f"{seconds:.1f}", *(f"{value * 1000:.1f}" for value in shown))


def _measure(directory: Path, text: str, reloads: int) -> tuple[float, list[float]]:
    """Seconds of a reload, and of each request that was due meanwhile."""
    directory.mkdir()
    rules, log, port = directory / "rules.cf", directory / "log", free_port()
    rules.write_text(text)
    argv = [sys.executable, "-m", "weir.cli", "agent", "--standalone", "--no-dns"]
    argv += ["--rules", str(rules), "--listen", f"127.0.0.1:{port}"]
    with Process("weir agent", argv, log, cwd=CHECKOUT) as agent:
        wait_until(lambda: '"ready"' in log.read_text(), 30, "the agent to be ready")
        with PolicyClient(("127.0.0.1", port), 60) as client:
            if not reloads:
                end = time.perf_counter() + IDLE_SECONDS
                return 0.0, _ask(client, lambda: time.perf_counter() >= end)
            answers: list[float] = []
            start = time.perf_counter()
            for number in range(reloads):
                agent.signal(signal.SIGHUP)
                answers += _ask(client, partial(_has_reloaded, log, number + 1))
            return (time.perf_counter() - start) / reloads, answers


def _has_reloaded(log: Path, times: int) -> bool:
    return log.read_text().count("rules reloaded") >= times


def _ask(client: PolicyClient, is_over: Callable[[], bool]) -> list[float]:
    """Ask until then, and twenty times more: what the new rules bring with them counts too."""
    answers = []
    due = time.perf_counter()
    left = 20
    while left:
        time.sleep(max(due - time.perf_counter(), 0))
        client.at_recipient("alice@example.org", "192.0.2.1", new_instance())
        answers.append(time.perf_counter() - due)
        due += EVERY
        left -= is_over()
    return answers


if __name__ == "__main__":
    main()
