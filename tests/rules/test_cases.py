"""The runner of the recorded cases itself: files that are none, what it prints, and its exit status."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fleet.own import CHECKOUT
from tests.rules import conformance
from tests.rules.conformance import ANSWER, CLOSED, LOAD_ERROR, NO_ANSWER, CasesError


def case(**fields: Any) -> dict[str, Any]:
    base = {
        "name": "one",
        "note": "",
        "rules": "id=A; action=OK\n",
        "tables": {},
        "options": [],
        "requests": [{"attrs": {"request": "smtpd_access_policy"}}],
        "expected": ["action=OK"],
        "weir": "same",
    }
    return {**base, **fields}


def test_the_shared_cases_are_all_there() -> None:
    cases = conformance.load(None)
    assert len(cases) == 127
    for found in cases:
        conformance.options(found["options"])
        assert not any("as told" in str(one) for one in conformance.expected(found))


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "[1]", "[{}]", json.dumps([case(), case()]), json.dumps([case(requests=[{}])])],
)
def test_a_file_that_holds_no_cases_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cases.json"
    path.write_text(text)
    with pytest.raises(CasesError, match=str(path)):
        conformance.load(str(path))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    good = tmp_path / "good.json"
    good.write_text(json.dumps([case()]))
    with pytest.raises(CasesError, match="missing"):
        conformance.load(f"{good}:{tmp_path}/missing.json")


@pytest.mark.parametrize(
    ("fields", "replies", "right"),
    [
        ({}, ["action=OK"], True),
        ({}, ["action=ok"], False),
        ({}, ["action=OK", "action=OK"], False),
        ({}, [LOAD_ERROR], False),
        ({"weir": "differs: x", "weir_expected": ["action=X"]}, ["action=OK"], False),
        ({"weir": "differs: x", "weir_expected": ["action=X"]}, ["action=X"], True),
        ({"weir": "differs: x", "weir_expected": [LOAD_ERROR]}, [LOAD_ERROR], True),
        ({"weir": "differs: x", "weir_expected": [[ANSWER, LOAD_ERROR]]}, ["action=X"], True),
        ({"weir": "differs: x", "weir_expected": [[ANSWER, LOAD_ERROR]]}, [LOAD_ERROR], True),
        ({"weir": "differs: x", "weir_expected": [[ANSWER, LOAD_ERROR]]}, [NO_ANSWER], False),
        ({"weir": "differs: an odd line is a load error"}, [LOAD_ERROR], True),
        ({"weir": "differs: must neither hang nor crash"}, [CLOSED], False),
        ({"weir": "differs: the reply names weir", "expected": ["action=5 postfwd3 x"]}, ["action=5 weir x"], True),
        ({"weir": "differs: in a way that only it knows"}, ["action=OK"], False),
    ],
)
def test_replies_are_held_against_what_is_expected(fields: dict[str, Any], replies: list[str], right: bool) -> None:
    line = conformance.line(case(**fields), replies)
    assert line.startswith("ok one" if right else "FAIL one: expected [")


def test_options_of_postfwd_are_ours() -> None:
    words = ["--cache=0", "--scores", "4.5=REJECT opt high", "--test", "--dns_timeout=1", "--keep_rates"]
    assert conformance.options(words) == ["--score", "4.5=REJECT opt high", "--dry-run", "--dns-timeout", "1"]
    with pytest.raises(CasesError, match="--other"):
        conformance.options(["--other"])


@pytest.mark.fleet
def test_every_case_has_its_line_and_a_wrong_one_the_exit_status(tmp_path: Path) -> None:
    path = tmp_path / "cases.json"
    silent = {"attrs": {"protocol_state": "RCPT"}, "timeout": 0.5}
    path.write_text(
        json.dumps(
            [
                case(name="right"),
                case(name="wrong", expected=["action=REJECT"]),
                case(
                    name="refused", rules="id=A; size=abc; action=OK\n", weir_expected=[LOAD_ERROR], weir="differs: x"
                ),
                case(name="silent", requests=[silent], expected=[NO_ANSWER]),
                case(name="strange", options=["--unknown"]),
                case(
                    name="clock",
                    rules="id=A; date=29.02.2024; time=22:30:00-22:31:00; action=OK\n",
                    clock="2024-02-29 22:30:00",
                ),
            ]
        )
    )
    ran = _pytest(str(path))
    assert ran.returncode == 1
    lines = [line for line in ran.stdout.splitlines() if line.startswith(("ok ", "FAIL "))]
    assert [line for line in lines if " - " not in line] == [
        "ok right",
        'FAIL wrong: expected ["action=REJECT"] got ["action=OK"]',
        "ok refused",
        "ok silent",
        'FAIL strange: expected ["action=OK"] got ["<CasesError: no option of ours is known for --unknown>"]',
        "ok clock",
    ]


def test_a_broken_file_is_told(tmp_path: Path) -> None:
    ran = _pytest(str(tmp_path / "missing.json"))
    assert ran.returncode not in {0, 5}
    assert "missing.json" in ran.stdout


def _pytest(cases: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/rules/test_conformance.py"],
        cwd=CHECKOUT,
        env={**os.environ, conformance.ENVIRONMENT: cases},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
