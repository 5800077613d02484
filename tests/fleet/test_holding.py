"""A block while mail waits in the queues of three hosts: held there, and released by an operator's word."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from fleet.kafka import Kafka
from fleet.own import Agent, toml
from fleet.process import wait_until
from tests.agents.queue.test_postfix import ALICE, BOB, QueueHost, RunningHelper, hosts, sink
from tests.faults.system import create_topics, weir
from tests.fleet.conftest import directory

__all__ = ["directory", "hosts", "sink"]

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(240)]


class Held:
    """Agents on the hosts, the helper beside them, and the operator's command."""

    def __init__(self, folder: Path, hosts: list[QueueHost], kafka: Kafka, helper: RunningHelper) -> None:
        self.config = folder / "operator.toml"
        self.config.write_text(toml({"kafka": {"bootstrap_servers": kafka.bootstrap}}))
        self.agents = [
            Agent(
                host.name,
                folder / f"agent-{host.name}",
                kafka.bootstrap,
                {"log": {"files": [str(host.maillog)]}, "queue": {"socket": str(helper.socket)}},
            )
            for host in hosts
        ]

    def operator(self, *words: str) -> Any:
        done = weir(self.config, *words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def fleet(directory: Path, hosts: list[QueueHost]) -> Iterator[Held]:
    folder = directory / "holding"
    folder.mkdir(mode=0o711)
    with ExitStack() as stack:
        kafka = stack.enter_context(Kafka(folder / "kafka"))
        create_topics(kafka, folder)
        helper = stack.enter_context(RunningHelper(directory / "helper", hosts, "postfix-"))
        made = Held(folder, hosts, kafka, helper)
        for agent in made.agents:
            stack.enter_context(agent)
        for agent in made.agents:
            agent.wait_serving()
        yield made


def test_what_waits_of_a_blocked_account_is_held_and_only_that_released(hosts: list[QueueHost], fleet: Held) -> None:
    alices = {host: host.submit(ALICE, 500 // 3 + (host.name != "q3")) for host in hosts}
    bobs = {host: host.submit(BOB, 20) for host in hosts}
    assert sum(map(len, alices.values())) == 500
    theirs = {host: {alices[host][0], bobs[host][0]} for host in hosts}
    for host in hosts:
        host.hold_by_hand([*theirs[host]])

    fleet.operator("block", ALICE, "--for", "1h", "--reason", "stolen")
    for host in hosts:
        wait_until(lambda: host.held() == {*alices[host]} | theirs[host], 60, f"{host.name} to hold them", 0.2)  # noqa: B023

    left = fleet.operator("release", ALICE, "--reason", "password changed")
    told = {name: (one["how"], one["messages"]) for name, one in left["queues"].items()}
    assert told == {host.name: ("left", len(alices[host])) for host in hosts}
    assert all(host.held() == {*alices[host]} | theirs[host] for host in hosts)

    with ExitStack() as stack:
        for host in hosts:
            stack.enter_context(host.delivering())
        fleet.operator("release", ALICE, "--reason", "password changed", "--queue", "release")
        for host in hosts:
            wait_until(lambda: host.held() == theirs[host], 60, f"{host.name} to release them", 0.2)  # noqa: B023
            wait_until(lambda: {*alices[host]} - theirs[host] - {*host.queue()}, 60, "their delivery", 0.2)  # noqa: B023
