"""Outcomes equal plain sums of what the mail log told: in any order, over any restart, on both sides of a release."""

from collections import Counter, defaultdict
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import changelog, outcomes
from streams.outcomes import OutcomeWindow
from streams.partition import BrokenChangelogError
from tests.streams import made
from tests.streams.made import NOW, PARTITION, Topic
from weir import operators, subjects, tallies
from weir.events import Delivery
from weir.operators import Operators, Word
from weir.tallies import RESULTS, Tally

ALICE, CLIENT = made.ACCOUNTS[0], made.CLIENTS[0]
(WEB,) = made.of_partition(PARTITION, 1, subjects.uid)
DAY = 25 * 3600.0

Counts = dict[str, dict[int, int]]


def tally(seq: int, time: float, result: str = "sent", results: int = 1, subject: str = ALICE) -> Tally:
    return Tally(seq, subject, time, result=result, results=results)


def told(topic: Topic, subject: str = ALICE) -> Counts:
    """What the changelog says."""
    value = topic.records.get(changelog.outcome_key(subject))
    return outcomes.decode(value).counts if value is not None else {}


def release(said: Operators, subject: str, time: float) -> None:
    word = Word(operators.VERSION, "op", "release", subject, "me", "why")
    said.apply(operators.key(word), operators.encoder.encode(word), time)


class Fact(NamedTuple):
    subject: str
    time: float
    result: str
    number: int


def naive_counts(facts: list[Fact], subject: str, after: float = 0.0) -> Counts:
    """The oracle: sums of those whose five minutes begin at or after a time."""
    sums: dict[str, Counter[int]] = defaultdict(Counter)
    for fact in facts:
        bucket = int(fact.time) // 300
        if fact.subject == subject and bucket * 300 >= after:
            sums[fact.result][bucket] += fact.number
    return {result: dict(counts) for result, counts in sums.items()}


SUBJECTS = [ALICE, CLIENT, WEB]
facts = st.lists(
    st.builds(
        Fact,
        st.sampled_from(SUBJECTS),
        st.one_of(st.floats(NOW - DAY, NOW + 60), st.floats(NOW - 900, NOW)),
        st.sampled_from(RESULTS),
        st.integers(1, 3),
    ),
    max_size=40,
)
steps = st.lists(
    st.tuples(
        st.integers(0, 8),
        st.sampled_from(["write", "crash", "sweep", "release", "go on"]),
        st.sampled_from(SUBJECTS),
        st.floats(NOW - 3600, NOW - 300),
    ),
    max_size=15,
)


@given(st.lists(facts, min_size=1, max_size=3), st.randoms(use_true_random=False), steps)
@settings(max_examples=300, deadline=None)
def test_sums_equal_the_oracle(hosts: list[list[Fact]], chance: Any, steps: list[tuple[int, str, str, float]]) -> None:
    """Several hosts, their envelopes in any order among each other and with repeated tails; crashes and releases."""
    said = Operators()
    topic = Topic(said)
    lines = {
        f"mx{host}": [tally(seq, *fact[1:], fact[0]) for seq, fact in enumerate(own, 1)]
        for host, own in enumerate(hosts)
    }
    released: dict[str, float] = {}
    sent: dict[str, int] = dict.fromkeys(lines, 0)
    while waiting := [host for host, own in lines.items() if sent[host] < len(own)]:
        host = chance.choice(waiting)
        start = max(0, sent[host] - chance.randrange(4))
        sent[host] = min(sent[host] + chance.randrange(1, 9), len(lines[host]))
        topic.send(*lines[host][start : sent[host]], host=host)
    for number, step, subject, time in steps:
        topic.count(NOW, number)
        if step == "write":
            topic.write()
        elif step == "crash":
            topic.start(NOW)
        elif step == "sweep":
            topic.partition.sweep(NOW, 100)
        elif step == "release":
            released[subject] = max(time, released.get(subject, 0.0))  # times of the broker rise
            release(said, subject, released[subject])
    everything = [fact for own in hosts for fact in own]
    for seq, subject in enumerate(SUBJECTS, start=1000):  # a release is taken in with what is counted after it
        everything.append(Fact(subject, NOW, "sent", 1))
        topic.send(tally(seq, NOW, subject=subject), host="last")
    topic.step(NOW)
    assert {subject: told(topic, subject) for subject in SUBJECTS} == {
        subject: naive_counts(everything, subject, released.get(subject, 0.0)) for subject in SUBJECTS
    }
    assert topic.totals.dead == 0


places = st.integers(0, 3 * outcomes.RING) | st.sampled_from(
    [1, 2, outcomes.RING, outcomes.RING + 1, outcomes.RING + 2]
)
"""Buckets anywhere, and at the edges of the ring."""


@given(
    st.lists(st.tuples(places, st.sampled_from(RESULTS[:3])), min_size=1, max_size=60),
    st.permutations(range(60)),
    st.integers(0, 60),
)
@settings(max_examples=300, deadline=None)
def test_25_hours_are_kept_in_whatever_order(seen: list[tuple[int, str]], order: list[int], restart: int) -> None:
    window = OutcomeWindow()
    for number, place in enumerate(place for place in order if place < len(seen)):
        bucket, result = seen[place]
        window.count(bucket * 300.0, result, 1)
        if number == restart:
            window = outcomes.decode(window.encode())
    oldest = max(bucket for bucket, _ in seen) - outcomes.RING
    kept = [Fact("", bucket * 300.0, result, 1) for bucket, result in seen if bucket > oldest]
    assert window.counts == naive_counts(kept, "")


@pytest.mark.parametrize(("age", "counts"), [(-60, 1), (-61, 0), (DAY, 1), (DAY + 1, 0)])
@pytest.mark.parametrize("now", [NOW, NOW + 250])
def test_what_is_not_of_now_is_counted_in_a_metric(now: float, age: float, counts: int) -> None:
    """The newest bucket is as new as it may be, and takes nothing from the oldest."""
    topic = Topic()
    topic.send(tally(1, now + 60, "login", 3), tally(2, now - age), tally(2, now - age))
    topic.step(now)
    assert sum(told(topic).get("sent", {}).values()) == 2 * counts
    assert topic.totals.untimely == 2 - 2 * counts
    assert topic.totals.results == Counter({"login": 3, "sent": 2 * counts})
    topic.send(tally(2, now))
    topic.step(now)
    assert topic.totals.repeats == 1


def test_a_late_bounce_lies_where_its_message_was_submitted() -> None:
    submitted = NOW - 20 * 3600
    event = Delivery(
        seq=1,
        time=NOW + 30,
        clock_offset=30.0,
        submitted=submitted + 30,
        queue_id="4bXYZ",
        sasl_username=subjects.value(ALICE),
        status="bounced",
        bounce="unknown_recipient",
    )
    topic = Topic()
    topic.send(*tallies.tallies(event))
    topic.step(NOW)
    assert told(topic) == {"bounced_unknown_recipient": {outcomes.bucket_of(submitted): 1}}


def test_a_release_holds_over_a_restart() -> None:
    said = Operators()
    topic = Topic(said)
    begins = NOW // 300 * 300
    topic.send(tally(1, begins - 1), tally(2, begins))
    topic.step(NOW)
    release(said, ALICE, begins)
    topic.send(tally(3, begins - 1), tally(4, begins))
    topic.step(NOW)
    topic.start(NOW)
    said.releases.clear()  # the record itself knows
    topic.send(tally(5, begins - 1), tally(6, begins))
    topic.step(NOW)
    assert told(topic) == {"sent": {begins // 300: 3}}
    assert topic.totals.untimely == 2


def test_what_was_released_and_had_no_more_goes() -> None:
    said = Operators()
    topic = Topic(said)
    topic.send(tally(1, NOW - 600))
    topic.step(NOW)
    release(said, ALICE, NOW)
    topic.send(tally(2, NOW - 600))
    topic.step(NOW)
    assert told(topic) == {}
    topic.partition.sweep(NOW, 10)
    topic.write()
    assert changelog.outcome_key(ALICE) not in topic.records


def test_quiet_ones_become_bytes_and_idle_ones_go() -> None:
    topic = Topic()
    topic.send(tally(1, NOW), tally(2, NOW - 20 * 3600, subject=CLIENT))
    topic.step(NOW)
    last = (outcomes.bucket_of(NOW) + 1) * 300
    topic.partition.sweep(last + 120, 10)
    assert set(topic.partition.outcomes._raw) == {CLIENT}
    topic.partition.sweep(last + 121, 10)
    assert set(topic.partition.outcomes._raw) == {ALICE, CLIENT}
    topic.send(tally(3, NOW + 500), tally(4, NOW + 500, subject=CLIENT))
    topic.step(NOW + 500)
    assert [sum(told(topic, subject)["sent"].values()) for subject in (ALICE, CLIENT)] == [2, 2]
    topic.partition.sweep(NOW + DAY, 10)
    topic.partition.sweep(NOW + DAY, 10)
    topic.write()
    assert len(topic.partition.outcomes) == 2
    topic.partition.written = topic.partition.next
    assert topic.partition.is_written
    topic.partition.sweep(NOW + 500 + DAY + 600, 10)
    assert not topic.partition.is_written, "there are tombstones to write"
    topic.write()
    assert len(topic.partition.outcomes) == 0
    assert not any(key.startswith(b"r:") for key in topic.records)


@pytest.mark.parametrize(
    "other", [{"result": "bounced_by_magic"}, {"subject": subjects.heartbeat(PARTITION)}, {"subject": "uid:no one"}]
)
def test_what_is_no_outcome_of_ours_is_told(other: dict[str, Any]) -> None:
    topic = Topic()
    topic.send(tally(1, NOW, **other), tally(2, NOW))
    topic.count(NOW)
    assert len(topic.partition.snapshot().dead) == 1
    assert len(topic.partition.outcomes) == 1


def test_what_happened_no_time_makes_no_record() -> None:
    topic = Topic()
    topic.send(tally(1, NOW, "login", 0))
    topic.step(NOW)
    assert set(topic.records) == {b"h:mx1:e1", b"o"}


def test_detectors_and_accounts_know_nothing_of_outcomes() -> None:
    topic = Topic()
    topic.send(tally(1, NOW, "sent", 10**9))
    topic.step(NOW)
    assert (topic.published, topic.partition.accounts) == ([], 0)
    assert {key[:2] for key in topic.records} == {b"r:", b"h:", b"o"}


@pytest.mark.parametrize("value", [b"", b"\x90", b"\x93\x02\x00\x00", b"garbage"])
def test_a_broken_record_stops_the_partition(value: bytes) -> None:
    with pytest.raises(BrokenChangelogError):
        made.partition().restore([(changelog.outcome_key(ALICE), value)], NOW)


def test_one_broken_behind_its_head_stops_the_partition_when_it_is_touched() -> None:
    partition = made.partition()
    head = msgspec.msgpack.encode([1, outcomes.bucket_of(NOW), "no counts"])
    partition.restore([(changelog.outcome_key(ALICE), head)], NOW)
    partition.count(0, made.envelope([tally(1, NOW, subject=CLIENT)]), NOW)
    with pytest.raises(BrokenChangelogError):
        partition.count(1, made.envelope([tally(2, NOW)]), NOW)


# Local users, who send by sendmail(1)


def test_a_burst_of_a_local_user_is_decided_as_an_accounts_is() -> None:
    topic = Topic()
    topic.send(made.tally(1, WEB, NOW, 61), host="web1")
    topic.step(NOW)
    (decision,) = topic.published
    assert (decision.subject, decision.cause, decision.shadow) == (WEB, "burst", False)
    assert (decision.evidence.count, decision.evidence.threshold) == (61, 60)
    assert (decision.evidence.hosts, decision.evidence.beside) == (["web1"], [])
    assert topic.partition.accounts == 0


def test_an_operators_word_about_a_local_user_holds() -> None:
    said = Operators()
    topic = Topic(said)
    release(said, WEB, NOW)
    topic.send(made.tally(1, WEB, NOW - 10, 100))
    topic.step(NOW)
    word = Word(operators.VERSION, "op", "allow", WEB, "me", "why", NOW + 20)
    said.apply(operators.key(word), operators.encoder.encode(word), NOW)
    topic.send(made.tally(2, WEB, NOW + 10, 100))
    topic.step(NOW + 10)
    assert topic.published == []
    topic.send(made.tally(3, WEB, NOW + 30))
    topic.step(NOW + 30)
    (decision,) = topic.published
    assert (decision.after, decision.evidence.count) == (NOW, 101)
