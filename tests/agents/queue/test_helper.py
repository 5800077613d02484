"""The helper's work on a model of Postfix: ours and others', whatever fails and whenever it ends."""

import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agents.queue import submit_table
from agents.queue.held import Held
from agents.queue.helper import Helper, UnknownInstanceError
from agents.queue.postfix_queue import CommandError, PostfixQueue
from agents.queue.requests import Delete, Hold, Release, Submit
from tests.agents.queue.model import Crash, PostfixModel

A, B, C, D = "4jYmyW0NsBz1SWG1", "4jYmyW0NsCz1SWG2", "4jYmyW0NsDz1SWG3", "3C1F2A17B5"


class Host:
    """A helper on a model; `restart` is what systemd would do."""

    def __init__(self, directory: Path) -> None:
        self.postfix = PostfixModel(directory / "postfix")
        self.table = directory / "table"
        self._path = directory / "held.sqlite"
        self.start()

    def start(self) -> None:
        self.held = Held(self._path)
        self.helper = Helper({"postfix": PostfixQueue(self.postfix.directory)}, self.held, self.table)

    def restart(self) -> None:
        self.held.close()
        self.start()
        self.helper.recall()

    def hold(self, *ids: str) -> list[str]:
        return self.helper.carry_out(Hold("postfix", [*ids]))

    def release(self, *ids: str) -> list[str]:
        return self.helper.carry_out(Release("postfix", [*ids]))

    def delete(self, *ids: str) -> list[str]:
        return self.helper.carry_out(Delete("postfix", [*ids]))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    host = Host(tmp_path)
    host.postfix.install(monkeypatch)
    yield host
    host.held.close()


def test_hold_and_release(host: Host) -> None:
    host.postfix.add(A, B, C)
    assert host.hold(A, B, D) == [A, B], "what is not in the queue is no error"
    assert host.postfix.on_hold() == {A, B}
    assert host.release(B, C, D) == [B]
    assert host.postfix.on_hold() == {A}
    assert host.postfix.delivered == [B], "only what was released is delivered now"


def test_a_request_that_is_repeated_does_no_harm(host: Host) -> None:
    host.postfix.add(A)
    assert (host.hold(A), host.hold(A)) == ([A], [A])
    assert (host.release(A), host.release(A)) == ([A], [])


def test_what_others_hold_is_never_touched(host: Host) -> None:
    host.postfix.add(A, queue="hold")
    host.postfix.add(B)
    assert host.hold(A, B) == [B]
    host.restart()
    assert host.release(A, B) == [B]
    assert host.delete(A, B) == []
    assert host.postfix.on_hold() == {A}


def test_what_others_hold_between_our_look_and_our_command_is_theirs(host: Host) -> None:
    host.postfix.add(A)
    host.postfix.before_move = lambda: host.postfix.move(A, "deferred", "hold")
    assert host.hold(A) == []
    assert host.delete(A) == []
    assert host.postfix.on_hold() == {A}


def test_what_others_released_and_hold_again_is_theirs(host: Host) -> None:
    host.postfix.add(A, B)
    host.hold(A)
    host.postfix.move(A, "hold", "deferred")
    host.hold(B)  # any look tells that it is not on hold
    host.postfix.move(A, "deferred", "hold")
    assert host.release(A, B) == [B]


def test_delete_takes_what_we_hold_only(host: Host) -> None:
    host.postfix.add(A, B)
    host.hold(A)
    assert host.delete(A, B) == [A]
    assert host.postfix.on_hold() == set()
    assert (host.postfix.directory / "deferred" / B).exists()


def test_an_instance_that_the_settings_do_not_name(host: Host) -> None:
    with pytest.raises(UnknownInstanceError, match="'postfix-out' in the settings \\(postfix\\)"):
        host.helper.carry_out(Hold("postfix-out", [A]))
    assert host.postfix.commands == []


def test_released_is_released_though_postfix_is_down(host: Host) -> None:
    host.postfix.add(A, B)
    host.hold(A, B)
    host.postfix.deliveries_fail = True
    assert host.release(A, B) == [A, B]
    assert len(host.postfix.delivered) == 1, "the first failure is enough"


def test_a_queue_that_cannot_be_read_is_an_error_and_forgets_nothing(host: Host) -> None:
    host.postfix.add(A)
    host.hold(A)
    (host.postfix.directory / "hold").rename(host.postfix.directory / "away")
    with pytest.raises(CommandError, match="hold: No such file"):
        host.release(A)
    host.restart()
    (host.postfix.directory / "away").rename(host.postfix.directory / "hold")
    assert host.release(A) == [A]


def test_messages_in_folders_of_a_hashed_queue_are_on_hold(host: Host) -> None:
    folder = host.postfix.directory / "hold/4"
    folder.mkdir()
    (folder / A).touch()
    assert PostfixQueue(host.postfix.directory).on_hold() == {A}


def test_the_list_of_refused_submitters_is_replaced_and_everybody_may_read_it(host: Host) -> None:
    submit_table.make(host.table)
    assert host.table.read_text() == ""
    assert host.helper.carry_out(Submit(["www-data", "alice", "alice"])) == ["www-data", "alice", "alice"]
    submit_table.make(host.table)
    assert host.table.read_text() == "alice\nwww-data\n"
    assert stat.S_IMODE(host.table.stat().st_mode) == 0o644
    host.helper.carry_out(Submit([]))
    assert host.table.read_text() == ""


IDS = [f"3C1F{number:X}A17B5" for number in range(8)]
_some = st.lists(st.sampled_from(IDS), min_size=1, max_size=5, unique=True)


class HoldsOfManyHands(RuleBasedStateMachine):
    """We and others hold, release and delete, and we may end before any message that we move.

    What others hold stays on hold until they release it; what we may have put on hold is ours to release.
    """

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.folder = tempfile.TemporaryDirectory()
        self.host = Host(Path(self.folder.name))
        self.postfix = self.host.postfix
        self.postfix.install(self.patch)
        self.ours: set[str] = set()
        self.theirs: set[str] = set()

    def teardown(self) -> None:
        self.host.held.close()
        self.folder.cleanup()
        self.patch.undo()

    @rule(ids=_some)
    def mail_comes(self, ids: list[str]) -> None:
        self.postfix.add(*(one for one in ids if one not in self.postfix.on_hold()))

    @rule(ids=_some)
    def others_hold(self, ids: list[str]) -> None:
        self.theirs |= {one for one in ids if self.postfix.move(one, "deferred", "hold")}

    @rule(ids=_some)
    def others_release(self, ids: list[str]) -> None:
        """And we look before they hold the same again."""
        for one in ids:
            self.postfix.move(one, "hold", "deferred")
        self.theirs -= {*ids}
        self.ours -= {*ids}
        self.host.helper.recall()

    @rule(ids=_some)
    def we_hold(self, ids: list[str]) -> None:
        self.ours |= {one for one in ids if (self.postfix.directory / "deferred" / one).exists()}
        assert {*self.host.hold(*ids)} == self.ours & {*ids}

    @rule(ids=_some)
    def we_release(self, ids: list[str]) -> None:
        assert {*self.host.release(*ids)} == self.ours & {*ids}
        self.ours -= {*ids}

    @rule(ids=_some)
    def we_delete(self, ids: list[str]) -> None:
        assert {*self.host.delete(*ids)} == self.ours & {*ids}
        self.ours -= {*ids}

    @rule(ids=_some, what=st.sampled_from(["hold", "release", "delete"]), moves=st.integers(0, 4))
    def we_end_at_work(self, ids: list[str], what: str, moves: int) -> None:
        left = iter(range(moves))

        def end() -> None:
            if next(left, None) is None:
                raise Crash

        on_hold = self.postfix.on_hold()
        self.postfix.before_move = end
        try:
            getattr(self.host, what)(*ids)
        except Crash:
            pass
        finally:
            self.postfix.before_move = lambda: None
        self.ours |= self.postfix.on_hold() - on_hold
        self.ours &= self.postfix.on_hold()
        self.host.restart()

    @invariant()
    def what_others_hold_stays_and_what_is_on_hold_is_somebodys(self) -> None:
        assert self.postfix.on_hold() == self.ours | self.theirs
        assert not self.ours & self.theirs


TestHoldsOfManyHands = HoldsOfManyHands.TestCase
TestHoldsOfManyHands.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
