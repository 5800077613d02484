"""What a partition holds: repeats, hosts, idle subjects, garbage, and a changelog that cannot be read."""

import base64

import msgspec
import pytest

from streams import changelog, windows
from streams.partition import BrokenChangelogError, Partition, Totals
from tests.streams import made
from tests.streams.made import ACCOUNTS, NOW, PARTITION
from weir import dead_letters, envelopes, subjects

ALICE, BOB = ACCOUNTS[:2]
HOUR = 3600.0


@pytest.fixture
def totals() -> Totals:
    return Totals()


@pytest.fixture
def partition(totals: Totals) -> Partition:
    return made.partition(totals=totals)


def written(partition: Partition) -> dict[bytes, bytes | None]:
    return dict(partition.snapshot().records)


def test_all_tallies_of_one_event_count_and_its_repeat_does_not(partition: Partition, totals: Totals) -> None:
    envelope = made.envelope([made.tally(1, ALICE, NOW), made.tally(1, BOB, NOW), made.tally(2, BOB, NOW)])
    partition.count(0, envelope, NOW)
    partition.count(1, envelope, NOW)
    partition.count(2, made.envelope([made.tally(2, BOB, NOW), made.tally(3, BOB, NOW)]), NOW)
    records = written(partition)
    sums = {name: sum(windows.decode(records[changelog.window_key(name)] or b"").messages) for name in (ALICE, BOB)}
    assert sums == {ALICE: 1, BOB: 3}
    assert (totals.tallies, totals.repeats) == (4, 4)
    assert records[changelog.NEXT_OFFSET] == changelog.encode(changelog.NextOffset(1, 3))


def test_hosts_and_epochs_count_apart(partition: Partition) -> None:
    for offset, (host, epoch) in enumerate([("mx1", "a"), ("mx2", "a"), ("mx1", "b"), ("mx1", "a")]):
        partition.count(offset, made.envelope([made.tally(1, ALICE, NOW)], host, epoch), NOW)
    records = written(partition)
    assert sum(windows.decode(records[changelog.window_key(ALICE)] or b"").messages) == 3
    assert {key for key in records if key.startswith(b"h:")} == {b"h:mx1:a", b"h:mx2:a", b"h:mx1:b"}


def test_a_heartbeat_moves_only_the_hosts_record(partition: Partition) -> None:
    partition.count(0, made.envelope([made.tally(9, subjects.heartbeat(PARTITION), NOW, 0, 0)]), NOW)
    records = written(partition)
    assert set(records) == {b"h:mx1:e1", b"o"}
    assert changelog.decode_host(records[b"h:mx1:e1"] or b"") == changelog.Host(1, 9, NOW)


@pytest.mark.parametrize("time", [NOW + 61, NOW - 25 * HOUR - 1])
def test_what_is_not_of_now_is_counted_in_a_metric_but_its_seq_is_seen(
    partition: Partition, totals: Totals, time: float
) -> None:
    partition.count(0, made.envelope([made.tally(5, ALICE, time, 1000)]), NOW)
    partition.count(1, made.envelope([made.tally(5, ALICE, NOW)]), NOW)
    assert (totals.untimely, totals.repeats) == (1, 1)
    assert changelog.window_key(ALICE) not in written(partition)


GARBAGE = {
    "nothing": None,
    "no envelope": b"\xff\xfe random",
    "unknown version": b'{"version":2,"host":"mx1","epoch":"e1"}\n',
    "half a line": made.envelope([made.tally(1, ALICE, NOW)])[:-9],
    "negative": made.envelope([made.tally(1, ALICE, NOW, messages=-5)]),
    "too large": made.envelope([made.tally(1, ALICE, NOW, messages=2**60)]),
    "no number": b'{"version":1,"host":"mx1","epoch":"e1"}\n{"seq":1,"subject":"a","time":"now"}',
    "no time": b'{"version":1,"host":"mx1","epoch":"e1"}\n{"seq":1,"subject":"a","time":1e999}',
    "no text": b'{"version":1,"host":"mx1","epoch":"e1"}\n{"seq":1,"subject":"\\ud800","time":1}',
    "nested": b'{"version":1,"host":"mx1","epoch":"e1"}\n{"x":' + b"[" * 9999 + b"]" * 9999 + b',"seq":1}',
    "seq falls": made.envelope([made.tally(2, ALICE, NOW), made.tally(1, ALICE, NOW)]),
}


@pytest.mark.parametrize("value", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_is_a_dead_letter_and_the_next_envelope_counts(
    partition: Partition, totals: Totals, value: bytes | None
) -> None:
    partition.count(17, value, NOW)
    partition.count(18, made.envelope([made.tally(1, ALICE, NOW)]), NOW)
    batch = partition.snapshot()
    ((key, letter),) = batch.dead
    found = msgspec.json.decode(letter, type=dead_letters.DeadLetter)
    assert key == b"weir.tallies/3/17"
    assert (found.topic, found.partition, found.offset, found.by) == ("weir.tallies", PARTITION, 17, "streams")
    assert base64.b64decode(found.value) == (value or b"")
    assert found.error
    assert batch.next == 19
    assert sum(windows.decode(dict(batch.records)[changelog.window_key(ALICE)] or b"").messages) == 1
    assert (totals.dead, totals.tallies) == (1, 1)


def test_a_subject_of_another_partition_is_told_and_not_counted(partition: Partition) -> None:
    (foreign,) = made.of_partition(PARTITION + 1, 1, lambda number: f"sasl_username:{number}")
    partition.count(0, made.envelope([made.tally(1, foreign, NOW), made.tally(2, ALICE, NOW)]), NOW)
    batch = partition.snapshot()
    assert len(batch.dead) == 1
    assert {key for key, _ in batch.records if key.startswith(b"s:")} == {changelog.window_key(ALICE)}


def test_two_epochs_of_one_host_that_advance_in_turn_are_told(partition: Partition, totals: Totals) -> None:
    def send(epoch: str, seq: int) -> None:
        partition.count(partition.next, made.envelope([made.tally(seq, ALICE, NOW)], "mx1", epoch), NOW)

    send("a", 1)
    send("a", 2)
    send("b", 1)
    send("a", 2)  # a repeated tail of the old epoch
    send("b", 2)
    assert totals.alternating == 0
    send("a", 3)
    send("b", 3)
    assert totals.alternating == 2
    assert totals.alternating_hosts == {"mx1"}


def test_an_idle_subject_goes_with_a_tombstone(partition: Partition) -> None:
    partition.count(0, made.envelope([made.tally(1, ALICE, NOW), made.tally(2, BOB, NOW + 50)]), NOW)
    partition.snapshot()
    assert partition.accounts == 2
    sweep(partition, NOW + 2 * HOUR)
    assert written(partition)[changelog.window_key(ALICE)] is None
    assert partition.accounts == 1
    partition.count(1, made.envelope([made.tally(3, ALICE, NOW + 2 * HOUR)]), NOW + 2 * HOUR)
    assert sum(windows.decode(written(partition)[changelog.window_key(ALICE)] or b"").messages) == 1


def test_a_blocked_subject_stays_until_its_block_is_over() -> None:
    partition = made.partition(made.judge(made.settings(block_seconds=86_400)))
    partition.count(0, made.envelope([made.tally(1, ALICE, NOW, 1000)]), NOW)
    assert len(partition.snapshot().decisions) == 1
    sweep(partition, NOW + 3 * HOUR)
    assert changelog.window_key(ALICE) not in written(partition)
    sweep(partition, NOW + 25 * HOUR)
    assert written(partition)[changelog.window_key(ALICE)] is None


def test_a_quiet_window_becomes_bytes_and_counts_on(partition: Partition) -> None:
    partition.count(0, made.envelope([made.tally(1, ALICE, NOW)]), NOW)
    partition.snapshot()
    sweep(partition, NOW + 200)
    assert list(partition._raw) == [ALICE]
    assert not partition._windows
    partition.count(1, made.envelope([made.tally(2, ALICE, NOW + 200)]), NOW + 200)
    assert not partition._raw
    assert windows.decode(written(partition)[changelog.window_key(ALICE)] or b"").messages == [1, 1]


def test_the_sweep_counts_accounts_that_sent_in_the_last_hour(partition: Partition) -> None:
    for seq, account in enumerate(ACCOUNTS, start=1):
        partition.count(partition.next, made.envelope([made.tally(seq, account, NOW)]), NOW)
    assert partition.active_accounts == len(ACCOUNTS)
    later = NOW + 1.5 * HOUR
    partition.count(partition.next, made.envelope([made.tally(9, ALICE, later)]), later)
    sweep(partition, later)
    assert (partition.active_accounts, partition.accounts) == (1, len(ACCOUNTS))
    restored = made.partition()
    restored.restore(written(partition).items(), later)
    assert (restored.active_accounts, restored.accounts) == (1, len(ACCOUNTS))


def test_a_hosts_record_goes_26_hours_after_its_newest_event(partition: Partition) -> None:
    partition.count(0, made.envelope([made.tally(1, ALICE, NOW)]), NOW)
    partition.snapshot()
    sweep(partition, NOW + 26 * HOUR - 1)
    assert b"h:mx1:e1" not in written(partition)
    sweep(partition, NOW + 26 * HOUR + 1)
    assert written(partition)[b"h:mx1:e1"] is None


BROKEN = {
    "window": (changelog.window_key(ALICE), b"\x00garbage"),
    "window of another version": (changelog.window_key(ALICE), msgspec.msgpack.encode([99, 1, 1])),
    "host": (b"h:mx1:e1", b"\xc1"),
    "next offset": (b"o", b"seven"),
    "key": (b"s:\xff", b""),
}


@pytest.mark.parametrize(("key", "value"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_record_stops_the_partition(partition: Partition, key: bytes, value: bytes) -> None:
    with pytest.raises(BrokenChangelogError):
        partition.restore([(key, value)], NOW)


def test_the_newest_record_of_a_key_counts() -> None:
    """What was broken and then replaced does no harm; what ended in a tombstone is gone."""
    window = windows.Window()
    window.count(windows.bucket_of(NOW), 7, 7, "mx1", "")
    alice, bob = map(changelog.window_key, (ALICE, BOB))
    host, offset = changelog.Host(1, 3, NOW), changelog.NextOffset(1, 12)
    partition = made.partition()
    partition.restore(
        [
            (alice, b"garbage"),
            (b"h:mx1:e1", b"garbage"),
            (b"o", b"garbage"),
            (bob, window.encode()),
            (alice, window.encode()),
            (b"h:mx1:e1", changelog.encode(host)),
            (b"o", changelog.encode(offset)),
            (bob, None),
        ],
        NOW,
    )
    assert (partition.next, partition.accounts) == (12, 1)
    partition.count(12, made.envelope([made.tally(3, ALICE, NOW), made.tally(4, ALICE, NOW)]), NOW)
    assert sum(windows.decode(written(partition)[alice] or b"").messages) == 8


def test_a_window_broken_behind_its_head_stops_the_partition_when_it_is_touched(partition: Partition) -> None:
    head = msgspec.msgpack.encode([1, windows.bucket_of(NOW), 0, "no buckets"])
    partition.restore([(changelog.window_key(ALICE), head)], NOW)
    partition.count(0, made.envelope([made.tally(1, BOB, NOW)]), NOW)
    with pytest.raises(BrokenChangelogError):
        partition.count(1, made.envelope([made.tally(2, ALICE, NOW)]), NOW)


def test_keys_that_are_none_of_ours_are_ignored(partition: Partition, totals: Totals) -> None:
    partition.restore([(b"", b"x"), (b"\xff\xff", b"x"), (b"q:later", b"x"), (b"other", b"")], NOW)
    assert totals.foreign_keys == 4


def test_an_envelope_without_tallies_moves_the_offset(partition: Partition) -> None:
    partition.count(4, envelopes.head("mx1", "e1"), NOW)
    batch = partition.snapshot()
    assert (batch.next, batch.dead) == (5, [])
    assert [key for key, _ in batch.records] == [b"o"]


def sweep(partition: Partition, now: float) -> None:
    """Two whole rounds: the first may go on with what was there before."""
    partition.sweep(now, 1000)
    partition.sweep(now, 1000)
    partition.sweep(now, 1000)
