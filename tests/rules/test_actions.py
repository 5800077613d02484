"""The text of an action, as it is parsed when rules are loaded."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weir.rules import actions
from weir.rules.actions import (
    Action,
    ActionError,
    Ask,
    Assignment,
    Count,
    GroupAdd,
    GroupDelete,
    Jump,
    Mail,
    Note,
    Reply,
    Score,
    Set,
    Text,
    Wait,
    text,
)

COUNT = Count("rate", "sasl_username", 1.0, 60.0, Reply(text("REJECT x")))


@pytest.mark.parametrize(
    ("written", "action"),
    [
        ("REJECT   a  b", Reply(text("REJECT   a  b"))),
        ("REJECT (see policy)", Reply(text("REJECT (see policy)"))),
        ("REJECT blocked (see policy)", Reply(text("REJECT blocked (see policy)"))),
        ("554 5.7.1 (a) b", Reply(text("554 5.7.1 (a) b"))),
        ("jump", Reply(text("jump"))),
        ("REJECT $$helo_name $$(sender)x", Reply(Text("REJECT $$helo_name $$(sender)x", ("helo_name", "sender")))),
        ("jump(R-2)", Jump(text("R-2"))),
        ("jump ( R-2 ) ", Jump(text("R-2"))),
        ("note(a (b) c)", Note(text("a (b) c"))),
        ("note()", Note(text(""))),
        ("wait(1.5)", Wait(1.5)),
        ("wait($$DELAY)", Wait(text("$$DELAY"))),
        ("score(4)", Score("+", 4.0)),
        ("score(-1.5)", Score("-", 1.5)),
        ("score(*1,5)", Score("*", 1.5)),
        ("score(/2)", Score("/", 2.0)),
        ("score(=0)", Score("=", 0.0)),
        ("score(+$$N)", Score("+", text("$$N"))),
        ("score()", Score("+", None)),
        ("ask(127.0.0.1:10031)", Ask("127.0.0.1", 10031, "")),
        ("ask([::1]:10031)", Ask("::1", 10031, "")),
        ("groupadd(%%BAD/client_address)", GroupAdd("BAD", "client_address", 3600.0)),
        ("groupadd(BAD / $$client_address / 60)", GroupAdd("BAD", "client_address", 60.0)),
        ("groupdel(%%BAD/$$(client_address))", GroupDelete("BAD", "client_address")),
        ("rate(sasl_username/1/60/REJECT x)", COUNT),
        ("rate( sasl_username/1/60/REJECT x )", COUNT),
        ("rate($$sasl_username/1/60/REJECT x)", COUNT),
        ("rate($$(sasl_username)/1/60/REJECT x)", COUNT),
        ("size5321(sender/$$MAX/60/a/b)", Count("size5321", "sender", text("$$MAX"), 60.0, Reply(text("a/b")))),
        ("rcpt(sender/5/60/jump(X))", Count("rcpt", "sender", 5.0, 60.0, Jump(text("X")))),
        ("rate(sender/5/60/ jump(X))", Count("rate", "sender", 5.0, 60.0, Jump(text("X")))),
        ("rate(sender/5/60/REJECT (a))", Count("rate", "sender", 5.0, 60.0, Reply(text("REJECT (a)")))),
        ("rate(sender/5/60/rate(a/1/2/OK))", Count("rate", "sender", 5.0, 60.0, actions.parse("rate(a/1/2/OK)"))),
        ("rate(sender/5/60)", Count("rate", "sender", 5.0, 60.0, None)),
        ("rate(sender)", Count("rate", "sender", 0.0, 0.0, None)),
        ("rate(sender/5/60/)", Count("rate", "sender", 5.0, 60.0, None)),
    ],
)
def test_actions(written: str, action: Action) -> None:
    assert actions.parse(written) == action


@pytest.mark.parametrize(
    ("written", "assignments"),
    [
        ("A=1", [Assignment("A", "", text("1"))]),
        ("A==1", [Assignment("A", "", text("1"))]),
        (" A = x y , B=2", [Assignment("A", "", text("x y")), Assignment("B", "", text("2"))]),
        ("A.=x,", [Assignment("A", ".", text("x"))]),
        ("A=.x", [Assignment("A", ".", text("x"))]),
        ("A+=1,A-=1", [Assignment("A", "+", text("1")), Assignment("A", "-", text("1"))]),
        ("A*=1,A/=1", [Assignment("A", "*", text("1")), Assignment("A", "/", text("1"))]),
        ("A=-1", [Assignment("A", "-", text("1"))]),
        ("A=", [Assignment("A", "", text(""))]),
        ("A=b=c", [Assignment("A", "", text("b=c"))]),
        ("A=$$x,my-item=1", [Assignment("A", "", text("$$x")), Assignment("my-item", "", text("1"))]),
    ],
)
def test_assignments(written: str, assignments: list[Assignment]) -> None:
    assert actions.parse(f"set({written})") == Set(tuple(assignments))


def test_mails() -> None:
    helo, sender, recipient, subject, body = map(text, ("h", "f@x", "$$recipient", "s", "b/c"))
    assert actions.parse("mail(mx:2525/h/f@x/$$recipient/s/b/c)") == Mail(
        text("mx:2525"), text(""), helo, sender, recipient, subject, body
    )
    assert actions.parse("sendmail(/usr/sbin/sendmail::f@x::$$recipient::s::b/c)") == Mail(
        text(""), text("/usr/sbin/sendmail"), text(""), sender, recipient, subject, body
    )


@pytest.mark.parametrize(
    ("written", "error", "offset"),
    [
        ("RATE(a/1/2/X)", r"no function RATE\(\); did you mean rate\(\)\?", 0),
        ("foo(x)", r"no function foo\(\)", 0),
        ("  gruopadd(x)", r"did you mean groupadd\(\)\?", 2),
        ("rate(a/1/2/REJECT(x))", r"no function REJECT\(\): Postfix's REJECT has a blank before its text", 11),
        ("450(x)", r"no function 450\(\): Postfix's 450 has a blank", 0),
        ("rate(a/1/2/X", r"rate: expected \) at the end", 0),
        ("rate(a/1/2/X) b", r"expected \) at the end, got 'a/1/2/X\) b'", 0),
        ("rate(a/x/2/X)", "expected a maximum as a number, got 'x'", 7),
        ("rate(a/1k/2/X)", "expected a maximum as a number, got '1k'", 7),
        ("rate(a/1/1h/X)", "expected seconds as a number, got '1h'", 9),
        ("rate(a/1/-2/X)", "expected seconds as a number, got '-2'", 9),
        ("rate(a b/1/2/X)", "expected an item, got 'a b'", 5),
        ("rate()", "expected an item, got ''", 5),
        ("rate(a/1/2/rate( b c/1/2/X))", "expected an item, got 'b c'", 17),
        ("score(abc)", "expected points as a number, got 'abc'", 6),
        ("score(+-1)", "expected a number after", 6),
        ("wait(soon)", "expected seconds as a number, got 'soon'", 5),
        ("wait()", "expected seconds as a number, got ''", 5),
        ("set()", "expected ITEM=VALUE, got ''", 4),
        ("set(A=1,B)", "expected ITEM=VALUE, got 'B'", 8),
        ("set($$A=1)", "expected ITEM=VALUE", 4),
        ("ask(127.0.0.1)", "expected ADDRESS:PORT", 4),
        ("ask(127.0.0.1:99999)", "expected ADDRESS:PORT", 4),
        ("ask(127.0.0.1:1:*)", "ask: ", 16),
        ("mail(a/b)", "expected SERVER/HELO/FROM/TO/SUBJECT/BODY, got 'a/b'", 5),
        ("sendmail(a::b)", "expected PATH::FROM::TO::SUBJECT::BODY, got 'a::b'", 9),
        ("groupadd(%%G)", "expected %%GROUP/ITEM/SECONDS, got", 9),
        ("groupadd(%%G/a/soon)", "expected seconds as a number, got 'soon'", 15),
        ("groupadd(%%G/a/$$t)", "expected seconds as a number", 15),
        ("groupdel(%%G/a/60)", "expected %%GROUP/ITEM, got", 9),
        ("rate(a/1/2/" * 40 + "X" + ")" * 40, "more than 32 functions in one another", 11 * 32),
    ],
)
def test_errors_say_what_is_expected_and_where(written: str, error: str, offset: int) -> None:
    with pytest.raises(ActionError, match=error) as raised:
        actions.parse(written)
    assert raised.value.offset == offset


def test_a_long_argument_is_cut_in_an_error() -> None:
    with pytest.raises(ActionError) as raised:
        actions.parse(f"wait({'x' * 10_000})")
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(
    ("written", "rendered"),
    [
        ("a $$x b", "a 1 b"),
        ("$$(x)y", "1y"),
        ("$$ x-$$x", "1-1"),
        ("$$y", "$$x"),
        ("$$none $$(none)", "$$none $$(none)"),
        ("$x $$", "$x $$"),
        ("$$z", r"\1 (a) \g<0>"),
    ],
)
def test_names_are_replaced_once(written: str, rendered: str) -> None:
    assert text(written).render({"x": "1", "y": "$$x", "z": r"\1 (a) \g<0>"}) == rendered


def test_what_never_does_anything_is_idle() -> None:
    idle = ["rate(a/0/60/X)", "rate(a/1/0/X)", "rate(a/1/60)", "rate(a)"]
    for written in idle:
        action = actions.parse(written)
        assert isinstance(action, Count)
        assert action.idle
    assert not COUNT.idle


def test_items_that_an_action_reads() -> None:
    action = actions.parse("rate(a/$$b/60/rate(c/1/$$d/set(e=$$f,g+=1)))")
    assert actions.names(action) == {"a", "b", "c", "d", "e", "f", "g"}
    assert actions.names(actions.parse("groupadd(%%G/h)")) == {"h"}
    assert [type(part) for part in actions.every(action)] == [Count, Count, Set]


@given(st.text(alphabet=st.sampled_from("rate(size,/=$:%1 )-.x\n") | st.characters(), max_size=60))
def test_any_text_is_an_action_or_an_error_in_it(written: str) -> None:
    for candidate in (written, f"set({written})", f"rate({written})", f"groupadd({written})", f"ask(a:1:{written})"):
        assert 0 <= _offset(candidate) <= len(candidate)


def _offset(written: str) -> int:
    """Of the error in a text; 0 if there is none."""
    try:
        actions.parse(written)
    except ActionError as error:
        return error.offset
    return 0
