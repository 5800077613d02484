"""Which rules match a request. (Signatures; being written.)

    candidates = matcher.begin(items)
    number = matcher.find(candidates, 0, context)      # -1: no further rule
    matcher.update(candidates, "AUTH", "1")            # after set()
    number = matcher.find(candidates, number + 1, context)
"""

from collections.abc import Mapping

from weir.rules.conditions import Context
from weir.rules.rule import Ruleset


class Candidates:
    """The rules whose conditions on the items alone hold, as of the items' present values."""


class Matcher:
    """A rule set's conditions, except those that ask DNS."""

    def __init__(self, ruleset: Ruleset) -> None:
        """Raises RulesError if a condition cannot be compiled, which the reader has seen to."""

    def begin(self, items: Mapping[str, str]) -> Candidates:
        """Start with a request's items."""
        raise NotImplementedError

    def update(self, candidates: Candidates, item: str, value: str) -> None:
        """An item has another value now."""
        raise NotImplementedError

    def find(self, candidates: Candidates, start: int, context: Context) -> int:
        """Number of the first rule from `start` on that matches, but for what it asks DNS; -1: none does."""
        raise NotImplementedError

    def take_trouble(self) -> str:
        """Patterns that ran past their deadline since this was last asked, by rule id; empty: none did."""
        raise NotImplementedError
