"""A mail host loses power: the spool's end is what the disk had, and what Kafka knows beyond it is counted once."""

import random
import time

import pytest

from fleet.own import Agent
from fleet.process import wait_until
from fleet.truth import read_spool
from tests.faults.system import COUNTS, System, kill, wait_frozen
from weir import topics

pytestmark = [pytest.mark.fleet, pytest.mark.soak, pytest.mark.timeout(180)]

SYNCED = "weir_agent_spool_synced_bytes "


def test_power_is_lost_and_the_old_epochs_are_shipped_beside_the_new_one(system: System, chosen: random.Random) -> None:
    system.start(COUNTS)
    agent = chosen.choice(list(system.agents.values()))
    losses: list[float] = []
    kills: list[float] = []
    with system.load():
        # The end that is lost is in Kafka already: its seqs must not be given again.
        time.sleep(chosen.uniform(1.5, 2.5))
        losses.append(lose_power(system, agent, "second"))
        agent.wait_serving()

        # Nothing leaves the spool while power is lost again, and the process dies once more after that.
        for topic in (topics.EVENTS, topics.TALLIES):
            system.kafka.deny_writes(topic)
        time.sleep(chosen.uniform(1.5, 2.5))
        losses.append(lose_power(system, agent, "third"))
        agent.wait_serving()
        time.sleep(chosen.uniform(0.2, 1.0))
        kills.append(kill(agent))
        agent.wait_serving()

        # Three epochs wait; while they are shipped the process dies again.
        for topic in (topics.EVENTS, topics.TALLIES):
            system.kafka.allow_writes(topic)
        time.sleep(chosen.uniform(0.0, 0.3))
        kills.append(kill(agent))
        agent.wait_serving()

    system.assert_exact({agent.host: kills}, {agent.host: losses})
    assert len({identity.epoch for identity in read_spool(agent.spool)}) == 3


def lose_power(system: System, agent: Agent, boot_id: str) -> float:
    """Cut the spool back to what was on disk, under the boot id that follows, and kill the agent; returns when."""
    found = wait_until(lambda: [n for n in agent.metrics() if n.startswith(SYNCED)], 5.0, "the first fsync")
    (name,) = found
    length = int(agent.metrics()[name])
    segment = agent.spool / name.removeprefix(SYNCED)
    agent.freeze()
    wait_frozen(agent)
    lost_at = time.time()
    assert segment.stat().st_size >= length
    with segment.open("r+b") as file:
        file.truncate(length)
    for path in agent.spool.glob("*.jsonl"):
        if path.name > segment.name:
            path.unlink()
    system.boot_id(agent).write_text(boot_id)
    kill(agent)
    return lost_at
