"""Requests led through rules: what each function does, and that every evaluation ends."""

import gc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.rules.driving import REQUEST, START, Host
from weir.rules.counters import Counter
from weir.rules.evaluation import REPEATS, derived
from weir.rules.needs import Ask, Limit, Lookup, Mail, Wait


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


# Replies and the items of a request


def test_the_first_reply_is_given_and_told(folder: Path) -> None:
    host = Host(
        folder, "id=A; sender==no@x; action=X\nid=B; action=note(hello $$sender); action=REJECT\nid=C; action=OK"
    )
    outcome = host.outcome(REQUEST)
    assert (outcome.action, outcome.rule, outcome.hits) == ("REJECT", 1, [1])
    assert (outcome.notes, outcome.trouble) == (["hello alice@example.org"], "")


def test_at_the_end_of_the_rules_the_reply_is_dunno(folder: Path) -> None:
    outcome = Host(folder, "id=A; action=note(x)").outcome(REQUEST)
    assert (outcome.action, outcome.rule, outcome.hits) == ("DUNNO", -1, [0])


def test_attributes_stay_as_they_are(folder: Path) -> None:
    attributes = {**REQUEST, "sender": ""}
    before = dict(attributes)
    Host(folder, "id=A; action=set(helo_name=x); action=OK").outcome(attributes)
    assert attributes == before


@pytest.mark.parametrize(
    ("attributes", "items"),
    [
        ({"sender": "a@b@C.d"}, {"sender_localpart": "a@b", "sender_domain": "C.d", "sender": "a@b@C.d"}),
        ({"sender": "alice"}, {"sender_localpart": "", "sender_domain": "", "sender": "alice"}),
        ({"sender": ""}, {"sender_localpart": "", "sender_domain": "", "sender": "<>"}),
        ({}, {"sender": "<>", "sender_domain": "", "recipient_domain": ""}),
        ({"recipient": "bob@x.y"}, {"recipient_localpart": "bob", "recipient_domain": "x.y"}),
        ({"recipient": "postmaster"}, {"recipient_localpart": "", "recipient_domain": ""}),
        ({"client_address": "192.0.2.10"}, {"reverse_address": "10.2.0.192"}),
    ],
)
def test_derived_items(attributes: dict[str, str], items: dict[str, str]) -> None:
    assert derived(attributes).items() >= items.items()


def test_other_addresses_are_not_turned_around() -> None:
    for address in ["2001:db8::1", "unknown", ""]:
        assert derived({"client_address": address})["reverse_address"] == address
    assert derived({})["reverse_address"] == ""


def test_what_a_client_sends_is_text_for_ever(folder: Path) -> None:
    host = Host(folder, "id=A; action=set(H=$$helo_name,S=1); action=REJECT $$H $$sender")
    for helo in ["$$sender", "(x)", "jump(A)", "a,sender=evil", "$$helo_name", "\\1", "/x/y"]:
        assert host.ask(helo_name=helo) == f"REJECT {helo} alice@example.org"
    assert Host(folder, "id=A; action=$$helo_name").ask(helo_name="jump(A)") == "jump(A)"


def test_an_empty_reply_is_dunno(folder: Path) -> None:
    assert Host(folder, "id=A; action=$$queue_id\nid=B; action=OK").ask() == "DUNNO"


# jump


def test_jumps(folder: Path) -> None:
    rules = "id=A; action=jump($$T); action=note(x)\nid=B; action=REJECT b\nid=C; action=REJECT c"
    host = Host(folder, f"id=S; action=set(T=$$helo_name)\n{rules}")
    assert host.ask(helo_name="C") == "REJECT c"
    assert host.ask(helo_name="nowhere") == "REJECT b"
    assert Host(folder, "id=A; action=jump(B); action=REJECT a\nid=B; action=OK").ask() == "REJECT a"


@pytest.mark.parametrize("target", ["A", "B"])
def test_jumps_without_end_are_told_and_end(folder: Path, target: str) -> None:
    rules = f"id=A; action=set(N.=$$N$$N)\nid=B; action=jump({target})\nid=C; action=REJECT"
    outcome = Host(folder, rules).outcome(REQUEST)
    assert (outcome.action, outcome.rule) == ("DUNNO", -1)
    assert "jumps without end" in outcome.trouble
    assert len(outcome.hits) == 3 + REPEATS + 1


def test_a_loop_that_ends_is_no_trouble(folder: Path) -> None:
    rules = "id=A; action=set(N+=1)\nid=B; N<100; action=jump(A)\nid=C; action=OK $$N"
    outcome = Host(folder, rules).outcome(REQUEST)
    assert (outcome.action, outcome.trouble) == ("OK 100", "")


# set


def test_set_sees_the_items_as_they_were(folder: Path) -> None:
    rules = "id=A; action=set(X=1,Y=2); action=set(X=$$Y,Y=$$X,Z=$$N,N=3,M=$$N); action=OK $$X$$Y$$Z$$M"
    assert Host(folder, rules).ask() == "OK 21$$N3"


def test_set_changes_what_later_conditions_see(folder: Path) -> None:
    rules = "id=A; action=set(sender=evil@x.y)\nid=B; sender==evil@x.y; sender_domain==example.org; action=REJECT"
    assert Host(folder, rules).ask() == "REJECT"


# score


def test_scores_reach_the_highest_limit(folder: Path) -> None:
    more = {10.0: "REJECT ten", 4.5: "jump(END)", 7.0: ""}
    rules = "id=A; action=score($$P)\nid=B; action=OK $$request_score\nid=END; action=OK end $$request_score"
    host = Host(folder, "id=S; action=set(P=$$helo_name)\n" + rules, more=more)
    assert host.ask(helo_name="12") == "REJECT ten"
    assert host.ask(helo_name="8") == "554 5.7.1 weir score exceeded"
    assert host.ask(helo_name="4.55") == "OK end 4.55"
    assert host.ask(helo_name="-3") == "OK -3.0"
    assert host.ask(helo_name="none") == "OK $$request_score"


def test_a_score_without_points_is_only_compared(folder: Path) -> None:
    assert Host(folder, "id=A; action=set(request_score=6)\nid=B; action=score()").ask().startswith("554")
    assert Host(folder, "id=B; action=score()\nid=C; action=OK").ask() == "OK"


def test_a_rule_with_a_score_is_a_limit_for_all_requests(folder: Path) -> None:
    rules = "id=A; action=score($$P)\nid=L; score=3.5; action=REJECT $$request_score\nid=E; action=OK"
    host = Host(folder, rules, more={3.5: "REJECT other"})
    assert [host.ask(P="3.4"), host.ask(P="3.5"), host.ask(P="5")] == [
        "OK",
        "REJECT 3.5",
        "554 5.7.1 weir score exceeded",
    ]


def test_a_score_limit_without_an_action_that_can_be_done(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"action of score 4\.5"):
        Host(folder, "id=A; action=OK", more={4.5: "foo(x)"})


# wait, ask, mail


def test_wait(folder: Path) -> None:
    host = Host(folder, "id=A; action=wait(1.5); action=wait($$N); action=wait(0); action=OK")
    assert host.ask(N="2") == "OK"
    assert host.ask(N="-1") == "OK"
    assert host.ask(N="soon") == "OK"
    assert host.needs == [Wait(1.5), Wait(2), Wait(1.5), Wait(1.5)]


def test_ask_gives_the_other_answer_verbatim(folder: Path) -> None:
    host = Host(folder, "id=A; action=set(sender=x); action=ask(127.0.0.1:10031:^dunno|PREPEND)\nid=B; action=OK")
    assert host.ask(sender="") == "OK"
    need = host.needs[0]
    assert isinstance(need, Ask)
    assert dict(need.attributes) == {**REQUEST, "sender": ""}
    for answer, reply in [
        ("REJECT (x) $$sender", "REJECT (x) $$sender"),
        ("jump(A)", "jump(A)"),
        ("DUNNO", "OK"),
        ("prepend X: y", "OK"),
        ("", "OK"),
    ]:
        host.servers["127.0.0.1:10031"] = answer
        assert host.ask() == reply


def test_ask_within_a_limit(folder: Path) -> None:
    host = Host(folder, "id=A; action=rate(sender/1/60/ask(127.0.0.1:1))\nid=B; action=OK")
    host.servers["127.0.0.1:1"] = "DEFER"
    assert [host.ask(), host.ask()] == ["OK", "DEFER"]


def test_mails(folder: Path) -> None:
    host = Host(
        folder,
        "id=A; action=mail(mx:25/me/a@x/$$recipient/to $$sender/b/c); "
        "action=sendmail(/bin/s::a@x::b@y::s::$$size); action=OK",
    )
    assert host.ask() == "OK"
    assert host.needs == [
        Mail("mx:25", "", "a@x", "bob@example.com", "to alice@example.org", "b/c", "me"),
        Mail("", "/bin/s", "a@x", "b@y", "s", "1500"),
    ]


# groups


def test_groups(folder: Path) -> None:
    host = Host(
        folder,
        "id=W; client_address=%%BAD; action=REJECT\n"
        "id=A; recipient==trap@x.y; action=groupadd(%%BAD/client_address/60)\n"
        "id=N; client_address=%%BAD; action=REJECT now\n"
        "id=O; sender==clear@x.y; action=groupdel(%%BAD/client_address)",
    )
    assert host.ask() == "DUNNO"
    assert host.ask(recipient="trap@x.y") == "REJECT now"
    assert host.ask() == "REJECT"
    assert host.ask(client_address="192.0.2.11") == "DUNNO"
    host.reload()
    assert host.ask() == "REJECT"
    host.now += 60
    assert host.ask() == "DUNNO"
    assert host.ask(recipient="trap@x.y", client_address="") == "DUNNO"


# the end


def test_rules_out_of_use_are_freed_at_once(folder: Path) -> None:
    """They are in no circle, which only a search for garbage would find."""
    (folder / "list").write_text("192.0.2.0/24\n")
    (folder / "live").write_text("~a\nb\n")
    text = f"""\
id=A; client_address=file:{folder}/list; sender=~a.*b; helo_name=lfile:{folder}/live; action=set(X=$$size)
id=B; rbl=bl.test; helo_address=192.0.2.0/24; sender_mx_names=~mx; date=01.01.2027-; action=score(3)
id=C; recipient==$$sender; client_name!=%%GROUP; action=rate(sender/1/60/jump(A))
id=D; action=ask(127.0.0.1:1:dunno)
"""
    gc.collect()
    gc.disable()
    try:
        host = Host(folder, text, zone={})
        host.ask()
        del host
        assert gc.collect() == 0
    finally:
        gc.enable()


# limits


def test_a_limit_is_told(folder: Path) -> None:
    host = Host(folder, "id=A; action=size(sasl_username/2000/60/REJECT $$ratecount of $$size)")
    host.ask()
    assert host.ask(sasl_username="Alice@Example.org") == "REJECT 3000 of 1500"
    assert list(host.counters.dump(host.now)) == [
        Counter("sasl_username", "alice@example.org", "A", 2000, 60, host.now + 60, 3000)
    ]


@pytest.mark.parametrize(
    ("function", "attributes"),
    [
        ("rate", {"sender_domain": "", "sender": "x"}),
        ("size", {"size": ""}),
        ("size", {"size": "0"}),
        ("size", {"size": "-7"}),
        ("size", {"size": "x"}),
        ("rcpt", {}),
        ("rcpt5321", {"recipient_count": "none"}),
    ],
)
def test_what_is_absent_or_nothing_is_not_counted(folder: Path, function: str, attributes: dict[str, str]) -> None:
    host = Host(folder, f"id=A; action={function}(sender_domain/1/60/REJECT)")
    for _ in range(3):
        assert host.ask(**attributes) == "DUNNO"
    assert len(host.counters) == 0


@pytest.mark.parametrize(
    ("function", "first", "second", "is_same"),
    [
        ("rate", "Alice@Example.org", "alice@example.ORG", True),
        ("rate5321", "Alice@Example.org", "Alice@EXAMPLE.ORG", True),
        ("rate5321", "Alice@example.org", "alice@example.org", False),
        ("rate5321", "A@b@C.d", "A@B@c.d", True),
        ("rate5321", "Alice", "alice", True),
        ("rate5321", "@X.y", "@x.y", True),
        ("rate5321", "Alice@no domain", "alice@no domain", True),
    ],
)
def test_which_spellings_share_a_counter(folder: Path, function: str, first: str, second: str, is_same: bool) -> None:
    host = Host(folder, f"id=A; action={function}(sender/1/60/REJECT)")
    assert host.ask(sender=first) == "DUNNO"
    assert host.ask(sender=second) == ("REJECT" if is_same else "DUNNO")


def test_limits_whose_numbers_are_items(folder: Path) -> None:
    host = Host(folder, "id=A; action=rate(sender/$$MAX/$$TIME/REJECT)")
    assert [host.ask(MAX="1", TIME="60") for _ in range(2)] == ["DUNNO", "REJECT"]
    for strange in [{"MAX": "0"}, {"MAX": "x"}, {"MAX": ""}, {"TIME": "-1"}, {"TIME": "0"}, {"MAX": "9" * 400}]:
        assert [host.ask(**{"MAX": "1", "TIME": "60", **strange}) for _ in range(2)] == ["DUNNO", "DUNNO"]
    assert [host.ask(MAX="1", TIME="9" * 400) for _ in range(2)] == ["DUNNO", "REJECT"]


def test_the_count_of_an_exceeded_limit_is_an_item_from_then_on(folder: Path) -> None:
    host = Host(folder, "id=A; action=rate(sender/1/60/note(n$$ratecount))\nid=B; ratecount>=2; action=OK $$ratecount")
    assert [host.ask() for _ in range(3)] == ["DUNNO", "OK 2", "OK 3"]


def test_the_limits_that_are_passed_in_have_the_last_word(folder: Path) -> None:
    class Fleet:
        def count(self, limit: Limit, key: str, *_more: object) -> tuple[int, bool]:
            return 777, key == "alice@example.org"

    host = Host(folder, "id=A; action=rate(sender/1/60/REJECT $$ratecount)")
    evaluation = host.program.evaluate(REQUEST, START, Fleet())
    assert host.drive(evaluation).action == "REJECT 777"


# Items that tell of matches, and DNS


def test_items_that_tell_of_matches(folder: Path) -> None:
    zone = {
        "10.2.0.192.a.test A": ["127.0.0.2"],
        "10.2.0.192.a.test TXT": ["why, indeed"],
        "10.2.0.192.b.test A": ["127.0.0.2"],
        "example.org.r.test A": ["127.0.0.2"],
    }
    text = "$$request_hits $$matches $$rblcount $$rhsblcount <$$dnsbltext>"
    rules = (
        f"id=A; rbl=a.test,b.test,c.test; rblcount=all; rhsbl_sender=r.test; size>=1; action=set(A={text})\n"
        f"id=B; rbl=c.test; action=REJECT\nid=C; action=OK $$A {text}"
    )
    host = Host(folder, rules, zone=zone)
    reply = host.ask()
    assert reply.startswith("OK A 6 2 1 <rbl:a.test:<why")
    assert reply.endswith("A;C 2 0 0 <>")


def test_matches_as_a_condition_are_those_of_the_rule_before(folder: Path) -> None:
    rules = "id=A; size>=1; sender=~.; action=note(x)\nid=B; matches>=4; action=note(b)\nid=C; matches>=3; action=OK c"
    assert Host(folder, rules).ask() == "OK c"
    between = rules.replace("id=C", "id=N; sender==no; action=X\nid=C")
    assert Host(folder, between).ask() == "DUNNO"


def test_dns_is_asked_once_for_a_rule_and_only_if_all_else_holds(folder: Path) -> None:
    host = Host(
        folder,
        "id=A; sender==no@x; rbl=a.test; action=X\nid=B; rbl=a.test,b.test; rhsbl=r.test; size>=1; action=OK",
        zone={"10.2.0.192.b.test A": ["127.0.0.2"], "host10.example.net.r.test A": ["127.0.0.3"]},
    )
    assert host.ask() == "OK"
    lookups = [need for need in host.needs if isinstance(need, Lookup)]
    assert [question.name for question in lookups[0].questions] == [
        "10.2.0.192.a.test",
        "10.2.0.192.b.test",
        "host10.example.net.r.test",
    ]


@pytest.mark.parametrize(
    "condition", ["rbl=a.test", "rbl=!!(a.test)", "helo_address=!!(0.0.0.0/0)", "sender_mx_names=x"]
)
def test_without_dns_nothing_is_asked_and_nothing_holds(folder: Path, condition: str) -> None:
    host = Host(folder, f"id=A; {condition}; action=REJECT\nid=B; action=OK")
    assert host.ask() == "OK"
    assert host.needs == []


# Whatever the rules and the requests


ITEMS = ["sender", "helo_name", "size", "client_address", "X", "matches"]
CONDITIONS = [
    "sender==alice@example.org",
    "sender=~^(a+)+$",
    "helo_name==$$sender",
    "size>=100",
    "X==1",
    "X!=1",
    "matches>=3",
    "request_hits=~A",
    "client_address=192.0.2.0/24",
    "client_address=%%G",
    "rbl=bl.test",
    "helo_address=!!(0.0.0.0/0)",
]
FINAL = [
    "REJECT $$X",
    "jump(A)",
    "jump($$X)",
    "jump(R-3)",
    "note($$helo_name)",
    "set(X.=$$X$$X)",
    "set(X+=1,X*=$$size)",
]
ACTIONS = [
    *FINAL,
    "score(1.5)",
    "score(*$$X)",
    "wait(1)",
    "ask(127.0.0.1:1)",
    "groupadd(%%G/helo_name)",
    "groupadd(%%G/client_address)",
    *(
        f"{function}({item}/2/60/{final})"
        for function in ("rate", "size", "rcpt5321")
        for item in ITEMS
        for final in FINAL
    ),
]
VALUES = st.sampled_from(["", "0", "1", "A", "alice@example.org", "192.0.2.9", "::1", "$$X", "a" * 40 + "!"]) | st.text(
    st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=20
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.lists(st.sampled_from(CONDITIONS), max_size=3), st.sampled_from(ACTIONS)), max_size=8),
    st.lists(st.dictionaries(st.sampled_from(ITEMS), VALUES), max_size=4),
)
def test_every_evaluation_ends(
    folder: Path, rules: list[tuple[list[str], str]], requests: list[dict[str, str]]
) -> None:
    lines = [
        "; ".join([*conditions, *(["id=A"] if number == 0 else []), f"action={action}"])
        for number, (conditions, action) in enumerate(rules)
    ]
    host = Host(folder, "\n".join(lines), zone={})
    host.servers["127.0.0.1:1"] = "OK asked"
    for request in requests:
        outcome = host.outcome({**REQUEST, **request})
        assert outcome.action
        assert all(0 <= number < len(rules) for number in outcome.hits)
