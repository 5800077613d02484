"""Lists in files: what they hold, lists within lists, and live ones that change while they are used."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weir.rules import tables
from weir.rules.rule import LiveFile, Position
from weir.rules.tables import Entry, Lists, Tables, reference

NAMED = Position("rules.cf", 3, 7)


class Folder:
    """A folder of lists, and what was said of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.faults: list[str] = []
        self._changes = 0

    def write(self, name: str, text: str) -> Path:
        """A file that is newer than any written before."""
        path = self.path / name
        path.write_bytes(text.replace("@DIR@", str(self.path)).encode("utf-8", "surrogateescape"))
        self._changes += 1
        os.utime(path, (1_700_000_000 + self._changes,) * 2)
        return path

    def entries(self, name: str, *, is_table: bool = False, negated: bool = False) -> list[Entry]:
        lists = Lists(live=False, fault=self._fault)
        return lists.entries(LiveFile(self.path / name, is_table), negated, NAMED)

    def texts(self, name: str, *, is_table: bool = False) -> list[str]:
        return [entry.text for entry in self.entries(name, is_table=is_table)]

    def tables(self) -> Tables:
        return Tables(self._complain)

    def _fault(self, position: Position, text: str) -> None:
        self._complain(f"{position}: {text}")

    def _complain(self, text: str) -> None:
        self.faults.append(text.replace(f"{self.path}/", ""))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def live(folder: Folder, name: str = "l", *, is_table: bool = False) -> LiveFile:
    return LiveFile(folder.path / name, is_table)


@pytest.mark.parametrize(
    ("text", "path", "is_table", "is_live"),
    [
        ("file:/etc/l", "/etc/l", False, False),
        ("FILE:l", "l", False, False),
        ("cfile: l", "l", False, False),
        ("table:/etc/l", "/etc/l", True, False),
        ("ctable:l", "l", True, False),
        ("lfile:/etc/l", "/etc/l", False, True),
        ("lTable:/etc/a:b", "/etc/a:b", True, True),
    ],
)
def test_elements_that_name_a_list(text: str, path: str, is_table: bool, is_live: bool) -> None:
    assert reference(text) == (LiveFile(Path(path), is_table), is_live)


@pytest.mark.parametrize("text", ["alice", "files:x", "xfile:x", "http://file:x", "file", "(file:x)"])
def test_elements_that_name_none(text: str) -> None:
    assert reference(text) is None


def test_a_file_has_one_element_a_line(folder: Folder) -> None:
    folder.write("l", "# c\nalice@x.y\n\n  bob smith # c\r\n\tcarol,dave\n")
    assert folder.texts("l") == ["alice@x.y", "bob smith", "carol,dave"]
    assert [str(entry.position).rpartition("/")[2] for entry in folder.entries("l")] == ["l:2:1", "l:4:3", "l:5:2"]


def test_a_table_drops_the_last_word_but_not_the_only_one(folder: Folder) -> None:
    folder.write("t", "10.0.0.0/8 class1\n 10.1.0.0/16\n10.2.0.0/16\tREJECT now # c\n10.3.0.0/16 OK  \r\n")
    assert folder.texts("t", is_table=True) == ["10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16\tREJECT", "10.3.0.0/16"]


def test_elements_may_be_negated(folder: Folder) -> None:
    folder.write("l", "a\n !!(b)\n!! c\n")
    entries = folder.entries("l")
    assert [(entry.text, entry.negated, entry.position.column) for entry in entries] == [
        ("a", False, 1),
        ("b", True, 5),
        ("c", True, 4),
    ]
    assert [entry.negated for entry in folder.entries("l", negated=True)] == [True, False, False]


def test_lists_name_lists(folder: Folder) -> None:
    folder.write("l", "a\nfile:@DIR@/m\n!!(table:@DIR@/t)\nlfile:@DIR@/live\nz\n")
    folder.write("m", "b\n")
    folder.write("t", "c 1\n!!d 1\n")
    entries = folder.entries("l")
    assert [(entry.text, entry.negated) for entry in entries if entry.live is None] == [
        ("a", False),
        ("b", False),
        ("c", True),
        ("d", False),
        ("z", False),
    ]
    assert [entry.live for entry in entries if entry.live] == [LiveFile(folder.path / "live", False)]
    assert folder.faults == []


def test_what_cannot_be_read_is_told_where_it_is_named(folder: Folder) -> None:
    folder.write("l", "a\n  file:@DIR@/none\n")
    assert folder.texts("l") == ["a"]
    assert folder.texts(".") == []
    os.mkfifo(folder.path / "pipe")
    assert folder.texts("pipe") == []
    assert folder.texts("a\0b") == []
    assert [fault.replace(str(folder.path), "DIR") for fault in folder.faults] == [
        "l:2:3: none cannot be read: No such file or directory",
        "rules.cf:3:7: DIR cannot be read: it is no file",
        "rules.cf:3:7: pipe cannot be read: it is no file",
        "rules.cf:3:7: a\0b cannot be read: embedded null byte",
    ]


def test_lists_that_contain_themselves_are_told(folder: Folder) -> None:
    folder.write("l", "a\nfile:@DIR@/m\nz\n")
    folder.write("m", "b\ntable:@DIR@/l\n")
    assert folder.texts("l") == ["a", "b", "z"]
    assert folder.faults == ["m:2:1: a list must not contain itself: l → m → l"]


def test_a_list_that_is_named_twice_is_no_loop(folder: Folder) -> None:
    folder.write("l", "file:@DIR@/m\nfile:@DIR@/m\n")
    folder.write("m", "b\n")
    assert folder.texts("l") == ["b", "b"]
    assert folder.faults == []


def test_lists_that_double_each_other_end(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MOST", 1000)
    folder.write("0", "")
    for number in range(60):
        folder.write(str(number + 1), f"file:@DIR@/{number}\n" * 2)
    assert folder.texts("60") == []
    assert folder.faults == ["rules.cf:3:7: 60 and the lists that it names have more than 1,000 elements"]


def test_lines_that_make_no_sense_are_told_and_left_out(folder: Folder) -> None:
    folder.write("l", "a\n!!\n  !!(b\nc\udcfc # \udcfc\nd\n")
    assert folder.texts("l") == ["a", "d"]
    assert folder.faults == [
        "l:2:1: expected a value after !!",
        "l:3:3: expected !!VALUE or !!(VALUE), got !!(b",
        "l:4:1: expected UTF-8: convert the file",
    ]


def test_live_lists_are_read_again_when_they_change(folder: Folder) -> None:
    present = folder.tables()
    folder.write("l", "a\n!!(b)\n")
    assert present.lines(live(folder)) == ("a", "!!(b)")
    assert present.lines(live(folder)) is present.lines(live(folder))
    folder.write("l", "c\n")
    assert present.lines(live(folder)) == ("c",)


def test_a_live_list_with_an_older_date_is_read_again_too(folder: Folder) -> None:
    present = folder.tables()
    path = folder.write("l", "a\n")
    assert present.lines(live(folder)) == ("a",)
    path.write_text("b\n")
    os.utime(path, (1_600_000_000, 1_600_000_000))
    assert present.lines(live(folder)) == ("b",)


def test_a_live_list_may_be_missing_and_come_and_go(folder: Folder) -> None:
    present = folder.tables()
    assert present.lines(live(folder)) == ()
    path = folder.write("l", "a\n")
    assert present.lines(live(folder)) == ("a",)
    path.unlink()
    assert present.lines(live(folder)) == ()
    assert folder.faults == []


def test_a_live_table_drops_the_last_word(folder: Folder) -> None:
    folder.write("l", "a b\n")
    assert folder.tables().lines(live(folder, is_table=True)) == ("a",)


def test_a_live_list_changes_with_the_lists_that_it_names(folder: Folder) -> None:
    present = folder.tables()
    folder.write("l", "a\nlfile:@DIR@/m\n!!(file:@DIR@/n)\n")
    folder.write("m", "b\n")
    folder.write("n", "c\n!!(d)\n")
    assert present.lines(live(folder)) == ("a", "b", "!!(c)", "d")
    folder.write("n", "e)\n")
    assert present.lines(live(folder)) == ("a", "b", "!!(e))")
    (folder.path / "m").unlink()
    assert present.lines(live(folder)) == ("a", "!!(e))")


def test_garbage_in_a_live_list_is_told_once_and_the_rest_counts(folder: Folder) -> None:
    present = folder.tables()
    folder.write("l", "\0\nlfile:@DIR@/l\n\udcff\n!!\nlfile:\na\n")
    for _ in range(3):
        assert present.lines(live(folder)) == ("\0", "a")
    assert folder.faults == [
        "l:3:1: expected UTF-8: convert the file",
        "l:4:1: expected a value after !!",
        "l:2:1: a list must not contain itself: l → l",
        "l:5:1: . cannot be read: it is no file",
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.text("ab!() #\n\r\té:\udcfc\0\\", max_size=60) | st.sampled_from(["lfile:@DIR@/l", "file:@DIR@/m"])))
def test_no_live_list_is_too_bad(folder: Folder, lines: list[str]) -> None:
    folder.write("m", "\n".join(reversed(lines)))
    folder.write("l", "\n".join(lines))
    assert all(line.strip() for line in folder.tables().lines(live(folder)))
