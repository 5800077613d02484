"""The order of judgement, as a table."""

import pytest

from agents.decisions import Decisions
from agents.verdict import DUNNO, Verdict, judge
from tests.agents.test_decisions import apply, decision
from weir import operators
from weir.operators import Operators, Word

NOW = 1000.0
ALICE = "sasl_username:alice@example.org"
CLIENT = "client_address:192.0.2.10"
MACHINE_ALICE = Verdict(decision(ALICE).action, decision(ALICE).id, "decision")
MACHINE_CLIENT = Verdict(decision(CLIENT).action, decision(CLIENT).id, "decision")
OPERATOR = Verdict("521 5.7.1 by hand", "op", "operator")

# What stands: (word, subject, its time, its end), and subjects with a machine's decision → the verdict.
Said = tuple[str, str, float, float]
CASES: list[tuple[str, list[Said], list[str], Verdict]] = [
    ("nothing known", [], [], DUNNO),
    ("decision on the account", [], [ALICE], MACHINE_ALICE),
    ("decision on the client", [], [CLIENT], MACHINE_CLIENT),
    ("account before client", [], [ALICE, CLIENT], MACHINE_ALICE),
    ("operator's block", [("block", ALICE, 900, 1100)], [], OPERATOR),
    ("operator's block of the client, decision on the account", [("block", CLIENT, 900, 1100)], [ALICE], OPERATOR),
    ("a block that is over", [("block", ALICE, 900, 1000)], [], DUNNO),
    ("a release after the block", [("block", ALICE, 900, 1100), ("release", ALICE, 950, 0)], [], DUNNO),
    ("a block after the release", [("block", ALICE, 950, 1100), ("release", ALICE, 900, 0)], [], OPERATOR),
    ("allow voids the machine's", [("allow", ALICE, 900, 1100)], [ALICE], DUNNO),
    ("an allow that is over", [("allow", ALICE, 900, 1000)], [ALICE], MACHINE_ALICE),
    ("allow of the account leaves the client's", [("allow", ALICE, 900, 1100)], [ALICE, CLIENT], MACHINE_CLIENT),
    ("allow of one, block of the other", [("allow", CLIENT, 900, 1100), ("block", ALICE, 900, 1100)], [], OPERATOR),
    ("a release voids what did not know it", [("release", ALICE, 950, 0)], [ALICE], DUNNO),
    ("a release leaves an allow", [("allow", ALICE, 900, 1100), ("release", ALICE, 950, 0)], [ALICE], DUNNO),
    ("a release of the account leaves the client's", [("release", ALICE, 950, 0)], [ALICE, CLIENT], MACHINE_CLIENT),
    ("a pause lifts nothing", [("pause", "*", 900, 0)], [ALICE], MACHINE_ALICE),
]  # fmt: skip


@pytest.mark.parametrize(("words", "blocked", "verdict"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_order_of_judgement(words: list[Said], blocked: list[str], verdict: Verdict) -> None:
    known = Operators()
    for said, subject, time, until in words:
        action = OPERATOR.action if said == "block" else ""
        word = Word(operators.VERSION, "op", said, subject, "me", "why", until, action)  # type: ignore[arg-type]
        known.apply(operators.key(word), operators.encoder.encode(word), time)
    decisions = Decisions()
    for subject in blocked:
        apply(decisions, decision(subject))
    assert judge((ALICE, CLIENT), decisions, known, NOW) == verdict


def test_a_decision_that_knows_the_release_blocks() -> None:
    known = Operators()
    word = Word(operators.VERSION, "op", "release", ALICE, "me", "why")
    known.apply(operators.key(word), operators.encoder.encode(word), 950.0)
    decisions = Decisions()
    apply(decisions, decision(ALICE, after=950.0))
    assert judge((ALICE, CLIENT), decisions, known, NOW) == MACHINE_ALICE


def test_a_request_without_subjects() -> None:
    assert judge(("", ""), Decisions(), Operators(), NOW) == DUNNO
