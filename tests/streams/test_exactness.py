"""The same facts give the same sums and the same decisions: in any order, cut and repeated in any way, over any crash.

Each is compared with an oracle that knows nothing but the list of facts.
"""

import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from streams import changelog, windows
from streams.partition import Partition, Totals
from tests.streams import made
from tests.streams.made import ACCOUNTS, NOW, Mail, Outcome
from weir.settings import Thresholds

LIMITS = Thresholds(messages_per_minute=4, recipients_per_minute=9, messages_per_hour=12, recipients_per_hour=20)
BLOCK_SECONDS = 3600

OLDEST = NOW - BLOCK_SECONDS + 5
"""What happened in a bucket before it can only lead to blocks that are over, which are decided no more."""

# Some close together and some anywhere, so that minutes and hours both are exceeded.
times = st.one_of(st.floats(OLDEST, NOW), st.floats(NOW - 150, NOW - 20), st.floats(OLDEST, OLDEST + 200))
events = st.lists(
    st.tuples(
        times,
        st.lists(st.sampled_from(ACCOUNTS), min_size=1, max_size=5, unique=True),
        st.integers(0, 2),
        st.integers(0, 3),
    ),
    max_size=60,
)


class Topic:
    """Weir.tallies and weir.windows as Kafka would hold them, and a worker that may die at any moment."""

    def __init__(self) -> None:
        self.judge = made.judge(made.settings(LIMITS, block_seconds=BLOCK_SECONDS))
        self.envelopes: list[bytes] = []
        self.records: dict[bytes, bytes] = {}
        self.outcomes: dict[str, Outcome] = {}
        self.totals = Totals()
        self.start()

    def start(self) -> None:
        self.partition = Partition(made.PARTITION, self.judge, self.totals)
        self.partition.restore(self.records.items(), NOW)

    def count(self, limit: int) -> None:
        for offset in range(self.partition.next, min(self.partition.next + limit, len(self.envelopes))):
            self.partition.count(offset, self.envelopes[offset], NOW)

    def write(self) -> None:
        batch = self.partition.snapshot()
        for key, value in batch.records:
            if value is None:
                self.records.pop(key, None)
            else:
                self.records[key] = value
        for decision in batch.decisions:
            assert not decision.shadow
            self.outcomes[decision.subject] = Outcome(decision.cause, decision.id, decision.since, decision.until)

    def buckets(self) -> dict[str, dict[int, tuple[int, int]]]:
        """Subject → bucket → messages and recipients, as they stand in the changelog."""
        found = {}
        for key, value in self.records.items():
            if key.startswith(b"s:"):
                window = windows.decode(value)
                rows = zip(window.messages, window.recipients, strict=True)
                found[key[2:].decode()] = dict(zip(window.buckets, rows, strict=True))
        return found


@st.composite
def sent(draw: st.DrawFn) -> tuple[list[Mail], list[bytes]]:
    """Facts, and the envelopes that hosts made of them: in any order, cut anywhere, with repeated tails."""
    facts: list[Mail] = []
    streams: list[list[bytes]] = []
    for host in range(draw(st.integers(1, 3))):
        lines: list[list[Any]] = []
        for seq, (time, subjects, messages, recipients) in enumerate(draw(events), start=1):
            if messages or recipients:
                facts += [Mail(subject, time, messages, recipients) for subject in subjects]
            lines.append([made.tally(seq, subject, time, messages, recipients) for subject in subjects])
        stream, position = [], 0
        while position < len(lines):
            size = draw(st.integers(1, 20))
            stream.append(made.envelope(itertools.chain(*lines[position : position + size]), host=f"mx{host}"))
            position += size
            if draw(st.integers(0, 3)) == 0:  # the shipper died, and goes on from where it knows to have been
                position -= draw(st.integers(0, position))
                if len(stream) > 30:
                    position = min(position + 30, len(lines))
                    stream.append(made.envelope(itertools.chain(*lines[:position]), host=f"mx{host}"))
        streams.append(stream)
    envelopes = []
    while any(streams):
        envelopes.append(draw(st.sampled_from([stream for stream in streams if stream])).pop(0))
    return facts, envelopes


@given(sent(), st.lists(st.tuples(st.integers(1, 8), st.sampled_from(["write", "crash", "go on"])), max_size=12))
@settings(max_examples=300, deadline=None)
def test_sums_and_decisions_equal_the_oracle(
    sent: tuple[list[Mail], list[bytes]], steps: list[tuple[int, str]]
) -> None:
    facts, envelopes = sent
    topic = Topic()
    topic.envelopes = envelopes
    for number, step in steps:
        topic.count(number)
        if step == "write":
            topic.write()
        elif step == "crash":
            topic.start()
    topic.count(len(envelopes))
    topic.write()

    assert topic.totals.dead == topic.totals.untimely == 0
    assert topic.buckets() == made.naive_buckets(facts)
    assert topic.outcomes == made.naive_outcomes(facts, LIMITS, BLOCK_SECONDS, NOW)
    assert changelog.decode_next(topic.records[changelog.NEXT_OFFSET]).offset == len(envelopes)


NEWEST = 2000
EDGES = [NEWEST - length + step for length in (0, 12, 720, 1440) for step in (-1, 0, 1) if length - step >= 0]
"""Where a window or the ring that ends with NEWEST begins."""


def counts(buckets: st.SearchStrategy[int], size: int) -> st.SearchStrategy[list[tuple[int, int, int]]]:
    return st.lists(st.tuples(buckets, st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=size)


@given(
    st.one_of(counts(st.integers(0, 3000), 80), counts(st.sampled_from(EDGES), 10)),
    st.randoms(use_true_random=False),
)
@settings(max_examples=300, deadline=None)
def test_running_sums_equal_the_sums_of_the_ring(counted: list[tuple[int, int, int]], random: Any) -> None:
    window = windows.Window()
    for bucket, messages, recipients in counted:
        window.count(bucket, messages, recipients, "mx1", "")
        if random.random() < 0.1:
            window = windows.decode(window.encode())
    newest = max(bucket for bucket, _, _ in counted)
    kept = [each for each in counted if each[0] > newest - windows.RING]

    def total(length: int, which: int) -> int:
        return sum(each[which] for each in kept if each[0] > newest - length)

    sums = window.sums
    assert (sums.minute_messages, sums.minute_recipients) == (total(windows.MINUTE, 1), total(windows.MINUTE, 2))
    assert (sums.hour_messages, sums.hour_recipients) == (total(windows.HOUR, 1), total(windows.HOUR, 2))
    assert window.buckets == sorted({each[0] for each in kept})
    assert sum(window.messages) == total(windows.RING, 1)


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 80)), min_size=1, max_size=200),
    st.permutations(range(200)),
    st.integers(1, 200),
)
def test_the_hosts_kept_are_the_same_in_any_order(seen: list[tuple[int, int]], order: list[int], cut: int) -> None:
    def kept(seen: list[tuple[int, int]]) -> dict[str, int]:
        window = windows.Window()
        for number, (bucket, host) in enumerate(seen):
            window.count(bucket, 1, 1, f"mx{host}", f"client_address:192.0.2.{host}")
            if number == cut:
                window = windows.decode(window.encode())
        window.encode()
        assert len(window.hosts) == len(window.beside) <= windows.KEPT
        return window.hosts

    assert kept(seen) == kept([seen[index] for index in order if index < len(seen)])
