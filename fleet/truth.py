"""Compares what the load generator knows with the spool, weir.events, weir.tallies and weir.windows.

Invariant: each comparison returns what is wrong, one text each, and nothing if all is right.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from fleet.load import END_OF_MESSAGE, RCPT, Asked
from fleet.reading import Message, read_topic
from streams import changelog, outcomes, windows
from weir import envelopes, events, subjects, tallies, topics
from weir.events import Event, Request
from weir.tallies import Tally

T = TypeVar("T")


class Identity(NamedTuple):
    """Of an event."""

    host: str
    epoch: str
    seq: int


class Line(NamedTuple):
    """What one host sends to one partition in one epoch: a queue, its order is kept."""

    partition: int
    host: str
    epoch: str


class Window(NamedTuple):
    """A record of weir.windows about a subject."""

    buckets: dict[int, tuple[int, int]]
    """Bucket → messages and recipients."""
    after: float
    """Time of the newest release."""


class Outcomes(NamedTuple):
    """A record of weir.windows about what the mail log told of a subject."""

    counts: dict[str, dict[int, int]]
    """Result → bucket of five minutes → how often."""
    after: float
    """Time of the newest release."""


@dataclass
class Found:
    """What the topics hold of some hosts."""

    events: dict[Identity, Event] = field(default_factory=dict)
    event_order: dict[Line, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Seqs as they lie on weir.events, repeated ones too."""
    tallies: dict[tuple[Identity, str], Tally] = field(default_factory=dict)
    """By event and subject."""
    tally_order: dict[Line, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))
    """Seqs and subjects as they lie on weir.tallies, repeated ones too."""
    windows: dict[str, Window] = field(default_factory=dict)
    """By subject, whoever sent it."""
    outcomes: dict[str, Outcomes] = field(default_factory=dict)
    """So are these."""
    counted: dict[Line, int] = field(default_factory=dict)
    """Last seq that streams have counted."""
    contradictions: list[str] = field(default_factory=list)
    """Records of one identity that differ."""

    def forget_lost_ends(self, host: str, spooled: Iterable[Identity]) -> None:
        """Forget what this host's spool lost at its end with the power: parts of it may have been sent before."""
        ends: dict[str, int] = {}
        for identity in spooled:
            ends[identity.epoch] = max(identity.seq, ends.get(identity.epoch, 0))

        def is_kept(one: Identity) -> bool:
            return one.host != host or one.seq <= ends.get(one.epoch, 0)

        self.events = {one: event for one, event in self.events.items() if is_kept(one)}
        self.tallies = {key: tally for key, tally in self.tallies.items() if is_kept(key[0])}
        for line, seqs in self.event_order.items():
            self.event_order[line] = [seq for seq in seqs if is_kept(Identity(line.host, line.epoch, seq))]
        for line, sent in self.tally_order.items():
            self.tally_order[line] = [one for one in sent if is_kept(Identity(line.host, line.epoch, one[0]))]


def read(bootstrap: str, hosts: Iterable[str]) -> Found:
    """Read the topics whole and keep what is of these hosts."""
    found, wanted = Found(), set(hosts)
    for message in read_topic(bootstrap, topics.EVENTS):
        for line, event in _records(message, events.decoder, wanted):
            found.event_order[line].append(event.seq)
            identity = Identity(line.host, line.epoch, event.seq)
            if found.events.setdefault(identity, event) != event:
                found.contradictions.append(f"two events are {identity}")
    for message in read_topic(bootstrap, topics.TALLIES):
        for line, tally in _records(message, tallies.decoder, wanted):
            found.tally_order[line].append((tally.seq, tally.subject))
            identity = Identity(line.host, line.epoch, tally.seq)
            if found.tallies.setdefault((identity, tally.subject), tally) != tally:
                found.contradictions.append(f"two tallies of {tally.subject} are {identity}")
    for (partition, key), value in newest(read_topic(bootstrap, topics.WINDOWS)).items():
        _take_record(found, partition, key, value)
    return found


def _take_record(found: Found, partition: int, key: bytes, value: bytes) -> None:
    """Take in a record of weir.windows."""
    kind, _, name = key.decode(errors="replace").partition(":")
    if kind == "s":
        found.windows[name] = _window(value)
    elif kind == "r":
        told = outcomes.decode(value)
        found.outcomes[name] = Outcomes(told.counts, told.after)
    elif kind == "h":
        host, _, epoch = name.rpartition(":")
        found.counted[Line(partition, host, epoch)] = changelog.decode_host(value).seq


def newest(messages: Iterable[Message]) -> dict[tuple[int, bytes], bytes]:
    """Partition and key → the newest value, without what ended in a tombstone."""
    found = {(message.partition or 0, message.key or b""): message.value for message in messages}
    return {key: value for key, value in found.items() if value is not None}


def _records(message: Message, decoder: "msgspec.json.Decoder[T]", wanted: set[str]) -> Iterator[tuple[Line, T]]:
    try:
        head, records = envelopes.decode(message.value or b"", decoder)
    except msgspec.DecodeError:
        return  # garbage is no matter of counts
    if head.host in wanted:
        for record in records:
            yield Line(message.partition or 0, head.host, head.epoch), record


def _window(value: bytes) -> Window:
    window = windows.decode(value)
    counts = zip(window.messages, window.recipients, strict=True)
    return Window(dict(zip(window.buckets, counts, strict=True)), window.after)


def read_spool(directory: Path) -> dict[Identity, Event]:
    """The events in a spool's files; a last line that is not whole is left out."""
    found: dict[Identity, Event] = {}
    for path in sorted(directory.glob("*.jsonl")):
        head_line, *lines = path.read_bytes().split(b"\n")[:-1]
        head = msgspec.json.decode(head_line)
        for line in lines:
            event = events.decoder.decode(line)
            found[Identity(head["host"], head["epoch"], event.seq)] = event
    return found


# What was sent and answered, beside the events


class RequestKey(NamedTuple):
    """What one request is known by on both sides: it was asked once, or again because an answer failed to come."""

    host: str
    instance: str
    state: str
    recipient: str


def _asked_key(asked: Asked) -> RequestKey:
    return RequestKey(asked.host, asked.instance, asked.state, asked.recipient)


def _event_keys(found: Found) -> Iterator[tuple[RequestKey, Request]]:
    for identity, event in found.events.items():
        if isinstance(event, Request):
            recipient = event.recipient if event.protocol_state == RCPT else ""
            yield RequestKey(identity.host, event.instance, event.protocol_state, recipient), event


def missing(truth: Iterable[Asked], found: Found) -> list[Asked]:
    """Requests that were answered and have no event."""
    there = Counter(key for key, _ in _event_keys(found))
    lost = []
    for asked in truth:
        if asked.answered:
            key = _asked_key(asked)
            there[key] -= 1
            if there[key] < 0:
                lost.append(asked)
    return lost


def invented(truth: Iterable[Asked], found: Found) -> list[str]:
    """Events of requests that were never sent, or more of them than were sent."""
    sent = Counter(map(_asked_key, truth))
    there = Counter(key for key, _ in _event_keys(found))
    return [f"{count} events of {key}, sent {sent[key]} times" for key, count in there.items() if count > sent[key]]


def altered(truth: Iterable[Asked], found: Found) -> list[str]:
    """Events that say something else than what was asked and answered."""
    actions: dict[RequestKey, set[str]] = defaultdict(set)
    people: dict[RequestKey, tuple[str, str]] = {}
    for asked in truth:
        actions[_asked_key(asked)].add(asked.action)
        people[_asked_key(asked)] = (asked.account, asked.client)
    wrong = []
    for key, event in _event_keys(found):
        unanswered = "" in actions[key]  # then nobody knows what the agent said
        if (event.action not in actions[key] and not unanswered) or people.get(key) != (
            event.sasl_username,
            event.client_address,
        ):
            wrong.append(f"{key}: {event} instead of {actions[key]}, {people.get(key)}")
    return wrong


def miscounted(truth: Sequence[Asked], found: Found) -> list[str]:
    """Messages whose events add up to something else than what was accepted and asked for.

    Messages with a request that had no answer or no event are left out: there the host cannot know better.
    """
    uncertain = {asked.instance for asked in truth if not asked.answered}
    uncertain |= {asked.instance for asked in missing(truth, found)}
    expected: dict[str, Counter[str]] = defaultdict(Counter)
    for asked in truth:
        if asked.instance in uncertain:
            continue
        sums = expected[asked.instance]
        if asked.state == RCPT:
            sums["attempted"] += 1
            sums["recipients"] += asked.accepted
        elif asked.state == END_OF_MESSAGE and asked.accepted:
            sums["bytes"] += asked.size
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for key, event in _event_keys(found):
        sums = counted[key.instance]
        sums["attempted"] += event.attempted_recipients
        sums["recipients"] += event.recipients
        sums["bytes"] += event.bytes
        sums["messages"] += event.messages
    return [
        f"message {instance}: counted {dict(counted[instance])}, expected {dict(sums)}"
        for instance, sums in expected.items()
        if counted[instance] != sums + Counter(messages=int(sums["recipients"] > 0))
    ]


def miscounted_outcomes(truth: Mapping[str, Mapping[str, int]], found: Found) -> list[str]:
    """Subjects whose outcomes add up to something else than what happened: subject → result → how often."""
    counted = {
        subject: {result: sum(counts.values()) for result, counts in told.counts.items()}
        for subject, told in found.outcomes.items()
    }
    return [
        f"outcomes of {subject}: counted {counted.get(subject, {})}, expected {dict(results)}"
        for subject, results in truth.items()
        if counted.get(subject, {}) != results
    ]


# From the spool to the windows


def unlike_spool(spooled: dict[Identity, Event], found: Found) -> list[str]:
    """Events that stand in the spool's files and not on weir.events, or otherwise there."""
    return [
        f"{identity} is {event} in the spool"
        for identity, event in spooled.items()
        if found.events.get(identity) != event
    ]


def holes(found: Found) -> list[str]:
    """Partitions of weir.events and weir.tallies that are not a prefix, with repeated tails, of what was sent."""
    events_of: dict[tuple[str, str], list[int]] = defaultdict(list)
    tallies_of: dict[Line, list[tuple[int, str]]] = defaultdict(list)
    for identity, event in sorted(found.events.items()):
        events_of[identity.host, identity.epoch].append(identity.seq)
        for tally in tallies.tallies(event):
            line = Line(subjects.partition(tally.subject), identity.host, identity.epoch)
            tallies_of[line].append((identity.seq, tally.subject))
    wrong = []
    for line, order in found.event_order.items():
        wrong += _leaps(f"weir.events {line}", order, events_of[line.host, line.epoch])
    for line in tallies_of.keys() | found.tally_order.keys():
        wrong += _leaps(f"weir.tallies {line}", found.tally_order.get(line, []), tallies_of[line])
    return wrong


def _leaps(name: str, order: Sequence[T], sent: Sequence[T]) -> list[str]:
    """Whether `order` is all of `sent`, from the first on, each followed by its next one or one from before."""
    places = {record: place for place, record in enumerate(sent)}
    last, wrong = -1, []
    for record in order:
        place = places.get(record)
        if place is None:
            wrong.append(f"{name}: {record} was never sent")
        elif place > last + 1:
            wrong.append(f"{name}: {record} follows {sent[last] if last >= 0 else 'nothing'}, something is missing")
        last = last if place is None else place
    if len(places.keys() - set(order)):
        wrong.append(f"{name}: {len(places.keys() - set(order))} of {len(sent)} records are missing")
    return wrong


def unlike_events(found: Found) -> list[str]:
    """Tallies that do not follow from the events, or the reverse."""
    expected = {
        (identity, tally.subject): tally for identity, event in found.events.items() for tally in tallies.tallies(event)
    }
    return [
        f"tally {key} is {found.tallies.get(key)}, expected {expected.get(key)}"
        for key in expected.keys() | found.tallies.keys()
        if expected.get(key) != found.tallies.get(key)
    ]


def wrong_windows(found: Found) -> list[str]:
    """Subjects whose windows or outcomes are not the sums of their tallies, and hosts that are not counted to their
    end."""
    return [*_wrong_sums(found), *_wrong_outcomes(found), *_wrong_ends(found)]


def _wrong_sums(found: Found) -> Iterator[str]:
    sums: dict[str, dict[int, tuple[int, int]]] = defaultdict(dict)
    for (_, subject), tally in found.tallies.items():
        window = found.windows.get(subject)
        bucket = windows.bucket_of(tally.time)
        is_before = window is not None and bucket * windows.BUCKET_SECONDS < window.after
        if (tally.messages or tally.recipients) and not is_before:
            messages, recipients = sums[subject].get(bucket, (0, 0))
            sums[subject][bucket] = (messages + tally.messages, recipients + tally.recipients)
    for subject, buckets in sums.items():
        if subject not in found.windows or found.windows[subject].buckets != buckets:
            yield f"window of {subject} is {found.windows.get(subject)}, expected {buckets}"


def _wrong_outcomes(found: Found) -> Iterator[str]:
    sums: dict[str, dict[str, Counter[int]]] = defaultdict(lambda: defaultdict(Counter))
    for (_, subject), tally in found.tallies.items():
        told = found.outcomes.get(subject)
        bucket = outcomes.bucket_of(tally.time)
        is_before = told is not None and bucket * outcomes.BUCKET_SECONDS < told.after
        if tally.results and not is_before:
            sums[subject][tally.result][bucket] += tally.results
    for subject, expected in sums.items():
        if subject not in found.outcomes or found.outcomes[subject].counts != expected:
            yield f"outcomes of {subject} are {found.outcomes.get(subject)}, expected {dict(expected)}"


def _wrong_ends(found: Found) -> Iterator[str]:
    last: dict[Line, int] = {}
    for identity, subject in found.tallies:
        line = Line(subjects.partition(subject), identity.host, identity.epoch)
        last[line] = max(last.get(line, 0), identity.seq)
    for line, seq in last.items():
        if found.counted.get(line) != seq:
            yield f"{line} is counted to {found.counted.get(line)}, expected {seq}"
