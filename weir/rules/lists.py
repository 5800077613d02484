"""DNS conditions of a rule: listed on a DNS list, and what HELO name and sender domain resolve to.

    verdict = yield from checks.examine(items, context)      # in an evaluation; yields Lookups, asks nothing else

Invariants
- All that can be asked at once is in one Lookup: first every list's A, the HELO name and the sender's MX and NS; then,
  where it is needed, texts of the lists that hit and addresses of the hosts found.
- With DNS off (answers that lack the question) no condition holds, negated or not; `rblcount=all` never fails.
- A name that a client sent is only ever asked for: what it cannot be, the resolver answers with nothing.
"""

from collections.abc import Generator, Mapping
from typing import Any, NamedTuple

from weir.rules.needs import Lookup, Question
from weir.rules.rule import Condition, Rule

Answers = Mapping[Question, list[str]]


class Verdict(NamedTuple):
    """What the DNS conditions of a rule came to."""

    holds: bool
    rblcount: int = 0
    """Listings by `rbl` that counted: at most as many as were needed, with `all` every one."""
    rhsblcount: int = 0
    """The same of all `rhsbl` items together."""
    dnsbltext: str = ""
    """`TYPE:LIST:<TXT>` of each listing that counted, joined with `; `."""


def is_dns(condition: Condition) -> bool:
    """Tell whether a condition asks the network, so that it is tested after the others."""
    raise NotImplementedError


def check(text: str) -> None:
    """Check an element of `rbl` or `rhsbl*`: `NAME[/REPLY PATTERN[/SECONDS]]`.

    Raises ValueError(what is wrong, offset of that in the text).
    """
    raise NotImplementedError


class Checks:
    """The DNS conditions of one rule, compiled once."""

    def examine(self, items: Mapping[str, str], context: Any) -> Generator[Lookup, Answers, Verdict]:
        """Ask and judge; called only if all other conditions hold. `context` is what dynamic and live values need."""
        raise NotImplementedError


def compile_checks(rule: Rule) -> Checks | None:
    """The rule's DNS conditions; None if it has none."""
    raise NotImplementedError
