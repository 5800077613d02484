"""The demo, short: what it states holds, and it leaves nothing behind, also when it is interrupted."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fleet.demo.traffic import VICTIM
from fleet.own import CHECKOUT
from fleet.process import wait_until

pytestmark = pytest.mark.fleet

DEMO = [sys.executable, "-m", "fleet.demo", "--fast"]


def _left_behind() -> set[str]:
    """Folders of demos, and processes whose command names one."""
    folders = {str(path) for path in Path("/tmp").glob("weir-demo-*")}
    processes = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue  # it ended meanwhile
            if "weir-demo-" in command:
                processes.add(command)
    return folders | processes


def test_all_that_the_demo_states_holds(tmp_path: Path) -> None:
    before = _left_behind()
    figures = tmp_path / "figures.json"
    done = subprocess.run(
        [*DEMO, "--json", str(figures)], cwd=CHECKOUT, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(figures.read_text())
    assert len(found["checks"]) >= 9
    assert [check for check in found["checks"] if not check["holds"]] == []
    assert set(found["accepted_by_host"]) == set(found["applied_after_ms"]) == {"mx1", "mx2", "mx3"}
    assert found["decision"]["subject"] == f"sasl_username:{VICTIM}"
    assert found["decision"]["evidence"]["count"] > found["decision"]["evidence"]["threshold"]
    assert _left_behind() == before


def test_an_interrupted_demo_cleans_up(tmp_path: Path) -> None:
    before = _left_behind()
    log = tmp_path / "demo.log"
    with log.open("wb") as output, subprocess.Popen(DEMO, cwd=CHECKOUT, stdout=output, stderr=output) as demo:
        wait_until(lambda: b"usual mail" in log.read_bytes(), 90, "the demo's first phase")
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 130, log.read_text()
    assert _left_behind() == before
