"""Kafka is away or refuses: mail waits for nobody, what is known holds, what was sent meanwhile is counted later."""

import random
import time

import pytest

from fleet.own import merged
from fleet.process import wait_until
from tests.faults.system import BLOCKS, BURST, COUNTS, System
from tests.faults.timing import assert_as_fast, between
from weir import topics

pytestmark = [pytest.mark.fleet, pytest.mark.soak, pytest.mark.timeout(240)]

AWAY_SECONDS = 20.0
DENIED_SECONDS = 5.0
SHORT_BLOCK = {"detectors": {"burst": {"block_seconds": 5}}}


def test_kafka_is_stopped_under_load(system: System, chosen: random.Random) -> None:
    system.start(BLOCKS, agents=3)
    by_detector, by_operator, allowed = (system.attacker(chosen) for _ in range(3))
    system.attack(by_detector)
    system.wait_refused(by_detector)
    system.operator("block", by_operator.account, "--for", "1h", "--reason", "stolen")
    system.wait_refused(by_operator)
    system.attack(allowed)
    system.wait_refused(allowed)
    system.operator("allow", allowed.account, "--for", "1h", "--reason", "a newsletter")
    wait_until(lambda: set(system.answers(allowed)) == {"DUNNO"}, 5.0, "the operator's word in all agents", 0.1)

    with system.load(rate=30):
        began = time.time()
        time.sleep(5.0)
        system.kafka.stop()
        stopped = time.time()
        while time.time() < stopped + AWAY_SECONDS:
            assert all("[weir burst " in answer for answer in system.answers(by_detector))
            assert all("[weir operator " in answer for answer in system.answers(by_operator))
            assert set(system.answers(allowed)) == {"DUNNO"}
            time.sleep(0.5)
        back = time.time()
        system.kafka.start()
        time.sleep(chosen.uniform(0.5, 2.0))

    truth = system.truth.read()
    assert_as_fast(between(truth, stopped, back), between(truth, began, stopped))
    assert all(asked.answered for asked in truth)
    system.assert_exact()


def test_a_burst_that_is_long_over_blocks_nobody(system: System, chosen: random.Random) -> None:
    system.start(merged(BLOCKS, SHORT_BLOCK))
    sender = system.attacker(chosen)
    system.kafka.kill()
    system.attack(sender, 2 * BURST)
    over = time.time() + 5.0 + 1.0  # the block would have begun by now at the latest
    wait_until(lambda: time.time() > over, 10.0, "the end of the block that would have been", 0.1)
    system.kafka.start()
    system.assert_exact()
    assert system.decisions(sender.account) == []


def test_writing_is_forbidden_under_load(system: System, chosen: random.Random) -> None:
    system.start(COUNTS)
    with system.load():
        time.sleep(chosen.uniform(0.5, 1.5))
        for topic in (topics.EVENTS, topics.TALLIES):
            system.kafka.deny_writes(topic)
        time.sleep(DENIED_SECONDS)
        for agent in system.agents.values():
            assert agent.metrics()["weir_agent_ship_errors_total"] > 0
        for topic in chosen.sample((topics.EVENTS, topics.TALLIES), 2):
            system.kafka.allow_writes(topic)
        time.sleep(chosen.uniform(0.5, 1.5))
    assert all(asked.answered for asked in system.truth.read())
    system.assert_exact()
