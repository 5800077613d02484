"""kill -9 of agents and workers under load: counts stay exact, and only an agent's last answers leave no trace."""

import random
import time

import pytest

from tests.faults.system import COUNTS, System, arm, kill, wait_stopped

pytestmark = [pytest.mark.fleet, pytest.mark.soak, pytest.mark.timeout(180)]

STEPS = ("after-begin", "after-produce", "after-commit")


def test_agents_are_killed_under_load(system: System, chosen: random.Random) -> None:
    system.start(COUNTS, agents=3)
    kills: dict[str, list[float]] = {host: [] for host in system.agents}
    with system.load():
        for _ in range(4):
            time.sleep(chosen.uniform(0.3, 2.0))
            agent = chosen.choice(list(system.agents.values()))
            kills[agent.host].append(kill(agent))
            agent.wait_serving()
        time.sleep(chosen.uniform(0.1, 1.0))
    system.assert_exact(kills)


def test_workers_are_killed_under_load(system: System, chosen: random.Random) -> None:
    system.start(COUNTS, workers=2)
    with system.load():
        for _ in range(3):
            time.sleep(chosen.uniform(0.1, 1.5))
            worker = chosen.choice(list(system.workers.values()))
            kill(worker)
            system.wait_all_owned()
    system.assert_exact()


def test_a_worker_is_killed_between_the_steps_of_its_transactions(system: System, chosen: random.Random) -> None:
    system.start(COUNTS)
    (worker,) = system.workers.values()
    with system.load():
        for step in chosen.sample(STEPS, 3):
            time.sleep(chosen.uniform(0.1, 0.6))
            arm(worker, step)
            wait_stopped(worker)
            kill(worker)
            system.wait_all_owned()
    system.assert_exact()
