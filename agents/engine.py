"""The rule engine: rule files loaded and reloaded, and each request led through them to its outcome.

    evaluate(items, now, limits, done) ─▶ nothing needed: done(outcome), at once
                                       └▶ DNS, wait, ask: a task of its own meets the needs, then done(outcome)

Invariants
- Rules that cannot be used never take the place of rules in use; an evaluation under way ends by the rules it began with.
- `done` is called once for each request, whatever happens: a fault of ours is the outcome DUNNO, told in `trouble`.
  Only what is still under way at `close` is given up.
- All is called on the event loop's thread, and nothing here blocks it.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from agents import errands
from agents.resolver import Resolver
from weir.rules.evaluation import Program
from weir.rules.needs import Evaluation, Limits, Lookup, Mail, Need, Outcome, Wait
from weir.rules.rule import Ruleset, RulesError
from weir.rules.ruleset import Source, load

Done = Callable[[Outcome], None]

log = structlog.get_logger(__name__)


class Engine:
    """`sources` are read in their order; without a resolver DNS is off: no list matches, no name is found."""

    def __init__(self, sources: Sequence[Source], scores: Sequence[str] = (), resolver: Resolver | None = None) -> None:
        """`scores` are texts `LIMIT=ACTION`. Raises RulesError, and OSError for a file that cannot be read."""
        self._sources = sources
        self._scores = scores
        self._resolver = resolver
        self._under_way: set[asyncio.Task[None]] = set()
        self.hits: Counter[str] = Counter()
        """Requests that a rule matched, by its id, since the start."""
        self.ruleset = Ruleset(())
        self._program = self._load()

    def reload(self) -> bool:
        """Read the files again; tells whether they are in use now. What is wrong with them is logged."""
        raise NotImplementedError

    def evaluate(self, items: dict[str, str], now: float, limits: Limits, done: Done) -> None:
        """Lead a request through the rules. `items` are its attributes, and the evaluation's own from now on; `now` is
        Unix seconds. `done` is called before the return if nothing is needed from outside.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Give up what is under way: its `done` is not called any more."""
        for task in self._under_way:
            task.cancel()
