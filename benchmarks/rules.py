"""`bench rules`: a policy request through 50 rules: postfwd, `weir agent --standalone` and a bare server, same load.

All in one run, closed loop. CPU is user and system time of all the server's processes. Then what a million live
counters cost, and how long expired ones hold a request up.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from benchmarks import policy_load
from benchmarks.measure import cpu_seconds, rss_mib, show
from fleet.own import CHECKOUT
from fleet.process import Process, free_port, run_directory, wait_until
from weir.rules.counters import Counters
from weir.rules.needs import Limit

CONNECTIONS = 8
SECONDS = 5.0
ACCOUNTS = 1000
COUNTERS = 1_000_000
COPIES = 40
"""Of the 50 rules, for 2,000 of the same mix."""
POSTFWD = Path("/usr/sbin/postfwd1")
ONE = "id=ONE; sender==nobody@example.invalid; action=REJECT\n"
FIFTY = Path(__file__).with_name("rules50.cf").read_text(encoding="utf-8")


def main() -> None:
    bench = _Bench()
    with run_directory() as directory:
        port = free_port()
        bare = _ours("bare server", ["benchmarks.bare_server", "127.0.0.1", str(port)], directory)
        bench.measure("bare asyncio server", bare, port)
        cost: dict[str, float] = {}
        for name, text in (("1 rule", ONE), ("50 rules", FIFTY), (f"{50 * COPIES:,} rules", many())):
            rules = directory / f"{name.partition(' ')[0]}.cf"
            rules.write_text(text)
            port = free_port()
            cost[name] = bench.measure(f"weir agent --standalone, {name}", _weir(rules, port, directory), port)
        if _has_postfwd():
            port = free_port()
            bench.measure("postfwd 1.35, 50 rules", _postfwd(directory / "50.cf", port, directory), port)
    show(
        f"policy requests, {CONNECTIONS} connections, {ACCOUNTS:,} accounts",
        ("server", "requests/s", "CPU µs/request", "times bare", "p50 ms", "p99 ms"),
        bench.rows,
    )
    one, fifty, most = cost.values()
    print(
        f"50 rules cost {fifty - one:.1f} µs more than one, {50 * COPIES:,} rules {most / fifty:.1f} times what 50 do"
    )
    _count()


def many() -> str:
    """2,000 rules of the mix of the 50: ids, networks and names differ, so that nothing can be shared.

    The limits of each further copy are those of another customer: a request is counted by its own, as everywhere.
    """
    text = [FIFTY]
    for copy in range(1, COPIES):
        for line in FIFTY.splitlines():
            rule = re.sub(r"^id=(\w+)", rf"id=\1x{copy}", line).replace("AUTH=", f"AUTHx{copy}=")
            rule = rule.replace("sasl_username=~.;", rf"sasl_username=~@customer{copy}\.example$;")
            rule = re.sub(r"^(id=(?:RCPT|SIZE)\w+);", rf"\1; AUTHx{copy}==1;", rule)
            rule = re.sub(r"\b172\.(\d+)\.0", rf"172.\1.{copy}", rule).replace("172.", f"{100 + copy}.")
            rule = re.sub(r"\b203\.0\.(\d+)", rf"203.{copy}.\1", rule).replace(".0/16", ".0/24")
            text.append(re.sub(r"(pool\)|blocked|victim|bad)(\d)", rf"\g<1>\g<2>{copy:02}", rule) + "\n")
    return "".join(text)


Server = AbstractContextManager[int]
"""Runs within its block; gives its process's id."""


@contextmanager
def _ours(name: str, argv: list[str], directory: Path) -> Iterator[int]:
    with Process(name, [sys.executable, "-m", *argv], directory / "log", cwd=CHECKOUT) as process:
        yield process.pid


def _weir(rules: Path, port: int, directory: Path) -> Server:
    argv = ["weir.cli", "agent", "--standalone", "--no-dns", "--rules", str(rules), "--listen", f"127.0.0.1:{port}"]
    return _ours("weir agent", argv, directory)


@contextmanager
def _postfwd(rules: Path, port: int, directory: Path) -> Iterator[int]:
    """Without its cache of requests and without logs, as a daemon: it serves in no other way."""
    pid_file = directory / "postfwd.pid"
    subprocess.run(
        [
            *(POSTFWD, "--daemon", "--file", rules, "--interface", "127.0.0.1", "--port", str(port)),
            *("--nodns", "--cache", "0", "--norulelog", "--perfmon", "--user", "root", "--group", "root"),
            *("--pidfile", pid_file),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    pid = int(wait_until(lambda: pid_file.read_text() if pid_file.exists() else "", 10, "postfwd to be ready"))
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not pid_file.exists(), 10, "postfwd to end")


def _has_postfwd() -> bool:
    """Install it if it is missing; if that cannot be, tell so."""
    script = CHECKOUT / "deploy" / "development" / "install-packages"
    done = subprocess.run([script, "postfwd"], capture_output=True, text=True, check=False)
    if not POSTFWD.exists():
        print(f"postfwd is left out, it cannot be installed: {' '.join(done.stderr.split())[-200:]}")
    return POSTFWD.exists()


class _Bench:
    """The servers in turn, with a row for each."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, ...]] = []
        self._bodies = policy_load.requests(ACCOUNTS)
        self._bare = 0.0

    def measure(self, name: str, server: Server, port: int) -> float:
        """Run a server under the load; returns its CPU for a request, µs. Others are held against the first one."""
        address = ("127.0.0.1", port)
        with server as pid:
            wait_until(lambda: self._answers(address), 30, f"{name} to answer")
            policy_load.run(address, self._bodies, CONNECTIONS, 1.0)
            before = _cpu_of_all(pid)
            load = policy_load.run(address, self._bodies, CONNECTIONS, SECONDS)
            cost = (_cpu_of_all(pid) - before) / load.requests * 1e6
        self._bare = self._bare or cost
        self.rows.append(
            (
                name,
                f"{load.requests / load.seconds:,.0f}",
                f"{cost:,.1f}",
                f"{cost / self._bare:.1f}",
                f"{load.p50:.2f}",
                f"{load.p99:.2f}",
            )
        )
        return cost

    def _answers(self, address: tuple[str, int]) -> bool:
        try:
            return policy_load.run(address, self._bodies, 1, 0.1).requests > 0
        except (OSError, IndexError):  # not there yet, or no answer in that time
            return False


def _cpu_of_all(pid: int) -> float:
    """Seconds of a process and all below it."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return cpu_seconds(pid) + sum(_cpu_of_all(int(child)) for child in children)


def _count() -> None:
    """A million counters of one limit: fill them, count again, let them expire."""
    limit = Limit("rate", "sasl_username", 100.0, 60.0, "R", "0" * 16)
    counters = Counters()
    keys = [f"user{number}@customer{number % 997}.example" for number in range(COUNTERS)]
    items: dict[str, str] = {}
    before = rss_mib(os.getpid())
    filled, _ = _timed(lambda key, now: counters.count(limit, key, 1, items, now), keys, 1000.0)
    size = (rss_mib(os.getpid()) - before) * 1024**2 / COUNTERS
    again, _ = _timed(lambda key, now: counters.count(limit, key, 1, items, now), keys, 1001.0)
    fresh = [f"other{number}@example.org" for number in range(COUNTERS)]
    after, longest = _timed(lambda key, now: counters.count(limit, key, 1, items, now), fresh, 1100.0)
    show(
        f"{COUNTERS:,} live counters",
        ("", "value"),
        [
            ("bytes of a counter, beside its key", f"{size:.0f}"),
            ("µs of a request that begins one", f"{filled:.2f}"),
            ("µs of a request that counts in one", f"{again:.2f}"),
            ("µs of a request while a million expire", f"{after:.2f}"),
            ("longest of these, ms", f"{longest * 1000:.2f}"),
        ],
    )


def _timed(count: Callable[[str, float], object], keys: list[str], now: float) -> tuple[float, float]:
    """µs of a call, and seconds of the slowest."""
    clock = time.perf_counter
    longest = 0.0
    start = last = clock()
    for key in keys:
        count(key, now)
        present = clock()
        longest = max(longest, present - last)
        last = present
    return (last - start) / len(keys) * 1e6, longest


if __name__ == "__main__":
    main()
