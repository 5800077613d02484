"""The helper's process: what prevents its start, and how it is there for systemd."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from agents.queue import __main__ as process
from agents.queue import submit_table
from fleet.own import CHECKOUT, toml
from weir import systemd
from weir.settings import Queue


def started(config: Path) -> tuple[int, str]:
    """Exit status, and what it says."""
    command = [sys.executable, "-m", "agents.queue", "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, timeout=20, check=False)
    return done.returncode, done.stderr.strip()


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(
        instances={},
        user="nobody",
        socket=tmp_path / "s",
        held=tmp_path / "held.sqlite",
        submit_table=tmp_path / "list",
    )


@pytest.mark.parametrize(
    ("settings", "status", "told"),
    [
        ({"user": "no-such-user"}, 1, "weir queue-helper: queue.user: no user no-such-user on this host"),
        ({"submit_table": "/nonexistent/list"}, 1, "weir queue-helper: [Errno 2] No such file or directory"),
        ({"user": ""}, 2, "queue.user: expected a user's name"),
    ],
)
def test_what_prevents_its_start_is_told(tmp_path: Path, settings: dict[str, str], status: int, told: str) -> None:
    config = tmp_path / "weir.toml"
    config.write_text(toml({"queue": {"user": "nobody", **settings}}))
    code, said = started(config)
    assert code == status
    assert told in said
    assert len(said.splitlines()) == 1


def test_with_a_socket_of_systemds_it_ends_when_idle(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    handed_over = socket.socket(socket.AF_UNIX)
    handed_over.bind(str(queue.socket.with_name("systemd")))
    handed_over.listen()
    monkeypatch.setattr(systemd, "listening_sockets", lambda: [handed_over])
    monkeypatch.setattr(process, "IDLE_SECONDS", 0.01)
    process._run(queue)
    assert not queue.socket.exists(), "the socket of the settings is not ours then"
    assert queue.submit_table.read_text() == "", "the list is there from the first start on"
    assert stat.S_IMODE(queue.submit_table.stat().st_mode) == 0o644


@pytest.mark.skipif(os.getuid() != 0, reason="gives the socket to another's group")
def test_a_socket_of_its_own_is_for_the_agents_group_only(queue: Queue) -> None:
    user = process._user(queue.user)
    for _ in range(2):  # the second time over what the first one left
        with process._listener(queue.socket, user):
            found = queue.socket.stat()
            assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o660, 0, user.pw_gid)


@pytest.mark.parametrize("key", ["held", "submit_table"])
@pytest.mark.parametrize("mode", [0o777, 0o775, 0o1777])
def test_it_writes_nowhere_where_others_may(tmp_path: Path, key: str, mode: int) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(mode)
    config = tmp_path / "weir.toml"
    paths = {name: str(tmp_path / name) for name in ("held", "submit_table", "socket")}
    config.write_text(toml({"queue": {"user": "nobody", **paths, key: str(folder / "file")}}))
    code, said = started(config)
    assert (code, said) == (
        1,
        f"weir queue-helper: queue.{key}: {folder} is not root's alone: others could put a link there",
    )
    assert not any(folder.iterdir())


def test_a_link_in_place_of_the_list_is_replaced_and_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    for name in ("list", "list.tmp"):
        victim.write_text("precious")
        (tmp_path / name).symlink_to(victim)
    submit_table.make(tmp_path / "list")
    submit_table.write(tmp_path / "list", ["root"])
    assert victim.read_text() == "precious"
    assert not (tmp_path / "list").is_symlink()
    assert submit_table.read(tmp_path / "list") == ["root"]
