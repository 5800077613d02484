"""Each event once, whatever comes again."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sinks import rows
from sinks.embedded import Embedded
from sinks.identity import Identity, ask
from sinks.rows import Events
from tests.sinks.made import event, events, insert, rows_of

MIDNIGHT = 1_790_035_200.0


def seqs(found: list[Events]) -> list[int]:
    return [seq for one in found for seq in one.seqs]


def test_an_epoch_that_was_not_seen_is_asked_about() -> None:
    division = Identity().divide([events([event(1), event(2)]), events([event(2), event(3)])])
    assert division.new == []
    assert {epoch: seqs(found) for epoch, found in division.unsure.items()} == {("mx1", "e1"): [1, 2, 3]}


def test_what_is_known_to_be_stored_is_a_repeat() -> None:
    identity = Identity()
    identity.stored([events([event(1), event(5)])], {})
    division = identity.divide([events([event(4), event(5), event(6)]), events([event(6), event(7)])])
    assert seqs(division.new) == [6, 7]
    assert not division.unsure
    other = identity.divide([events([event(1)], host="mx2"), events([event(1)], epoch="e2")])
    assert set(other.unsure) == {("mx2", "e1"), ("mx1", "e2")}


def test_what_another_may_have_stored_is_asked_about_to_its_end() -> None:
    identity = Identity()
    identity.stored([events([event(1)])], {("mx1", "e1"): 4})
    division = identity.divide([events([event(seq) for seq in range(1, 8)])])
    assert seqs(division.unsure["mx1", "e1"]) == [2, 3, 4]
    assert seqs(division.new) == [5, 6, 7]
    assert not division.unknown


def test_after_doubt_all_is_asked_about() -> None:
    identity = Identity()
    identity.stored([events([event(5)])], {})
    identity.forget()
    assert identity.divide([events([event(6)])]).unsure


def test_a_dead_letter_sent_again_is_asked_about_and_does_not_take_us_back() -> None:
    identity = Identity()
    identity.stored([events([event(5)])], {})
    again = events([event(2)])
    again.again = True
    assert seqs(identity.divide([again]).unsure["mx1", "e1"]) == [2]
    identity.stored([again], {})
    assert seqs(identity.divide([events([event(3), event(6)])]).new) == [6]


def test_the_history_says_what_is_missing_on_both_sides_of_midnight(store: Embedded) -> None:
    batch = [events([event(seq, time=MIDNIGHT + seq - 50) for seq in range(100)])]
    whole = rows_of(batch[0])
    stored = [row for row in whole if row[rows.EVENT.index("minute")] >= MIDNIGHT]  # the later partition alone
    insert(store, "events", rows.EVENT, stored)
    answer = ask(store, Identity().divide(batch))
    assert answer.greatest == {("mx1", "e1"): 99}
    assert seqs(answer.missing) == [seq for seq in range(100) if seq < 50]


def test_odd_names_of_hosts_are_found_again(store: Embedded) -> None:
    batch = [events([event(1)], host=f"m'x\\{number}") for number in range(450)]
    insert(store, "events", rows.EVENT, rows_of(batch[7]))
    assert len(seqs(ask(store, Identity().divide(batch)).missing)) == 449


@given(st.randoms(use_true_random=False), st.lists(st.tuples(st.integers(1, 60), st.booleans()), max_size=12))
def test_each_event_is_stored_once_whatever_comes_again(chosen: random.Random, steps: list[tuple[int, bool]]) -> None:
    """A model of the sink: it reads on, goes back any way, and loses its memory when it does not know."""
    history: Counter[int] = Counter()
    identity = Identity()
    position = 0
    for length, crash in steps:
        batch = [events([event(seq)]) for seq in range(position, position + length)]
        division = identity.divide(batch)
        unsure = seqs([one for found in division.unsure.values() for one in found])
        greatest = {epoch: max(history, default=0) for epoch in division.unknown}
        new = seqs(division.new) + [seq for seq in unsure if seq not in history]
        if crash:  # a part of the insert was stored, nobody knows which
            new = [seq for seq in new if chosen.random() < 0.5]
        history.update(new)
        if crash:
            identity.forget()
            position = chosen.randint(0, position)
        else:
            identity.stored(batch, greatest)
            position += length
    assert all(count == 1 for count in history.values())
    assert set(range(position)) <= set(history)
