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
from tests.agents.queue.test_postfix import (
    ALICE,
    BOB,
    CAROL,
    FORM,
    FORM_UID,
    REFUSED,
    QueueHost,
    RunningHelper,
    hosts,
    sink,
)
from tests.faults.system import create_topics, weir
from tests.fleet.conftest import directory

__all__ = ["directory", "hosts", "sink"]

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(240)]


class Held:
    """Agents on the hosts, the helper beside them, and the operator's command."""

    def __init__(self, folder: Path, hosts: list[QueueHost], kafka: Kafka, helper: RunningHelper) -> None:
        self.kafka = kafka
        self.table = helper.table
        self.config = folder / "operator.toml"
        self.config.write_text(toml({"kafka": {"bootstrap_servers": kafka.bootstrap}}))
        self.agents = [
            Agent(
                host.name,
                folder / f"agent-{host.name}",
                kafka.bootstrap,
                {
                    "log": {"files": [str(host.maillog)]},
                    "queue": {"socket": str(helper.socket), "submit_table": str(helper.table)},
                },
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


def test_a_release_is_done_by_a_host_that_was_away_when_it_is_back(hosts: list[QueueHost], fleet: Held) -> None:
    host, agent = hosts[0], fleet.agents[0]
    others = host.held()
    ids = host.submit(CAROL, 10)
    fleet.operator("block", CAROL, "--for", "1h", "--reason", "stolen")
    wait_until(lambda: host.held() == {*ids} | others, 30, "them to be held", 0.2)

    agent.terminate(20)
    fleet.operator("release", CAROL, "--reason", "password changed", "--queue", "delete")
    agent.start()
    wait_until(lambda: host.held() == others, 60, "them to be deleted", 0.2)
    assert not {*ids} & {*host.queue()}


def test_a_blocked_local_user_submits_nothing_and_what_waits_is_held(hosts: list[QueueHost], fleet: Held) -> None:
    host, agent = hosts[2], fleet.agents[2]
    others = host.held()
    subject = f"uid:{FORM_UID}"
    before = {*host.ids_of_local_user(FORM_UID)}
    assert host.submit_locally(FORM) == ""
    (queue_id,) = wait_until(lambda: {*host.ids_of_local_user(FORM_UID)} - before, 10, "the message")
    wait_until(lambda: host.queue().get(queue_id) == "deferred", 20, "it to be deferred", 0.2)

    def refused() -> bool:
        return host.submit_locally(FORM) == REFUSED

    fleet.operator("block", subject, "--for", "1h", "--reason", "hacked form")
    wait_until(refused, 30, "the block in Postfix's list", 0.2)
    wait_until(lambda: queue_id in host.held() - others, 30, "the message to be held", 0.2)
    assert host.submit_locally("nobody") == ""

    fleet.kafka.stop()
    agent.terminate(20)
    fleet.table.unlink()
    agent.start()
    wait_until(refused, 60, "the block from the agent's own disk", 0.2)

    fleet.kafka.start()
    fleet.operator("release", subject, "--reason", "form mended", "--queue", "delete")
    wait_until(lambda: host.submit_locally(FORM) == "", 60, "the end of the block", 0.2)
    wait_until(lambda: host.held() == others, 60, "the message to be deleted", 0.2)
