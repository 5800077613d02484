"""Every operator on every kind of item, lists, negation, variables, groups and live lists."""

import os
from pathlib import Path

import pytest

from weir.rules.conditions import compile_alternatives, number
from weir.rules.groups import Groups
from weir.rules.rule import Condition, LiveFile, Position, Value
from weir.rules.tables import Tables

NOWHERE = Position("rules.cf", 1, 1)
NOW = 1_709_245_800.0


class Request:
    """What conditions look at."""

    def __init__(self, **items: str) -> None:
        self.items = items
        self.now = NOW
        self.groups = Groups()
        self.complaints: list[str] = []
        self.tables = Tables(self.complaints.append)


def condition(item: str, operator: str, *texts: str, live: LiveFile | None = None, negated: bool = False) -> Condition:
    """A text that begins with `!` is a negated one."""
    values = [Value(text.removeprefix("!"), NOWHERE, text.startswith("!") or negated, live) for text in texts]
    return Condition(item, operator, tuple(values), NOWHERE)


def holds(item: str, operator: str, *texts: str, value: str, request: Request | None = None) -> bool:
    compiled = compile_alternatives([condition(item, operator, *texts)], pytest.fail)
    return compiled.hold(value, request or Request(**{item: value}))


@pytest.mark.parametrize(
    ("operator", "text", "true", "false"),
    [
        ("=", "alice@", ["alice@example.org", "x-ALICE@y"], ["", "bob"]),
        ("=", "/^alice@/", ["alice@example.org"], ["malice@example.org"]),
        ("=", "", ["", "0", "anything"], []),
        ("=~", "^alice", ["Alice"], ["malice"]),
        ("!~", "^alice", ["malice", ""], ["ALICE"]),
        ("==", "Alice", ["alice", "ALICE"], ["alice ", "", "0", "malice"]),
        ("==", "", [], ["", "0", "alice"]),
        ("==", "0", [], ["0", ""]),
        ("==", "<>", ["<>"], ["<", ""]),
        ("!=", "Alice", ["bob", "00"], ["alice", "", "0"]),
        ("!=", "", ["alice"], ["", "0"]),
        ("=>", "3", ["3", "03", "3x", " 4", "1e1"], ["2", "x", "", "-3"]),
        ("=<", "3", ["3", "2.5", "", "x4", "-7"], ["4", "3.01"]),
        (">", "3", ["3.5"], ["3", "0x10"]),
        ("<", "3", ["2", ""], ["3"]),
        ("!>", "3", ["2"], ["3", "4"]),
        ("!<", "3", ["4"], ["3", "2"]),
        ("=>", "-1.5", ["-1.5", "", "+2"], ["-2"]),
    ],
)
def test_operators_on_texts(operator: str, text: str, true: list[str], false: list[str]) -> None:
    assert [value for value in true + false if holds("some_text", operator, text, value=value)] == true


@pytest.mark.parametrize(
    ("operator", "text", "true", "false"),
    [
        ("=", "1500", ["1500", "1501"], ["1499", "", "x"]),
        ("=~", "1500", ["1500", "1501"], ["1499"]),
        ("!~", "1500", ["1500", "1501"], ["1499"]),
        ("==", "1500", ["1500", "01500", "1500.0", "1500 bytes"], ["1501", ""]),
        ("==", "0", ["0", "", "x"], ["1"]),
        ("==", "", ["0", ""], ["1"]),
        ("!=", "1500", ["1", ""], ["1500"]),
        ("=>", "1500", ["1500", "99999999999999999999"], ["1499"]),
        ("=<", "1500", ["1500", ""], ["1501"]),
        (">", "0.5", ["1"], ["0.5", ""]),
        ("<", "1500", ["1499"], ["1500"]),
        ("!>", "1500", ["1499"], ["1500"]),
        ("!<", "1500", ["1501"], ["1500"]),
        ("=>", "9223372036854775808", ["9223372036854775808"], ["9223372036854774000", "1"]),
    ],
)
def test_operators_on_numbers(operator: str, text: str, true: list[str], false: list[str]) -> None:
    assert [value for value in true + false if holds("size", operator, text, value=value)] == true


@pytest.mark.parametrize(
    ("operator", "text", "true", "false"),
    [
        ("=", "192.0.2.10", ["192.0.2.10", "::ffff:192.0.2.10"], ["192.0.2.11", "", "2001:db8::1"]),
        ("=", "192.0.2.77/24", ["192.0.2.10"], ["192.0.3.1"]),
        ("==", "2001:db8::/32", ["2001:db8::1", "2001:DB8:0::2"], ["2001:db9::1", "192.0.2.10", ""]),
        ("=~", "10.0.0.0/8", ["10.1.2.3"], ["11.1.2.3"]),
        ("!=", "10.0.0.0/8", ["11.1.2.3", "2001:db8::1", ""], ["10.1.2.3"]),
        ("!~", "10.0.0.0/8", ["11.1.2.3"], ["10.1.2.3"]),
        ("=", "0.0.0.0/0", ["10.1.2.3", "2001:db8::1", "unknown"], [""]),
        ("!=", "0.0.0.0/0", [""], ["10.1.2.3", "2001:db8::1"]),
        ("=", "::/0", ["2001:db8::1"], ["10.1.2.3", "", "::ffff:10.1.2.3"]),
    ],
)
@pytest.mark.parametrize("item", ["client_address", "helo_address"])
def test_operators_on_addresses(item: str, operator: str, text: str, true: list[str], false: list[str]) -> None:
    assert [value for value in true + false if holds(item, operator, text, value=value)] == true


def test_times_do_not_depend_on_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    assert holds("days", "=", "Thu", value="")
    assert not holds("days", "!=", "Thu", value="")
    assert not holds("days", "=", "!Thu", value="")
    assert holds("days", "!=", "!Thu", value="")
    assert holds("date", "=", "28.02.2024", "29.02.2024-01.03.2024", value="")


@pytest.mark.parametrize(
    ("item", "operator", "texts", "true", "false"),
    [
        ("sender", "==", ("a", "b"), ["a", "b"], ["c", ""]),
        ("sender", "=", ("a", "!b"), ["a", "c", "ab"], ["b"]),
        ("sender", "==", ("!a",), ["b", "", "0"], ["A"]),
        ("sender", "==", ("!0",), ["0", ""], []),
        ("sender", "==", ("!a", "!b"), ["a", "b", ""], []),
        ("sender", "!=", ("a",), ["b"], ["a", ""]),
        ("sender", "!=", ("a", "b"), ["a", "b"], ["", "0"]),
        ("sender", "!=", ("!a",), ["a", "", "0"], ["b"]),
        ("sender", "=~", ("!^(bob|alice)$",), ["mallory"], ["alice"]),
        ("sender", "!~", ("!^a",), ["abc"], ["b"]),
        ("size", "==", ("!5",), ["4"], ["5"]),
        ("size", "=<", ("2000", "!3000"), ["1", "3001"], ["2001"]),
        ("client_address", "=", ("!10.0.0.0/8",), ["", "11.1.1.1"], ["10.1.1.1"]),
        ("client_address", "=", ("!10.0.0.0/8", "!192.0.2.0/24"), ["10.1.1.1", "192.0.2.1"], []),
        ("client_address", "!=", ("!10.0.0.0/8",), ["10.1.1.1"], ["11.1.1.1", ""]),
    ],
)
def test_elements_are_alternatives_and_negated_one_by_one(
    item: str, operator: str, texts: tuple[str, ...], true: list[str], false: list[str]
) -> None:
    assert [value for value in true + false if holds(item, operator, *texts, value=value)] == true


def test_an_empty_list_never_holds() -> None:
    assert not holds("sender", "!=", value="a")


def test_conditions_on_one_item_are_alternatives_whatever_their_operators() -> None:
    compiled = compile_alternatives([condition("size", "=<", "10"), condition("size", "=>", "20")], pytest.fail)
    assert [size for size in ("5", "15", "25") if compiled.hold(size, Request())] == ["5", "25"]


@pytest.mark.parametrize(
    ("item", "operator", "text"),
    [
        ("size", "=>", "big"),
        ("sender", ">", "x"),
        ("client_address", "=", "10.0.0"),
        ("sender", "=~", "*"),
        ("days", "=", "x"),
    ],
)
def test_values_of_no_sense_are_refused(item: str, operator: str, text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        holds(item, operator, text, value="")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12", 12),
        ("-3.50x", -3.5),
        (" +7", 7),
        (".5", 0.5),
        ("1e3", 1000),
        ("5.", 5),
        ("", 0),
        ("x1", 0),
        ("- 1", 0),
        ("inf", 0),
        ("\u0663", 0),
        ("9" * 5000, float("inf")),
        ("1e999", float("inf")),
    ],
)
def test_numbers_are_what_a_text_begins_with(text: str, expected: float) -> None:
    assert number(text) == expected


@pytest.mark.parametrize(
    ("item", "operator", "text", "value", "expected"),
    [
        ("client_name", "==", "$$helo_name", "HOST.example", True),
        ("client_name", "==", "$$(helo_name)", "host.example", True),
        ("client_name", "==", "$$helo_name", "a.host.example", False),
        ("client_name", "=", "$$helo_name", "a.host.example.b", True),
        ("client_name", "=~", "/$$helo_name/", "a.HOST.example.b", True),
        ("client_name", "=~", "$$helo_name", "hostxexample", False),
        ("client_name", "=~", "^$$helo_name", "host.example", False),
        ("client_name", "!~", "$$helo_name", "a.host.example", False),
        ("client_name", "!~", "$$helo_name", "other", True),
        ("client_name", "!=", "$$helo_name", "other", True),
        ("client_name", "!=", "$$helo_name", "host.example", False),
        ("client_name", "==", "$$helo_name.$$tld", "host.example.org", True),
        ("client_name", "=", "$$empty", "host.example", False),
        ("client_name", "!~", "$$empty", "host.example", True),
        ("client_name", "=", "$$helo_name", "", False),
        ("client_name", "=", "$$tricky", "aaa", False),
        ("client_name", "=", "$$tricky", "x(a+)+$$helo_namex", True),
        ("client_name", "=", "$$nothing", "$$nothing", False),
        ("client_name", "==", "$$nothing", "$$nothing", True),
        ("client_name", "!=", "$$nothing", "host", True),
        ("client_name", "==", "$$helo_name$$nothing", "host.example$$nothing", True),
        ("size", "=>", "$$recipient_count", "2", True),
        ("size", "=>", "$$recipient_count", "1", False),
        ("size", "=>", "$$recipient_count", "0", True),
        ("words", ">", "$$recipient_count", "3", True),
        ("client_address", "==", "$$server_address", "192.0.2.1", True),
        ("client_address", "=", "$$server_address/24", "192.0.2.7", True),
        ("client_address", "!=", "$$server_address", "192.0.2.7", True),
        ("client_address", "=", "$$helo_name", "192.0.2.7", False),
        ("days", "=", "$$day", "", True),
        ("days", "!=", "$$day", "", False),
        ("days", "=", "$$helo_name", "", False),
    ],
)
def test_variables(item: str, operator: str, text: str, value: str, expected: bool) -> None:
    request = Request(
        helo_name="host.example",
        tld="org",
        empty="",
        tricky="(a+)+$$helo_name",
        recipient_count="2",
        server_address="192.0.2.1",
        day="Thu",
    )
    assert holds(item, operator, text, value=value, request=request) is expected
    assert holds(item, operator, f"!{text}", value=value, request=request) is not expected


def test_groups() -> None:
    request = Request()
    assert not holds("sender", "==", "%%BAD", value="a@b.c", request=request)
    assert holds("sender", "==", "!%%BAD", value="a@b.c", request=request)
    assert not holds("sender", "!=", "%%BAD", value="a@b.c", request=request)
    request.groups.add("BAD", "a@b.c", 10, NOW)
    assert holds("sender", "==", "%%BAD", value="A@b.c", request=request)
    assert holds("sender", "=", "%%BAD", value="a@b.c", request=request)
    assert not holds("sender", "=~", "%%BAD", value="a@bxc", request=request)
    assert not holds("sender", "==", "!%%BAD", value="a@b.c", request=request)
    assert not holds("sender", "!=", "%%BAD", value="a@b.c", request=request)
    assert holds("sender", "!=", "%%BAD", value="other", request=request)
    request.groups.add("BAD", "d@e.f", 10, NOW)
    assert holds("sender", "!=", "%%BAD", value="a@b.c", request=request)
    request.now += 11
    assert not holds("sender", "==", "%%BAD", value="a@b.c", request=request)


def rewrite(path: Path, text: str, age: float) -> None:
    path.write_text(text)
    os.utime(path, (NOW + age, NOW + age))


def test_live_lists_are_as_they_are_now(tmp_path: Path) -> None:
    path = tmp_path / "list"
    request = Request(helo_name="here.example")
    live = condition("client_name", "==", f"lfile:{path}", live=LiveFile(path, False))
    compiled = compile_alternatives([live, condition("client_name", "==", "always.example")], pytest.fail)

    def held(*names: str) -> list[str]:
        return [name for name in names if compiled.hold(name, request)]

    assert held("a.example", "always.example") == ["always.example"]
    rewrite(path, "a.example\n!!(b.example) # but one\n$$helo_name\n", 0)
    assert held("a.example", "b.example", "c.example") == ["a.example", "c.example"]
    rewrite(path, "$$helo_name\n", 1)
    assert held("a.example", "here.example") == ["here.example"]
    path.unlink()
    assert held("here.example", "always.example") == ["always.example"]


def test_a_negated_live_list_negates_its_elements(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("a.example\n")
    live = condition("client_name", "==", f"lfile:{path}", live=LiveFile(path, False), negated=True)
    compiled = compile_alternatives([live], pytest.fail)
    assert [name for name in ("a.example", "b.example") if compiled.hold(name, Request())] == ["b.example"]


def test_what_makes_no_sense_in_a_live_list_is_left_out_and_told(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("*\n^a\n!!()\n")
    live = condition("client_name", "=~", f"lfile:{path}", live=LiveFile(path, False))
    compiled = compile_alternatives([live], pytest.fail)
    request = Request()
    assert [compiled.hold(name, request) for name in ("abc", "bbc", "abc")] == [True, False, True]
    assert sum("nothing to repeat" in complaint for complaint in request.complaints) == 1


def test_a_slow_pattern_is_told() -> None:
    late: list[str] = []
    compiled = compile_alternatives([condition("sender", "=~", "a.*b.*c.*d", "x$")], late.append)
    assert compiled.hold("abc" * 5000 + "x", Request())
    assert late == ["a.*b.*c.*d"]
