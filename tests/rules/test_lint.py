"""Warnings: what works, but hardly as it was meant."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.rules import lint
from weir.rules.rule import RulesError, Ruleset
from weir.rules.ruleset import Source, load

END = "protocol_state==END-OF-MESSAGE"


def read(text: str) -> Ruleset:
    return load([Source(Path("rules.cf"), text)])


def warned(text: str) -> list[str]:
    return [f"{warning.position.line}: {warning.text}" for warning in lint.warnings(read(text))]


@pytest.mark.parametrize(
    "text",
    [
        "id=A; sender==a@b.example; action=REJECT\nid=B; action=DUNNO\n",
        "id=A; client_name=~^x; action=jump(C)\nid=B; action=DUNNO\nid=C; action=OK\n",
        f"id=A; {END}; sasl_username=~.; action=rcpt(sasl_username/100/86400/REJECT)\n",
        "id=A; sasl_username=~.; action=set(AUTH=1)\nid=B; AUTH==1; action=rate(sasl_username/10/60/REJECT)\n",
        "id=A; sasl_username==!!(alice); sasl_method=~.; action=REJECT\n",
        f"id=A; {END}; size>1000; action=REJECT\n",
        "id=A; action=jump($$NEXT)\nid=B; action=DUNNO\nid=C; action=OK\n",
        "id=A; score=3; action=REJECT\n",
    ],
)
def test_what_is_meant_gives_no_warning(text: str) -> None:
    assert warned(text) == []


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("id=A; action=DUNNO\nid=B; sender==x@y.z; action=OK\n", 2, "no request reaches rule B"),
        ("id=A; action=jump(C)\nid=B; action=OK\nid=C; action=DUNNO\n", 2, "no request reaches rule B"),
        ("id=A; size>1; action=OK\nid=A; action=DUNNO\n", 2, "rule A has the id of the one at rules.cf:1:1"),
        ("sasl_username=~.; action=rate(sasl_username/10/60/REJECT)\n", 1, "give its rule an id"),
        ("id=A; size>1; action=jump(NOPE)\n", 1, "jump(NOPE): there is no such rule, the next one follows"),
        ("id=CLASS1; size>1; action=jump(CLAS1)\n", 1, "did you mean CLASS1?"),
        ("id=A; size>1; action=rate(client_address/0/60/REJECT)\n", 1, "has no effect"),
        ("id=A; size>1; action=rate(client_address/10/60)\n", 1, "has no effect"),
        ("id=A; protocol_state==RCPT; action=rcpt(sender/10/60/REJECT)\n", 1, "recipient_count is 0 before DATA"),
        ("id=A; protocol_state==MAIL; action=size(sender/10/60/REJECT)\n", 1, "size is only what the client announced"),
        ("id=A; protocol_state==HELO; sender=~x; action=REJECT\n", 1, "sender is not known yet"),
        (f"id=A; {END}; recipient=~x; action=REJECT\n", 1, "recipient is empty"),
        ("id=A; protocol_state==RCPT; recipient_count>5; action=REJECT\n", 1, "recipient_count is 0 before DATA"),
        ("id=A; action=rate(sasl_username/10/60/REJECT)\n", 1, "does not count mail without a login"),
        ("id=A; sasl_username==!!(alice); action=REJECT\n", 1, "holds for mail without a login too"),
        ("id=A; sasl_username!~^alice$; action=REJECT\n", 1, "holds for mail without a login too"),
        ("id=A; client_name=~(a+)+$; action=REJECT\n", 1, "may take very long"),
        ("id=A; size>1;; action=REJECT\n", 1, "nothing between two semicolons"),
        ("id=A; cache=20; size>1; action=REJECT\n", 1, "cache"),
        ("id=A; size>1\nid=B; action=OK\n", 1, "action"),
        ("id=A; sasl_usrname=~.; action=REJECT\n", 1, "sasl_username"),
        ("id=A; action=rate(sender/1/60/rate(sender/0/60/REJECT))\n", 1, "has no effect"),
    ],
)
def test_what_is_hardly_meant_is_told_with_its_place(text: str, line: int, words: str) -> None:
    found = warned(text)
    assert any(one.startswith(f"{line}: ") and words in one for one in found), found


def test_a_list_that_is_empty_never_holds(tmp_path: Path) -> None:
    (tmp_path / "none").write_text("# nobody\n")
    assert "sender never holds: its list is empty" in warned(f"id=A; sender==file:{tmp_path}/none; action=REJECT\n")[0]


@given(st.lists(st.sampled_from(["id=A", "size>1", "action=OK", "action=jump(B)", "\n", "; ", "sender=x", "id=B"])))
def test_any_rules_that_load_can_be_looked_at(pieces: list[str]) -> None:
    try:
        ruleset = read("".join(pieces))
    except RulesError:
        return
    warnings = lint.warnings(ruleset)
    assert warnings == sorted(warnings)
