"""The rules that the settings ask for: the engine of their files, and the resolver that all engines share.

Invariants
- Rules are read and compiled beside the requests, and taken into use in one step of the loop.
- Settings whose rules cannot be used leave the engine as it is.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from agents.reloads import beside
from weir.settings import Rules

if TYPE_CHECKING:  # DNS and patterns cost memory, which an agent without rules need not pay
    from agents.engine import Engine
    from agents.resolver import Resolver

log = structlog.get_logger(__name__)


class Rulebook:
    def __init__(self) -> None:
        self._resolver: Resolver | None = None
        self._engine_is_of: tuple[object, ...] = ()

    def engine(self, rules: Rules) -> "Engine | None":
        """The engine at the start; None if there are no rules. Raises RulesError, ValueError and OSError."""
        if not rules.files:
            return None
        self._prepare_dns(rules)
        engine = self._compile(rules, None)
        self._engine_is_of = _of_engine(rules)
        return engine

    async def reload(self, engine: "Engine | None", rules: Rules) -> "Engine | None":
        """The engine to use from now on, in place of the present one."""
        if not rules.files:
            if engine is not None:  # what is under way ends by it
                log.info("no rules are in use any more")
            return None
        if engine is not None and _of_engine(rules) == self._engine_is_of:
            await engine.reload()
            return engine
        try:
            self._prepare_dns(rules)
            made = await beside(lambda: self._compile(rules, engine))
        except (OSError, ValueError) as error:
            log.error("rules not reloaded, the former ones stay", errors=str(error).splitlines())
            return engine
        self._engine_is_of = _of_engine(rules)
        log.info("other rule files are in use", files=rules.files, digest=made.ruleset.digest)
        return made

    def needs_restart(self, old: Rules, new: Rules) -> bool:
        """Whether something is taken with the first rules only, and differs."""
        return self._resolver is not None and _of_resolver(old) != _of_resolver(new)

    async def close(self) -> None:
        if self._resolver is not None:
            await self._resolver.close()

    def _prepare_dns(self, rules: Rules) -> None:
        if not rules.dns or self._resolver is not None:
            return
        from agents.resolver import Resolver, servers

        try:
            self._resolver = Resolver(servers(rules.resolver), rules.dns_timeout_seconds, rules.dns_timeouts)
        except ValueError as error:
            raise OSError(f"rules need DNS, or rules.dns = false: {error}") from None

    def _compile(self, rules: Rules, former: "Engine | None") -> "Engine":
        from agents.engine import Engine
        from weir.rules import scores
        from weir.rules.ruleset import Source

        return Engine(
            [Source(Path(file)) for file in rules.files],
            dict(map(scores.parse, rules.scores)),
            self._resolver if rules.dns else None,
            former,
        )


def look_at_own(engine: "Engine | None", rules: Rules) -> None:
    """Settings of a rule that is not there do nothing: most likely its id is misspelt."""
    if engine is not None and (unknown := sorted(rules.own.keys() - {rule.id for rule in engine.ruleset.rules})):
        log.warning("rules.own names rules that are not there", ids=unknown)


def _of_engine(rules: Rules) -> tuple[object, ...]:
    """What an engine is made of, but for the files' texts."""
    return rules.files, rules.scores, rules.dns


def _of_resolver(rules: Rules) -> tuple[object, ...]:
    return rules.resolver, rules.dns_timeout_seconds, rules.dns_timeouts
