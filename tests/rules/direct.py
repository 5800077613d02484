"""Conditions evaluated straight from the text of the language, one by one: what the compiled form is compared with."""

import ipaddress
import re
import time
from collections.abc import Collection, Mapping

from weir.rules.rule import Condition, Rule, Value

NUMERIC = ("size", "recipient_count", "encryption_keysize", "request_score")
CALENDAR = ("date", "time", "days", "months")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def matches(rule: Rule, items: Mapping[str, str], now: float, groups: Mapping[str, Collection[str]]) -> bool:
    """Different items ANDed, the same item ORed."""
    names = {condition.item for condition in rule.conditions}
    return all(
        any(holds(condition, items, now, groups) for condition in rule.conditions if condition.item == name)
        for name in names
    )


def holds(condition: Condition, items: Mapping[str, str], now: float, groups: Mapping[str, Collection[str]]) -> bool:
    return any(element(condition, value, items, now, groups) for value in condition.values)


def element(
    condition: Condition,
    value: Value,
    items: Mapping[str, str],
    now: float,
    groups: Mapping[str, Collection[str]],
) -> bool:
    item, operator, text = condition.item, condition.operator, value.text
    subject = items.get(item, "")
    if text.startswith("%%"):
        found = in_group(operator, subject, {one.lower() for one in groups.get(text[2:], ())})
    elif item in CALENDAR:
        found = in_calendar(item, text, now) != (operator == "!=")
    else:
        found = compared(item, operator, subject, *substituted(operator, subject, text, items))
    return found != value.negated


def in_group(operator: str, subject: str, members: Collection[str]) -> bool:
    if operator == "!=":
        return subject not in ("", "0") and any(one != subject.lower() for one in members)
    return subject.lower() in members


def substituted(operator: str, subject: str, text: str, items: Mapping[str, str]) -> tuple[str, bool]:
    """A value with the items that it names, and whether it is a plain text now instead of a pattern."""
    names = re.findall(r"\$\$(\w+)|\$\$\((\w+)\)", text)
    if subject in ("", "0") or not any((one or other) in items for one, other in names):
        return text, False
    pieces = re.split(r"(\$\$\w+|\$\$\(\w+\))", text)
    made = "".join(items.get(piece.strip("$()"), piece) if piece.startswith("$$") else piece for piece in pieces)
    return (text, False) if made in ("", "0") else (made, operator != "==")


def compared(item: str, operator: str, subject: str, text: str, is_plain: bool) -> bool:
    if item == "client_address":
        return within(subject, text) != (operator == "!=")
    if item in NUMERIC or operator in ("=>", "=<", ">", "<", "!>", "!<"):
        left, right = number(subject), number(text)
        return {
            "==": left == right,
            "!=": left != right,
            "=<": left <= right,
            "!<": left > right,
            ">": left > right,
            "<": left < right,
            "!>": left < right,
        }.get(operator, left >= right)
    if operator in ("==", "!="):
        return subject not in ("", "0") and (subject.lower() == text.lower()) == (operator == "==")
    pattern = text[text.startswith("/") :]
    pattern = pattern[:-1] if pattern.endswith("/") else pattern
    searched = re.escape(pattern) if is_plain else pattern
    return bool(re.search(searched, subject, re.IGNORECASE | re.ASCII)) == (operator != "!~")


def within(subject: str, text: str) -> bool:
    if text == "0.0.0.0/0":
        return subject != ""
    try:
        address = ipaddress.ip_address(subject)
        network = ipaddress.ip_network(text.removeprefix("::ffff:"), strict=False)
    except ValueError:
        return False
    if address.version == 6 and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address in network


def number(text: str) -> float:
    found = re.match(r"[+-]?\d+(\.\d*)?", text.strip(), re.ASCII)
    return float(found[0]) if found else 0.0


def in_calendar(item: str, text: str, now: float) -> bool:
    at = time.localtime(now)
    present = {
        "date": f"{at.tm_year:04}{at.tm_mon:02}{at.tm_mday:02}",
        "time": f"{at.tm_hour:02}{at.tm_min:02}{at.tm_sec:02}",
        "days": str((at.tm_wday + 1) % 7),
        "months": f"{at.tm_mon - 1:02}",
    }[item]
    first, dash, last = (one.strip() for one in text.partition("-"))
    start = end_of(item, first) or present
    end = end_of(item, last) or present if dash else end_of(item, first) or present
    return start <= present <= end


def end_of(item: str, text: str) -> str:
    """An end, spelled so that later ones sort behind; empty if it is open."""
    if item == "date":
        return "".join(reversed(text.split(".")))
    if item == "time":
        return text.replace(":", "")
    if text == "0":
        return ""
    if item == "days":
        return str(DAYS.index(text.lower())) if text.isalpha() else text
    if text.isalpha():
        return f"{MONTHS.index(text.lower()):02}"
    return {1: text.zfill(2), 2: "00"}.get(len(text), "")
