"""The rule engine: rule files loaded and reloaded, and each request led through them to its outcome.

    evaluate(items, now, limits, done) ─▶ nothing needed: done(outcome), at once
                                       └▶ DNS, wait, ask: a task of its own meets the needs, then done(outcome)

Invariants
- Rules that cannot be used never take the place of rules in use; an evaluation under way ends by the rules that it
  began with.
- `done` is called once for each request, whatever happens: a fault of ours is the outcome DUNNO, told in `trouble`.
  Only what is still under way when the time of `finish` is over is given up.
- All is called on the event loop's thread, and nothing here blocks it: a reload reads and compiles in a thread, which
  changes nothing that is in use, and the loop switches to what came of it in one step.
"""

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog

from agents import errands
from agents.reloads import beside
from weir.rules.evaluation import Program
from weir.rules.groups import Groups
from weir.rules.needs import Ask, Evaluation, Limits, Lookup, Mail, Need, Outcome, Wait
from weir.rules.rule import Ruleset
from weir.rules.ruleset import Source, load
from weir.rules.tables import Tables

if TYPE_CHECKING:  # where DNS is off, nobody pays for it
    from agents.resolver import Resolver

LOG_SECONDS = 1.0
"""Between two log lines about what went wrong with requests: who sends such does not flood the log."""

Done = Callable[[Outcome], None]

log = structlog.get_logger(__name__)


def _complain(text: str) -> None:
    log.warning("live list", trouble=text)


@contextmanager
def _never_collected() -> Iterator[None]:
    """No collection of garbage while rules are made, nor later one that looks at them: with long lists it would hold
    all threads for a quarter of a second. They need none, for they are in no circle."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


class Engine:
    """`sources` are read in their order; without a resolver DNS is off: no list matches, no name is found."""

    def __init__(
        self,
        sources: Sequence[Source],
        scores: Mapping[float, str] | None = None,
        resolver: "Resolver | None" = None,
        former: "Engine | None" = None,
    ) -> None:
        """`scores` is the action of each limit beside the default; what a `former` engine has in its groups and under
        way, and its hits, are this one's too. Raises RulesError, and ValueError for a score.
        """
        self._sources = sources
        self._scores = scores or {}
        self._resolver = resolver
        self._groups: Groups = Groups() if former is None else former._groups
        self._post = errands.Post()
        self._under_way: set[asyncio.Task[None]] = set() if former is None else former._under_way
        self._told = -LOG_SECONDS
        self._hits: dict[str, list[int]] = {} if former is None else former._hits
        """By rule id, a list of one number: whatever rules are in use, they count in the same."""
        self.faults = 0
        """Requests that met a fault of our own."""
        self._use(*self._load())

    @property
    def hits(self) -> Counter[str]:
        """Requests that a rule matched, by its id, since the start."""
        known = tuple(self._hits.items())  # another engine's thread may add rules
        return Counter({rule: count for rule, (count,) in known if count})

    async def reload(self) -> bool:
        """Read the files again, one call at a time; tells whether they are in use now. What is wrong with them is
        logged."""
        try:
            ruleset, program = await beside(self._load)
        except ValueError as error:
            log.error("rules not reloaded, the former ones stay", errors=str(error).splitlines())
            return False
        self._use(ruleset, program)
        log.info("rules reloaded", rules=len(self.ruleset.rules), digest=self.ruleset.digest)
        return True

    def evaluate(self, items: dict[str, str], now: float, limits: Limits, done: Done) -> None:
        """Lead a request through the rules. `items` are its attributes, which stay as they are; `now` is Unix
        seconds. `done` is called before the return if nothing is needed from outside.
        """
        evaluation = self._program.evaluate(items, now, limits)
        try:
            need = next(evaluation)
        except StopIteration as end:
            self._finish(end.value, self._counts, done)
        except Exception as error:  # whatever it is, mail goes on
            self._finish(self._fault(error), self._counts, done)
        else:
            task = asyncio.get_running_loop().create_task(self._drive(evaluation, need, self._counts, done))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def finish(self, seconds: float) -> None:
        """Wait so long for what is under way, then give it up: its `done` is not called any more."""
        tasks = tuple(self._under_way)
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        for task in tasks:
            task.cancel()

    def _load(self) -> tuple[Ruleset, Program]:
        """In any thread."""
        with _never_collected():
            ruleset = load(self._sources)
            _ = ruleset.digest  # it is kept: nobody reckons it on the loop
            dns = self._resolver is not None
            program = Program(ruleset, self._groups, Tables(_complain), scores=self._scores, dns=dns)
            program.read_lists()
        return ruleset, program

    def _use(self, ruleset: Ruleset, program: Program) -> None:
        self._program = program
        self.ruleset = ruleset
        self._counts = [self._hits.setdefault(rule.id, [0]) for rule in ruleset.rules]

    async def _drive(self, evaluation: Evaluation, need: Need, counts: list[list[int]], done: Done) -> None:
        """`counts` are of the rules that the evaluation began with."""
        try:
            while True:
                need = evaluation.send(await self._meet(need))
        except StopIteration as end:
            outcome = end.value
        except Exception as error:  # whatever it is, mail goes on
            outcome = self._fault(error)
        self._finish(outcome, counts, done)

    async def _meet(self, need: Need) -> Any:
        """The answer to what an evaluation needs."""
        match need:
            case Lookup():
                return await self._resolver.lookup(need.questions) if self._resolver else {}
            case Wait():
                return await asyncio.sleep(need.seconds)
            case Ask():
                return await errands.ask(need)
            case Mail():
                return self._post.send(need)

    def _finish(self, outcome: Outcome, counts: list[list[int]], done: Done) -> None:
        done(outcome)
        for number in outcome.hits:
            counts[number][0] += 1
        for text in outcome.notes:
            log.info("note", text=text)
        if outcome.trouble and self._may_tell():
            log.warning("trouble in the rules", trouble=outcome.trouble)

    def _fault(self, error: Exception) -> Outcome:
        self.faults += 1
        if self._may_tell():
            log.error("rules failed, DUNNO is answered", exc_info=error)
        return Outcome(action="DUNNO", hits=[], notes=[], trouble=f"{type(error).__name__}: {error}")

    def _may_tell(self) -> bool:
        now = time.monotonic()
        if now - self._told < LOG_SECONDS:
            return False
        self._told = now
        return True
