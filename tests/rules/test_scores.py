"""Score limits and their actions."""

import pytest

from weir.rules import actions, scores

DEFAULT = actions.parse("554 5.7.1 weir score exceeded")


def test_the_highest_limit_comes_first() -> None:
    more = dict(map(scores.parse, ["4.5=REJECT a=b", "10 = jump(X)"]))
    assert scores.limits(more) == (
        (10.0, actions.parse("jump(X)")),
        (5.0, DEFAULT),
        (4.5, actions.parse("REJECT a=b")),
    )


def test_the_default_can_be_replaced_and_taken_away() -> None:
    assert scores.limits({}) == ((5.0, DEFAULT),)
    assert scores.limits(dict([scores.parse("5=OK")])) == ((5.0, actions.parse("OK")),)
    assert scores.limits(dict([scores.parse("5.0=")])) == ()


@pytest.mark.parametrize("text", ["", "4.5", "x=OK", "=OK", "1e3=OK"])
def test_what_is_no_limit(text: str) -> None:
    with pytest.raises(ValueError, match="expected LIMIT=ACTION"):
        scores.parse(text)


@pytest.mark.parametrize("action", ["foo(x)", "rate(a/x/1/X)", "score(1)", "rate(a/1/1/score(1))"])
def test_what_is_no_action(action: str) -> None:
    with pytest.raises(ValueError, match=r"^action of score 4\.5: "):
        scores.limits({4.5: action})
