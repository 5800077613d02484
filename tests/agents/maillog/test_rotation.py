"""Where to go on, of files that are only told of."""

import pytest

from agents.maillog.position import Place
from agents.maillog.rotation import File, Lost, Start, in_order, is_of, resume

BASE = "mail.log"


def file(name: str, inode: int, modified: int, size: int = 100) -> File:
    return File(name, 1, inode, size, modified)


def place(inode: int, offset: int = 50, modified: int = 10) -> Place:
    return Place(device=1, inode=inode, offset=offset, head="", tail="", modified=modified)


def start(at: Place, *files: File, same: str = "") -> Start | None:
    """`same` is the name of the file that has before the offset what was there."""
    return resume(at, in_order(files, BASE), BASE, lambda file: file.name == same)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mail.log", True),
        ("mail.log.1", True),
        ("mail.log.12.gz", True),
        ("mail.log-20261125", True),
        ("mail.log-20261125.gz", True),
        ("mail.log.20261125-102030.gz", True),
        ("mail.log-2026-11-25", True),
        ("mail.log.bak", False),
        ("mail.log.1.gz.tmp", False),
        ("mail.log2", False),
        ("mail.logs", False),
        ("other", False),
    ],
)
def test_names(name: str, expected: bool) -> None:
    assert is_of(name, BASE) == expected


def test_order_goes_by_name_whatever_was_written_last() -> None:
    numbers = [file(f"mail.log.{n}", n, n) for n in (1, 2, 10)]
    dates = [file(name, 0, 0) for name in ("mail.log-20261101", "mail.log-20261025.gz")]
    assert [f.name for f in in_order([file(BASE, 9, 0), *numbers], BASE)] == [
        "mail.log.10",
        "mail.log.2",
        "mail.log.1",
        BASE,
    ]
    assert [f.name for f in in_order(dates, BASE)] == ["mail.log-20261025.gz", "mail.log-20261101"]


def test_a_scheme_that_was_given_up_is_older() -> None:
    files = [file("mail.log-20261101", 1, 20), file("mail.log.1", 2, 10), file("mail.log.2", 3, 5), file(BASE, 4, 30)]
    assert [f.inode for f in in_order(files, BASE)] == [3, 2, 1, 4]


def test_a_file_that_is_being_compressed_is_there_once() -> None:
    files = [file("mail.log.1.gz", 1, 10), file("mail.log.1", 2, 10)]
    assert [f.name for f in in_order(files, BASE)] == ["mail.log.1"]


def test_the_same_file_under_another_name() -> None:
    found = start(place(7), file("mail.log.1", 7, 12), file(BASE, 8, 13), same="mail.log.1")
    assert found == Start(file("mail.log.1", 7, 12), 50, None)


def test_the_same_lines_in_a_compressed_file() -> None:
    found = start(place(7), file("mail.log.2.gz", 9, 12, size=20), file(BASE, 8, 13), same="mail.log.2.gz")
    assert found == Start(file("mail.log.2.gz", 9, 12, size=20), 50, None)


def test_another_file_with_our_inode() -> None:
    found = start(place(7), file("mail.log.1", 8, 12), file(BASE, 7, 13), same="mail.log.1")
    assert found == Start(file("mail.log.1", 8, 12), 50, Lost.TRUNCATED)


def test_a_file_that_was_cut_is_read_from_its_beginning_and_none_that_was_read_before() -> None:
    found = start(place(7), file("mail.log.1", 6, 9), file(BASE, 7, 13))
    assert found == Start(file(BASE, 7, 13), 0, Lost.TRUNCATED)


def test_after_a_file_that_is_gone_what_was_written_later_is_read() -> None:
    found = start(place(7), file("mail.log.3", 1, 9), file("mail.log.2", 2, 11), file(BASE, 8, 13))
    assert found == Start(file("mail.log.2", 2, 11), 0, Lost.GONE)


def test_without_any_file_there_is_nothing_yet() -> None:
    assert start(place(7)) is None


def test_an_empty_file_is_known_by_its_inode_only_and_so_is_whatever_is_older_and_unread() -> None:
    files = [file("mail.log.1", 5, 12), file(BASE, 7, 13)]
    assert start(place(7, offset=0, modified=12), *files) == Start(file(BASE, 7, 13), 0, None)
    assert start(place(7, offset=0), *files) == Start(file("mail.log.1", 5, 12), 0, Lost.GONE)
