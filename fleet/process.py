"""Child processes with their logs: start, stop, freeze and restart them, and wait for what they do.

Invariants
- A child is known by the handle that started it, never by a name, and is always reaped: a zombie counts as gone.
- A child has its own session, so Ctrl-C in a terminal reaches only us; it is killed by the kernel when we die.
- The folder of a failed run stays, with all its logs.
"""

import errno
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self, TypeVar

T = TypeVar("T")

_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
SERVER_PORTS = range(20_000 + 3_000 * _WORKER, 23_000 + 3_000 * _WORKER)
"""Each of pytest's processes has its own: one would not know of a port that another's server leaves for a moment."""
_given_ports: set[int] = set()

# We may have died before the child asked the kernel for that signal.
_UNLESS_ORPHANED = ["sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"']
# The kernel kills a child when the *thread* that forked it ends, so one thread that lasts as long as we do forks all.
_forks = ThreadPoolExecutor(max_workers=1, thread_name_prefix="forks")


@contextmanager
def run_directory(prefix: str = "weir-", keep: bool = False) -> Iterator[Path]:
    """Yield a short-named folder under /tmp that every user may enter (0711), as Postfix and Dovecot need.

    It is removed at the end, on Ctrl-C too, unless `keep` is set or the block failed: then its path is told on stderr.
    """
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    directory.chmod(0o711)
    try:
        yield directory
    except KeyboardInterrupt:
        shutil.rmtree(directory)
        raise
    except BaseException:
        print(f"the run failed; its files and logs are kept in {directory}", file=sys.stderr)
        raise
    if keep:
        print(f"files and logs are kept in {directory}", file=sys.stderr)
    else:
        shutil.rmtree(directory)


def free_port(host: str = "127.0.0.1") -> int:
    """Return a TCP port of `host` that nobody listens on just now, never the same one twice.

    It lies below the ports that the kernel gives to outgoing connections: those could take a server's port while
    that is stopped, or connect to themselves on it.
    """
    for port in random.sample(SERVER_PORTS, 100):
        if port in _given_ports:
            continue
        with socket.socket() as probe, suppress(OSError):
            probe.bind((host, port))
            _given_ports.add(port)
            return port
    raise OSError(errno.EADDRINUSE, f"no free port on {host}")


def wait_until(condition: Callable[[], T | None], timeout: float, what: str, interval: float = 0.02) -> T:
    """Return the first truthy value of `condition()`, asked every `interval` seconds.

    Raises TimeoutError naming `what` after `timeout` seconds; whatever `condition` raises passes through.
    """
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() >= deadline:
            raise TimeoutError(f"waited {timeout:g} s in vain for {what}")
        time.sleep(interval)
    return value


def tail(path: Path, lines: int = 30) -> str:
    """Return the last lines of a log for a failure message; of a log that is missing, that it is."""
    if not path.exists():
        return f"(no log {path})"
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - 16_384))
        return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])


class Process:
    """One child process, output appended to a log; leaving its `with` block stops it."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        log_path: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        *,
        death_signal: str = "KILL",
    ) -> None:
        """`env` is added to our own environment; `death_signal` is what the child gets when we die."""
        self.name = name
        self.log_path = log_path
        self._argv = [str(argument) for argument in argv]
        self._env = dict(env or {})
        self._cwd = cwd
        self._death_signal = death_signal
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.terminate()

    def start(self) -> None:
        """Start the child; raises RuntimeError if it already runs."""
        if self.running:
            raise RuntimeError(f"{self.name} runs already, as process {self.pid}")
        self._spawn()

    @property
    def pid(self) -> int:
        """Process id of the present child, or of the last one."""
        return self._present().pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def signal(self, number: int) -> None:
        """Send a signal to the child; nothing happens if it has ended."""
        self._present().send_signal(number)

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL the child, and return when it is gone."""
        child = self._present()
        child.kill()
        child.wait()

    def terminate(self, timeout: float = 10.0) -> int:
        """SIGTERM, and SIGKILL if the child has not ended after `timeout` seconds; returns its exit status.

        The status is that of subprocess: negative for a signal.
        """
        child = self._present()
        child.terminate()
        child.send_signal(signal.SIGCONT)  # a frozen child takes SIGTERM only when thawed
        try:
            return child.wait(timeout)
        except subprocess.TimeoutExpired:
            child.kill()
            return child.wait()

    def wait(self, timeout: float) -> int:
        """Wait for the child's own end; returns its exit status, or raises TimeoutError after `timeout` seconds."""
        try:
            return self._present().wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} still runs after {timeout:g} s") from None

    def wait_ready(self, ready: Callable[[], T], timeout: float, interval: float = 0.02) -> T:
        """Return the first truthy value of `ready()`, asked every `interval` seconds.

        Raises RuntimeError with the log's tail at once if the child ends before, or after `timeout` seconds.
        """

        def ready_or_ended() -> T:
            if not self.running:
                raise RuntimeError(f"{self.name} ended with {self._present().returncode}:\n{tail(self.log_path)}")
            return ready()

        try:
            return wait_until(ready_or_ended, timeout, f"{self.name} to be ready", interval)
        except TimeoutError as error:
            raise RuntimeError(f"{error}:\n{tail(self.log_path)}") from None

    def _present(self) -> subprocess.Popen[bytes]:
        if self._child is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._child

    def _spawn(self) -> None:
        with self.log_path.open("ab") as log:
            self._child = _forks.submit(
                subprocess.Popen,
                ["setpriv", "--pdeathsig", self._death_signal, "--", *_UNLESS_ORPHANED, str(os.getpid()), *self._argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._env},
                cwd=self._cwd,
                start_new_session=True,
            ).result()


class Supervised(Process):
    """A child that is started again whenever it ends, as systemd does with Restart=always and RestartSec=100ms.

    kill() kills the present child, which then comes again; terminate() ends the supervision and the child.
    """

    RESTART_SECONDS = 0.1

    def __init__(
        self,
        name: str,
        argv: Sequence[str | Path],
        log_path: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        super().__init__(name, argv, log_path, env, cwd)
        self.restarts = 0
        self.exit_statuses: list[int] = []
        self._stopping = threading.Event()
        self._spawning = threading.Lock()  # no child is started once `_stopping` was set under it
        self._watcher: threading.Thread | None = None

    def start(self) -> None:
        if self._watcher is not None and self._watcher.is_alive():
            raise RuntimeError(f"{self.name} is supervised already")
        self._stopping.clear()
        super().start()
        self._watcher = threading.Thread(target=self._watch, name=f"supervise {self.name}", daemon=True)
        self._watcher.start()

    def terminate(self, timeout: float = 10.0) -> int:
        with self._spawning:
            self._stopping.set()
        status = super().terminate(timeout)
        if self._watcher is not None:
            self._watcher.join()
        return status

    def _watch(self) -> None:
        while True:
            self.exit_statuses.append(self._present().wait())
            if self._stopping.wait(self.RESTART_SECONDS):
                return
            with self._spawning:
                if self._stopping.is_set():
                    return
                self._spawn()
                self.restarts += 1
