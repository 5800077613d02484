"""A rule set, compiled: requests in, outcomes out. (Signatures; being written.)"""

from collections.abc import Mapping

from weir.rules.groups import Groups
from weir.rules.needs import Evaluation, Limits
from weir.rules.rule import Ruleset
from weir.rules.tables import Tables


class Program:
    """Raises ValueError if a score limit's action is none."""

    def __init__(
        self, ruleset: Ruleset, groups: Groups, tables: Tables, *, scores: Mapping[float, str], dns: bool
    ) -> None:
        """Groups live longer than a program; `scores`: limit → action beside the default (`weir.rules.scores.parse`)."""

    def evaluate(self, items: Mapping[str, str], now: float, limits: Limits) -> Evaluation:
        """Answer a request; its attributes are left as they are. `now` is in Unix seconds."""
        raise NotImplementedError
