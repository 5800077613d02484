"""Workers that come, go and stand still: counts stay exact, and what one holds back is its own partitions only."""

import random
import statistics
import time

import pytest

from fleet.own import Worker
from fleet.process import wait_until
from tests.faults.system import BLOCKS, COUNTS, System, arm, wait_stopped
from weir import subjects

pytestmark = [pytest.mark.fleet, pytest.mark.soak, pytest.mark.timeout(180)]

SESSION_SECONDS = 6.0
SOON = 0.25
LATE = 1.0
"""For a single one, on a machine that does other work too."""


def test_a_worker_joins_freezes_thaws_and_leaves_under_load(system: System, chosen: random.Random) -> None:
    system.start(COUNTS)
    with system.load():
        first, second = system.workers["w1"], system.add_worker("w2", COUNTS)
        system.wait_all_owned()

        time.sleep(chosen.uniform(0.1, 1.0))
        frozen, other = chosen.sample([first, second], 2)
        frozen.freeze()
        wait_until(lambda: other.owned() == subjects.PARTITIONS, 30.0, "the other to take all over", 0.1)
        time.sleep(chosen.uniform(0.1, 1.0))
        frozen.thaw()
        system.wait_all_owned()

        time.sleep(chosen.uniform(0.1, 1.0))
        leaves, stays = chosen.sample([first, second], 2)
        system.workers.pop(leaves.name.removeprefix("worker "))
        assert leaves.terminate() == 0
        wait_until(lambda: stays.owned() == subjects.PARTITIONS, 30.0, "the other to take all over", 0.1)
    system.assert_exact()


def test_a_worker_frozen_inside_a_transaction_holds_back_its_own_partitions_only(
    system: System, chosen: random.Random
) -> None:
    system.start(BLOCKS, agents=3, workers=2)
    frozen, other = chosen.sample(list(system.workers.values()), 2)
    its_own, others = shares(frozen, other)

    warm_up = system.attacker(chosen, others)  # the first decision of all is slower
    system.attack(warm_up)
    system.wait_refused(warm_up)

    arm(frozen, "after-produce")
    held_back = system.attacker(chosen, its_own)
    system.attack(held_back)
    wait_stopped(frozen)
    stopped = time.time()

    delays = []
    for _ in range(5):
        sender = system.attacker(chosen, others)
        crossed = system.attack(sender)
        delays.append(system.wait_refused(sender) - crossed)
    assert time.time() - stopped < SESSION_SECONDS, "the frozen worker was replaced meanwhile: nothing was shown"
    print(f"decisions of the others after {[round(1000 * delay) for delay in delays]} ms")
    assert statistics.median(delays) < SOON
    assert max(delays) < LATE
    assert system.answers(held_back) == ["DUNNO"] * 3

    system.wait_refused(held_back, 40.0)
    frozen.thaw()
    wait_until(lambda: frozen.restarts == 1, 20.0, "the end of the replaced worker")
    system.assert_exact()


def shares(first: Worker, second: Worker) -> tuple[set[int], set[int]]:
    """The partitions that each of the two was given, in a system that is at rest.

    A worker counts some time before it says so: until then its last word is about an assignment that is over.
    """

    def told() -> tuple[set[int], set[int]] | None:
        logged = [worker.logged("counting") for worker in (first, second)]
        if not all(logged):
            return None
        mine, yours = (set(lines[-1]["partitions"]) for lines in logged)
        return (mine, yours) if len(mine) + len(yours) == len(mine | yours) == subjects.PARTITIONS else None

    return wait_until(told, 5.0, "the workers to tell which partitions each of them counts")
