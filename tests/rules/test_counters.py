"""Counters of one host, held against plain lists of what was counted when."""

import itertools
import random
import time
from collections import defaultdict

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from weir.rules import counters
from weir.rules.counters import Counter, Counters
from weir.rules.needs import Limit

START = 1_800_000_000.0


def limit(
    maximum: float = 2, seconds: float = 60, rule: str = "R", item: str = "sender", function: str = "rate"
) -> Limit:
    return Limit(function, item, maximum, seconds, rule, "digest")


def test_a_count_above_the_maximum_exceeds_and_is_counted() -> None:
    some = Counters()
    assert [some.count(limit(), "a", 1, {}, START) for _ in range(4)] == [(1, False), (2, False), (3, True), (4, True)]
    assert some.count(limit(), "b", 3, {}, START) == (3, True)


def test_a_window_is_not_moved_and_its_last_moment_belongs_to_it() -> None:
    some = Counters()
    moments = [0, 59, 60, 60.000001, 119, 120.000001, 120.000002]
    assert [some.count(limit(), "a", 1, {}, START + moment)[0] for moment in moments] == [1, 2, 3, 1, 2, 3, 1]


def test_limits_that_are_told_apart_and_those_that_are_not() -> None:
    some = Counters()
    others = [limit(maximum=3), limit(seconds=61), limit(rule="S"), limit(item="recipient")]
    assert [some.count(one, "a", 1, {}, START)[0] for one in [limit(), *others]] == [1, 1, 1, 1, 1]
    # As in postfwd, what counts is no part of a counter's name.
    assert some.count(limit(function="rcpt"), "a", 5, {}, START) == (6, True)


def test_strange_limits_do_no_harm() -> None:
    some = Counters()
    assert some.count(limit(maximum=-1), "a", 1, {}, START) == (1, True)
    assert some.count(limit(seconds=float("inf")), "a", 1, {}, START) == (1, False)
    assert some.count(limit(seconds=float("inf")), "a", 1, {}, START + 1e6) == (2, False)
    assert some.count(limit(), "much", 10**30, {}, START)[1]
    assert some.count(limit(), "much", 10**30, {}, START)[1]
    assert some.count(limit(), "with blanks ", 1, {}, START) == (1, False)
    assert {one.key for one in some.dump(START)} == {"a", "much", "with blanks "}


def test_counters_are_kept_over_a_restart_as_far_as_they_are_not_over() -> None:
    some = Counters()
    some.count(limit(), "long", 2, {}, START)
    some.count(limit(seconds=1), "short", 2, {}, START)
    other = Counters()
    records = msgspec.json.decode(msgspec.json.encode(list(some.dump(START))), type=list[Counter])
    other.restore(records, START + 10)
    assert list(other.dump(START + 10)) == [Counter("sender", "long", "R", 2, 60, START + 60, 2)]
    assert other.count(limit(), "long", 1, {}, START + 60) == (3, True)
    assert other.count(limit(), "long", 1, {}, START + 60.1) == (1, False)


def test_a_counter_of_a_clock_that_was_wrong_is_not_taken_up() -> None:
    some = Counters()
    some.restore([Counter("sender", "a", "R", 2, 60, START + 1e6, 2)], START)
    assert len(some) == 0


def test_the_fullest_come_first() -> None:
    some = Counters()
    for key, increment, maximum in [("half", 5, 10), ("over", 30, 10), ("few", 100, 1000), ("over long ago", 99, 10)]:
        some.count(limit(maximum), key, increment, {}, START - 100 * (key == "over long ago"))
    found = some.fullest(2, START)
    assert [(one.key, one.count, one.share) for one in found] == [("over", 30, 3.0), ("half", 5, 0.5)]


def test_reset_by_item_and_value_or_by_value() -> None:
    some = Counters()
    both = [limit(), limit(rule="S"), limit(item="recipient")]

    def fill() -> None:
        for one in both:
            some.count(one, "a", 1, {}, START)
        some.count(limit(), "b", 1, {}, START)

    fill()
    assert some.reset("sender=a") == 2
    assert some.reset("sender=a") == 0
    assert len(some) == 2
    fill()
    assert some.reset("a") == 3
    fill()
    assert some.reset("sender=A") == 2
    assert some.reset("A") == 1
    assert [one.key for one in some.dump(START)] == ["b"]
    some.count(limit(), "x=y", 1, {}, START)
    assert some.reset("x=y") == 1
    assert some.reset("nobody") == 0


def test_a_counter_that_began_before_a_release_is_void() -> None:
    some = Counters()
    some.void(limit(), "a", START)
    some.count(limit(), "a", 2, {}, START)
    some.void(limit(), "a", START)
    assert some.count(limit(), "a", 1, {}, START + 1) == (3, True)
    some.void(limit(), "b", START + 1)
    some.void(limit(rule="S"), "a", START + 1)
    assert some.count(limit(), "a", 1, {}, START + 1) == (4, True)
    some.void(limit(), "a", START + 1)
    assert some.count(limit(), "a", 1, {}, START + 1) == (1, False)


def test_all_that_has_expired_goes_by_and_by() -> None:
    some = Counters()
    for number in range(5000):
        some.count(limit(seconds=10), str(number), 1, {}, START)
    some.count(limit(seconds=1e6), "stays", 1, {}, START)
    now = START + 11
    sizes = []
    while now < START + 11 + 3 * counters.SWEEP_SECONDS:
        some.sweep(now)
        sizes.append(len(some))
        now += 0.1
    assert sizes[-1] == 1
    assert max(before - after for before, after in itertools.pairwise(sizes)) < 500
    assert [one.key for one in some.dump(now)] == ["stays"]


def test_counting_forgets_too_even_if_the_clock_was_set_back() -> None:
    some = Counters()
    some.count(limit(), "ahead", 1, {}, START + 1e6)
    for number in range(1000):
        some.count(limit(seconds=1), str(number), 1, {}, START)
    for step in range(1000):
        some.count(limit(), "a", 1, {}, START + 100 + step)
    assert {one.key for one in some.dump(START)} >= {"a"}
    assert len(some) <= 2


Step = tuple[int, str, int, float]
LIMITS = [limit(), limit(1, 5), limit(3, 0.5, "S"), limit(10, 20, item="recipient")]


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(
            st.integers(0, len(LIMITS) - 1),
            st.sampled_from(["a", "b", "c"]),
            st.integers(1, 4),
            st.integers(0, 40).map(lambda quarters: quarters / 4),
        ),
        max_size=60,
    )
)
def test_counters_are_what_a_plain_list_of_times_says(steps: list[Step]) -> None:
    some = Counters()
    counted: dict[tuple[int, str], list[tuple[float, int]]] = defaultdict(list)
    now = START
    for number, key, increment, pause in steps:
        now += pause
        one = LIMITS[number]
        times = counted[number, key]
        if times and now > times[0][0] + one.seconds:
            times.clear()
        times.append((now, increment))
        total = sum(increment for _, increment in times)
        assert some.count(one, key, increment, {}, now) == (total, total > one.maximum)


def test_many_counters_cost_little_and_no_step_is_long() -> None:
    """The numbers of a million are the benchmark's; here a tenth of it, with wide margins."""
    some = Counters()
    longest = 0.0
    now = START
    names = [f"user{random.getrandbits(40):x}@example.org" for _ in range(100_000)]
    for name in names:
        now += 0.001
        began = time.thread_time()
        some.count(limit(seconds=30), name, 1, {}, now)
        longest = max(longest, time.thread_time() - began)
    assert longest < 0.02
    assert len(some) < len(names)
