"""The agent itself, apart from input and output: answers requests, counts them, makes events, and learns from topics.

    operators' words, decisions ─▶ a verdict, at once
                 none of them ─▶ rules, if there are any ─▶ a verdict, at once or when DNS and the like have answered

Invariants: a request is answered from memory, but for what its rules ask, before anything else is done about it; an
event's time is when its reply was known, and events lie in the order of the replies; all is called on one thread.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import structlog
from prometheus_client import Histogram

from agents import requests
from agents.by_rules import ByRules, Write
from agents.follower import Record
from agents.freshness import Freshness
from agents.knowledge import Knowledge, Learned
from agents.limits import FleetLimits
from agents.maillog.asked import AskedMessages
from agents.message_counts import MessageCounts
from agents.policy_protocol import MAX_RULES_ACTION, PolicyRequest, parse, parse_attributes, reply
from agents.snapshot import Snapshot
from agents.spool import Spool
from agents.verdict import DUNNO, Verdict, judge
from weir import __version__, echo, limits, operators, subjects, topics
from weir.decisions import Decision
from weir.events import MAX_TEXT, Delivery, Heartbeat, Login, Queue, Rejected, Removed, Request, Submitted, is_accepted
from weir.limits import Hit
from weir.rules.counters import Counters
from weir.settings import Rules

if TYPE_CHECKING:  # DNS and patterns cost memory, which an agent without rules need not pay
    from agents.engine import Engine
    from agents.holding import Holding

ALONE_SECONDS = 10.0
"""Older knowledge of the fleet about us is told: we count alone."""
_STATES = frozenset(("CONNECT", "EHLO", "HELO", "MAIL", "RCPT", "DATA", "END-OF-MESSAGE", "VRFY", "ETRN"))
_NO_HITS: list[Hit] = []
_DELAYS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)

Asked = tuple[PolicyRequest, dict[str, str]]
"""A request, and all its attributes for rules to look at."""

log = structlog.get_logger(__name__)


def read_for_rules(lines: bytes) -> Asked:
    """A request from its lines, where there are rules. Raises ProtocolError."""
    return parse(lines), parse_attributes(lines)


class Agent:
    """`now` is everywhere Unix seconds by this host's clock."""

    def __init__(
        self, host: str, default_realm: str, spool: Spool, snapshot: Snapshot, engine: "Engine | None" = None
    ) -> None:
        """Without an `engine` there are no rules."""
        self.default_realm = default_realm
        self.engine = engine
        self.settle_soon: Callable[[], None] = self.settle
        """Called when a reply came later than its request."""
        self.knowledge = Knowledge()
        self.limits = FleetLimits(Rules(), default_realm, self.knowledge.decisions, self.knowledge.operators)
        self.counts = MessageCounts()
        self.asked: AskedMessages | None = None
        """If the mail log is followed."""
        self.holding: Holding | None = None
        """If the mail log is followed: what is done with mail in the queues."""
        self.unasked = 0
        """Messages with a login that the mail log tells of, and that nobody asked about."""
        self.freshness = Freshness()
        self.requests: Counter[tuple[str, str]] = Counter()
        """By protocol state and outcome."""
        self.kept_after_loss = 0
        """Records of the snapshot that stay because their topic was made anew."""
        self.delays = Histogram(
            "weir_agent_decision_delay_seconds",
            "From the event that crossed a threshold to its decision applied here",
            buckets=_DELAYS,
            registry=None,
        )
        self.age = -1.0
        """Seconds, of what the fleet knows of this host, as of the last tick; -1: unknown."""
        self.clock_offset = 0.0
        """As of the last tick."""
        self._host = host
        self._spool = spool
        self._snapshot = snapshot
        self._started = time.time()
        self._answered: list[tuple[PolicyRequest, str, str, Verdict, list[Hit], float]] = []
        self._alone = False
        self._garbage_told = 0

    @property
    def counters(self) -> Counters:
        """Of the rules' limits, this host's."""
        return self.limits.counters

    def recall(self, now: float) -> None:
        """Take up what was known before a restart: decisions, operators' words, messages under way."""
        self.knowledge.recall(self._snapshot.load(), self._snapshot.positions, now)
        for event in self._spool.recent(now - 3600):
            if isinstance(event, Request):
                self.counts.replay(event)
                if self.asked is not None:
                    self.asked.note(event)

    def configure(self, default_realm: str, rules: Rules) -> None:
        """Take other settings; the rules themselves are the engine's."""
        self.default_realm = default_realm
        self.limits.configure(rules, default_realm)

    def answer(self, request: PolicyRequest, write: Write, attributes: dict[str, str] | None = None) -> None:
        """Answer a policy request, by rules too if there are `attributes` to look at; `settle` must be called soon."""
        now = time.time()
        account = subjects.sasl_username(request.sasl_username, self.default_realm)
        client = subjects.client_address(request.client_address)
        knowledge = self.knowledge
        clock_offset = self.freshness.clock_offset
        verdict = judge((account, client), knowledge.decisions, knowledge.operators, now - clock_offset)
        if attributes is not None and verdict is DUNNO and self.engine is not None:
            self.limits.clock_offset = clock_offset
            ByRules(self, self.engine, request, account, client, write, now).begin(attributes)
            return
        write(reply(verdict.action))
        self._answered.append((request, account, client, verdict, _NO_HITS, now))

    def answer_by_rules(self, asked: Asked, write: Write) -> None:
        """Answer what `read_for_rules` has read."""
        request, attributes = asked
        self.answer(request, write, attributes)

    def finish(
        self,
        request: PolicyRequest,
        account: str,
        client: str,
        verdict: Verdict,
        hits: list[Hit],
        now: float,
        write: Write,
    ) -> None:
        """Answer a request that went through the rules: first it has its place, for its reply may bring the next."""
        self._answered.append((request, account, client, verdict, hits, now))
        write(reply(verdict.action, MAX_RULES_ACTION))

    def settle(self) -> None:
        """Count what was answered, and keep its events. Several at once cost less: the code for one finds another's
        way still in the processor's caches, which each reply's system call clears.
        """
        answered, self._answered = self._answered, []
        clock_offset = self.freshness.clock_offset
        for request, account, client, verdict, hits, now in answered:
            state = request.protocol_state
            accepted = is_accepted(verdict.action)
            counts = self.counts.count(state, request.instance, request.recipient_count, request.size, accepted, now)
            requests.fill(request, account, verdict, hits, counts, now, clock_offset)
            self._spool.append(request)
            if self.asked is not None:
                self.asked.note(request)
            if hits and accepted:
                for hit in hits:
                    self.freshness.appended(subjects.partition(subjects.limit(hit.digest, hit.key)), now)
            if counts.attempted_recipients or counts.bytes:
                for subject in (account, client):
                    if subject:
                        self.freshness.appended(subjects.partition(subject), now)
            self.requests[state if state in _STATES else "other", verdict.outcome] += 1

    def read(self, events: Sequence[Submitted | Delivery | Removed | Rejected | Login], position: bytes) -> None:
        """Keep what the mail log told, with the position behind its lines."""
        clock_offset = self.freshness.clock_offset
        for event in events:
            event.clock_offset = clock_offset
            self.unasked += isinstance(event, Submitted) and event.unasked
        self._spool.append_with_position(events, position)

    def learn(self, records: list[Record], now: float) -> None:
        """Take in what the topics brought."""
        learned: list[Record] = []
        for record in records:
            if record.topic == topics.ECHO:
                self._hear(record)
            else:
                learned += self._learn(record, now - self.freshness.clock_offset)
        self._snapshot.add(learned)

    def finish_reading(self, now: float) -> None:
        """Decisions and operators' words were read to their end."""
        completed = self.knowledge.finish_reading(now - self.freshness.clock_offset)
        self._snapshot.add(completed.removed)
        self._snapshot.rewrite()
        self.kept_after_loss = completed.kept
        if completed.kept:
            log.error("a topic was made anew: decisions and words known before stay in force", records=completed.kept)

    def heartbeat(self, now: float) -> None:
        """Keep an event about the agent's own state; partitions that are quiet get a tally by it."""
        quiet = self.freshness.quiet(now)
        self._spool.append(
            Heartbeat(
                seq=0,
                time=now,
                clock_offset=self.freshness.clock_offset,
                version=__version__,
                host=self._host,
                freshness=self.freshness.age(now),
                stale=not self.knowledge.complete,
                decisions=len(self.knowledge.decisions),
                rules=self.engine.ruleset.digest if self.engine is not None else "",
                spool_bytes=self._spool.unacknowledged_bytes,
                dropped=self._spool.dropped,
                unasked=self.unasked,
                quiet_partitions=quiet,
            )
        )
        for partition in quiet:
            self.freshness.appended(partition, now)

    def tick(self, now: float) -> None:
        """Once a second: let go what is over, and tell what has changed."""
        self.clock_offset = self.freshness.clock_offset
        self.age = age = self.freshness.age(now)
        self.knowledge.decisions.expire(now - self.clock_offset, 1000)
        self.counters.sweep(now)
        alone = (now - self._started if age < 0 else age) > ALONE_SECONDS
        if alone != self._alone:
            self._alone = alone
            if alone:
                log.warning("counting alone: the fleet does not know of this host's mail", freshness=round(age, 1))
            else:
                log.info("counted with the fleet again", freshness=round(age, 1))
        if self.knowledge.garbage > self._garbage_told:
            self._garbage_told = self.knowledge.garbage
            log.warning("records not understood", count=self._garbage_told, newest=self.knowledge.last_error)

    def _learn(self, record: Record, now: float) -> list[Record]:
        """Returns what is to go into the snapshot."""
        learned = self.knowledge.learn(record, now)
        if learned is None:
            return []
        if self.knowledge.complete:
            if learned.decision is not None:
                self._tell(learned.decision, now)
            if self.holding is not None and learned.record.key:
                self._hold(self.holding, learned)
        return [learned.record]

    @staticmethod
    def _hold(holding: "Holding", learned: Learned) -> None:
        """Do with mail in the queues what follows from a record."""
        record = learned.record
        if learned.decision is not None:
            holding.blocked(learned.decision.subject)
        elif record.topic == topics.OPERATORS and record.value is not None:
            word = operators.decoder.decode(record.value)
            if word.word == "block":
                holding.blocked(word.subject)
            elif word.word == "release":
                holding.released(word.subject, word.id, word.queue)

    def cause(self, subject: str) -> str:
        """Id of the decision or of the operator's word that blocks this subject now, or ""."""
        now = time.time() - self.freshness.clock_offset
        return judge((subject,), self.knowledge.decisions, self.knowledge.operators, now).decision

    def released(self, subject: str) -> tuple[operators.Word, float] | None:
        """The newest release of this subject and its time, unless it was blocked again or spoken of after it."""
        words = self.knowledge.operators
        release, standing = words.releases.get(subject), words.standing.get(subject)
        if release is None or self.cause(subject) or (standing is not None and standing[1] > release[1]):
            return None
        return release

    def blocked_local_users(self) -> set[str]:
        """Local users that are, or were, blocked."""
        known = (*self.knowledge.decisions, *self.knowledge.operators.standing)
        return {subject for subject in known if subjects.is_uid(subject)}

    def tell_queue(self, subject: str, how: str, messages: int, cause: str, error: str) -> None:
        """Keep an event of what was done with mail in the queues."""
        event = Queue(
            seq=0,
            time=time.time(),
            clock_offset=self.freshness.clock_offset,
            subject=subject,
            how=how,
            messages=messages,
            cause=cause,
            error=error[:MAX_TEXT],
        )
        self._spool.append(event)

    def _tell(self, decision: Decision, now: float) -> None:
        delay = now - decision.evidence.time
        self.delays.observe(delay)
        if decision.cause == limits.CAUSE:
            return  # limits come and go, by the hundred
        log.info(
            "decision applied",
            id=decision.id,
            subject=decision.subject,
            cause=decision.cause,
            delay_ms=round(delay * 1000, 1),
        )

    def _hear(self, record: Record) -> None:
        try:
            told = echo.decoder.decode(record.value or b"")
            self.freshness.echo(told.partition, told.next, record.time, record.received)
        except Exception as error:  # as with decisions: garbage stops nobody
            self.knowledge.tell_garbage(record, error)
