"""A machine for a test: this one's Debian on a file system of its own, with systemd as its process 1.

Invariants
- Nothing that happens in it reaches this machine: it writes into memory over our files (overlayfs), and has processes,
  network and control groups of its own (namespaces).
- All of it ends with `with`, and with us.
"""

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Self

from fleet.process import Process, wait_until

# systemd wants a root that is a mount point and no chroot (in one, the kernel makes no user namespaces), what the
# kernel offers under /proc, /sys and /dev, and, like any container's, the variable `container`.
_BOOT = """\
set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
cd "$1"
mkdir upper work root
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay root
cd root
for place in dev run tmp; do mount -t tmpfs tmpfs $place; done
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
for device in full null random tty urandom zero; do
  touch dev/$device
  mount --bind /dev/$device dev/$device
done
mkdir dev/pts dev/shm run/old
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
rm -f usr/sbin/policy-rc.d
ip link set lo up
pivot_root . run/old
umount --lazy /run/old
exec env --ignore-environment container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --unit=basic.target --log-target=journal
"""
_JOIN = 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"'
_PATH = "PATH=/usr/sbin:/usr/bin:/sbin:/bin"
_NAMESPACES = ("--mount", "--pid", "--cgroup", "--uts", "--ipc", "--net")


class Machine:
    """Leaving its `with` block switches it off."""

    def __init__(self, directory: Path) -> None:
        """`directory`, which is made, holds its log."""
        directory.mkdir()
        self._group = _own_control_group() / f"weir-test-{os.getpid()}"
        place = directory / "root"
        place.mkdir()
        unshare = ["unshare", *_NAMESPACES, "--fork", "--kill-child", "bash", "-c", _BOOT, "boot", place]
        self._process = Process(
            "machine", ["bash", "-c", _JOIN, "join", self._group, *map(str, unshare)], directory / "log"
        )
        self._first = 0

    def __enter__(self) -> Self:
        self._group.mkdir()
        self._process.start()
        try:
            self._first = self._process.wait_ready(self._child, 10)
            self._process.wait_ready(self._booted, 30, 0.1)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *raised: object) -> None:
        self._process.kill()
        wait_until(lambda: _removed(self._group), 10, "the machine's processes to end")

    def path(self, path: str) -> Path:
        """A file in the machine, as we reach it; its unix sockets too."""
        return Path(f"/proc/{self._first}/root{path}")

    def run(self, command: str, check: bool = True) -> str:
        """What a command of the shell prints there; raises CalledProcessError, with its output as a note."""
        inside = ["nsenter", f"--target={self._first}", *_NAMESPACES]
        done = subprocess.run(
            [*inside, "env", "--ignore-environment", _PATH, "bash", "-c", command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        try:
            if check:
                done.check_returncode()
        except subprocess.CalledProcessError as error:
            error.add_note(done.stdout + done.stderr)
            raise
        return done.stdout.strip()

    def property(self, unit: str, name: str) -> str:
        return self.run(f"systemctl show --value --property={name} {unit}")

    def _booted(self) -> bool:
        return self.run("systemctl is-active basic.target", check=False) == "active"

    def _child(self) -> int:
        """Its process 1, when that is systemd."""
        pid = self._process.pid
        with suppress(OSError):
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                if Path(f"/proc/{child}/comm").read_text() == "systemd\n":
                    return int(child)
        return 0


def possible() -> bool:
    """We may make namespaces and mount file systems, control groups (version 2) and systemd are here: not so in most
    containers."""
    mounts = "mount -t tmpfs tmpfs /tmp && mount -t cgroup2 cgroup2 /tmp"
    command = ["unshare", *_NAMESPACES, "bash", "-c", mounts]
    allowed = subprocess.run(command, capture_output=True, check=False).returncode == 0
    ours = " cgroup2 " in Path("/proc/self/mounts").read_text()
    return allowed and ours and Path("/lib/systemd/systemd").exists()


def _own_control_group() -> Path:
    """Ours in the hierarchy of version 2."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    place = next(mount[1] for mount in mounts if mount[2] == "cgroup2")
    groups = Path("/proc/self/cgroup").read_text().splitlines()
    own = next(line.removeprefix("0::/") for line in groups if line.startswith("0::"))
    return Path(place) / own


def _removed(group: Path) -> bool:
    """A control group can be removed when no process is left in it, the innermost first."""
    for folder, _, _ in os.walk(group, topdown=False):
        with suppress(OSError):
            Path(folder).rmdir()
    return not group.exists()
