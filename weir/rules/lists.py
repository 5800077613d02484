"""DNS conditions of a rule: whether something is on a DNS list, and what HELO name and sender domain resolve to.

    checks = compile_checks(rule, compile_test, lines)
    verdict = yield from checks.examine(items, context)     # in an evaluation, if all other conditions hold

Invariants
- What can be asked at once is in one Lookup: first all lists, the HELO name and the sender's MX and NS; then, where
  it matters, the texts of the lists that hit and the addresses of the hosts found.
- With DNS off no DNS condition holds; `rblcount=all` and `rhsblcount=all` never fail otherwise.
- What a client sent is only ever a name to ask for; what cannot be one is asked too, and has no answer.
"""

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

import regex

from weir.rules.lookups import LOOKUPS, Answers, CompileTest, LookupCheck, subject
from weir.rules.needs import Lookup, Question
from weir.rules.rule import Condition, LiveFile, Rule, Value

LISTS = {
    "rbl": "client_address",
    "rhsbl": "client_name",
    "rhsbl_client": "client_name",
    "rhsbl_sender": "sender_domain",
    "rhsbl_helo": "helo_name",
    "rhsbl_reverse_client": "reverse_client_name",
}
"""Items that ask DNS lists, in the order in which they are judged, and the item that each asks about."""
DEFAULT_REPLY = r"^127\."
DEFAULT_TTL = 3600
"""Seconds."""

_NAME = re.compile(r"(?=.{1,200}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*", re.ASCII)
_IPV4 = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}", re.ASCII)
_NEGATION = re.compile(r"!!\s*\(?\s*(.+?)\s*\)?")

C = TypeVar("C")
Lines = Callable[[LiveFile], Sequence[str]]


class Verdict(NamedTuple):
    """What the DNS conditions of a rule came to."""

    holds: bool
    rblcount: int = 0
    """Elements of `rbl` that held: at most as many as were needed, with `all` every one."""
    rhsblcount: int = 0
    """The same of all `rhsbl` items together."""
    dnsbltext: str = ""
    """`ITEM:LIST:<TXT>` of each listing that counted, joined with `; `. Empty too if the rule does not use it."""


class DnsList(NamedTuple):
    """An element of `rbl` or `rhsbl*`."""

    name: str
    reply: "regex.Pattern[str]"
    """Listed is what has an address that this finds something in."""
    ttl: int
    """Seconds that an answer is kept at least."""


def is_dns(condition: Condition) -> bool:
    """Tell whether a condition asks the network, so that it is tested after the others."""
    return condition.item in LISTS or condition.item in LOOKUPS


@lru_cache(10_000)
def parse(text: str) -> DnsList:
    """Read `NAME[/REPLY PATTERN[/SECONDS]]`; what is missing, empty or 0 has its default.

    Raises ValueError(what is wrong, offset of that in the text).
    """
    name, *rest = text.split("/")
    reply, seconds, *more = [*rest, "", ""] if len(rest) < 2 else rest
    if _NAME.fullmatch(name) is None:
        raise ValueError(f"{name or 'nothing'} is no name of a DNS list: expected a host name", 0)
    reply_at = len(name) + 1
    try:
        pattern = regex.compile(reply or DEFAULT_REPLY)
    except regex.error as error:
        raise ValueError(f"bad pattern for the reply of {name}: {error.msg}", reply_at + (error.pos or 0)) from None
    seconds_at = reply_at + len(reply) + 1
    if seconds and not (seconds.isascii() and seconds.isdigit()):
        raise ValueError(f"{seconds} is no number of seconds to keep the answers of {name}", seconds_at)
    if any(more):
        raise ValueError("expected NAME/REPLY/SECONDS and no more", seconds_at + len(seconds) + 1)
    return DnsList(name.lower(), pattern, int(seconds or 0) or DEFAULT_TTL)


def check(text: str) -> None:
    """Check an element of `rbl` or `rhsbl*` at load. Raises ValueError(what is wrong, offset of that in the text)."""
    parse(text)


class _Element(NamedTuple):
    dns_list: DnsList
    negated: bool


class _Listing(NamedTuple):
    """A list that has what was asked about, and counts."""

    item: str
    dns_list: DnsList
    question: Question

    @property
    def text_question(self) -> Question:
        # Without the list's name: that its texts come late switches no list off.
        return Question(self.question.name, "TXT", "", self.dns_list.ttl)


class _ListCheck:
    """All conditions of a rule on one item that asks DNS lists."""

    def __init__(self, item: str, conditions: Iterable[Condition], needed: int | None, lines: Lines) -> None:
        self.item = item
        self._needed = needed
        self._values = [(value, one.operator.startswith("!")) for one in conditions for value in one.values]
        self._lines = lines

    def questions(self, items: Mapping[str, str]) -> Iterator[Question]:
        about = _asked_about(self.item, items)
        return (_question(about, element.dns_list) for element in self._elements() if about)

    def judge(self, items: Mapping[str, str], answers: Answers) -> tuple[bool, int, list[_Listing]]:
        """Whether it holds, how many elements did, and the listings among them."""
        about = _asked_about(self.item, items)
        count = 0
        listings = []
        for dns_list, negated in self._elements():
            question = _question(about, dns_list)
            listed = bool(about) and any(dns_list.reply.search(address) for address in answers.get(question, ()))
            if listed == negated:
                continue
            count += 1
            if listed:
                listings.append(_Listing(self.item, dns_list, question))
            if count == self._needed:
                break
        return self._needed is None or count >= self._needed, count, listings

    def _elements(self) -> Iterator[_Element]:
        for value, opposite in self._values:
            for text, negated in _texts(value, self._lines):
                try:
                    yield _Element(parse(text), negated != opposite)
                except ValueError:  # only in a file that is read while we run: at load it would be an error
                    continue


class Checks(Generic[C]):
    """The DNS conditions of one rule, compiled once."""

    def __init__(self, rule: Rule, compile_test: CompileTest[C], lines: Lines) -> None:
        by_item: dict[str, list[Condition]] = {}
        for condition in filter(is_dns, rule.conditions):
            by_item.setdefault(condition.item, []).append(condition)
        needed = {item: rule.rblcount if item == "rbl" else rule.rhsblcount for item in LISTS}
        self._lists = [_ListCheck(item, by_item[item], needed[item], lines) for item in LISTS if item in by_item]
        self._lookups = [LookupCheck(item, by_item[item], compile_test) for item in LOOKUPS if item in by_item]
        self._wants_text = "dnsbltext" in rule.canonical

    def examine(self, items: Mapping[str, str], context: C) -> Generator[Lookup, Answers, Verdict]:
        """Ask and judge. `context` is handed to the tests of what was looked up."""
        answers = yield from _ask(
            *(question for check in self._lists for question in check.questions(items)),
            *(question for check in self._lookups for question in check.questions(items)),
        )
        counts = {"rbl": 0, "rhsbl": 0}
        listings: list[_Listing] = []
        for check in self._lists:
            holds, count, found = check.judge(items, answers)
            if not holds:
                return Verdict(False)
            counts[check.item.partition("_")[0]] += count
            listings += found
        late = [check for check in self._lookups if check.has_hosts]
        if not all(check.judge(items, answers, context) for check in self._lookups if not check.has_hosts):
            return Verdict(False)
        more = yield from _ask(
            *(listing.text_question for listing in listings if self._wants_text),
            *(question for check in late for question in check.host_questions(items, answers)),
        )
        if not all(check.judge(items, {**answers, **more}, context) for check in late):
            return Verdict(False)
        return Verdict(True, counts["rbl"], counts["rhsbl"], _text(listings, more) if self._wants_text else "")


def compile_checks(rule: Rule, compile_test: CompileTest[C], lines: Lines) -> Checks[C] | None:
    """The rule's DNS conditions; None if it has none.

    `compile_test` makes, of a condition on one value without negation, a test of what was looked up; `lines` gives the
    present elements of a live list.
    """
    return Checks(rule, compile_test, lines) if any(map(is_dns, rule.conditions)) else None


def _ask(*questions: Question) -> Generator[Lookup, Answers, Answers]:
    """Ask each once; nothing at all if there is none."""
    if not questions:
        return {}
    return (yield Lookup(tuple(dict.fromkeys(questions))))


def _asked_about(item: str, items: Mapping[str, str]) -> str:
    """What stands before the list's name in a question; empty if there is nothing to ask about."""
    about = subject(items, LISTS[item])
    if item == "rbl":
        return ".".join(reversed(about.split("."))) if _IPV4.fullmatch(about) else ""
    return "" if about == "unknown" or ":" in about else about


def _question(about: str, dns_list: DnsList) -> Question:
    return Question(f"{about}.{dns_list.name}", "A", dns_list.name, dns_list.ttl)


def _texts(value: Value, lines: Lines) -> Iterator[tuple[str, bool]]:
    """The elements that a value stands for, and whether each is negated."""
    if value.live is None:
        yield value.text, value.negated
        return
    for line in lines(value.live):
        inner = _NEGATION.fullmatch(line)
        yield (inner[1], not value.negated) if inner else (line, value.negated)


def _text(listings: Iterable[_Listing], answers: Answers) -> str:
    """As postfwd spells it: records of a list in one text, with blanks for commas, which would end a value of set()."""
    texts = []
    for listing in listings:
        text = " ".join(answers.get(listing.text_question, ())).replace(",", " ")
        texts.append(f"{listing.item}:{listing.dns_list.name}:<{text}>")
    return "; ".join(dict.fromkeys(texts))
