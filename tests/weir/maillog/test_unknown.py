"""Unknown lines: counted by daemon, sampled once, in bounded memory."""

from weir.maillog.unknown import DAEMONS, OTHERS, SAMPLE, UnknownLines


def test_counted_by_daemon_and_sampled_once() -> None:
    unknown = UnknownLines()
    assert [unknown.add("smtpd", "first"), unknown.add("smtpd", "second"), unknown.add("qmgr", "third")] == [
        True,
        False,
        True,
    ]
    assert unknown.counts == {"smtpd": 2, "qmgr": 1}
    assert unknown.samples == {"smtpd": "first", "qmgr": "third"}


def test_memory_is_bounded() -> None:
    unknown = UnknownLines()
    for number in range(10 * DAEMONS):
        unknown.add(f"daemon{number}", "x" * 10 * SAMPLE)
    assert len(unknown.counts) == len(unknown.samples) == DAEMONS + 1
    assert unknown.counts[OTHERS] == 9 * DAEMONS
    assert max(map(len, unknown.samples.values())) == SAMPLE
