"""Numbers as Perl reckons with them and writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.rules import arithmetic


@pytest.mark.parametrize(
    ("old", "operator", "new", "made"),
    [
        ("2", "+", "3", "5"),
        ("5", "-", "7", "-2"),
        ("5", "*", "4", "20"),
        ("6", "/", "3", "2"),
        ("7", "/", "2", "3.5"),
        ("1", "/", "3", "0.333333333333333"),
        ("7", "/", "0", "7"),
        ("0.1", "+", "0.2", "0.3"),
        ("1.50", "+", "0", "1.5"),
        ("2.5", "*", "2", "5"),
        ("9007199254740993", "+", "1", "9007199254740994"),
        ("1000000000", "*", "10000000000", "1e+19"),
        ("19", ".", "x", "19x"),
        ("0", ".", "x", "0x"),
        ("", ".", "x", "x"),
        ("x", "+", "3", "3"),
        ("", "+", "3", "3"),
        ("3", "+", "x", "x"),
        ("3", "+", "1e3", "1e3"),
        ("3", "", " y", " y"),
    ],
)
def test_assignments(old: str, operator: str, new: str, made: str) -> None:
    assert arithmetic.assigned(old, operator, new) == made


@pytest.mark.parametrize(
    ("old", "operator", "points", "score"),
    [
        ("0", "+", 4.0, "4.0"),
        ("2.5", "+", 2.4, "4.9"),
        ("4.9", "+", 0.1, "5.0"),
        ("3.75", "/", 2.0, "1.87"),
        ("1", "-", 2.5, "-1.5"),
        ("9", "=", 1.0, "1.0"),
        ("9", "/", 0.0, "9.0"),
        ("", "+", 1.5, "1.5"),
        ("what a client sent", "+", 1.0, "1.0"),
        ("0.001", "*", 1.0, "0.00"),
    ],
)
def test_scores_are_cut(old: str, operator: str, points: float, score: str) -> None:
    assert arithmetic.scored(old, operator, points) == score


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("15", 15),
        ("0", 0),
        ("", 0),
        ("-5", 0),
        ("12abc", 12),
        (" 7", 7),
        ("1.9", 1),
        ("x", 0),
        ("²", 0),
        ("9" * 99, 10**18 - 1),
    ],
)
def test_what_an_attribute_counts(text: str, whole: int) -> None:
    assert arithmetic.whole(text) == whole


@given(
    st.from_regex(r"-?\d{1,400}(\.\d{1,9})?", fullmatch=True) | st.text(),
    st.sampled_from(["", ".", "+", "-", "*", "/"]),
    st.from_regex(r"-?\d{1,400}(\.\d{1,9})?", fullmatch=True) | st.text(),
)
def test_no_numbers_are_too_much(old: str, operator: str, new: str) -> None:
    assert isinstance(arithmetic.assigned(old, operator, new), str)
    assert isinstance(arithmetic.scored(old, operator or "=", 1e300), str)
