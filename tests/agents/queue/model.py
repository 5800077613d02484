"""Postfix's commands, played on folders: what the helper starts comes here instead."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ID = re.compile(r"[0-9A-Za-z]{6,30}", re.ASCII)
OUTCOMES = {
    ("-h", "-"): ("deferred", "hold", "placed on hold"),
    ("-H", "-"): ("hold", "deferred", "released from hold"),
    ("-d", "-", "hold"): ("hold", "", "removed"),
}


class Crash(BaseException):
    """The helper's end in the midst of its work."""


class PostfixModel:
    """The queue of one instance; every command that is not one of the helper's few fails the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.commands: list[list[str]] = []
        self.delivered: list[str] = []
        self.deliveries_fail = False
        self.before_move: Callable[[], object] = lambda: None
        """Called before each message that a command moves; may raise."""
        for queue in ("deferred", "hold"):
            (directory / queue).mkdir(parents=True)

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(subprocess, "run", self.run)

    def add(self, *ids: str, queue: str = "deferred") -> None:
        for queue_id in ids:
            (self.directory / queue / queue_id).touch()

    def move(self, queue_id: str, source: str, target: str) -> bool:
        """As postsuper does it: of a message that is not there, nothing."""
        path = self.directory / source / queue_id
        if not path.exists():
            return False
        if target:
            path.rename(self.directory / target / queue_id)
        else:
            path.unlink()
        return True

    def on_hold(self) -> set[str]:
        return {path.name for path in (self.directory / "hold").iterdir()}

    def run(self, argv: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        assert options["check"]
        assert options["timeout"]
        assert "shell" not in options
        self.commands.append(argv)
        name, dash_c, directory, *arguments = argv
        assert (dash_c, directory) == ("-c", str(self.directory))
        stdout, stderr, code = "", "", 0
        if name == "postconf":
            assert arguments == ["-h", "queue_directory"]
            stdout = f"{self.directory}\n"
        elif name == "postqueue":
            option, queue_id = arguments
            assert option == "-i"
            assert ID.fullmatch(queue_id)
            self.delivered.append(queue_id)
            code = 69 if self.deliveries_fail else 0
        else:
            assert name == "postsuper"
            stderr = self._postsuper(tuple(arguments), options["input"])
        if code:
            raise subprocess.CalledProcessError(code, argv, stdout, stderr)
        return subprocess.CompletedProcess(argv, code, stdout, stderr)

    def _postsuper(self, arguments: tuple[str, ...], lines: str) -> str:
        source, target, outcome = OUTCOMES[arguments]
        told = ""
        for queue_id in lines.splitlines():
            assert ID.fullmatch(queue_id)
            self.before_move()
            if self.move(queue_id, source, target):
                told += f"postsuper: {queue_id}: {outcome}\n"
        return told
