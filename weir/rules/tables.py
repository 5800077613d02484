"""Lists in files: `file:` and `table:` are read with the rules, `lfile:` and `ltable:` again whenever they are newer.

Invariant: whatever is in a live file, nobody waits or fails for it: what makes no sense is left out and told.
"""

from weir.rules.rule import LiveFile


class Tables:
    """The present elements of live files."""

    def version(self, live: LiveFile) -> int:
        """A number that is another one whenever `lines` are others. Looks at the file's date each time."""
        raise NotImplementedError

    def lines(self, live: LiveFile) -> tuple[str, ...]:
        """The elements as they are written (see `weir.rules.values.element`), those of files that it names among
        them; none if the file is missing."""
        raise NotImplementedError
