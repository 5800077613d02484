"""Perl's patterns: what they match, what is refused and where, and that no search lasts."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.rules import patterns, structure
from weir.rules.patterns import PatternError


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("alice", "xALICEx", True),
        ("/^alice@/", "alice@example.org", True),
        ("^alice@/", "alice@example.org", True),
        ("/^alice@", "alice@example.org", True),
        ("//", "anything", True),
        ("/", "", True),
        ("", "", True),
        ("a/b", "a/b", True),
        (r"^a\z", "a\n", False),
        (r"^a\Z", "a\n", True),
        ("^a$", "a\n", True),
        ("^a$", "a\nb", False),
        ("a.b", "a\nb", False),
        (r"a\hb", "a\tb", True),
        (r"a\Hb", "a\tb", False),
        (r"[\h]", " ", True),
        (r"a\Nb", "a\nb", False),
        (r"\Qa.b\E.", "a.bc", True),
        (r"\Qa.b\E.", "axbc", False),
        (r"[\Q]\E]", "]", True),
        (r"\x{41}\x42\o{103}", "abc", True),
        (r"\e\cA", "\x1b\x01", True),
        (r"^[[:alpha:][:digit:]]+$", "a1", True),
        (r"^[[:^alpha:]]+$", "a1", False),
        (r"^[]a]+$", "]a", True),
        (r"^[^]a]+$", "b]", False),
        (r"^[a[]+$", "a[", True),
        (r"^[\w.-]+$", "a.b-c", True),
        (r"\d", "\u0663", False),
        ("é", "É", False),
        (r"^[[:upper:]][[:lower:]]$", "aA", True),
        (r"\p{L}", "a", True),
        (r"\pL", "1", False),
        (r"(a)(b)\g2\g{1}", "abba", True),
        (r"(?<n>a|b)\k<n>\k{n}\k'n'", "bbbb", True),
        (r"a{2}b{,1}c{e}", "aac{e}", True),
        (r"x{1,2}", "xx", True),
        (r"a++b", "aaab", True),
        (r"(?>a+)ab", "aaab", False),
        (r"(?<!x)alice(?=@)", "alice@", True),
        (r"(?-i:A)b", "ab", False),
        (r"(?|(a)|(b))\1", "bb", True),
        (r"\@example\.org", "@example.org", True),
        (r"a\Kb", "ab", True),
        (r"\R", "\r\n", True),
    ],
)
def test_patterns_match_as_in_perl(pattern: str, text: str, found: bool) -> None:
    assert bool(patterns.compile(pattern).search(text)) is found


@pytest.mark.parametrize(
    ("pattern", "offset"),
    [
        ("*@example.org", 0),
        ("/*@example.org/", 1),
        ("a(b", 3),
        ("a)b", 1),
        ("a[b", 3),
        (r"\Qab\E(", 7),
        (r"\x{41}\y", 6),
        (r"\Lfoo", 0),
        (r"a\u", 1),
        ("a\\", 2),
        (r"a\/", 2),
        ("[z-a]", 4),
        ("a**", 2),
        ("[:alpha:]", 0),
        (r"[\k<a>]", 1),
        (r"\x{110000}", 0),
        ("a{99999999999}", 2),
        ("(" * 5000, 0),
    ],
)
def test_a_bad_pattern_is_refused_at_its_place(pattern: str, offset: int) -> None:
    with pytest.raises(PatternError, match="bad pattern") as raised:
        patterns.compile(pattern)
    assert raised.value.offset == offset


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("a.*b.*c.*d", "abc" * 5000),
        (r"^(\w|\w\w)+$", "a" * 60 + "!"),
        (r"^(a|b|ab)+(c|d)\2$", "ab" * 40),
        ("(?R)", ""),
        ("(?R)", "a"),
    ],
)
def test_a_search_past_its_deadline_finds_nothing_and_is_told(pattern: str, text: str) -> None:
    late: list[str] = []
    search = patterns.compile(f"/{pattern}/", late.append).search
    start = time.monotonic()
    assert not search(text)
    assert time.monotonic() - start < 20 * patterns.SECONDS
    assert late == [f"/{pattern}/"]


@pytest.mark.parametrize(
    "pattern",
    [
        "(?:(?:[a-z]{1,9}){1,9}){1,9}$",
        "(a?){30}a{30}",
        "(.*a){12}$",
        ".{1,200}x.{1,200}y",
        r"([a-z]\.?){1,10}([a-z]\.?){1,10}([a-z]\.?){1,10}$",
        "a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?a?aaaaaaaaaaaaaaaa$",
        "x*x*x*x*x*[^x]$",
        r"(\w*)*$",
        "^(a|b|ab)*c?[^c]$",
    ],
)
@pytest.mark.parametrize("text", ["a" * 30, "a" * 99, "ab" * 15, "x" * 400, "a.b-c@d." * 12, "a" * 999 + "!"])
def test_no_search_lasts(pattern: str, text: str) -> None:
    search = patterns.compile(pattern).search
    start = time.monotonic()
    search(text)
    assert time.monotonic() - start < 20 * patterns.SECONDS


def test_a_long_text_that_is_searched_in_time_is_searched_to_its_end() -> None:
    assert patterns.compile(r"^.*a.*b$").search("x" * 3000 + "ab")


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+",
        "(?:a+)+$",
        "((a+))+",
        r"(\w+\s?)*$",
        r"([\w.-]+)+@",
        "^([a-z0-9]+[-.]?)+$",
        "(x+x+)+y",
        "(a*b*)*",
        "(a|a)*",
        r"(\w|\d)+",
        "(a|ab)*",
        "(.*,?){20,}",
        "/x(a+)+/",
    ],
)
def test_patterns_that_backtrack_badly_are_told(pattern: str) -> None:
    why = patterns.backtracks_badly(pattern)
    assert why is not None
    assert "repeats" in why


@pytest.mark.parametrize(
    "pattern",
    [
        "alice",
        r"^(dsl|dyn|pool)0\..*\.example\.org$",
        r"^([a-z]+\.)+example$",
        r"^(\d{1,3}[-.]){3}\d{1,3}",
        "(foo|fob)+",
        "(foo|bar)*",
        "(a+)++",
        "(?>a+)+",
        "(a{20}){20}",
        ".*dyn.*",
        "*broken",
        "(a",
        "",
    ],
)
def test_other_patterns_are_not(pattern: str) -> None:
    assert patterns.backtracks_badly(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        (r"^(dsl|dyn|pool)0\..*\.Example\.org$", ".example.org"),
        ("(ab)c", "abc"),
        ("ab?cd", "cd"),
        ("ab|cd", ""),
        ("(?x) a b", ""),
        (r"\Qa\.b\E", ""),
        ("(a)b(?1)cd", ""),
        ("a(?#x)b", "ab"),
        ("ab(?=c)d", "ab"),
    ],
)
def test_the_text_that_a_pattern_needs(pattern: str, text: str) -> None:
    assert structure.needed(pattern) == text


_PIECES = st.one_of(
    st.sampled_from(["a", "b", "ab", ".", r"\.", r"\w", "[ab]", "[^a]", "^", "$", r"\b"]),
    st.sampled_from(["(a)", "(a|b)", "(?:ab)", "a?", "a*", "(ab)+", "a{2}", "a{1,2}"]),
    st.sampled_from(["(?=a)", "(?!b)", "(?i)", "(?-i:A)", "(?#c)"]),
)


@given(st.lists(_PIECES, max_size=6).map("".join), st.text("abAB.", max_size=8))
def test_what_a_pattern_needs_is_in_all_that_it_matches(pattern: str, text: str) -> None:
    compiled = patterns.compile(pattern)
    assert compiled.needed in text.lower() or not compiled.search(text)


@given(st.text("ab.(|)*+?[]^$\\/{}1,-=!<>:#QEdwxzp", max_size=12), st.text("ab1\n", max_size=12))
def test_any_text_is_a_pattern_or_refused_within_it(pattern: str, text: str) -> None:
    patterns.backtracks_badly(pattern)
    try:
        compiled = patterns.compile(pattern)
    except PatternError as error:
        offset = error.offset
    else:
        offset = 0
        compiled.search(text)
    assert 0 <= offset <= len(pattern)


@given(st.lists(_PIECES, max_size=6).map("".join), st.text("abAB.", max_size=8))
def test_simple_patterns_are_those_of_any_other_engine(pattern: str, text: str) -> None:
    try:
        expected = re.search(pattern, text, re.IGNORECASE | re.ASCII)
    except re.error:  # flags in the middle, which only Perl knows
        return
    assert bool(patterns.compile(pattern).search(text)) is bool(expected)
