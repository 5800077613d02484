"""Lines that were not understood: counted by daemon, with the first line of each as a sample.

Invariant: memory is bounded, whatever stands in the log.
"""

DAEMONS = 100
"""Daemons with a count of their own."""
OTHERS = "others"
"""The name under which the lines of all further ones are counted."""
NO_HEAD = "no head"
"""The name for lines whose head is not known."""
SAMPLE = 500
"""Characters of a sample."""


class UnknownLines:
    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.samples: dict[str, str] = {}

    def add(self, daemon: str, text: str) -> bool:
        """Count a line; whether it is the first of its daemon, and so its sample."""
        if daemon not in self.counts and len(self.counts) >= DAEMONS:
            daemon = OTHERS
        first = daemon not in self.counts
        if first:
            self.counts[daemon] = 0
            self.samples[daemon] = text[:SAMPLE]
        self.counts[daemon] += 1
        return first
