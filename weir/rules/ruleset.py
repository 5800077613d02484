"""From rule files to typed rules."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from weir.rules.rule import Ruleset


class Source(NamedTuple):
    """A rule file, or the text of rules by some name."""

    path: Path
    """For a text the name that errors tell."""
    text: str | None = None
    """If set, the file is not read."""


def load(sources: Sequence[Source]) -> Ruleset:
    """Read rules in the order of the sources; macros of one are known in the next.

    Names of lists (`file:NAME`) are relative to the current directory, as in postfwd. Raises RulesError with all that
    is wrong in all files.
    """
    raise NotImplementedError
