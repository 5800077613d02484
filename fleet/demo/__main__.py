"""`make demo`: starts the fleet, shows the attack and the block as they go, then the figures, and cleans up.

Exit status 0 only if everything that it states was checked and holds.
"""

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
from rich.console import Console

from fleet.demo import history
from fleet.demo.figures import Check, Figures, attack_figures
from fleet.demo.screen import Screen, show_figures
from fleet.demo.traffic import ACCOUNTS, GONE, NEWSLETTER, PASSWORDS, VICTIM, Traffic
from fleet.dovecot import Dovecot
from fleet.kafka import Kafka
from fleet.mail_sink import MailSink
from fleet.own import CHECKOUT, Agent, Sink, Worker
from fleet.postfix import PostfixHost
from fleet.process import free_port, run_directory, wait_until

ADDRESSES = {"mx1": "127.0.0.11", "mx2": "127.0.0.12", "mx3": "127.0.0.13"}
SETTINGS: dict[str, Any] = {
    "kafka": {"replication_factor": 1, "min_insync_replicas": 1},
    # All of the demo's clients have loopback addresses: none is trusted, so that they are judged as the world's are.
    "trusted": [],
    "detectors": {"burst": {"own": {NEWSLETTER: {"messages_per_minute": 1000, "messages_per_hour": 20000}}}},
}
UNKNOWN = ("-f", "RCPT", "-B", "550 5.1.1 User unknown")
"""Options of a mail sink that knows none of its recipients."""
DASHBOARDS = CHECKOUT / ".cache" / "dashboards"


class Demo:
    """The running fleet."""

    def __init__(self, kafka: Kafka, worker: Worker, sink: Sink, agents: list[Agent], hosts: list[PostfixHost]) -> None:
        self.kafka = kafka
        self.worker = worker
        self.sink = sink
        self.agents = agents
        self.hosts = hosts

    def weir(self, *arguments: str) -> str:
        """Run an operator's command; returns what it printed. Raises CalledProcessError if it failed."""
        return weir(self.sink.config, *arguments)


def weir(config: Path, *arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "weir.cli", "--config", config, *arguments],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout


@contextmanager
def running_fleet(console: Console, directory: Path) -> Iterator[Demo]:
    """Kafka, a worker, a sink with its history, Dovecot, the mail sink, three agents and their Postfix hosts."""
    with ExitStack() as stack:
        console.print("starting Kafka …")
        kafka = stack.enter_context(Kafka(directory / "kafka"))
        worker = Worker("streams1", directory / "streams1", kafka.bootstrap, SETTINGS)
        weir(worker.config, "topics", "create")
        console.print("starting weir streams, weir sink, three agents, Dovecot, three Postfix hosts …")
        stack.enter_context(worker)
        storing = stack.enter_context(Sink("sink1", directory / "sink1", kafka.bootstrap, SETTINGS))
        agents = [stack.enter_context(_agent(host, directory, kafka)) for host in ADDRESSES]
        dovecot = stack.enter_context(Dovecot(directory / "dovecot", PASSWORDS))
        takes = stack.enter_context(MailSink("127.0.0.21", free_port("127.0.0.21"), directory))
        refuses = stack.enter_context(MailSink("127.0.0.22", free_port("127.0.0.22"), directory, UNKNOWN))
        for agent in agents:
            agent.wait_serving()
        worker.wait_counting()
        hosts = [
            stack.enter_context(
                PostfixHost(
                    agent.host,
                    ADDRESSES[agent.host],
                    directory / agent.host,
                    agent.policy_service,
                    dovecot.sasl_path,
                    sink=takes.address,
                    routes={GONE: refuses.address},
                )
            )
            for agent in agents
        ]
        yield Demo(kafka, worker, storing, agents, hosts)


def _agent(host: str, directory: Path, kafka: Kafka) -> Agent:
    log = {"log": {"files": [str(directory / host / "maillog")]}}
    return Agent(host, directory / f"agent-{host}", kafka.bootstrap, SETTINGS | log)


def run(console: Console, fast: bool) -> Figures:
    """The whole demo; the figures with all checks."""
    usual_seconds = 10.0 if fast else 40.0
    with run_directory("weir-demo-") as directory, running_fleet(console, directory) as demo:
        traffic = Traffic(demo.hosts, seed=1)
        with (
            traffic.usual_mail(usual_seconds / 5, newsletter_pause=0.12 if fast else 0.33),
            Screen(console, traffic.ledger, list(ADDRESSES)) as screen,
        ):
            screen.phase(f"{len(ACCOUNTS)} accounts send their usual mail; {NEWSLETTER} sends a newsletter")
            screen.show_for(usual_seconds)
            screen.phase(f"the login of {VICTIM} is stolen and used from 40 addresses through all hosts at once")
            traffic.attack()
            screen.phase("the attack is over; mail of the others goes on")
            screen.show_for(usual_seconds / 4)
        decision = the_decision(demo)
        figures = attack_figures(demo.agents, demo.hosts, traffic.ledger, demo.kafka.bootstrap, decision)
        release(console, demo, traffic, figures)
        look_back(console, demo, figures)
    return figures


def the_decision(demo: Demo) -> dict[str, Any]:
    """The block of the stolen login, as the abuse desk sees it."""
    found = json.loads(demo.weir("decisions", "list", VICTIM, "--json"))
    decisions: list[dict[str, Any]] = [row for row in found if row.get("cause") == "burst"]
    if len(decisions) != 1:
        raise RuntimeError(f"expected one decision on {VICTIM}, found {found}")
    return decisions[0]


def release(console: Console, demo: Demo, traffic: Traffic, figures: Figures) -> None:
    """Release the account as the abuse desk would, and see that it sends again, on every host."""
    console.print(f"\n$ weir release {VICTIM} --reason 'password changed'")
    released = time.monotonic()
    console.out(demo.weir("release", VICTIM, "--reason", "password changed").strip(), highlight=False)
    client = "127.0.40.30"
    for host in demo.hosts:

        def accepted(host: PostfixHost = host) -> bool:
            return traffic.send_one(VICTIM, client, host).accepted

        try:
            wait_until(accepted, 5.0, f"{VICTIM} to send again through {host.name}", interval=0.1)
            figures.sends_after_release[host.name] = f"{time.monotonic() - released:.1f} s"
        except TimeoutError as error:
            figures.sends_after_release[host.name] = str(error)
    sends = [host.name for host in demo.hosts if figures.sends_after_release[host.name].endswith(" s")]
    figures.checks.append(
        Check("released, the account sends again on every host", len(sends) == len(demo.hosts), ", ".join(sends))
    )


def look_back(console: Console, demo: Demo, figures: Figures) -> None:
    """The history agrees with Postfix's logs; and how the abuse desk and the NOC look at it."""
    figures.checks += history.check(demo.sink, demo.hosts)
    console.print(f"\n$ weir history {VICTIM}")
    lines = [line.rstrip() for line in demo.weir("history", VICTIM).splitlines()]
    for line in [*lines[:5], "…", *lines[-3:]]:
        console.out(line, highlight=False)
    queue_id = history.bounced(demo.hosts)
    console.print(f"\n$ weir trace {queue_id}")
    console.out(demo.weir("trace", queue_id).rstrip(), highlight=False)
    demo.weir("dashboards", "export", str(DASHBOARDS))
    console.print(f"the Fleet dashboard for Grafana: {DASHBOARDS / 'dashboards' / 'weir-fleet.json'}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--fast", action="store_true", help="shorter phases, for tests")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupted)
    console = Console(width=None if sys.stdout.isatty() else 120)
    began = time.monotonic()
    try:
        figures = run(console, options.fast)
    except KeyboardInterrupt:
        console.print("interrupted; everything is stopped")
        return 130
    show_figures(console, figures, time.monotonic() - began)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(figures)) + b"\n")
    return 0 if all(check.holds for check in figures.checks) else 1


def _interrupted(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
