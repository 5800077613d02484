"""One policy request on its way through the agent's rules.

Invariants: it ends by the rules that it began with; a reply that comes late is settled when it comes.
"""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from agents.limits import FleetLimits
from agents.policy_protocol import PolicyRequest
from agents.verdict import Verdict, by_rule
from weir.limits import Hit
from weir.rules.needs import Limit, Outcome

if TYPE_CHECKING:
    from agents.engine import Engine

Write = Callable[[bytes], None]


class Answers(Protocol):
    """Where a request ends: the agent."""

    limits: FleetLimits

    def finish(
        self,
        request: PolicyRequest,
        account: str,
        client: str,
        verdict: Verdict,
        hits: list[Hit],
        now: float,
        write: Write,
    ) -> None:
        """Answer it; the rest is done by `settle`."""

    def settle_soon(self) -> None:
        """See that `settle` comes soon, for a reply that comes late."""


class ByRules:
    """As the rules' `Limits` it notes what counts the request."""

    __slots__ = (
        "_account",
        "_agent",
        "_client",
        "_engine",
        "_hits",
        "_is_late",
        "_now",
        "_request",
        "_rules",
        "_write",
    )

    def __init__(
        self,
        agent: Answers,
        engine: "Engine",
        request: PolicyRequest,
        account: str,
        client: str,
        write: Write,
        now: float,
    ) -> None:
        self._agent = agent
        self._engine = engine
        self._request = request
        self._account = account
        self._client = client
        self._write = write
        self._now = now
        self._hits: list[Hit] = []
        self._rules = engine.ruleset.rules
        """Those that it began with: others may be in use at its end."""
        self._is_late = False

    def begin(self, attributes: dict[str, str]) -> None:
        self._engine.evaluate(attributes, self._now, self, self._done)
        self._is_late = True

    def count(self, limit: Limit, key: str, increment: int, items: Mapping[str, str], now: float) -> tuple[int, bool]:
        """As `weir.rules.needs.Limits` says."""
        return self._agent.limits.count(limit, key, increment, items, now, self._hits)

    def _done(self, outcome: Outcome) -> None:
        rule = self._rules[outcome.rule].id if outcome.rule >= 0 else ""
        verdict = by_rule(outcome.action, rule)
        now = time.time() if self._is_late else self._now
        self._agent.finish(self._request, self._account, self._client, verdict, self._hits, now, self._write)
        if self._is_late:
            self._agent.settle_soon()
