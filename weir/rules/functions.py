"""What actions do: each is compiled into a step, a plain function on the run of a request.

    step(run) ─▶ None      go on
              ─▶ text      the reply
              ─▶ Pending   something is needed from outside; `then` makes one of the others of the answer

Invariant: a step's reply is final. What comes of a `$$` name or from another policy server is not looked at again.
"""

import re
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from weir.rules import arithmetic, patterns
from weir.rules.actions import (
    Action,
    Ask,
    Count,
    GroupAdd,
    GroupDelete,
    Jump,
    Mail,
    Note,
    Number,
    Reply,
    Score,
    Set,
    Text,
    Wait,
    number,
)
from weir.rules.groups import Groups
from weir.rules.needs import Ask as AskNeed
from weir.rules.needs import Limit, Limits, Need
from weir.rules.needs import Mail as MailNeed
from weir.rules.needs import Wait as WaitNeed
from weir.rules.rule import Rule

LONGEST = 65_536
"""Characters of a value that `set` makes: one that doubles at each turn of a loop must end somewhere."""
_INCREMENTS = {"size": "size", "rcpt": "recipient_count"}
_ADDRESS = re.compile(r"([^@]+@)(\S+)")


class Pending(NamedTuple):
    need: Need
    then: Callable[[Any], str | None]


Result = str | Pending | None


class Run(Protocol):
    """One request on its way through the rules."""

    items: dict[str, str]
    request: Mapping[str, str]
    """The attributes as they came."""
    now: float
    limits: Limits
    groups: Groups
    notes: list[str]
    target: int
    """Number of the rule to go on with; -1: the next one."""

    def put(self, item: str, value: str) -> None:
        """Give an item a value, which conditions see from the next rule on."""


Step = Callable[[Run], Result]


class Compiler(NamedTuple):
    """Makes the steps of one rule set."""

    by_id: Mapping[str, int]
    scores: Sequence[tuple[float, Action]]
    """Score limits, the highest first."""
    late: Callable[[str], None]
    """Is told of a pattern that ran past its deadline, and of which rule."""

    def compile(self, action: Action, rule: Rule) -> Step:  # noqa: PLR0911, C901 - one line for each kind of action
        match action:
            case Reply():
                return _reply(action)
            case Jump():
                return self._jump(action)
            case Set():
                return _set(action)
            case Score():
                return self._score(action, rule)
            case Note():
                return _note(action)
            case Wait():
                return _wait(action)
            case Ask():
                return _ask(action, lambda pattern: self.late(f"{rule.id}: pattern {pattern} took too long"))
            case Mail():
                return _mail(action)
            case GroupAdd():
                return _groupadd(action)
            case GroupDelete():
                return _groupdel(action)
            case Count():
                return self._count(action, rule)

    def _jump(self, action: Jump) -> Step:
        by_id, rule = self.by_id, action.rule

        def jump(run: Run) -> None:
            run.target = by_id.get(rule.render(run.items), run.target)

        return jump

    def _score(self, action: Score, rule: Rule) -> Step:
        limits = [(limit, self.compile(reached, rule)) for limit, reached in self.scores]
        points, operator = action.points, action.operator

        def score(run: Run) -> Result:
            value = run.items.get("request_score", "0")
            change = _now(points, run.items) if points is not None else None
            if change is not None:
                value = arithmetic.scored(value, operator, change)
                run.put("score", value)
                run.put("request_score", value)
            reached = float(value) if arithmetic.is_number(value) else 0.0
            return next((step(run) for limit, step in limits if reached >= limit), None)

        return score

    def _count(self, action: Count, rule: Rule) -> Step:
        if action.over is None or action.idle:
            return _nothing
        over = self.compile(action.over, rule)
        function, item = action.function, action.item
        source = _INCREMENTS.get(function.removesuffix("5321"))
        spelled = _with_lower_domain if function.endswith("5321") else str.lower
        fixed, limit_now = _limits(action, rule)

        def count(run: Run) -> Result:
            items = run.items
            value = items.get(item)
            increment = 1 if source is None else arithmetic.whole(items.get(source, ""))
            limit = fixed or limit_now(items)
            if not value or not increment or limit is None:
                return None
            counted, exceeded = run.limits.count(limit, spelled(value), increment, items, run.now)
            return told(run, counted) if exceeded else None

        def told(run: Run, counted: int) -> Result:
            run.put("ratecount", str(counted))
            return over(run)

        return count if source or fixed is None else _rate(fixed, spelled, told)


def _rate(limit: Limit, spelled: Callable[[str], str], told: Callable[[Run, int], Result]) -> Step:
    """A count of requests with a limit that is always the same: the most frequent step by far, so the shortest."""
    item = limit.item

    def rate(run: Run) -> Result:
        items = run.items
        value = items.get(item)
        if not value:
            return None
        counted, exceeded = run.limits.count(limit, spelled(value), 1, items, run.now)
        return told(run, counted) if exceeded else None

    return rate


def _nothing(_run: Run) -> None:
    return None


def _now(value: Number, items: Mapping[str, str]) -> float | None:
    """A number; None if it is a text that is none with these items."""
    return number(value.render(items)) if isinstance(value, Text) else value


def _limits(action: Count, rule: Rule) -> tuple[Limit | None, Callable[[Mapping[str, str]], Limit | None]]:
    """The limit of an action, if it is always the same; and what makes it of items, or None: it has no effect then."""
    maximum, seconds = action.maximum, action.seconds
    digest = rule.digest  # reckoned here: all rules share a lock for it, which a reload may have

    def made(items: Mapping[str, str]) -> Limit | None:
        most, length = _now(maximum, items), _now(seconds, items)
        if not most or not length or length < 0:
            return None
        return Limit(action.function, action.item, most, length, rule.id, digest)

    return None if isinstance(maximum, Text) or isinstance(seconds, Text) else made({}), made


def _with_lower_domain(value: str) -> str:
    """RFC 5321: a local part has case, a domain has none. What is no such address has none either."""
    found = _ADDRESS.fullmatch(value)
    return found[1] + found[2].lower() if found else value.lower()


def _reply(action: Reply) -> Step:
    text = action.text
    if not text.names:
        written = text.written
        return lambda _run: written
    return lambda run: text.render(run.items)


def _set(action: Set) -> Step:
    assignments = [(one.item, one.operator, one.value) for one in action.assignments]
    if not any(operator or value.names for _, operator, value in assignments):
        return _set_constants([(item, value.written[:LONGEST]) for item, _, value in assignments])
    depends = any(value.names for _, _, value in assignments)

    def assign(run: Run) -> None:
        # Names mean the items as they were before all of this; one that was none then, what it is by now.
        known: Mapping[str, str] = ChainMap(dict(run.items), run.items) if depends else run.items
        for item, operator, value in assignments:
            made = arithmetic.assigned(run.items.get(item, "0"), operator, value.render(known))
            run.put(item, made[:LONGEST])

    return assign


def _set_constants(values: list[tuple[str, str]]) -> Step:
    def assign(run: Run) -> None:
        for item, value in values:
            run.put(item, value)

    return assign


def _note(action: Note) -> Step:
    text = action.text

    def note(run: Run) -> None:
        if said := text.render(run.items):
            run.notes.append(said)

    return note


def _wait(action: Wait) -> Step:
    def wait(run: Run) -> Result:
        seconds = _now(action.seconds, run.items)
        return Pending(WaitNeed(seconds), _nothing_of) if seconds and seconds > 0 else None

    return wait


def _nothing_of(_answer: object) -> None:
    return None


def _ask(action: Ask, late: Callable[[str], None]) -> Step:
    ignored = patterns.compile(action.ignored, late) if action.ignored else None

    def heard(answer: str | None) -> str | None:
        return None if not answer or (ignored is not None and ignored.search(answer)) else answer

    return lambda run: Pending(AskNeed(action.address, action.port, run.request), heard)


def _mail(action: Mail) -> Step:
    def mail(run: Run) -> Result:
        server, path, helo, sender, recipient, subject, body = (
            part.render(run.items)
            for part in (
                action.server,
                action.path,
                action.helo,
                action.sender,
                action.recipient,
                action.subject,
                action.body,
            )
        )
        return Pending(MailNeed(server, path, sender, recipient, subject, body, helo), _nothing_of)

    return mail


def _groupadd(action: GroupAdd) -> Step:
    def groupadd(run: Run) -> None:
        if value := run.items.get(action.item):
            run.groups.add(action.group, value, action.seconds, run.now)

    return groupadd


def _groupdel(action: GroupDelete) -> Step:
    def groupdel(run: Run) -> None:
        if value := run.items.get(action.item):
            run.groups.remove(action.group, value)

    return groupdel
