"""Limits over the fleet equal an oracle that knows nothing but the list of facts: in any order, over any restart."""

from collections import defaultdict
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import weir.limits
from streams import changelog, limits, shelf
from streams.limits import LimitWindow
from streams.partition import BrokenChangelogError, Partition, Totals
from tests.streams import made
from tests.streams.made import NOW, PARTITION
from weir import decisions, operators, subjects, topics
from weir.operators import Operators, Word
from weir.tallies import Tally

SECONDS = 120.0
BUCKET = SECONDS / 12
MAXIMUM = 10.0


def subject_of(number: int) -> str:
    return subjects.limit("ab" * 8, subjects.limit_key("sasl_username", f"user{number}@example.org"))


ALICE, BOB = made.of_partition(PARTITION, 2, subject_of)


def owner(subject: str) -> str:
    return subjects.owner(subject)


def tally(seq: int, time: float, increment: int = 1, subject: str = ALICE, **other: object) -> Tally:
    found = {"maximum": MAXIMUM, "seconds": SECONDS, "what": "rate DAILY"} | other
    return Tally(seq, subject, time, increment=increment, **found)  # type: ignore[arg-type]


class Topic(made.Topic):
    def window(self, subject: str = ALICE) -> LimitWindow:
        return limits.decode(self.records[changelog.limit_key(subject)])

    def says(self, now: float, subject: str = ALICE) -> bool:
        """Whether an agent would take the limit as exhausted."""
        newest = [decision for decision in self.published if decision.subject == subject]
        return bool(newest) and now < newest[-1].until


def bucket(time: float) -> int:
    return int(time // BUCKET)


class Fact(NamedTuple):
    subject: str
    time: float
    increment: int


def naive_sum(facts: list[Fact], subject: str, now: float) -> int:
    return sum(
        fact.increment for fact in facts if fact.subject == subject and bucket(fact.time) > bucket(now) - limits.BUCKETS
    )


facts = st.lists(
    st.builds(
        Fact,
        st.sampled_from([ALICE, BOB]),
        st.one_of(st.floats(NOW - 200, NOW), st.floats(NOW - 30, NOW)),
        st.integers(1, 4),
    ),
    max_size=40,
)
steps = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from(["write", "crash", "sweep", "go on"]), st.floats(0, 40)), max_size=15
)


@given(facts, steps, st.floats(0, 200))
@settings(max_examples=300, deadline=None)
def test_what_is_said_equals_the_oracle(sent: list[Fact], steps: list[tuple[int, str, float]], later: float) -> None:
    """Exhausted is said exactly while the facts in the window reach the maximum, however it came to be counted."""
    topic = Topic()
    for seq, fact in enumerate(sent, start=1):
        topic.send(tally(seq, fact.time, fact.increment, fact.subject))
    now = NOW
    for number, step, seconds in steps:
        topic.count(now, number)
        if step == "write":
            topic.write()
        elif step == "crash":
            topic.start(now)
        elif step == "sweep":
            topic.partition.sweep(now, 100)
        now += seconds
    topic.step(now)
    if not sent:
        return
    for subject in (ALICE, BOB):
        for moment in (now, now + later):
            expected = naive_sum(sent, subject, moment) >= MAXIMUM
            assert topic.says(moment, subject) == expected, (subject, moment - NOW)


@given(facts, st.permutations(range(40)), st.floats(0, 150))
@settings(max_examples=200, deadline=None)
def test_the_order_does_not_matter(sent: list[Fact], order: list[int], later: float) -> None:
    ends = []
    for places in (range(len(sent)), [place for place in order if place < len(sent)]):
        topic = Topic()
        for seq, place in enumerate(places, start=1):
            topic.send(tally(seq, sent[place].time, sent[place].increment, sent[place].subject))
        topic.step(NOW + later)
        ends.append({decision.subject: (decision.until, decision.id) for decision in topic.published})
    assert ends[0] == ends[1]


@given(st.lists(st.tuples(st.floats(0, 400), st.integers(1, 4)), min_size=1, max_size=60), st.floats(0, 400))
@settings(max_examples=300, deadline=None)
def test_between_the_exact_sums_of_12_and_13_twelfths(hits: list[tuple[float, int]], ask: float) -> None:
    """The design's bounds: never below the exact sum of `seconds`, never above that of 13 twelfths of them."""
    topic = Topic()
    asked = NOW + ask
    hits = sorted(hit for hit in hits if hit[0] <= ask)
    for seq, (after, increment) in enumerate(hits, start=1):
        topic.send(tally(seq, NOW + after, increment))
        topic.step(NOW + after)

    def exact(seconds: float) -> int:
        return sum(increment for after, increment in hits if asked - (NOW + after) < seconds)

    if topic.says(asked):
        assert exact(SECONDS * 13 / 12 + 1e-6) >= MAXIMUM
    else:
        assert exact(SECONDS - 1e-6) < MAXIMUM


def test_a_decision_explains_itself() -> None:
    topic = Topic()
    topic.send(tally(1, NOW, 6), host="mx1")
    topic.send(tally(1, NOW, 4), host="mx2")
    topic.step(NOW)
    (decision,) = topic.published
    assert (decision.cause, decision.subject, decision.action, decision.shadow) == ("limit", ALICE, "", False)
    evidence = decision.evidence
    assert (evidence.counter, evidence.count, evidence.threshold, evidence.seconds) == ("rate DAILY", 10, 10, 120)
    assert (evidence.hosts, evidence.time) == (["mx1", "mx2"], NOW)
    assert decision.until == (bucket(NOW) + 13) * BUCKET


def test_it_is_said_again_only_when_its_end_has_moved() -> None:
    topic = Topic()
    start = bucket(NOW) * BUCKET
    topic.send(tally(1, start, 10))
    topic.step(start)
    topic.send(tally(2, start + 1, 5))
    topic.step(start + 1)
    assert len(topic.published) == 1
    topic.send(tally(3, start + BUCKET, 9))
    topic.step(start + BUCKET)
    assert len(topic.published) == 1, "when the first bucket has left, 9 remain"
    topic.send(tally(4, start + BUCKET, 1))
    topic.step(start + BUCKET)
    first, second = topic.published
    assert second.until == first.until + BUCKET
    assert (second.id, second.since, second.change) == (first.id, first.since, 1)


def test_a_new_episode_has_a_new_id() -> None:
    topic = Topic()
    topic.send(tally(1, NOW, 10))
    topic.step(NOW)
    topic.send(tally(2, NOW + 500, 10))
    topic.step(NOW + 500)
    first, second = topic.published
    assert first.id != second.id
    assert (first.change, second.change) == (0, 0)


@pytest.mark.parametrize("released_first", [True, False])
def test_a_release_forgets_the_buckets_that_began_before_it(released_first: bool) -> None:
    said = Operators()
    topic = Topic(said)
    word = Word(operators.VERSION, "op", "release", owner(ALICE), "me", "why")

    def release() -> None:
        said.apply(operators.key(word), operators.encoder.encode(word), NOW)

    if released_first:
        release()
    topic.send(tally(1, NOW - 20, 6))
    topic.step(NOW - 20)
    release()
    topic.send(tally(2, NOW + 15, 6))
    topic.step(NOW + 15)
    assert topic.published == []
    assert sum(topic.window().sums) == 6
    topic.send(tally(3, NOW + 15, 4))
    topic.step(NOW + 15)
    (decision,) = topic.published
    assert decision.after == NOW
    assert decision.evidence.count == 10


def test_a_release_of_the_limit_itself_counts_too() -> None:
    said = Operators()
    topic = Topic(said)
    topic.send(tally(1, NOW, 10), tally(2, NOW, 10, BOB))
    topic.step(NOW)
    word = Word(operators.VERSION, "op", "release", ALICE, "me", "why")
    said.apply(operators.key(word), operators.encoder.encode(word), NOW + 20)
    topic.send(tally(3, NOW + 40, 1), tally(4, NOW + 40, 1, BOB))
    topic.step(NOW + 40)
    assert (topic.window(ALICE).sums, topic.window(BOB).sums) == ([1], [10, 1])


def test_whoever_is_allowed_is_counted_and_nothing_is_said() -> None:
    said = Operators()
    word = Word(operators.VERSION, "op", "allow", owner(ALICE), "me", "why", NOW + 60)
    said.apply(operators.key(word), operators.encoder.encode(word), NOW)
    topic = Topic(said)
    topic.send(tally(1, NOW, 50))
    topic.step(NOW)
    assert topic.published == []
    assert topic.window().sums == [50]


def test_detectors_and_accounts_know_nothing_of_limits() -> None:
    topic = Topic()
    topic.send(tally(1, NOW, 10**9))
    topic.step(NOW)
    assert topic.partition.accounts == 0
    assert not topic.judge.brake.is_on(NOW, 1)
    assert {key[:2] for key in topic.records} == {b"l:", b"h:", b"o"}


def test_a_quiet_window_becomes_bytes_and_an_empty_one_goes() -> None:
    topic = Topic()
    topic.send(tally(1, NOW, 3, seconds=3600.0), tally(2, NOW, 3, BOB))
    topic.step(NOW)
    topic.partition.sweep(NOW + 1000, 10)
    topic.write()
    assert {key for key in topic.records if key.startswith(b"l:")} == {changelog.limit_key(ALICE)}
    assert len(topic.partition.limits) == 1
    topic.send(tally(3, NOW + 1000, 7, seconds=3600.0))
    topic.step(NOW + 1000)
    assert [decision.subject for decision in topic.published] == [ALICE]


def test_the_decision_of_an_empty_window_is_removed() -> None:
    topic = Topic()
    topic.send(tally(1, NOW, 10), tally(2, NOW, 9, BOB))
    topic.step(NOW)
    (until,) = (decision.until for decision in topic.published)
    topic.partition.sweep(until - 0.001, 10)
    topic.write()
    assert topic.ended == []
    topic.start(NOW)
    topic.partition.sweep(until, 10)
    topic.write()
    assert topic.ended == [decisions.key("limit", ALICE)], "BOB's has never been exhausted"
    assert not any(key.startswith(b"l:") for key in topic.records)
    topic.step(until + 1000)
    assert len(topic.ended) == 1


def test_a_decision_that_follows_one_not_yet_removed_stays() -> None:
    topic = Topic()
    topic.send(tally(1, NOW, 10))
    topic.step(NOW)
    topic.partition.sweep(NOW + 500, 10)
    topic.send(tally(2, NOW + 500, 10))
    topic.step(NOW + 500)
    assert (len(topic.published), topic.ended) == (2, [])


def test_there_are_never_more_windows_than_memory_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "MOST", 1)
    topic = Topic()
    topic.send(tally(1, NOW, 10), tally(2, NOW, 10, BOB))
    topic.step(NOW)
    topic.send(tally(3, NOW + BUCKET, 10))
    topic.step(NOW + BUCKET)
    assert [decision.subject for decision in topic.published] == [ALICE, ALICE], "what is there is counted on"
    assert topic.totals.left_out == 1
    topic.partition.sweep(NOW + 500, 10)
    topic.send(tally(4, NOW + 500, 10, BOB))
    topic.step(NOW + 500)
    assert topic.published[-1].subject == BOB


def test_a_decision_is_kept_for_as_long_as_it_may_be_in_force() -> None:
    (topic,) = (topic for topic in topics.ALL if topic.name == topics.DECISIONS)
    assert int(topic.config["retention.ms"]) / 1000 > weir.limits.MAX_SECONDS * limits.BUCKETS / 12


@pytest.mark.parametrize("other", [{"seconds": 11.0}, {"maximum": 0.0}, {"subject": owner(ALICE)}])
def test_a_tally_that_is_no_limit_of_ours_is_told(other: dict[str, Any]) -> None:
    topic = Topic()
    topic.send(tally(1, NOW, 5, **other))
    topic.count(NOW)
    batch = topic.partition.snapshot()
    assert len(batch.dead) == 1
    assert len(topic.partition.limits) == 0


@pytest.mark.parametrize(
    "other", [{"increment": -1}, {"increment": 2**41}, {"seconds": 1e9}, {"maximum": 1e18}, {"what": "x" * 61}]
)
def test_numbers_out_of_range_are_refused(other: dict[str, object]) -> None:
    topic = Topic()
    topic.envelopes.append(made.envelope([tally(1, NOW, **({"increment": 1} | other))]))  # type: ignore[arg-type]
    topic.count(NOW)
    assert topic.totals.dead == 1


@pytest.mark.parametrize("value", [b"", b"\x90", b"\x93\x02\x00\x00", b"garbage"])
def test_a_broken_record_stops_the_partition(value: bytes) -> None:
    partition = Partition(PARTITION, made.judge(), Totals())
    with pytest.raises(BrokenChangelogError):
        partition.restore([(changelog.limit_key(ALICE), value)], NOW)


def test_windows_of_before_are_read_beside_those_of_limits() -> None:
    """A changelog that an older worker wrote, and then this one."""
    topic = Topic()
    topic.send(made.tally(1, made.ACCOUNTS[0], NOW))
    topic.step(NOW)
    topic.send(tally(2, NOW))
    topic.step(NOW)
    topic.start(NOW)
    assert (topic.partition.accounts, len(topic.partition.limits)) == (1, 1)
    found: dict[str, int] = defaultdict(int)
    for key in topic.records:
        found[key[:2].decode()] += 1
    assert found == {"s:": 1, "l:": 1, "h:": 1, "o": 1}
