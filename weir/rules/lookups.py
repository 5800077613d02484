"""Conditions on what names resolve to: the HELO name's addresses, the sender domain's mail and name servers.

Invariants
- An element holds if any answer passes its test, and a negated one if none does: `helo_address=!!(0.0.0.0/0)` is a HELO
  name that has no address.
- As in postfwd, a domain without mail or name servers has the empty name as its only one, and a name without a dot is
  not asked for: no element holds on it before negation.
- Unlike postfwd, IPv6 addresses are looked up too.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, NamedTuple, TypeVar

import msgspec

from weir.rules.needs import Question
from weir.rules.rule import Condition

C = TypeVar("C")
Answers = Mapping[Question, list[str]]
Test = Callable[[str, C], bool]
CompileTest = Callable[[Condition], Callable[[str, C], bool]]

MAX_HOSTS = 100
"""Mail or name servers whose addresses are looked up; postfwd's default."""


class _Source(NamedTuple):
    """What an item looks up: records of `type`, then addresses if it is about these."""

    subject: str
    type: str
    addresses: bool


LOOKUPS = {
    "helo_address": _Source("helo_name", "", True),
    "sender_mx_names": _Source("sender_domain", "MX", False),
    "sender_ns_names": _Source("sender_domain", "NS", False),
    "sender_mx_addrs": _Source("sender_domain", "MX", True),
    "sender_ns_addrs": _Source("sender_domain", "NS", True),
}


def subject(items: Mapping[str, str], item: str) -> str:
    """An item's value as a name to ask for: in lower case, without the dot of the root."""
    return items.get(item, "").lower().removesuffix(".")


class LookupCheck(Generic[C]):
    """All conditions of a rule on one item that is looked up."""

    def __init__(self, item: str, conditions: Iterable[Condition], compile_test: CompileTest[C]) -> None:
        self._source = LOOKUPS[item]
        self._tests: list[tuple[Callable[[str, C], bool], bool]] = []
        for condition in conditions:
            for value in condition.values:
                alone = msgspec.structs.replace(condition, values=(msgspec.structs.replace(value, negated=False),))
                self._tests.append((compile_test(alone), value.negated))

    @property
    def has_hosts(self) -> bool:
        """Whether the addresses of the hosts found are looked up, in a second round."""
        return bool(self._source.type) and self._source.addresses

    def questions(self, items: Mapping[str, str]) -> tuple[Question, ...]:
        name = subject(items, self._source.subject)
        if "." not in name:
            return ()
        return (Question(name, self._source.type),) if self._source.type else _address_questions(name)

    def host_questions(self, items: Mapping[str, str], answers: Answers) -> Iterator[Question]:
        """The second round: addresses of the hosts that the first one found."""
        for question in self.questions(items):
            for host in answers.get(question, ())[:MAX_HOSTS]:
                yield from _address_questions(host.lower())

    def judge(self, items: Mapping[str, str], answers: Answers, context: C) -> bool:
        asked = self.questions(items)
        found = self._found(items, answers)
        if asked and not self._source.addresses:
            found = found or [""]
        return any(any(test(one, context) for one in found) != negated for test, negated in self._tests)

    def _found(self, items: Mapping[str, str], answers: Answers) -> list[str]:
        questions = self.host_questions(items, answers) if self.has_hosts else self.questions(items)
        return [value for question in questions for value in answers.get(question, ())]


def _address_questions(name: str) -> tuple[Question, ...]:
    return Question(name, "A"), Question(name, "AAAA")
