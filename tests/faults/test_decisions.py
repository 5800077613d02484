"""A decision is never lost, never made twice, never sent by a replaced worker; a release holds whatever comes again."""

import random
import time

import pytest
from confluent_kafka import Producer

from fleet.process import wait_until
from fleet.reading import read_topic
from tests.faults.system import BLOCKS, BURST, System, arm, kill, wait_stopped
from weir import envelopes, subjects, tallies, topics

pytestmark = [pytest.mark.fleet, pytest.mark.soak, pytest.mark.timeout(180)]

STEPS = ("after-begin", "after-produce", "after-commit")


def test_a_decision_survives_kill_9_at_each_step_of_its_transaction(system: System, chosen: random.Random) -> None:
    system.start(BLOCKS)
    (worker,) = system.workers.values()
    attackers = {}
    for step in chosen.sample(STEPS, 3):
        sender = attackers[step] = system.attacker(chosen)
        system.attack(sender, BURST)
        system.wait_counted()  # so that the next transaction is the decision's
        arm(worker, step)
        system.attack(sender, 1)
        wait_stopped(worker)
        kill(worker)
        system.wait_refused(sender, 40.0)

    for step, sender in attackers.items():
        found = [decision.id for decision in system.decisions(sender.account)]
        assert found == [system.expected_decision(sender.account)], step
    system.assert_exact()


def test_a_replaced_worker_sends_no_decision(system: System, chosen: random.Random) -> None:
    system.start(BLOCKS)
    frozen = system.workers["w1"]
    sender = system.attacker(chosen)
    system.attack(sender, BURST)
    system.wait_counted()
    arm(frozen, "after-begin")  # what is produced already would be aborted by its own time-out
    system.attack(sender, 1)
    wait_stopped(frozen)
    stopped = time.time()

    system.add_worker("w2", BLOCKS)
    system.wait_refused(sender, 40.0)
    frozen.thaw()
    wait_until(lambda: frozen.restarts == 1, 20.0, "the end of the replaced worker", 0.1)
    system.wait_all_owned()

    (decision,) = system.decisions(sender.account)
    assert decision.id == system.expected_decision(sender.account)
    assert decision.decided > stopped + 1.0
    assert frozen.exit_statuses == [70]
    system.assert_exact()


def test_a_release_holds_although_the_worker_dies_and_old_tallies_come_again(
    system: System, chosen: random.Random
) -> None:
    system.start(BLOCKS)
    (worker,) = system.workers.values()

    # The burst is counted, but not written, when the operator releases the account and the worker dies.
    unwritten = system.attacker(chosen)
    arm(worker, "after-begin")
    system.attack(unwritten)
    wait_stopped(worker)
    system.operator("release", unwritten.account, "--reason", "password changed")
    kill(worker)
    system.wait_counted()
    assert system.decisions(unwritten.account) == []

    # The block stands, is released, the worker dies at once, and the burst comes again as of a lost epoch.
    blocked = system.attacker(chosen)
    system.attack(blocked)
    system.wait_refused(blocked)
    system.operator("release", blocked.account, "--reason", "password changed")
    kill(worker)
    send_again(system, blocked.account)
    system.wait_counted()
    assert set(system.answers(blocked)) == {"DUNNO"}
    before = system.decisions(blocked.account)
    assert {decision.id for decision in before} == {system.expected_decision(blocked.account)}

    # Thresholds stay as they are: a new burst is blocked again.
    wait_for_next_bucket()
    system.attack(blocked, BURST - len(system.agents))  # which have counted an answer each
    system.wait_refused(blocked)
    assert len({decision.id for decision in system.decisions(blocked.account)}) == 2


def send_again(system: System, account: str) -> None:
    """Put an account's envelopes on weir.tallies once more, as if they had left a host twice with different seqs."""
    subject = subjects.sasl_username(account)
    producer = Producer({"bootstrap.servers": system.kafka.bootstrap, "log_level": 0})
    for message in read_topic(system.kafka.bootstrap, topics.TALLIES):
        head, found = envelopes.decode(message.value or b"", tallies.decoder)
        lines = [tallies.encoder.encode(tally) for tally in found if tally.subject == subject]
        if lines and head.host in system.agents:
            again = envelopes.encode(envelopes.head(f"{head.host}-again", head.epoch), lines)
            producer.produce(topics.TALLIES, again, partition=message.partition or 0)
    assert producer.flush(10) == 0


def wait_for_next_bucket() -> None:
    """A bucket in which a release lies is forgotten as a whole."""
    start = time.time()
    wait_until(lambda: int(time.time()) // 5 > int(start) // 5, 6.0, "the next bucket")
