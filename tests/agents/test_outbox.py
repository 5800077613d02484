"""Envelopes made from event lines: any events, sent and acknowledged in any rhythm."""

from collections import defaultdict, deque

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import outbox
from agents.outbox import FLUSH_SECONDS, Envelope, Outbox
from agents.segments import Position
from weir import envelopes, events, status, subjects, tallies, topics
from weir.events import Event, Heartbeat, Request

Partition = tuple[str, int]

ALICE = "alice@example.org"
BESIDE_ALICE = next(
    address
    for address in (f"192.0.2.{number}" for number in range(256))
    if subjects.partition(subjects.client_address(address)) == subjects.partition(subjects.sasl_username(ALICE))
)
"""An address whose tallies go into the same partition as those of the account."""

names = st.sampled_from(["", ALICE, "bob@example.org", "carol@example.net"])
addresses = st.sampled_from(["", BESIDE_ALICE, "192.0.2.2", "2001:db8::1"])


def request(name: str, address: str, size: int = 0) -> Request:
    return Request(
        seq=0,
        time=1.0,
        protocol_state="RCPT",
        sasl_username=name,
        client_address=address,
        sender="x" * size,
        attempted_recipients=1,
        recipients=1,
    )


def heartbeat(quiet: list[int]) -> Heartbeat:
    return Heartbeat(seq=0, time=1.0, version="1", host="mx1", quiet_partitions=quiet)


any_event = st.one_of(
    st.builds(request, names, addresses, st.sampled_from([0, 100, 60_000])),
    st.builds(heartbeat, st.lists(st.integers(0, subjects.PARTITIONS - 1), unique=True)),
)
step = st.one_of(
    any_event,
    st.sampled_from(["new epoch", "due", "later", "acknowledge one", "acknowledge all"]),
)


class Sender:
    """Gives events to an outbox as the shipper does, and keeps what would be sent and acknowledged."""

    def __init__(self) -> None:
        self.outbox = Outbox("mx1")
        self.sent: list[Envelope] = []
        self.under_way: deque[Envelope] = deque()
        self.given: list[tuple[str, Event, Position]] = []
        self.epoch, self.seq, self.end = 0, 0, Position(1, 0)
        self.now = 0.0
        self.begin()

    def begin(self) -> None:
        self.epoch += 1
        self.seq = 0
        self.outbox.begin(str(self.epoch))
        self.send(self.outbox.full)

    def add(self, event: Event) -> None:
        while self.outbox.blocked:
            self.acknowledge()
        self.seq += 1
        event.seq = self.seq
        line = events.encoder.encode(event)
        self.given.append((str(self.epoch), event, self.end))
        self.outbox.add(line, event, *self.end)
        self.end = Position(1, self.end.offset + len(line) + 1)
        self.send(self.outbox.full)

    def send(self, full: list[Envelope]) -> None:
        for envelope in full:
            destination = envelope.destination
            assert destination.confirmed or not destination.in_flight, "two in flight before the first was confirmed"
            destination.in_flight.append(envelope)
            self.under_way.append(envelope)
            self.sent.append(envelope)
        full.clear()

    def acknowledge(self) -> None:
        if self.under_way:
            envelope = self.under_way.popleft()
            envelope.destination.in_flight.popleft()
            envelope.destination.confirmed = True

    def take(self, what: str) -> None:
        match what:
            case "new epoch":
                while self.outbox.blocked:
                    self.acknowledge()
                self.begin()
            case "due":
                self.send(self.outbox.due(self.now))
            case "later":
                self.now += FLUSH_SECONDS
            case "acknowledge one":
                self.acknowledge()
            case "acknowledge all":
                while self.under_way:
                    self.acknowledge()

    def finish(self) -> None:
        while self.under_way or self.outbox.next_due() < float("inf"):
            self.acknowledge()
            self.send(self.outbox.due(self.now, everything=True))

    def unacknowledged(self) -> Position:
        """Where the oldest event begins of which something is not acknowledged, found the long way."""
        acknowledged: defaultdict[Partition, set[tuple[str, int]]] = defaultdict(set)
        for envelope in self.sent:
            if envelope not in self.under_way and envelope.destination.topic != topics.STATUS:
                key = (envelope.destination.topic, envelope.destination.partition)
                acknowledged[key] |= {identity for identity, _ in records(envelope)}
        for epoch, event, position in self.given:
            for key in expected(event):
                if (epoch, event.seq) not in acknowledged[key]:
                    return position
        return self.end


def records(envelope: Envelope) -> list[tuple[tuple[str, int], bytes]]:
    """Identity (epoch, seq) and record of each line of an envelope on events or tallies."""
    head, lines = envelopes.decode(envelope.value, msgspec.json.Decoder(msgspec.Raw))
    assert head.host == "mx1"
    return [((head.epoch, msgspec.json.decode(line, type=dict)["seq"]), bytes(line)) for line in lines]


def expected(event: Event) -> dict[Partition, list[bytes]]:
    """What an event means for each partition."""
    found: defaultdict[Partition, list[bytes]] = defaultdict(list)
    found[topics.EVENTS, subjects.partition("mx1")].append(events.encoder.encode(event))
    for tally in tallies.tallies(event):
        found[topics.TALLIES, subjects.partition(tally.subject)].append(tallies.encoder.encode(tally))
    return found


@pytest.mark.parametrize("full", [outbox._FULL_BYTES, 500])
@settings(max_examples=100, deadline=None)
@given(steps=st.lists(step, min_size=10, max_size=60))
def test_each_partition_gets_its_records_in_order_and_nothing_is_acknowledged_too_early(
    full: int, steps: list[Event | str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(outbox, "_FULL_BYTES", full)
        assert_all_sent(steps)


def assert_all_sent(steps: list[Event | str]) -> None:
    sender = Sender()
    for one in steps:
        if isinstance(one, str):
            sender.take(one)
        else:
            sender.add(msgspec.structs.replace(one))
        assert sender.outbox.oldest(sender.end) <= sender.unacknowledged()
    sender.finish()
    assert sender.outbox.oldest(sender.end) == sender.end
    got: defaultdict[Partition, list[bytes]] = defaultdict(list)
    homes: defaultdict[tuple[Partition, tuple[str, int]], set[int]] = defaultdict(set)
    for number, envelope in enumerate(sender.sent):
        assert len(envelope.value) <= envelopes.MAX_BYTES
        if envelope.destination.topic == topics.STATUS:
            continue
        key = (envelope.destination.topic, envelope.destination.partition)
        for identity, line in records(envelope):
            got[key].append(line)
            homes[key, identity].add(number)
    assert all(len(numbers) == 1 for numbers in homes.values()), "records of one event in two envelopes"
    wanted: defaultdict[Partition, list[bytes]] = defaultdict(list)
    for _, event, _ in sender.given:
        for key, lines in expected(event).items():
            wanted[key] += lines
    assert got == wanted
    assert sum(e.events for e in sender.sent if e.destination.topic == topics.EVENTS) == len(sender.given)


def test_a_quiet_partition_is_due_at_once_and_a_busy_one_after_a_while() -> None:
    sender = Sender()
    sender.add(request("alice@example.org", ""))
    first = sender.outbox.due(100.0)
    assert {envelope.destination.topic for envelope in first} == {topics.EVENTS, topics.TALLIES}
    sender.send(first)
    sender.take("acknowledge all")
    sender.add(request("alice@example.org", ""))
    assert sender.outbox.due(100.0) == []
    assert sender.outbox.next_due() == 100.0 + FLUSH_SECONDS
    assert len(sender.outbox.due(100.0 + FLUSH_SECONDS)) == 2


def test_a_partition_gets_no_second_envelope_before_it_confirmed_the_first() -> None:
    sender = Sender()
    while not sender.sent:
        sender.add(request("", "", size=60_000))
    assert sender.outbox.blocked
    assert sender.outbox.due(100.0, everything=True) == []
    sender.take("acknowledge one")
    assert not sender.outbox.blocked
    assert len(sender.outbox.due(100.0)) == 1


def test_status_gets_the_newest_heartbeat_alone() -> None:
    sender = Sender()
    sender.add(heartbeat([1]))
    sender.add(heartbeat([2]))
    (envelope,) = [e for e in sender.outbox.due(0.0) if e.destination.topic == topics.STATUS]
    assert envelope.destination.key == status.agent_key("mx1")
    assert events.decoder.decode(envelope.value) == sender.given[1][1]


def test_an_envelope_knows_the_time_of_its_newest_event() -> None:
    sender = Sender()
    for time in (5.0, 6.0):
        event = request("alice@example.org", "")
        event.time = time
        sender.add(event)
    assert {envelope.newest for envelope in sender.outbox.due(0.0)} == {6.0}


def test_events_go_to_the_partition_of_their_host_under_its_name() -> None:
    sender = Sender()
    sender.add(request("", ""))
    (envelope,) = sender.outbox.due(0.0)
    assert (envelope.destination.partition, envelope.destination.key) == (subjects.partition("mx1"), b"mx1")
