"""Mail of a blocked account in the queues: what the helper is asked, and what is told of it."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agents import holding
from agents.holding import Holding
from agents.maillog.outcomes import Queued
from agents.queue import submit_table
from agents.queue.client import HelperAwayError

ALICE = "sasl_username:alice@example.org"
ROOT = "uid:0"


class Helper:
    """The helper, as far as it is asked; `away` makes it fail."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, list[str]]] = []
        self.table = Path()
        self.away = False
        self.ours: set[str] | None = None
        """What it does anything with; None: all."""

    async def hold(self, instance: str, ids: list[str]) -> list[str]:
        return self._take("hold", instance, ids)

    async def release(self, instance: str, ids: list[str]) -> list[str]:
        return self._take("release", instance, ids)

    async def delete(self, instance: str, ids: list[str]) -> list[str]:
        return self._take("delete", instance, ids)

    async def refuse_submission(self, names: list[str]) -> list[str]:
        return self._take("submit", "", names)

    def _take(self, verb: str, instance: str, ids: list[str]) -> list[str]:
        if self.away:
            raise HelperAwayError("no helper")
        self.asked.append((verb, instance, ids))
        if verb == "submit":
            submit_table.write(self.table, ids)
        return [one for one in ids if self.ours is None or one in self.ours]


class World:
    def __init__(self, table: Path) -> None:
        self.helper = Helper()
        self.helper.table = self.table = table
        self.queued = [
            Queued("postfix", "4Vx1", False, 100.0),
            Queued("postfix-out", "4Vx2", False, 200.0),
            Queued("postfix", "4Vx3", True, 300.0),
        ]
        self.cause = "1f0c9a6b2d47"
        self.told: list[tuple[str, str, int, str, str]] = []
        self.holding = Holding(
            self.helper,  # type: ignore[arg-type]
            table,
            lambda _subject: self.queued,
            lambda _subject: self.cause,
            lambda *event: self.told.append(event),
        )

    def run(self, *acts: Callable[[], None]) -> None:
        async def all_of_them() -> None:
            for act in acts:
                act()
            while tasks := list(self.holding._tasks.values()):
                await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run(all_of_them())


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(holding, "AGAIN_SECONDS", (0.0, 0.001))
    return iter(())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "table")


def test_what_is_not_on_hold_yet_is_held_by_instance(world: World) -> None:
    world.run(lambda: world.holding.blocked(ALICE))
    assert world.helper.asked[:2] == [("hold", "postfix", ["4Vx1"]), ("hold", "postfix-out", ["4Vx2"])]
    assert world.told[0] == (ALICE, "held", 2, "1f0c9a6b2d47", "")


def test_what_comes_a_little_later_is_held_too_while_the_block_is_in_force(world: World) -> None:
    world.queued = []
    later = Queued("postfix", "4Vx9", False, 400.0)

    async def scene() -> None:
        world.holding.blocked(ALICE)
        await asyncio.sleep(0)
        world.queued = [later]
        while world.holding._tasks:
            await asyncio.sleep(0.001)

    asyncio.run(scene())
    assert world.helper.asked[-1:] == [("hold", "postfix", ["4Vx9"])]
    world.helper.asked.clear()
    world.cause = ""
    world.run(lambda: world.holding.blocked(ALICE))
    assert world.helper.asked == []


@pytest.mark.parametrize(
    ("queue", "asked", "told"),
    [
        ("", [], ("left", 1)),
        ("leave", [], ("left", 1)),
        ("release", [("release", "postfix", ["4Vx1", "4Vx3"]), ("release", "postfix-out", ["4Vx2"])], ("released", 1)),
        ("delete", [("delete", "postfix", ["4Vx1", "4Vx3"]), ("delete", "postfix-out", ["4Vx2"])], ("deleted", 1)),
    ],
)
def test_a_release_says_what_becomes_of_mail_on_hold(
    world: World, queue: str, asked: list[Any], told: tuple[str, int]
) -> None:
    """Whatever the log tells: the helper knows what is ours."""
    world.helper.ours = {"4Vx3"}
    world.run(lambda: world.holding.released(ALICE, "word", queue))
    assert world.helper.asked == asked
    assert world.told == [(ALICE, *told, "word", "")]


def test_what_stays_on_hold_when_a_block_is_over_is_told_once(world: World) -> None:
    world.run(lambda: world.holding.blocked(ALICE))
    world.told.clear()
    world.run(world.holding.tell_what_stays)
    assert world.told == []
    cause, world.cause = world.cause, ""
    world.run(world.holding.tell_what_stays, world.holding.tell_what_stays)
    assert world.told == [(ALICE, "left", 1, cause, "")]


def test_after_a_release_nothing_more_is_told(world: World) -> None:
    world.run(lambda: world.holding.blocked(ALICE))
    world.cause = ""
    world.run(lambda: world.holding.released(ALICE, "word", "release"))
    world.told.clear()
    world.run(world.holding.tell_what_stays)
    assert world.told == []


def test_a_release_ends_the_holding(world: World) -> None:
    world.run(lambda: world.holding.blocked(ALICE), lambda: world.holding.released(ALICE, "word", "leave"))
    assert world.helper.asked == []


def test_a_client_s_mail_is_left_alone(world: World) -> None:
    client = "client_address:192.0.2.1"
    world.run(lambda: world.holding.blocked(client), lambda: world.holding.released(client, "word", "release"))
    assert (world.helper.asked, world.told) == ([], [])


def test_a_helper_that_is_away_is_asked_again_and_told(world: World) -> None:
    async def scene() -> None:
        world.helper.away = True
        world.holding.blocked(ALICE)
        while world.holding.failures < 20:
            await asyncio.sleep(0.001)
        world.helper.away = False
        while world.holding._tasks:
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(scene(), 10))
    assert world.told == [(ALICE, "held", 0, world.cause, "no helper"), (ALICE, "held", 2, world.cause, "")]


def test_a_helper_that_is_away_is_asked_no_more_when_the_block_is_over(world: World) -> None:
    async def scene() -> None:
        world.helper.away = True
        world.holding.blocked(ALICE)
        while world.holding.failures < 4:
            await asyncio.sleep(0.001)
        world.cause = ""
        while world.holding._tasks:
            await asyncio.sleep(0.001)

    asyncio.run(asyncio.wait_for(scene(), 10))
    assert world.helper.asked == []


def test_a_release_that_was_said_meanwhile_is_for_what_was_submitted_before_it(world: World) -> None:
    world.run(lambda: world.holding.released_meanwhile(ALICE, "word", "delete", 250.0))
    assert world.helper.asked == [("delete", "postfix", ["4Vx1"]), ("delete", "postfix-out", ["4Vx2"])]
    assert world.told == [(ALICE, "deleted", 2, "word", "")]
    world.run(lambda: world.holding.released_meanwhile(ALICE, "word", "leave", 250.0))
    world.helper.ours = set()
    world.run(lambda: world.holding.released_meanwhile(ALICE, "word", "release", 250.0))
    assert len(world.told) == 1, "nobody waits for an answer"


def test_a_helper_that_is_away_is_not_missed_where_nobody_is_refused(world: World) -> None:
    world.helper.away = True
    asyncio.run(world.holding.refresh_submitters())
    assert world.holding.failures == 0
    world.helper.away = False
    asyncio.run(world.holding.refresh_submitters())
    assert world.helper.asked == [("submit", "", [])]


def test_local_users_that_are_blocked_may_not_submit(world: World) -> None:
    def refreshed() -> Coroutine[Any, Any, None]:
        return world.holding.refresh_submitters()

    world.queued = []
    asyncio.run(refreshed())
    assert world.helper.asked == [("submit", "", [])], "who was refused before the start may submit again"
    world.helper.asked.clear()
    world.run(lambda: world.holding.blocked(ROOT))
    asyncio.run(refreshed())
    asyncio.run(refreshed())
    assert world.helper.asked == [("submit", "", ["root"])]
    world.cause = ""
    asyncio.run(refreshed())
    assert world.helper.asked[1:] == [("submit", "", [])]


def test_a_local_user_without_a_fitting_name_keeps_no_other_out_of_the_table(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.queued = []
    names = {ROOT: "root", "uid:1": "two words", "uid:2": "", "uid:3": "a:b", "uid:4": "www-data"}
    monkeypatch.setattr(holding, "_login", names.__getitem__)
    monkeypatch.setattr(holding, "MAX_NAMES", 1)
    world.run(*(partial(world.holding.blocked, subject) for subject in names))
    asyncio.run(world.holding.refresh_submitters())
    asyncio.run(world.holding.refresh_submitters())
    assert world.helper.asked == [("submit", "", ["root"])]
    assert capsys.readouterr().out.count("may go on submitting") == 4


def test_a_table_that_was_lost_or_changed_is_written_again(world: World) -> None:
    world.queued = []
    world.run(lambda: world.holding.blocked(ROOT))
    asyncio.run(world.holding.refresh_submitters())
    for damage in (world.table.unlink, lambda: world.table.write_text("alice\n")):
        damage()
        asyncio.run(world.holding.refresh_submitters())
        asyncio.run(world.holding.refresh_submitters())
        assert world.table.read_text() == "root\n"
    assert world.helper.asked == [("submit", "", ["root"])] * 3


def test_a_table_that_the_agent_cannot_read_is_written_once(world: World) -> None:
    world.queued = []
    world.table.mkdir()
    world.helper.table = world.table.with_name("another")
    world.run(lambda: world.holding.blocked(ROOT))
    asyncio.run(world.holding.refresh_submitters())
    asyncio.run(world.holding.refresh_submitters())
    assert world.helper.asked == [("submit", "", ["root"])]
