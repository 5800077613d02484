"""Numbers as the rule language has them: texts, reckoned with and written as Perl does."""

import re

_NUMBER = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
_CUT = re.compile(r"-?\d+(\.\d\d?)?", re.ASCII)
_LEADING = re.compile(r"\s*(\d+)", re.ASCII)
_LONGEST = 18
"""Digits of a whole number that is reckoned exactly; longer ones are floating-point numbers, as in Perl."""


def is_number(text: str) -> bool:
    """Whether arithmetic takes place: digits, a sign before and decimals behind at most."""
    return _NUMBER.fullmatch(text) is not None


def written(value: float) -> str:
    """As Perl writes it: up to 15 significant digits, and no decimals if there are none."""
    if isinstance(value, int) and len(str(abs(value))) <= _LONGEST:
        return str(value)
    try:
        return f"{value:.15g}".replace("inf", "Inf").replace("nan", "NaN")
    except OverflowError:
        return "Inf" if value > 0 else "-Inf"


def whole(text: str) -> int:
    """The digits at a text's start, or 0: what an attribute counts."""
    if text.isascii() and text.isdigit() and len(text) <= _LONGEST:
        return int(text)
    found = _LEADING.match(text)
    return int(found[1][:_LONGEST]) if found else 0


def assigned(old: str, operator: str, new: str) -> str:
    """What `set(ITEM OPERATOR= NEW)` makes of an item. Without numbers on both sides the new value stands."""
    if operator == ".":
        return old + new
    if not operator or not (is_number(old) and is_number(new)):
        return new
    return written(_reckoned(_value(old), operator, _value(new)))


def scored(old: str, operator: str, points: float) -> str:
    """The score after `score(OPERATOR POINTS)`: cut, not rounded, after two decimals."""
    score = points if operator == "=" else _reckoned(_value(old) if is_number(old) else 0, operator, _exact(points))
    found = _CUT.match(written(score))
    if found is None:
        return "0.0"
    return found[0] if found[1] else f"{found[0]}.0"


def _reckoned(left: float, operator: str, right: float) -> float:
    """A division by nothing leaves the number as it is."""
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    if operator == "*":
        return left * right
    if right == 0:
        return left
    if isinstance(left, int) and isinstance(right, int) and left % right == 0:
        return left // right
    return left / right


def _value(text: str) -> float:
    return int(text) if "." not in text and len(text) <= _LONGEST else float(text)


def _exact(value: float) -> float:
    return int(value) if value.is_integer() else value
