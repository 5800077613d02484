"""Commands that ask a running agent: hits of rules, counters of limits."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.process import run_directory
from tests.agents.test_standalone import Alone
from tests.weir.test_cli import Ran
from weir import control
from weir.control import Question

pytestmark = pytest.mark.fleet

RULES = """\
id=SEEN; sender=~.; action=note(x)
id=NEVER; sender==nobody@example.org; action=REJECT
id=LIMIT; action=rate(sasl_username/4/600/REJECT limit)
id=FAR; action=rate(client_address/1000/600/REJECT limit)
"""


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    with run_directory() as directory:
        folder = directory / "state"
        with Alone(directory, RULES, "--no-dns", "--state", str(folder)) as alone:
            assert [alone.ask(sender="a@b.example") for _ in range(5)] == ["DUNNO"] * 4 + ["REJECT limit"]
            yield folder


def test_hits_of_each_rule(state: Path) -> None:
    ran = Ran("rules", "stats", "--state", str(state), "--json")
    hits = {rule["id"]: rule["hits"] for rule in json.loads(ran.out)}
    assert hits == {"SEEN": 5, "NEVER": 0, "LIMIT": 5, "FAR": 4}


def test_what_is_near_or_over_is_listed_and_can_begin_anew(state: Path) -> None:
    ran = Ran("limits", "list", "--state", str(state), "--json")
    (row,) = json.loads(ran.out)
    assert (row["where"], row["key"], row["rule"], row["counted"]) == (
        "host",
        "sasl_username=alice@example.org",
        "LIMIT",
        5,
    )
    assert len(json.loads(Ran("limits", "list", "--state", str(state), "--all", "--json").out)) == 2

    ran = Ran("limits", "reset", "sasl_username=alice@example.org", "--state", str(state))
    assert (ran.code, ran.out) == (0, "1 counter of sasl_username=alice@example.org forgotten on this host\n")
    assert Ran("limits", "reset", "sasl_username=alice@example.org", "--state", str(state)).code == 1
    assert "no limit is near" in Ran("limits", "list", "--state", str(state)).err


def test_others_may_not_ask_and_nonsense_is_answered(state: Path) -> None:
    path = state / control.NAME
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(ValueError, match="expected 'rules', 'limits' or 'reset', got 'rubbish'"):
        control.ask(path, Question("rubbish"))
