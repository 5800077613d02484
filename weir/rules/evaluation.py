"""A rule set, compiled: requests in, outcomes out.

    program = Program(ruleset, groups, tables, scores={}, dns=True)
    evaluation = program.evaluate(attributes, now, limits)      # a generator: see weir.rules.needs

Rules are gone through from the first to the last. One that matches has its actions done, until one of them replies;
a jump goes on with another rule, backwards too. After the last rule the reply is DUNNO.

Invariants
- Every evaluation ends: beyond one for each rule, no more than `REPEATS` matches are followed, which only jumps
  backwards can use up. Then the reply is DUNNO, and `trouble` says why.
- Nothing that a request brings is parsed: conditions and actions were compiled when the program was made.
- An evaluation that needs nothing from outside yields nothing.
"""

from collections.abc import Iterator, Mapping

from weir.rules import actions, lists, scores
from weir.rules.conditions import Alternatives, Dynamic, compile_alternatives
from weir.rules.functions import Compiler, Pending, Step
from weir.rules.groups import Groups
from weir.rules.lists import Checks, Verdict
from weir.rules.matcher import Candidates, Matcher
from weir.rules.needs import Evaluation, Limits, Outcome
from weir.rules.rule import Condition, Rule, Ruleset
from weir.rules.tables import Tables

DEFAULT = "DUNNO"
REPEATS = 1000
_NO_DNS = Verdict(True)
_FAILED = Verdict(False)
_OF_MATCHES = frozenset({"request_hits", "matches", "rblcount", "rhsblcount", "dnsbltext"})
"""Items that a match sets; only done for those that some rule reads."""


class Run:
    """One request on its way through the rules: what conditions look at and actions work on."""

    __slots__ = (
        "candidates",
        "groups",
        "hits",
        "items",
        "limits",
        "matcher",
        "notes",
        "now",
        "request",
        "tables",
        "target",
    )

    def __init__(self, program: "Program", request: Mapping[str, str], now: float, limits: Limits) -> None:
        self.request = request
        self.items = {**request, **derived(request)}
        self.now = now
        self.limits = limits
        self.groups = program.groups
        self.tables = program.tables
        self.matcher = program.matcher
        self.candidates: Candidates = self.matcher.begin(self.items)
        self.hits: list[int] = []
        self.notes: list[str] = []
        self.target = -1

    def put(self, item: str, value: str) -> None:
        self.items[item] = value
        self.matcher.update(self.candidates, item, value)


class Program:
    """What is made of a rule set to answer requests. Groups outlive it, as counters do."""

    def __init__(
        self, ruleset: Ruleset, groups: Groups, tables: Tables, *, scores: Mapping[float, str], dns: bool
    ) -> None:
        """`scores`: limit → action, beside the default (`weir.rules.scores.parse`). Raises ValueError for one that is
        no action. Without `dns` no condition that asks the network holds, and no evaluation yields a Lookup.
        """
        self.ruleset = ruleset
        self.groups = groups
        self.tables = tables
        self.matcher = Matcher(ruleset)
        self._dns = dns
        self._late: list[str] = []
        self._looked_up: list[Alternatives] = []
        """Of conditions on what is looked up by DNS."""
        self._parsed = [[actions.parse(action.text) for action in rule.actions] for rule in ruleset.rules]
        self._plans = [
            (rule.number in self.matcher.dynamic, self._compile_checks(rule), steps)
            for rule, steps in zip(ruleset.rules, self._compile(scores), strict=True)
        ]
        """For each rule whether it has dynamic conditions, what it asks DNS, and what it does."""
        self._items = [
            len({condition.item for condition in rule.conditions} - set(lists.LISTS)) for rule in ruleset.rules
        ]
        """For each rule the items that `matches` counts in any case; DNS lists count by their listings."""
        self._told = _OF_MATCHES & self._read()
        self._conditional_on_matches = any(
            condition.item == "matches" for rule in ruleset.rules for condition in rule.conditions
        )

    def read_lists(self) -> None:
        """Read live lists now, and not when the first request meets one: a long one takes seconds. (Names of DNS lists
        are few.)"""
        self.matcher.read_lists(self.tables)
        for alternatives in self._looked_up:
            alternatives.read_lists(self.tables)

    def evaluate(  # noqa: C901, PLR0912 - a further call for each match would cost a tenth of it
        self, items: Mapping[str, str], now: float, limits: Limits
    ) -> Evaluation:
        """Answer a request; its attributes are left as they are. `now` is in Unix seconds."""
        run = self._begin(items, now, limits)
        walk, plans, told = self.matcher.walk, self._plans, self._told  # a match must cost little
        candidates, hits = run.candidates, run.hits
        start = 0
        while True:
            bits = candidates.bits
            for number in walk(bits, start):
                is_dynamic, checks, steps = plans[number]
                if is_dynamic and not self._holds(run, number, start):
                    continue
                start = number + 1
                verdict = _NO_DNS
                if checks is not None:
                    verdict = (yield from checks.examine(run.items, run)) if self._dns else _FAILED
                    if not verdict.holds:
                        continue
                hits.append(number)
                if told:
                    self._tell(run, number, verdict)
                for step in steps:
                    result = step(run)
                    while result is not None:
                        if not isinstance(result, Pending):
                            return self._outcome(run, result or DEFAULT, number)
                        result = result.then((yield result.need))
                if run.target >= 0:
                    start, run.target = run.target, -1
                    if len(hits) > len(plans) + REPEATS:
                        return self._outcome(run, DEFAULT, -1, f"{self.ruleset.rules[number].id}: jumps without end")
                    break
                if candidates.bits is not bits:
                    break
            else:
                return self._outcome(run, DEFAULT, -1)

    def _begin(self, items: Mapping[str, str], now: float, limits: Limits) -> Run:
        run = Run(self, items, now, limits)
        for item in self._told - {"request_hits", "dnsbltext"}:
            run.put(item, "0")
        return run

    def _holds(self, run: Run, number: int, start: int) -> bool:
        """Tell whether a rule's dynamic conditions hold.

        `matches` is what the rule before came to: for a rule that is not at `start` it is 0.
        """
        if self._conditional_on_matches and number != start:
            run.put("matches", "0")
        return self.matcher.holds(number, run)

    def _tell(self, run: Run, number: int, verdict: Verdict) -> None:
        """Set the items that tell of a match."""
        values = {
            "matches": str(2 + self._items[number] + verdict.rblcount + verdict.rhsblcount),
            "rblcount": str(verdict.rblcount),
            "rhsblcount": str(verdict.rhsblcount),
            "dnsbltext": verdict.dnsbltext,
        }
        for item in self._told:
            if item in values:
                run.put(item, values[item])
        if "request_hits" in self._told:
            before = run.items.get("request_hits")
            rule = self.ruleset.rules[number].id
            run.put("request_hits", rule if before is None else f"{before};{rule}")

    def _outcome(self, run: Run, action: str, rule: int, trouble: str = "") -> Outcome:
        late = self.matcher.take_trouble()
        if trouble or late or self._late:
            trouble = "; ".join(filter(None, (trouble, late, *self._late)))
            self._late.clear()
        return Outcome(action, run.hits, run.notes, rule, trouble)

    def _compile(self, more: Mapping[float, str]) -> list[list[Step]]:
        own = {rule.score: rule.actions[-1].text for rule in self.ruleset.rules if rule.score is not None}
        compiler = Compiler(self.ruleset.by_id, scores.limits({**more, **own}), self._late.append)
        return [
            [compiler.compile(action, rule) for action in parsed]
            for rule, parsed in zip(self.ruleset.rules, self._parsed, strict=True)
        ]

    def _compile_checks(self, rule: Rule) -> Checks[Run] | None:
        told = self._late  # and not the program: it would be in a circle, and freed late

        def late(pattern: str) -> None:
            told.append(f"{rule.id}: pattern {pattern} took too long")

        def compile_test(condition: Condition) -> Dynamic:
            alternatives = compile_alternatives([condition], late)
            self._looked_up.append(alternatives)
            return alternatives.hold

        return lists.compile_checks(rule, compile_test, self.tables.lines)

    def _read(self) -> set[str]:
        """All items that some rule reads."""
        found: set[str] = set()
        for rule, parsed in zip(self.ruleset.rules, self._parsed, strict=True):
            found.update(*map(actions.names, parsed))
            found.update(*map(_read, rule.conditions))
        return found


def _read(condition: Condition) -> Iterator[str]:
    yield condition.item
    for value in condition.values:
        # A live list may name any item in any of its lines.
        yield from _OF_MATCHES if value.live else actions.text(value.text).names


def derived(request: Mapping[str, str]) -> dict[str, str]:
    """Items that are made of a request's attributes; an empty sender is `<>`."""
    sender = request.get("sender") or "<>"
    sender_localpart, sender_at, sender_domain = sender.rpartition("@")
    recipient_localpart, recipient_at, recipient_domain = request.get("recipient", "").rpartition("@")
    return {
        "sender": sender,
        "sender_localpart": sender_localpart,
        "sender_domain": sender_domain if sender_at else "",
        "recipient_localpart": recipient_localpart,
        "recipient_domain": recipient_domain if recipient_at else "",
        "reverse_address": ".".join(request.get("client_address", "").split(".")[::-1]),
    }
