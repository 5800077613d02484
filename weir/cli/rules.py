"""`weir rules`: rule files checked, shown and tried, and what the rules of a running agent have done."""

import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from weir import control
from weir.cli import agent_control, options, output
from weir.cli.output import NOT_DONE, USAGE, CommandError, many
from weir.rules import actions, lint
from weir.rules.counters import Counters
from weir.rules.evaluation import Program
from weir.rules.groups import Groups
from weir.rules.needs import Ask, Limit, Lookup, Mail, Need, Outcome, Wait
from weir.rules.rule import Rule, RulesError, Ruleset
from weir.rules.ruleset import Source, load
from weir.rules.tables import Tables

app = typer.Typer(no_args_is_help=True, help="Rule files checked, shown and tried, and what rules have done.")

Files = Annotated[list[Path], typer.Argument(metavar="FILE…", help="Rule files, in their order.")]


@app.command()
def check(files: Files) -> None:
    """Tell what is wrong with rule files, and what works but is hardly as it was meant.

    Exit code 2 if there is an error; warnings change nothing.
    """
    ruleset = _load(files)
    warnings = lint.warnings(ruleset)
    for warning in warnings:
        output.say(f"{warning.position}: warning: {warning.text}")
    output.say(f"{many(len(ruleset.rules), 'rule')}, {many(len(warnings), 'warning')}, digest {ruleset.digest}")


@app.command()
def show(files: Files) -> None:
    """Show rules as they were understood: macros expanded, files read in."""
    for rule in _load(files).rules:
        output.say(f"{rule.id}  ({rule.position.file}:{rule.position.line})")
        for line in _lines(rule):
            output.say(f"    {line}")


@app.command()
def test(
    files: Files,
    request: Annotated[
        str, typer.Option("--request", metavar="FILE|-", help="A policy request: lines of NAME=VALUE; - reads stdin.")
    ],
) -> None:
    """Show what is answered to one request, and the way to it.

    Nothing is asked or sent: DNS lists list nothing, other policy servers are away, and limits begin at nothing.
    """
    ruleset = _load(files)
    items = _items(request)
    counters = _Counters()
    program = Program(ruleset, Groups(), Tables(), scores={}, dns=False)
    notes: list[str] = []
    evaluation = program.evaluate(items, time.time(), counters)
    try:
        need = next(evaluation)
        while True:
            notes.append(_passed_over(need))
            need = evaluation.send(None)
    except StopIteration as end:
        outcome: Outcome = end.value
    for line in [*_way(ruleset, outcome, counters), *notes]:
        output.say(line)
    output.say(f"action={outcome.action}")


@app.command()
def stats(context: typer.Context, directory: agent_control.Directory = None, as_json: options.Json = False) -> None:
    """Show how many requests each rule of this host's agent matched since it started."""
    answer = agent_control.ask(context, directory, control.Question("rules"))
    if as_json:
        output.document(answer.rules)
        return
    output.table(["Hits", "Rule"], [(str(rule.hits), rule.id) for rule in answer.rules])


def _load(files: list[Path]) -> Ruleset:
    try:
        return load([Source(file) for file in files])
    except RulesError as error:
        for one in error.errors:
            output.tell(str(one))
        raise CommandError(many(len(error.errors), "error"), USAGE) from None


def _lines(rule: Rule) -> Iterator[str]:
    for condition in rule.conditions:
        values = ", ".join(f"!!({value.text})" if value.negated else value.text for value in condition.values)
        yield f"{condition.item} {condition.operator} {values}"
    for name, needed in (("rblcount", rule.rblcount), ("rhsblcount", rule.rhsblcount)):
        if needed != 1:
            yield f"{name} = {'all' if needed is None else needed}"
    for action in rule.actions:
        kind = "" if isinstance(actions.parse(action.text), actions.Reply) else "  (function)"
        yield f"action = {action.text}{kind}"


def _items(name: str) -> dict[str, str]:
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise CommandError(f"{name}: {error.strerror}", USAGE) from None
    items = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        attribute, equals, value = line.rstrip("\r").partition("=")
        if not equals:
            raise CommandError(f"{name}:{number}: expected NAME=VALUE, got {line!r}", USAGE)
        items[attribute] = value
    if not items:
        raise CommandError(f"{name}: expected lines of NAME=VALUE, got nothing", NOT_DONE)
    return items


class _Counters(Counters):
    """Counters that remember what they counted."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: list[tuple[Limit, str, int]] = []

    def count(self, limit: Limit, key: str, increment: int, items: Mapping[str, str], now: float) -> tuple[int, bool]:
        self.counted.append((limit, key, increment))
        return super().count(limit, key, increment, items, now)


def _way(ruleset: Ruleset, outcome: Outcome, counters: _Counters) -> Iterator[str]:
    for number in outcome.hits:
        rule = ruleset.rules[number]
        yield f"matched {rule.id} ({rule.position.file}:{rule.position.line})"
    for limit, key, increment in counters.counted:
        yield (
            f"counted {limit.function} of {limit.item}={key}: +{increment}, "
            f"{limit.maximum:g} in {limit.seconds:g} s ({limit.rule})"
        )
    for note in outcome.notes:
        yield f"note: {note}"
    if outcome.trouble:
        yield f"trouble: {outcome.trouble}"


def _passed_over(need: Need) -> str:
    match need:
        case Lookup():
            return f"not looked up: {', '.join(question.name for question in need.questions)}"
        case Wait():
            return f"not waited: {need.seconds:g} s"
        case Ask():
            return f"not asked: {need.address}:{need.port}"
        case Mail():
            return f"not sent: a mail to {need.recipient}"
