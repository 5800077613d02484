"""From rule files to typed rules: what is read, what is refused and where, what is warned of."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from weir.rules.rule import LiveFile, Rule, RulesError, Ruleset
from weir.rules.ruleset import Source, load

WORDS = st.sampled_from(
    [
        *("id=", "action=", "sender==", "sender=~", "size>=", "client_address=", "days=", "rbl=", "X!=", "rblcount="),
        *("action=rate(sender/1/60/REJECT)", "action=set(A=1)", "action=jump(", "file:", "lfile:/", "table:rules.cf"),
        *("&&A", "&&A {", "{", "}", ";", "\n", "\n ", "\\\n", "#", '"', "!!", "!!(", ")", "$$sender", "%%G", ","),
        *("10.0.0.0/8", "Mon", "1", "all", "*", "[a", "OK", " ", "\r", "é", "\udcfc", "\0"),
    ]
)
RULES = st.lists(WORDS | st.text(max_size=5), max_size=30).map("".join)


def rules(text: str) -> tuple[Rule, ...]:
    return load([Source(Path("rules.cf"), text)]).rules


def rule(text: str) -> Rule:
    (found,) = rules(text)
    return found


def warnings(*texts: str) -> list[str]:
    return [str(warning) for warning in load(sources(*texts)).warnings]


def errors(*texts: str) -> list[str]:
    with pytest.raises(RulesError) as caught:
        load(sources(*texts))
    return [str(error) for error in caught.value.errors]


def sources(*texts: str) -> list[Source]:
    return [Source(Path(f"{number}.cf"), text) for number, text in enumerate(texts, 1)]


def conditions(found: Rule) -> list[tuple[str, str, list[str]]]:
    return [
        (one.item, one.operator, ["!!" * value.negated + value.text for value in one.values])
        for one in found.conditions
    ]


def test_a_rule_is_conditions_and_actions() -> None:
    found = rule("id=R1; sender==a@b; size>=5; action=set(A=1); action = REJECT   a  b ")
    assert (found.id, found.named, found.number) == ("R1", True, 0)
    assert conditions(found) == [("sender", "==", ["a@b"]), ("size", "=>", ["5"])]
    assert [action.text for action in found.actions] == ["set(A=1)", "REJECT   a  b"]
    assert str(found.position) == "rules.cf:1:1"
    assert [str(action.position) for action in found.actions] == ["rules.cf:1:37", "rules.cf:1:56"]


@pytest.mark.parametrize(
    ("written", "item", "operator", "value"),
    [
        ("sender=x", "sender", "=", "x"),
        ("sender==x", "sender", "==", "x"),
        ("sender!=x", "sender", "!=", "x"),
        ("sender=~x", "sender", "=~", "x"),
        ("sender~=x", "sender", "=~", "x"),
        ("sender!~x", "sender", "!~", "x"),
        ("size=>1", "size", "=>", "1"),
        ("size>=1", "size", "=>", "1"),
        ("size=<1", "size", "=<", "1"),
        ("size<=1", "size", "=<", "1"),
        ("size>1", "size", ">", "1"),
        ("size<1", "size", "<", "1"),
        ("size!>1", "size", "!>", "1"),
        ("size!<1", "size", "!<", "1"),
        ("size < 1", "size", "<", "1"),
        ("sender==a=b", "sender", "==", "a=b"),
        ("sender=a<b", "sender", "=", "a<b"),
        ("sender==<>", "sender", "==", "<>"),
        ("sender==a,b", "sender", "==", "a,b"),
        ("Sender.x-1==a", "Sender.x-1", "==", "a"),
    ],
)
def test_operators_are_found_leftmost(written: str, item: str, operator: str, value: str) -> None:
    assert conditions(rule(f"{written}; action=OK")) == [(item, operator, [value])]


def test_values_may_be_empty_but_not_after_a_last_equals_sign() -> None:
    assert conditions(rule("sender=; sender==; sender!=; action=OK")) == [
        ("sender", "=", [""]),
        ("sender", "==", [""]),
        ("sender", "!=", [""]),
    ]
    assert errors("action=OK; sender=\naction=OK; sender=;;\n") == [
        "1.cf:1:18: expected a value after sender=",
        "1.cf:2:18: expected a value after sender=",
    ]


def test_an_operator_of_two_characters_needs_no_value_at_the_end() -> None:
    assert conditions(rule("action=REJECT\n  sasl_username!=")) == [("sasl_username", "!=", [""])]
    assert errors("action=OK; size>") == ["1.cf:1:16: size: expected a number after >, got nothing"]


def test_lists_have_elements_and_texts_have_none() -> None:
    found = rule("client_address= 10.0.0.0/8 , !!(192.0.2.0/24),2001:db8::1; days=Mon,!!Tue; action=OK")
    assert conditions(found) == [
        ("client_address", "=", ["10.0.0.0/8", "!!192.0.2.0/24", "2001:db8::1"]),
        ("days", "=", ["Mon", "!!Tue"]),
    ]
    assert [value.position.column for value in found.conditions[0].values] == [17, 33, 47]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("action=OK\naction=OK", ["R-0", "R-1"]),
        ("action=OK\nsender==a\naction=OK", ["R-0", "R-1"]),
        ("id=A; action=OK; id=B", ["B"]),
        ("id=A; action=OK\n id=; x==1", ["R-0"]),
        ("id=A b; action=OK", ["A b"]),
        ("&&A { id=M };\n&&A; action=OK\naction=OK", ["M", "R-1"]),
    ],
)
def test_ids(text: str, ids: list[str]) -> None:
    assert [found.id for found in rules(text)] == ids


def test_a_jump_to_an_id_that_is_there_twice_goes_to_the_last() -> None:
    assert load(sources("id=A; action=OK", "id=A; action=OK")).by_id == {"A": 1}


@pytest.mark.parametrize(
    ("written", "rblcount", "rhsblcount"),
    [
        ("x==1", 1, 1),
        ("rblcount=2", 2, 1),
        ("rblcount=2; rblcount=all; rhsblcount==3", None, 3),
        ("rblcount=0", 1, 1),
    ],
)
def test_counts_of_listings(written: str, rblcount: int | None, rhsblcount: int | None) -> None:
    found = rule(f"{written}; action=OK")
    assert (found.rblcount, found.rhsblcount) == (rblcount, rhsblcount)


def test_a_score_of_a_rule() -> None:
    assert rule("id=A; score=4; score=4.5; action=REJECT").score == 4.5
    assert rule("id=A; action=REJECT").score is None
    assert rule("id=A; score=4; action=REJECT").conditions[0].values == ()  # it never matches


def test_sources_are_read_in_order(tmp_path: Path) -> None:
    (tmp_path / "b.cf").write_bytes(b"\xef\xbb\xbfid=B; action=OK\r\n")
    found = load([Source(Path("a"), "id=A; action=OK"), Source(tmp_path / "b.cf"), Source(Path("c"), "action=OK")])
    assert [one.id for one in found.rules] == ["A", "B", "R-2"]
    assert [one.number for one in found.rules] == [0, 1, 2]
    assert [str(one.position) for one in found.rules] == ["a:1:1", f"{tmp_path}/b.cf:1:1", "c:1:1"]
    assert found.files == (tmp_path / "b.cf",)


def test_no_sources_are_no_rules() -> None:
    assert load([]) == Ruleset(())


def test_lists_in_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("l").write_text("10.1.0.0/16\ntable:t\n")
    Path("t").write_text("10.2.0.0/16 x\n!!(10.3.0.0/16) x\n")
    found = load(sources("id=A; client_address!=10.0.0.1, !!(file:l), lfile:m; action=OK"))
    (condition,) = found.rules[0].conditions
    assert [(value.text, value.negated, value.live) for value in condition.values] == [
        ("10.0.0.1", False, None),
        ("10.1.0.0/16", True, None),
        ("10.2.0.0/16", True, None),
        ("10.3.0.0/16", False, None),
        ("lfile:m", False, LiveFile(Path("m"), False)),
    ]
    assert condition.operator == "!="
    assert [str(value.position) for value in condition.values] == ["1.cf:1:23", "l:1:1", "t:1:1", "t:2:4", "1.cf:1:45"]
    assert found.files == (Path("l"), Path("t"), Path("m"))


def test_errors_in_lists_are_told_where_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("l").write_text("10.1.0.0/16\n  10.1.0.0/99 # no\nfile:l\nfile:none\n")
    Path("p").write_text("^a\n !!(/*b/)\n")
    assert errors("client_address=file:l; sender=~file:p; action=OK", "sender==table:none2; action=OK") == [
        "l:3:1: a list must not contain itself: l → l",
        "l:4:1: none cannot be read: No such file or directory",
        "l:2:3: client_address: expected an address or a network, IPv4 or IPv6, got 10.1.0.0/99",
        "p:2:6: sender: bad pattern: nothing to repeat",
        "2.cf:1:9: none2 cannot be read: No such file or directory",
    ]


def test_live_lists_are_checked_but_only_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("l").write_text("10.1.0.0/16\n10.1.0.0/99\n")
    text = "client_address=lfile:l; action=OK\nclient_address=lfile:l; action=OK\nsender==ltable:none; action=OK"
    assert warnings(text) == [
        "l:2:1: client_address: left out: expected an address or a network, IPv4 or IPv6, got 10.1.0.0/99",
        "1.cf:3:9: none is not there: the list is empty until it is",
    ]


def test_live_lists_that_contain_themselves_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("l").write_text("ltable:m\n")
    Path("m").write_text("lfile:l x\n")
    assert errors("sender==lfile:l; action=OK") == ["m:1:1: a list must not contain itself: l → m → l"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("this is no rule", "1.cf:1:1: expected ITEM=VALUE, got this is no rule"),
        ("id=A; ; REJECT no; action=OK", "1.cf:1:9: expected ITEM=VALUE, got REJECT no: an action is written action=…"),
        (
            "rate(sender/1/2/OK)",
            "1.cf:1:1: expected ITEM=VALUE, got rate(sender/1/2/OK): an action is written action=…",
        ),
        ("id=A; a b==1; action=OK", "1.cf:1:7: expected an item before ==, got a b"),
        (
            "id=A; $$helo_name~=x; action=OK",
            "1.cf:1:7: expected an item before ~=, got $$helo_name; did you mean helo_name?",
        ),
        ("id=A; action==", "1.cf:1:7: expected an action after action="),
        ("id=A; ==1; action=OK", "1.cf:1:7: expected an item before ==, got nothing"),
        ("id=A; action=; x==1", "1.cf:1:7: expected an action after action="),
        ("id=A; action=RATE(sender/1/2/OK)", "1.cf:1:14: there is no function RATE(); did you mean rate()?"),
        (
            "id=A\n  action=rate(sender/1/60/\\\nscore(abc))",
            "1.cf:3:7: score: expected points as a number, got 'abc'",
        ),
        ("id=A; rblcount=ALL; action=OK", "1.cf:1:16: rblcount: expected a number or all, got ALL"),
        ("id=A; rhsblcount=; action=OK", "1.cf:1:17: rhsblcount: expected a number or all, got nothing"),
        ("id=A; score=high; action=OK", "1.cf:1:13: score: expected a number, got high"),
        ("id=A; sender=<>; action=OK", "1.cf:1:15: sender: expected a number after =<, got >"),
        ("id=A; sender=~/*b/; action=OK", "1.cf:1:16: sender: bad pattern: nothing to repeat"),
        ("id=A; sender=~!!( *b ); action=OK", "1.cf:1:19: sender: bad pattern: nothing to repeat"),
        ("id=A; sender==!!(a; action=OK", "1.cf:1:15: sender: expected !!VALUE or !!(VALUE), got !!(a"),
        (
            "&&M {\n  client_address=10.0.0.0/8, \\\n x\n};\nid=A; &&M; action=OK",
            "1.cf:3:2: client_address: expected an address or a network, IPv4 or IPv6, got x",
        ),
        ('id=A; "days"="Mon-Foo"; action=OK', "1.cf:1:15: days: days are Sun to Sat or 0 to 6, got Mon-Foo"),
        ("id=A; rbl=a.test, b.test/[; action=OK", "1.cf:1:26: rbl: bad pattern for the reply of b.test"),
    ],
)
def test_what_is_refused_and_where(text: str, expected: str) -> None:
    (error,) = errors(text)
    assert error.startswith(expected)


def test_all_errors_are_told_at_once_and_each_once(tmp_path: Path) -> None:
    text = (
        "&&BIG { size==x };\nid=A; &&BIG; action=OK\nid=B; &&BIG; &&BIGS; action=OK\nid=C; &&BIG; days=x; action=foo(1)"
    )
    none = tmp_path / "none.cf"
    with pytest.raises(RulesError) as caught:
        load([Source(Path("1.cf"), text), Source(none), Source(Path("3.cf"), "nothing")])
    assert [str(error) for error in caught.value.errors] == [
        "1.cf:1:15: size: expected a number after ==, got x",
        "1.cf:3:14: there is no macro &&BIGS before this line; did you mean &&BIG?",
        "1.cf:4:19: days: days are Sun to Sat or 0 to 6, got x",
        "1.cf:4:29: there is no function foo()",
        f"{none}:1:1: it cannot be read: No such file or directory",
        "3.cf:1:1: expected ITEM=VALUE, got nothing",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id=A; action=OK;;", []),
        ("id=A;; action=OK", ["1.cf:1:6: nothing between two semicolons"]),
        ("&&M { };\nid=A; &&M; action=OK", ["1.cf:2:10: nothing between two semicolons"]),
        ("id=A; cache=60; action=OK", ["1.cf:1:7: cache= has no effect: there is no cache of requests"]),
        ("id=A; id=B; action=OK", ["1.cf:1:7: id is given more than once: the last one counts"]),
        ("id=; action=OK", ["1.cf:1:1: an empty id: it is as if there were none"]),
        ("id=A; sender==a", ["1.cf:1:1: a rule without action does nothing"]),
        (
            "id=A; sender==a action=OK",
            ["1.cf:1:1: a rule without action does nothing: is a ; missing before action=?"],
        ),
        ("id=A; actoin=REJECT", ["1.cf:1:1: a rule without action does nothing: is actoin meant as action?"]),
        ("client_address=10.0.0.1,,10.0.0.2; action=OK", ["1.cf:1:25: nothing between two commas"]),
        ("action=action=OK", ["1.cf:1:8: this action begins with action=, which goes to Postfix as it is"]),
        ("days=0; action=OK", ["1.cf:1:6: days: 0 is every one of the days: write Sun"]),
        ("&&T { away };\naction=REJECT go &&T; x==1", ["1.cf:2:18: the blanks around &&T go with it"]),
        ("&&T { x==1 };\nid=A; &&T ; action=OK", []),
        ("&&T { 5 };\nsize >= &&T; action=OK", []),
        ("client_adress==a; action=OK", ["1.cf:1:1: no item is known as client_adress; did you mean client_address?"]),
        ("Sender==a; action=set(Sender=1)", []),
        ("Sender==a; action=rate(sender/1/60/set(Sender=1))", []),
        ("AUTH==1; X==2; my_new_attr==42; ratecount>=2; action=OK", []),
    ],
)
def test_what_is_warned_of(text: str, expected: list[str]) -> None:
    assert warnings(text) == expected


def test_a_rule_that_differs_in_layout_only_is_the_same_in_the_fleet() -> None:
    plain = rule("id=A; sender==a; size>=5; action=OK")
    other = rule('&&M { size >= "5" };\nid=A\n  &&M;  sender  ==a # so\n  action=OK')
    assert plain.digest == other.digest


def test_the_order_of_a_long_list_does_not_matter() -> None:
    values = [f"10.{number >> 8}.{number & 255}.0/24" for number in range(25_000)]
    plain = rule(f"id=A; client_address={','.join(values)}; sender==a; action=OK")
    other = rule(f"id=A; sender==a; client_address={','.join(reversed(values))}; action=OK")
    assert plain.digest == other.digest
    conditions = sorted([*(f"client_address={value}" for value in values), "sender==a"])
    assert plain.canonical == "; ".join(["id=A", *conditions, "action=OK"])


@pytest.mark.parametrize("written", ["rblcount=2", "rhsblcount=all", "score=4", "sender==b", "action=HOLD"])
def test_a_rule_that_says_something_else_is_another_one(written: str) -> None:
    assert rule(f"id=A; sender==a; {written}; action=OK").digest != rule("id=A; sender==a; action=OK").digest


def test_errors_do_not_repeat_a_whole_value() -> None:
    (error,) = errors(f"size=={'x' * 10_000}; action=OK")
    assert len(error) < 400


def test_a_list_that_is_missing_is_told_wherever_it_is_named() -> None:
    text = "sender==file:/none/l; action=OK\nsender==file:/none/l; action=OK"
    assert errors(text) == [
        "1.cf:1:9: /none/l cannot be read: No such file or directory",
        "1.cf:2:9: /none/l cannot be read: No such file or directory",
    ]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(RULES, max_size=3))
@example(["id=A; \udcfc=file:\0; action=" + "rate(" * 100])
@example(["action=OK" + "&&A" * 50])
def test_any_text_loads_or_is_refused_at_places_that_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, texts: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rules.cf").write_bytes("".join(texts).encode("utf-8", "surrogateescape"))
    written = {f"{number}.cf": text.split("\n") for number, text in enumerate(texts, 1)}
    loaded = Ruleset(())
    places = []
    try:
        loaded = load(sources(*texts))
    except RulesError as error:
        places += [one.position for one in error.errors]
    places += [warning.position for warning in loaded.warnings] + [one.position for one in loaded.rules]
    assert [one.number for one in loaded.rules] == list(range(len(loaded.rules)))
    assert len(loaded.digest) == 16
    for place in places:
        if place.file in written:
            assert 1 <= place.line <= len(written[place.file])
            assert 1 <= place.column <= len(written[place.file][place.line - 1])


def test_a_pipe_as_a_list_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert errors(f"sender==file:{tmp_path}/pipe; action=OK") == [
        f"1.cf:1:9: {tmp_path}/pipe cannot be read: it is no file"
    ]
