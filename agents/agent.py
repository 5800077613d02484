"""The agent itself, apart from input and output: answers requests, counts them, makes events, and learns from topics.

Invariants: a request is answered from memory, before anything else is done about it; all is called on one thread.
"""

import time
from collections import Counter
from collections.abc import Callable

import structlog
from prometheus_client import Histogram

from agents import requests
from agents.follower import Record
from agents.freshness import Freshness
from agents.knowledge import Knowledge
from agents.message_counts import MessageCounts
from agents.policy_protocol import PolicyRequest, reply
from agents.snapshot import Snapshot
from agents.spool import Spool
from agents.verdict import Verdict, judge
from weir import __version__, echo, subjects, topics
from weir.decisions import Decision
from weir.events import Heartbeat, is_accepted

ALONE_SECONDS = 10.0
"""Older knowledge of the fleet about us is told: we count alone."""
_STATES = frozenset(("CONNECT", "EHLO", "HELO", "MAIL", "RCPT", "DATA", "END-OF-MESSAGE", "VRFY", "ETRN"))
_DELAYS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)

log = structlog.get_logger(__name__)


class Agent:
    """`now` is everywhere Unix seconds by this host's clock."""

    def __init__(self, host: str, default_realm: str, spool: Spool, snapshot: Snapshot) -> None:
        self.default_realm = default_realm
        self.knowledge = Knowledge()
        self.counts = MessageCounts()
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
        self._answered: list[tuple[PolicyRequest, str, str, Verdict, float]] = []
        self._alone = False
        self._garbage_told = 0

    def recall(self, now: float) -> None:
        """Take up what was known before a restart: decisions, operators' words, messages under way."""
        self.knowledge.recall(self._snapshot.load(), self._snapshot.positions, now)
        for event in self._spool.recent(now - 3600):
            if not isinstance(event, Heartbeat):
                self.counts.replay(event)

    def answer(self, request: PolicyRequest, write: Callable[[bytes], None]) -> None:
        """Answer a policy request; `settle` must be called soon."""
        now = time.time()
        account = subjects.sasl_username(request.sasl_username, self.default_realm)
        client = subjects.client_address(request.client_address)
        knowledge = self.knowledge
        reckoned = now - self.freshness.clock_offset
        verdict = judge((account, client), knowledge.decisions, knowledge.operators, reckoned)
        write(reply(verdict.action))
        self._answered.append((request, account, client, verdict, now))

    def settle(self) -> None:
        """Count what was answered, and keep its events. Several at once cost less: the code for one finds another's
        way still in the processor's caches, which each reply's system call clears.
        """
        answered, self._answered = self._answered, []
        clock_offset = self.freshness.clock_offset
        for request, account, client, verdict, now in answered:
            state = request.protocol_state
            counts = self.counts.count(
                state, request.instance, request.recipient_count, request.size, is_accepted(verdict.action), now
            )
            requests.fill(request, account, verdict, counts, now, clock_offset)
            self._spool.append(request)
            if counts.attempted_recipients or counts.bytes:
                for subject in (account, client):
                    if subject:
                        self.freshness.appended(subjects.partition(subject), now)
            self.requests[state if state in _STATES else "other", verdict.outcome] += 1

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
                spool_bytes=self._spool.unacknowledged_bytes,
                dropped=self._spool.dropped,
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
        if learned.decision is not None and self.knowledge.complete:
            self._tell(learned.decision, now)
        return [learned.record]

    def _tell(self, decision: Decision, now: float) -> None:
        delay = now - decision.evidence.time
        self.delays.observe(delay)
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
