"""`bench agent`: what a policy request costs the agent with everything on, beside a bare server; and its memory."""

import sys
from pathlib import Path

from benchmarks import policy_load
from benchmarks.fleet import SETTINGS, block_many, running_kafka
from benchmarks.measure import cpu_seconds, rss_mib, show
from fleet.own import CHECKOUT, Agent
from fleet.process import Process, free_port, run_directory, wait_until

CONNECTIONS = 8
SECONDS = 10.0
ACCOUNTS = 1000
DECISIONS = 100_000


def main() -> None:
    bodies = policy_load.requests(ACCOUNTS)
    rows: list[tuple[str, ...]] = []
    with run_directory() as directory:
        port = free_port()
        argv = [sys.executable, "-m", "benchmarks.bare_server", "127.0.0.1", str(port)]
        with Process("bare server", argv, directory / "bare.log", cwd=CHECKOUT) as bare:
            bare.wait_ready(lambda: _answers(("127.0.0.1", port), bodies), 10)
            bare_cost = _row(rows, "bare asyncio server, TCP", bare.pid, ("127.0.0.1", port), bodies, 0.0)
        with running_kafka(directory) as kafka, Agent("mx1", directory / "mx1", kafka.bootstrap, SETTINGS) as agent:
            agent.wait_serving()
            idle = rss_mib(agent.pid)
            _row(rows, "weir agent, TCP", agent.pid, agent.tcp, bodies, bare_cost)
            _row(rows, "weir agent, unix socket", agent.pid, agent.socket, bodies, bare_cost)
            wait_until(lambda: agent.metrics().get("weir_agent_spool_bytes") == 0.0, 60, "the spool to be shipped", 0.2)
            block_many(kafka.bootstrap, DECISIONS)
            known = lambda: agent.metrics().get("weir_agent_decisions", 0.0) >= DECISIONS  # noqa: E731
            wait_until(known, 60, f"{DECISIONS} decisions", 0.2)
            _row(rows, f"the same with {DECISIONS:,} decisions", agent.pid, agent.socket, bodies, bare_cost)
            _remember(agent.socket)
            full = rss_mib(agent.pid)
    show(
        f"policy requests, {CONNECTIONS} connections, {ACCOUNTS} accounts",
        ("server", "requests/s", "CPU µs/request", "times bare", "p50 ms", "p99 ms", "slowest ms"),
        rows,
    )
    show(
        "memory of the agent (RSS)",
        ("state", "MiB"),
        [("idle", f"{idle:.0f}"), (f"{DECISIONS:,} decisions and 100,000 remembered instances", f"{full:.0f}")],
    )


def _row(
    rows: list[tuple[str, ...]],
    name: str,
    pid: int,
    address: Path | tuple[str, int],
    bodies: list[bytes],
    bare: float,
) -> float:
    policy_load.run(address, bodies, CONNECTIONS, 1.0)
    before = cpu_seconds(pid)
    load = policy_load.run(address, bodies, CONNECTIONS, SECONDS)
    cost = (cpu_seconds(pid) - before) / load.requests * 1e6
    rows.append(
        (
            name,
            f"{load.requests / load.seconds:,.0f}",
            f"{cost:.1f}",
            f"{cost / bare:.2f}" if bare else "1",
            f"{load.p50:.2f}",
            f"{load.p99:.2f}",
            f"{load.slowest:.1f}",
        )
    )
    return cost


def _answers(address: tuple[str, int], bodies: list[bytes]) -> bool:
    try:
        return policy_load.run(address, bodies, 1, 0.05).requests > 0
    except OSError:
        return False


def _remember(address: Path) -> None:
    """Begin 100,000 messages that do not end."""
    for seed in range(5):
        fresh = [
            body.replace(b".65f1.", f".{seed}.".encode()) for body in policy_load.requests(ACCOUNTS, seed=seed + 100)
        ]
        sent = 0
        while sent < len(fresh):
            sent += policy_load.run(address, fresh[sent:], CONNECTIONS, 0.5).requests


if __name__ == "__main__":
    main()
