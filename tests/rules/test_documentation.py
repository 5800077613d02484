"""Each example of docs/rules.md, run as it is written."""

import calendar
import re
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from fleet.own import CHECKOUT
from tests.rules.driving import START, Host

DOCUMENT = CHECKOUT / "docs" / "rules.md"
_BLOCK = re.compile(r"^```(\w+) ?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Example(NamedTuple):
    rules: str
    files: dict[str, str]
    zone: dict[str, list[str]]
    requests: list[tuple[float, str]]
    """Clock and lines."""


def examples() -> list[Example]:
    """The document's examples: files and a zone come before their rules, requests after them."""
    found: list[Example] = []
    files: dict[str, str] = {}
    zone: dict[str, list[str]] = {}
    for kind, argument, text in _BLOCK.findall(DOCUMENT.read_text(encoding="utf-8")):
        if kind == "file":
            files[argument] = text
        elif kind == "dns":
            for line in text.splitlines():
                name, record, value = line.split(" ", 2)
                zone.setdefault(f"{name} {record}", []).append(value)
        elif kind == "rules":
            found.append(Example(text, files, zone, []))
            files, zone = {}, {}
        elif kind == "requests":
            clock = calendar.timegm(time.strptime(argument, "%Y-%m-%d %H:%M:%S")) if argument else START
            found[-1].requests.append((clock, text))
        else:
            pytest.fail(f"a block of a kind that is not known: {kind}")
    return found


EXAMPLES = examples()


def test_there_are_examples_and_each_has_requests() -> None:
    assert len(EXAMPLES) >= 19
    assert all(example.requests for example in EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.rules.partition(";")[0].strip()[-20:])
def test_an_example_answers_as_it_says(example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    for name, text in example.files.items():
        (tmp_path / name).write_text(text)
    host = Host(tmp_path, example.rules, zone=example.zone or None)
    for clock, lines in example.requests:
        host.now = clock
        for line in lines.splitlines():
            asked, _, expected = line.partition("→")
            attributes = dict(word.split("=", 1) for word in asked.split())
            assert host.ask(**attributes) == expected.strip(), line
