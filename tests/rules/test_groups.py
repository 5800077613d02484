"""Groups of values, each in for a while."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.rules import groups
from weir.rules.groups import Groups


def test_a_value_is_in_for_its_time_and_without_case() -> None:
    some = Groups()
    some.add("BAD", "Alice@Example.org", 60, now=100.0)
    assert some.contains("BAD", "alice@example.ORG", now=159.9)
    assert not some.contains("BAD", "alice@example.org", now=160.0)
    assert not some.contains("GOOD", "alice@example.org", now=100.0)
    assert not some.contains("BAD", "bob@example.org", now=100.0)


def test_a_membership_is_not_extended_but_may_begin_again() -> None:
    some = Groups()
    some.add("BAD", "a", 60, now=100.0)
    some.add("BAD", "a", 600, now=150.0)
    assert not some.contains("BAD", "a", now=161.0)
    some.add("BAD", "a", 60, now=161.0)
    assert some.contains("BAD", "a", now=220.0)


def test_a_value_is_taken_out() -> None:
    some = Groups()
    some.add("BAD", "a", 60, now=100.0)
    some.remove("BAD", "A")
    some.remove("BAD", "b")
    some.remove("NONE", "b")
    assert some.members("BAD", now=100.0) == []


def test_what_is_over_goes_and_a_full_group_takes_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "LARGEST", 2)
    some = Groups()
    for value in "abc":
        some.add("A", value, 60, now=0.0)
    assert some.members("A", now=0.0) == ["a", "b"]
    some.add("A", "d", 60, now=groups.SWEEP_SECONDS)
    assert some.members("A", now=groups.SWEEP_SECONDS) == ["d"]


@given(
    st.lists(st.tuples(st.sampled_from("AB"), st.sampled_from("xyX"), st.integers(1, 9), st.booleans()), max_size=40)
)
def test_groups_are_what_a_plain_list_of_times_says(steps: list[tuple[str, str, int, bool]]) -> None:
    some = Groups()
    plain: dict[tuple[str, str], float] = {}
    for now, (group, value, seconds, adds) in enumerate(steps):
        member = group, value.lower()
        if adds:
            some.add(group, value, seconds, float(now))
            if plain.get(member, 0) <= now:
                plain[member] = now + seconds
        else:
            some.remove(group, value)
            plain.pop(member, None)
        for one in "AB":
            expected = sorted(value for (group, value), end in plain.items() if group == one and end > now)
            assert sorted(some.members(one, float(now))) == expected
