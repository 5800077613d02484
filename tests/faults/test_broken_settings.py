"""Broken settings: both processes tell file, key and what was expected in one line, and end with status 2."""

from pathlib import Path

import pytest

from tests.faults.system import weir

pytestmark = [pytest.mark.fleet, pytest.mark.soak, pytest.mark.timeout(60)]

BROKEN = {
    "unknown key": ("[agent]\nspol = '/tmp/x'\n", ("line 2", "agent.spol", "agent.spool")),
    "wrong type": ("[agent]\nspool_max_bytes = 'much'\n", ("line 2", "agent.spool_max_bytes", "integer")),
    "out of range": ("[detectors.burst]\nblock_seconds = 99999999\n", ("detectors.burst.block_seconds", "2592000")),
    "no network": ("trusted = ['10.0.0.300/8']\n", ("trusted", "10.0.0.300/8")),
    "a password": ("[kafka]\nsasl_password = 'secret'\n", ("kafka.sasl_password", "WEIR_KAFKA_SASL_PASSWORD")),
    "no TOML": ("[agent\n", ("line 1",)),
    "no file": (None, ("No such file",)),
}


@pytest.mark.parametrize("command", ["agent", "streams"])
@pytest.mark.parametrize("kind", BROKEN)
def test_broken_settings_are_told_in_one_line(tmp_path: Path, command: str, kind: str) -> None:
    text, expected = BROKEN[kind]
    config = tmp_path / "weir.toml"
    if text is not None:
        config.write_text(text)

    done = weir(config, command)

    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    for part in (str(config), *expected):
        assert part in line
    assert "secret" not in line
