"""The conditions on one item, compiled. (Signatures; being written.)"""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from weir.rules.groups import Groups
from weir.rules.rule import Condition, LiveFile


class LiveLists(Protocol):
    def lines(self, live: LiveFile) -> tuple[str, ...]:
        """The list's present elements; the same tuple for as long as nothing changed."""
        ...


class Context(Protocol):
    """What a condition may look at beside its item's value."""

    @property
    def items(self) -> Mapping[str, str]: ...
    @property
    def now(self) -> float:
        """Unix seconds."""
        ...

    @property
    def tables(self) -> LiveLists: ...
    @property
    def groups(self) -> Groups: ...


class Alternatives:
    """The conditions of one rule on one item: one element of one of them must hold."""

    dynamic: bool
    """Whether it looks at more than the item's value, so that the answer may change while the value does not."""

    def hold(self, value: str, context: Context) -> bool:
        """Tell whether they hold for a value: the item's, or one that was looked up in its place."""
        raise NotImplementedError


def compile_alternatives(conditions: Sequence[Condition], late: Callable[[str], None]) -> Alternatives:
    """Compile conditions on the same item. `late` is told a pattern's text whenever it runs past its deadline.

    Raises ValueError if a value is none of its kind, which the reader has seen to.
    """
    raise NotImplementedError
