"""DNS for the rules: all questions of a look-up at once, each with a deadline, answers kept.

    lookup(questions) ─▶ cache ─▶ the same question under way ─▶ UDP, over TCP if truncated ─▶ answers

Invariants
- Whatever is asked and whatever comes back, a look-up answers within the time-out and never raises: what a name cannot
  be, what is garbled, late or refused is no answer.
- A question goes out under a random id from a socket of its own, whose port the kernel draws; only a reply from that
  server with that id and question counts.
- Each list has its own room, and so has each type of other questions, and within it each domain: a slow list delays no
  other list, and slow names which clients send delay neither lists nor names of other domains.
- After `close` there is neither a task nor a socket.
"""

import asyncio
import ipaddress
import re
import socket
import struct
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from typing import NamedTuple, cast
from weakref import WeakValueDictionary

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.rdtypes.ANY.MX
import dns.rdtypes.ANY.TXT
import dns.resolver
import structlog

from weir.rules.needs import Question

TIMEOUT = 14.0
"""Seconds for a question; postfwd's default, as the next two."""
MAX_TIMEOUTS = 10
"""One more, and the list is switched off."""
COUNTS_SECONDS = 1200.0
"""So long time-outs are counted; then all lists are on again, with nothing counted."""
MAX_CACHED = 100_000
"""Values in the cache, some 30 MB; an answer without values counts as one."""
MAX_VALUES = 100
"""Kept of an answer; postfwd looks up so many MX and NS hosts."""
MAX_TTL = 86_400
"""Seconds that an answer is kept at most, unless its list says more."""
NEGATIVE_TTL = 60
"""Seconds for an answer without values that has no SOA record, whose minimum is the rule (RFC 2308)."""
FAILED_TTL = 15
"""Seconds that a failure is kept, so that the next recipient of a message does not wait too (RFC 9520: 1 to 300)."""
UNDER_WAY = 256
"""Questions that are out at once about one list, or of one type; further ones wait, which counts as their time."""
OF_DOMAIN = 16
"""Of these, about names of one domain, which clients choose."""
_ATTEMPTS = 2
_MAX_TEXT = 512
_MAX_MESSAGE = 65_535
_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*", re.ASCII)
_MAX_NAME = 253
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

log = structlog.get_logger(__name__)

Server = tuple[str, int]
"""Address and port."""
Values = tuple[str, ...]


class _Answer(NamedTuple):
    values: Values
    ttl: float


class _Key(NamedTuple):
    name: str
    type: str


_NOTHING = _Answer((), FAILED_TTL)


class ServerError(Exception):
    """A server's answer is of no use."""


class Resolver:
    """Answers the Lookups of evaluations. Counters: `queries` sent, `timeouts`, `cache_hits`, `switched_off` lists."""

    def __init__(
        self,
        servers: Sequence[Server],
        timeout: float = TIMEOUT,
        max_timeouts: int = MAX_TIMEOUTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`servers` are asked in turn. `timeout`: seconds a question. More than `max_timeouts` of a list switch it off;
        0: they never do. `clock` gives seconds for what is kept and counted, not for the time-out itself.
        """
        self._attempts = [servers[attempt % len(servers)] for attempt in range(max(_ATTEMPTS, len(servers)))]
        self._timeout = timeout
        self._max_timeouts = max_timeouts
        self._clock = clock
        self._cache = _Cache(clock)
        self._under_way: dict[_Key, asyncio.Task[Values]] = {}
        self._rooms: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(UNDER_WAY))
        """By list, which rules name, or type."""
        self._domains: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        """By domain and type, as long as something is asked about it."""
        self._timeouts_of: Counter[str] = Counter()
        self._counted_since = clock()
        self._closed = False
        self.queries = 0
        self.timeouts = 0
        self.cache_hits = 0
        self.switched_off = 0

    @property
    def lists_off(self) -> list[str]:
        """The lists that are switched off now."""
        return [name for name in self._timeouts_of if self._is_off(name)]

    async def lookup(self, questions: Iterable[Question]) -> dict[Question, list[str]]:
        """Ask all at the same time; a question without an answer has an empty list."""
        self._forget_counts()
        answers: dict[Question, list[str]] = {}
        waiting: dict[Question, asyncio.Task[Values]] = {}
        for question in questions:
            found = self._at_once(question)
            if found is None:
                waiting[question] = self._task(question)
            answers[question] = list(found or ())
        if waiting:
            await asyncio.wait(set(waiting.values()))
        for question, task in waiting.items():
            if not task.cancelled():
                answers[question] = list(task.result())
        return answers

    async def close(self) -> None:
        """Give up what is under way; every look-up then has its answer, and later ones are answered with nothing."""
        self._closed = True
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _at_once(self, question: Question) -> Values | None:
        """The answer if nobody needs to be asked for it."""
        if self._closed or self._is_off(question.list) or not _is_name(question.name):
            return ()
        found = self._cache.get(_key(question))
        if found is not None:
            self.cache_hits += 1
        return found

    def _task(self, question: Question) -> asyncio.Task[Values]:
        key = _key(question)
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(self._fetch(question))
            task.add_done_callback(lambda _: self._under_way.pop(key))
        return task

    async def _fetch(self, question: Question) -> Values:
        sent = False
        answer = _NOTHING
        try:
            async with asyncio.timeout(self._timeout), self._domain(question), self._room(question):
                sent = True
                answer = await self._ask(_key(question))
                answer = _Answer(answer.values, max(answer.ttl, question.ttl))
        except TimeoutError:
            if not sent:
                return ()
            self._timed_out(question.list)
        except ServerError as failure:
            log.debug("no answer of use from DNS", name=question.name, type=question.type, error=str(failure))
        self._cache.put(_key(question), answer)
        return answer.values

    def _room(self, question: Question) -> asyncio.Semaphore:
        return self._rooms[question.list or question.type]

    def _domain(self, question: Question) -> AbstractAsyncContextManager[None]:
        """The room of a question's domain. A list's names have the whole room of the list."""
        if question.list:
            return nullcontext()
        name = ".".join([*question.name.lower().rstrip(".").split(".")[-2:], question.type])
        room = self._domains.get(name)
        if room is None:
            room = self._domains[name] = asyncio.Semaphore(OF_DOMAIN)
        return room

    async def _ask(self, key: _Key) -> _Answer:
        """Ask one server after the other. Raises what the last one came to: TimeoutError or ServerError."""
        error: Exception = ServerError()
        for server in self._attempts:
            self.queries += 1
            try:
                async with asyncio.timeout(self._timeout / len(self._attempts)):
                    return _answer(await _exchange(key, server))
            except TimeoutError as late:
                error = late
            except (OSError, EOFError, dns.exception.DNSException, ServerError) as failure:
                error = ServerError(str(failure) or type(failure).__name__)
        raise error

    def _timed_out(self, name: str) -> None:
        self.timeouts += 1
        if not name or self._max_timeouts <= 0:
            return
        self._timeouts_of[name] += 1
        if self._timeouts_of[name] == self._max_timeouts + 1:
            self.switched_off += 1
            log.warning("DNS list switched off: too many time-outs", list=name, timeouts=self._timeouts_of[name])

    def _is_off(self, name: str) -> bool:
        return bool(name) and 0 < self._max_timeouts < self._timeouts_of.get(name, 0)

    def _forget_counts(self) -> None:
        now = self._clock()
        if now - self._counted_since < COUNTS_SECONDS:
            return
        for name in self.lists_off:
            log.info("DNS list switched on again", list=name)
        self._timeouts_of.clear()
        self._counted_since = now


def servers(place: str = "") -> list[Server]:
    """The server at `HOST:PORT` (HOST an address, an IPv6 one in brackets), or without it those of /etc/resolv.conf.

    Raises ValueError if it is none, or there is none.
    """
    if not place:
        try:
            return [(str(server), 53) for server in dns.resolver.Resolver().nameservers]
        except dns.resolver.NoResolverConfiguration as error:
            raise ValueError(f"no name server in /etc/resolv.conf: {error}") from None
    host, _, port = place.rpartition(":")
    try:
        address = str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]")))
    except ValueError:
        raise ValueError(f"{place}: expected ADDRESS:PORT of a name server, as 127.0.0.1:53 or [::1]:53") from None
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{place}: expected a port from 1 to 65535 after the last colon")
    return [(address, int(port))]


class _Cache:
    """Answers until they expire, the oldest go first when there are too many."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._answers: dict[_Key, tuple[Values, float]] = {}
        self._size = 0

    def get(self, key: _Key) -> Values | None:
        values, until = self._answers.get(key, ((), 0.0))
        if key not in self._answers:
            return None
        if self._clock() < until:
            return values
        self._drop(key)
        return None

    def put(self, key: _Key, answer: _Answer) -> None:
        self._drop(key)
        self._answers[key] = (answer.values, self._clock() + answer.ttl)
        self._size += len(answer.values) or 1
        while self._size > MAX_CACHED:
            self._drop(next(iter(self._answers)))

    def _drop(self, key: _Key) -> None:
        if key in self._answers:
            self._size -= len(self._answers.pop(key)[0]) or 1


def _key(question: Question) -> _Key:
    return _Key(question.name.lower(), question.type)


def _is_name(text: str) -> bool:
    """Tell whether it can be asked for: letters, digits, `-` and `_` in labels up to 63, at most 253 in all."""
    return len(text) <= _MAX_NAME and _NAME.fullmatch(text) is not None


async def _exchange(key: _Key, server: Server) -> dns.message.Message:
    """The server's reply. Raises OSError, EOFError, DNSException and ServerError."""
    query = dns.message.make_query(dns.name.from_text(key.name), key.type)
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    # Not a transport: uvloop leaks one whose making is cancelled.
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(server)
        sock.send(query.to_wire())
        while True:
            reply = _parsed(await loop.sock_recv(sock, _MAX_MESSAGE))
            if reply is not None and query.is_response(reply):
                break
            await asyncio.sleep(0)  # what comes in a flood must not keep the loop
    return await _exchange_tcp(query, server) if reply.flags & dns.flags.TC else reply


def _parsed(wire: bytes) -> dns.message.Message | None:
    """A message, None for garbage. One that is marked as truncated may lack its last records."""
    try:
        return dns.message.from_wire(wire, raise_on_truncation=True)
    except dns.message.Truncated as truncated:
        return cast(dns.message.Message, truncated.message())  # type: ignore[no-untyped-call]
    except Exception:  # a stranger's bytes: whatever they do to the parser, they are no reply
        return None


async def _exchange_tcp(query: dns.message.Message, server: Server) -> dns.message.Message:
    reader, writer = await asyncio.open_connection(*server)
    try:
        writer.write(query.to_wire(prepend_length=True))
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        message = dns.message.from_wire(await reader.readexactly(length))
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    if not query.is_response(message):
        raise ServerError("the reply over TCP answers another question")
    return message


def _answer(message: dns.message.Message) -> _Answer:
    """What a reply says. Raises ServerError and DNSException if it says nothing."""
    if message.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        raise ServerError(dns.rcode.to_text(message.rcode()))
    chained = cast(dns.message.QueryMessage, message).resolve_chaining()
    if chained.answer is None:
        ttl = chained.minimum_ttl if message.authority else NEGATIVE_TTL
        return _Answer((), min(ttl, MAX_TTL))
    records = list(chained.answer)[:MAX_VALUES]
    if chained.answer.rdtype == dns.rdatatype.MX:
        records.sort(key=lambda record: cast(dns.rdtypes.ANY.MX.MX, record).preference)
    return _Answer(tuple(map(_value, records)), min(chained.minimum_ttl, MAX_TTL))


def _value(record: dns.rdata.Rdata) -> str:
    """The part of a record that rules look at, in one line: it may become a part of a reply."""
    if record.rdtype == dns.rdatatype.TXT:
        strings = cast(dns.rdtypes.ANY.TXT.TXT, record).strings
        text = b" ".join(strings)[:_MAX_TEXT].decode(errors="replace")
        return _CONTROL.sub("?", text)
    text = record.to_text().rpartition(" ")[2]  # an MX record has its preference before the name
    return text.removesuffix(".") or text
