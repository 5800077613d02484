"""Score limits: what is done when a request's score reaches a limit. The highest limit that is reached counts."""

from collections.abc import Mapping

from weir.rules import actions
from weir.rules.actions import Action, ActionError, Score

DEFAULT = {5.0: "554 5.7.1 weir score exceeded"}


def parse(written: str) -> tuple[float, str]:
    """A limit and its action, from `LIMIT=ACTION`. Raises ValueError."""
    limit, equals, action = written.partition("=")
    value = actions.number(limit.strip())
    if value is None or not equals:
        raise ValueError(f"expected LIMIT=ACTION, a number before the first =, got {written!r}")
    return value, action.strip()


def limits(more: Mapping[float, str]) -> tuple[tuple[float, Action], ...]:
    """The default limit and those that are given, or take its place, the highest first. An empty action: no limit.

    Raises ValueError.
    """
    found = []
    for limit, written in sorted({**DEFAULT, **more}.items(), reverse=True):
        if not written:
            continue
        try:
            action = actions.parse(written)
        except ActionError as error:
            raise ValueError(f"action of score {limit:g}: {error}") from error
        if any(isinstance(part, Score) for part in actions.every(action)):
            raise ValueError(f"action of score {limit:g}: score() would reach the limit again")
        found.append((limit, action))
    return tuple(found)
