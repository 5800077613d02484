"""From rule files to typed rules: reading, checks, and all errors at once.

Invariant: a rule set that is returned has no value that its item cannot be compared with, no action that cannot be
done, and no list that is missing; live lists apart, whose files may be missing and hold anything.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from weir.rules import actions, items
from weir.rules.builder import Builder
from weir.rules.reader import Reader, decode
from weir.rules.rule import Position, RuleError, RulesError, Ruleset, RuleWarning


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
    reader = Reader()
    builder = Builder(reader)
    files = []
    for source in sources:
        text = source.text
        if text is None:
            files.append(source.path)
            try:
                text = decode(source.path.read_bytes())
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or error
                reader.errors.append(RuleError(Position(str(source.path), 1, 1), f"it cannot be read: {reason}"))
                continue
        for line in reader.read(str(source.path), text):
            builder.add(line)
    if reader.errors:
        raise RulesError(list(dict.fromkeys(reader.errors)))
    ruleset = Ruleset(tuple(builder.rules), tuple(dict.fromkeys((*files, *builder.files))))
    warnings = (*reader.warnings, *_misspelt(ruleset))
    return Ruleset(ruleset.rules, ruleset.files, tuple(dict.fromkeys(warnings)))


def _misspelt(ruleset: Ruleset) -> Iterator[RuleWarning]:
    """Any name may be an item, but one that is near to a known one was hardly meant."""
    made = {
        assignment.item
        for rule in ruleset.rules
        for action in rule.actions
        for part in actions.every(actions.parse(action.text))
        if isinstance(part, actions.Set)
        for assignment in part.assignments
    }
    for rule in ruleset.rules:
        for condition in rule.conditions:
            item = condition.item
            if item not in items.KNOWN and item not in made and (near := items.nearest(item)):
                yield RuleWarning(condition.position, f"no item is known as {item}; did you mean {near}?")
