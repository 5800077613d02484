"""What works in a rule set, but hardly as it was meant.

Invariant: pure, and each warning names a place; a rule set without warnings may still be wrong, one with a warning is
still used.

Facts about which attribute is known at which state: Postfix's SMTPD_POLICY_README.
"""

import difflib
from collections.abc import Iterator

from weir.rules import actions, patterns
from weir.rules.actions import Action, Count, Jump, Reply
from weir.rules.items import PATTERN, Kind, kind
from weir.rules.rule import Condition, Rule, Ruleset, RuleWarning

_BEFORE_MAIL = frozenset(("CONNECT", "EHLO", "HELO"))
_BEFORE_RCPT = _BEFORE_MAIL | {"MAIL"}
_BEFORE_DATA = _BEFORE_RCPT | {"RCPT"}
_END = frozenset(("DATA", "END-OF-MESSAGE"))
_ABSENT = {
    "helo_name": (frozenset(("CONNECT",)), "is not known yet"),
    "sender": (_BEFORE_MAIL, "is not known yet"),
    "sender_domain": (_BEFORE_MAIL, "is not known yet"),
    "sender_localpart": (_BEFORE_MAIL, "is not known yet"),
    "recipient": (_BEFORE_RCPT | _END, "is empty, but for a message with one recipient at its end"),
    "recipient_domain": (_BEFORE_RCPT | _END, "is empty, but for a message with one recipient at its end"),
    "recipient_localpart": (_BEFORE_RCPT | _END, "is empty, but for a message with one recipient at its end"),
    "recipient_count": (_BEFORE_DATA, "is 0 before DATA"),
    "queue_id": (_BEFORE_RCPT, "is not known yet"),
    "size": (_BEFORE_DATA, "is only what the client announced, often 0, before END-OF-MESSAGE"),
}
"""Item → the states at which it holds nothing of use, and why."""
_INCREMENTS = {"size": "size", "rcpt": "recipient_count"}
_LOGIN = frozenset(("sasl_username", "sasl_method", "sasl_sender"))


def warnings(ruleset: Ruleset) -> list[RuleWarning]:
    """All warnings, the reader's too, in the order of their places."""
    found = [*ruleset.warnings, *_duplicates(ruleset), *_unreachable(ruleset)]
    made = _made(ruleset)
    for rule in ruleset.rules:
        found += _of_conditions(rule)
        for action in rule.actions:
            for part in actions.every(actions.parse(action.text)):
                found += [RuleWarning(action.position, text) for text in _of_action(rule, part, ruleset, made)]
    return sorted(set(found))


def _duplicates(ruleset: Ruleset) -> Iterator[RuleWarning]:
    first: dict[str, Rule] = {}
    for rule in ruleset.rules:
        before = first.setdefault(rule.id, rule)
        if before is not rule:
            yield RuleWarning(
                rule.position, f"rule {rule.id} has the id of the one at {before.position}: a jump goes to the last"
            )


def _unreachable(ruleset: Ruleset) -> Iterator[RuleWarning]:
    """Rules that no request can come to."""
    reached: set[int] = set()
    waiting = [0] if ruleset.rules else []
    while waiting:
        number = waiting.pop()
        if number in reached or number >= len(ruleset.rules):
            continue
        reached.add(number)
        following = _following(ruleset.rules[number], ruleset)
        if following is None:
            return  # a jump goes wherever the request says
        waiting += following
    for rule in ruleset.rules:
        if rule.number not in reached:
            yield RuleWarning(rule.position, f"no request reaches rule {rule.id}")


def _following(rule: Rule, ruleset: Ruleset) -> list[int] | None:
    """Numbers of the rules that may come next; None: any of them."""
    following = []
    for action in rule.actions:
        tree = actions.parse(action.text)
        for part in actions.every(tree):
            if isinstance(part, Jump):
                if part.rule.names:
                    return None
                if part.rule.written in ruleset.by_id:
                    following.append(ruleset.by_id[part.rule.written])
        ends = isinstance(tree, Reply) or (isinstance(tree, Jump) and tree.rule.written in ruleset.by_id)
        if ends and not rule.conditions:
            return following
    return [*following, rule.number + 1]


def _made(ruleset: Ruleset) -> set[str]:
    """Items that the rules make themselves."""
    trees = [actions.parse(action.text) for rule in ruleset.rules for action in rule.actions]
    sets = [part for tree in trees for part in actions.every(tree) if isinstance(part, actions.Set)]
    return {assignment.item for one in sets for assignment in one.assignments}


def _of_conditions(rule: Rule) -> Iterator[RuleWarning]:
    for condition in rule.conditions:
        if not condition.values and rule.score is None:
            yield RuleWarning(condition.position, f"{condition.item} never holds: its list is empty")
        if (why := _absent(condition.item, rule)) and condition.item != "protocol_state":
            yield RuleWarning(condition.position, why)
        yield from _of_patterns(condition)
    if (open_to_all := _holds_without_login(rule)) is not None:
        text = "sasl_username holds for mail without a login too: add sasl_method=~. if that is not meant"
        yield RuleWarning(open_to_all.position, text)


def _of_patterns(condition: Condition) -> Iterator[RuleWarning]:
    if kind(condition.item) is not Kind.TEXT or condition.operator not in PATTERN:
        return
    for value in condition.values:
        if value.live is None and (why := patterns.backtracks_badly(value.text)):
            yield RuleWarning(value.position, f"this pattern may take very long on some texts: {why}")


def _holds_without_login(rule: Rule) -> Condition | None:
    if any(condition.item != "sasl_username" and condition.item in _LOGIN for condition in rule.conditions):
        return None
    for condition in rule.conditions:
        if condition.item == "sasl_username" and not condition.operator.startswith("!="):
            turned = condition.operator.startswith("!")
            if any(value.negated != turned for value in condition.values):
                return condition
    return None


def _of_action(rule: Rule, action: Action, ruleset: Ruleset, made: set[str]) -> Iterator[str]:
    if isinstance(action, Jump) and not action.rule.names and action.rule.written not in ruleset.by_id:
        near = difflib.get_close_matches(action.rule.written, ruleset.by_id, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        yield f"jump({action.rule.written}): there is no such rule, the next one follows{hint}"
    if not isinstance(action, Count):
        return
    name = f"{action.function}({action.item}/…)"
    if action.idle:
        yield f"{name} has no effect: it needs a maximum, seconds and an action"
        return
    if not rule.named:
        yield f"{name}: give its rule an id; without one the limit begins anew whenever a rule is put before it"
    for item in (action.item, _INCREMENTS.get(action.function.removesuffix("5321"), "")):
        if why := _absent(item, rule):
            yield f"{name}: {why}"
    if action.item == "sasl_username" and not _mentions_login(rule, made):
        yield f"{name} does not count mail without a login: say sasl_username=~. if that is meant"


def _mentions_login(rule: Rule, made: set[str]) -> bool:
    return any(condition.item in _LOGIN or condition.item in made for condition in rule.conditions)


def _absent(item: str, rule: Rule) -> str:
    """Why an item holds nothing of use at any state that the rule is for; "" if it does, or is for any state."""
    states, why = _ABSENT.get(item, (frozenset(), ""))
    wanted = [condition for condition in rule.conditions if condition.item == "protocol_state"]
    if not wanted or any(one.operator != "==" or value.negated for one in wanted for value in one.values):
        return ""
    named = {value.text.upper() for one in wanted for value in one.values}
    return f"{item} {why}" if named and named <= states else ""
