"""The queue of one Postfix instance, by Postfix's own commands.

Invariants: a command is a fixed list of arguments and never a shell; ids reach it as lines on its standard input, or as
the value of one option; each has a time-out. An id that is not in the queue is no error.

Sources: postsuper(1) and postqueue(1). Seen on Postfix 3.7: postsuper names on stderr each message that it moved or
removed, and passes over one that is on hold already.
"""

import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

COMMAND_SECONDS = 20.0
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
"""Without ours: MAIL_CONFIG and others of its kind would change what the commands do."""


class CommandError(Exception):
    """A command of Postfix that failed or took too long; how much it did is unknown."""


class PostfixQueue:
    """The queue of the instance whose main.cf is in `config_directory`. Every method raises CommandError."""

    def __init__(self, config_directory: Path, inherited: Sequence[int] = ()) -> None:
        """`inherited` are file descriptors that the commands keep open, and with them the locks on these files."""
        self._directory = str(config_directory)
        self._inherited = inherited

    def on_hold(self) -> set[str]:
        """The ids of all messages on hold, whoever holds them: names of files, as `postqueue -j` opens each message."""
        queue_directory, _ = self._run(["postconf", "-h", "queue_directory"])
        folders = os.walk(Path(queue_directory.strip(), "hold"), onerror=_raise)  # more than one by hash_queue_names
        return {name for _, _, names in folders for name in names}

    def hold(self, ids: Sequence[str]) -> set[str]:
        """Put messages on hold; returns those that were not on hold before."""
        return self._told(["postsuper", "-h", "-"], ids, "placed on hold")

    def release(self, ids: Sequence[str]) -> set[str]:
        """Release messages from hold; returns those that were. They wait for the next run of the queue."""
        return self._told(["postsuper", "-H", "-"], ids, "released from hold")

    def delete(self, ids: Sequence[str]) -> set[str]:
        """Delete messages that are on hold; returns those that were."""
        return self._told(["postsuper", "-d", "-", "hold"], ids, "removed")

    def deliver(self, ids: Iterable[str]) -> None:
        """Have messages delivered now. postqueue takes one id a time; the first that fails ends it."""
        for queue_id in ids:
            self._run(["postqueue", "-i", queue_id])

    def _told(self, command: list[str], ids: Sequence[str], outcome: str) -> set[str]:
        if not ids:
            return set()
        _, told = self._run(command, "".join(f"{queue_id}\n" for queue_id in ids))
        done = re.findall(rf"^postsuper: (\w+): {outcome}$", told, re.MULTILINE | re.ASCII)
        return set(ids).intersection(done)

    def _run(self, command: list[str], lines: str = "") -> tuple[str, str]:
        """What a command prints to stdout and stderr."""
        name, *arguments = command
        try:
            done = subprocess.run(
                [name, "-c", self._directory, *arguments],
                input=lines,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=COMMAND_SECONDS,
                env=_ENVIRONMENT,
                cwd="/",
                pass_fds=self._inherited,
                check=True,
            )
        except subprocess.TimeoutExpired:
            raise CommandError(f"{name} took more than {COMMAND_SECONDS:g} s") from None
        except subprocess.CalledProcessError as error:
            last = (error.stderr.splitlines() or ["it says nothing"])[-1]
            raise CommandError(f"{name} failed ({error.returncode}): {last}") from None
        except OSError as error:
            raise CommandError(f"{name}: {error.strerror}") from None
        return done.stdout, done.stderr


def _raise(error: OSError) -> None:
    raise CommandError(f"{error.filename}: {error.strerror}")
