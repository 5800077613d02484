"""The verdict on a policy request: a pure function of what the agent knows.

The order of judgement: an operator's block of any subject of the request; then for each subject the machine's decisions
on it, unless an operator's allow or a later release voids them; else DUNNO, which leaves it to our own rules, if there
are any, and to Postfix's others.
"""

from collections.abc import Iterable
from typing import NamedTuple

from agents.decisions import Decisions
from weir.events import MAX_RULE
from weir.operators import Operators


class Verdict(NamedTuple):
    action: str
    """The reply's action, whole."""
    decision: str
    """Id of the decision or of the operator's word behind it."""
    outcome: str
    """`dunno`, `operator`, `decision` or `rule`: who spoke."""
    rule: str = ""
    """Id of the rule behind it, as far as an event keeps it."""


DUNNO = Verdict("DUNNO", "", "dunno")


def by_rule(action: str, rule: str) -> Verdict:
    """The verdict that rules give; a DUNNO of theirs is nobody's."""
    return Verdict(action, "", "rule", rule[:MAX_RULE]) if action.upper() != "DUNNO" else Verdict(action, "", "dunno")


def judge(subjects: Iterable[str], decisions: Decisions, operators: Operators, now: float) -> Verdict:
    """The verdict on a request about these subjects; `now` is Unix seconds by the broker's clock."""
    for subject in subjects:
        word = operators.block(subject, now)
        if word is not None:
            return Verdict(word.action or "REJECT", word.id, "operator")
    for subject in subjects:
        found = decisions.blocking(subject, now, operators.released(subject))
        if found is not None and operators.allow(subject, now) is None:
            return Verdict(found.action or "REJECT", found.id, "decision")
    return DUNNO
