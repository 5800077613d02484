"""Operators' words: what stands, what is voided, and by what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir import operators
from weir.operators import EVERYTHING, Operators, Word

ALICE = "sasl_username:alice@example.org"
BOB = "sasl_username:bob@example.org"


def word(kind: str, subject: str = ALICE, until: float = 0.0) -> Word:
    return Word(1, "0" * 12, kind, subject, "noc@desk", "spam", until)  # type: ignore[arg-type]


def told(*words: tuple[Word, float]) -> Operators:
    known = Operators()
    for one, time in words:
        known.apply(operators.key(one), operators.encoder.encode(one), time)
    return known


def test_a_block_stands_until_its_time() -> None:
    known = told((word("block", until=200.0), 100.0))
    assert known.block(ALICE, 199.9) == word("block", until=200.0)
    assert known.block(ALICE, 200.0) is None
    assert known.block(BOB, 150.0) is None


def test_a_release_voids_an_older_block_and_no_newer_one() -> None:
    block, release = word("block", until=900.0), word("release")
    assert told((block, 100.0), (release, 101.0)).block(ALICE, 150.0) is None
    assert told((release, 100.0), (block, 101.0)).block(ALICE, 150.0) == block


def test_a_release_leaves_an_allow() -> None:
    allow = word("allow", until=900.0)
    known = told((allow, 100.0), (word("release"), 101.0))
    assert known.allow(ALICE, 150.0) == allow
    assert known.released(ALICE) == 101.0
    assert known.released(BOB) == 0.0


def test_an_allow_ends_at_its_time() -> None:
    assert told((word("allow", until=200.0), 100.0)).allow(ALICE, 200.0) is None


def test_of_block_and_allow_the_newest_stands() -> None:
    block, allow = word("block", until=900.0), word("allow", until=900.0)
    known = told((block, 100.0), (allow, 101.0))
    assert (known.block(ALICE, 150.0), known.allow(ALICE, 150.0)) == (None, allow)
    known = told((allow, 100.0), (block, 101.0))
    assert (known.block(ALICE, 150.0), known.allow(ALICE, 150.0)) == (block, None)


def test_a_pause_lasts_until_its_tombstone() -> None:
    pause = word("pause", EVERYTHING)
    known = told((pause, 100.0))
    assert known.paused
    known.apply(operators.key(pause), None, 101.0)
    assert not known.paused


def test_a_block_of_a_star_is_no_pause() -> None:
    assert not told((word("block", EVERYTHING, 900.0), 100.0)).paused


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"", b"{}"),
        (b"\xff\xfe", None),
        (b"standing", None),
        (b"hearsay x", None),
        (f"standing {ALICE}".encode(), b"garbage"),
        (f"standing {BOB}".encode(), operators.encoder.encode(word("block", until=900.0))),
        (f"release {ALICE}".encode(), operators.encoder.encode(word("block", until=900.0))),
        (f"standing {ALICE}".encode(), operators.encoder.encode(word("block")).replace(b'"version":1', b'"version":2')),
    ],
)
def test_a_record_that_makes_no_sense_is_refused_and_changes_nothing(key: bytes, value: bytes | None) -> None:
    block = word("block", until=900.0)
    known = told((block, 100.0))
    with pytest.raises(ValueError, match=r".+"):
        known.apply(key, value, 200.0)
    assert known.block(ALICE, 150.0) == block


KINDS = st.sampled_from(["block", "allow", "release"])


@given(st.lists(st.tuples(KINDS, st.sampled_from([ALICE, BOB])), max_size=20))
def test_compaction_changes_nothing(said: list[tuple[str, str]]) -> None:
    """Of each key only the newest record may be left."""
    words = [(word(kind, subject, 1000.0 + time), float(time)) for time, (kind, subject) in enumerate(said)]
    newest = {operators.key(one): (one, time) for one, time in words}
    whole, compacted = told(*words), told(*newest.values())
    assert (whole.standing, whole.releases) == (compacted.standing, compacted.releases)


@given(st.text(min_size=1, max_size=50), KINDS)
def test_a_key_splits_into_what_it_was_made_of(subject: str, kind: str) -> None:
    group, found = operators.split_key(operators.key(word(kind, subject)))
    assert (group, found) == ("release" if kind == "release" else "standing", subject)
