"""What is a request: the forms of ids and names, and that nothing else gets through."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agents.queue import submit_table
from agents.queue.held import Held
from agents.queue.helper import Helper, UnknownInstanceError
from agents.queue.postfix_queue import PostfixQueue
from agents.queue.requests import MAX_IDS, MAX_LINE, MAX_NAMES, Hold, Submit, decode_request, encode
from tests.agents.queue.model import PostfixModel

LONG, SHORT = "4jYmyW0Nsyz1SWGt", "3C1F2A17B5"


def line(**request: object) -> bytes:
    return json.dumps(request).encode()


@pytest.mark.parametrize("queue_id", [LONG, SHORT, "4jZDNK3Dygz1V70C", "A1B2C3", "0" * 21])
def test_an_id_of_either_form(queue_id: str) -> None:
    assert decode_request(line(verb="hold", instance="postfix", ids=[queue_id])) == Hold("postfix", [queue_id])


@pytest.mark.parametrize(
    "queue_id",
    [
        "",
        "ALL",
        "-",
        "-d",
        f"{LONG}\n",
        f"{LONG}\nALL",
        f"-{LONG}",
        f"{LONG} {SHORT}",
        f"../{LONG}",
        "4jYmyA0Nsyz1SWGt",
        "a1b2c3",
        "B1C2D",
        "D" * 31,
        "Ａ1B2C3",
        f"{LONG}\x00",
        "٣C1F2A17B5",
        17,
        None,
        [LONG],
    ],
)
def test_anything_else_is_no_id(queue_id: object) -> None:
    with pytest.raises(ValueError, match=r"\$\.ids\[0\]"):
        decode_request(line(verb="release", instance="postfix", ids=[queue_id]))


@pytest.mark.parametrize("name", ["www-data", "root", "Alice", "u.user@example.org", "machine$", "_apt", "x" * 64])
def test_a_login_name(name: str) -> None:
    assert decode_request(line(verb="submit", names=[name])) == Submit([name])


@pytest.mark.parametrize(
    "name",
    ["", "!root", "/etc/passwd", "static:all", "a,b", "a b", "a\n", "a\nb", "#a", "a\0", "-x", "x" * 65, "jürgen", 33],
)
def test_anything_else_is_no_login_name(name: object) -> None:
    with pytest.raises(ValueError, match=r"\$\.names\[0\]"):
        decode_request(line(verb="submit", names=[name]))


@pytest.mark.parametrize(
    "request_",
    [
        {"verb": "requeue", "instance": "postfix", "ids": [LONG]},
        {"verb": "Hold", "instance": "postfix", "ids": [LONG]},
        {"instance": "postfix", "ids": [LONG]},
        {"verb": "hold", "ids": [LONG]},
        {"verb": "hold", "instance": "postfix"},
        {"verb": "hold", "instance": "postfix", "ids": LONG},
        {"verb": "hold", "instance": "postfix", "ids": [LONG], "config_directory": "/tmp"},
        {"verb": "hold", "instance": "postfix", "ids": [LONG] * (MAX_IDS + 1)},
        {"verb": "submit", "names": ["a"] * (MAX_NAMES + 1)},
        {"verb": "submit", "names": "root"},
        [],
    ],
)
def test_what_is_no_request(request_: Any) -> None:
    with pytest.raises(ValueError, match=r"Expected|Invalid|unknown field|missing"):
        decode_request(json.dumps(request_).encode())


def test_lists_within_lists_are_no_request() -> None:
    with pytest.raises(ValueError, match="within"):
        decode_request(b'{"x":' + b"[" * 50_000 + b"]" * 50_000 + b',"verb":"hold"}')


def test_the_largest_requests_fit_into_a_line() -> None:
    for request in (Hold("x" * 200, ["D" * 30] * MAX_IDS), Submit(["x" * 64] * MAX_NAMES)):
        assert decode_request(encode(request)) == request
        assert len(encode(request)) < MAX_LINE


_texts = st.text(max_size=12) | st.sampled_from([LONG, SHORT, "ALL", "-", "postfix", "www-data", "/etc/passwd"])
_values = st.recursive(
    _texts | st.none() | st.integers() | st.booleans(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=8,
)
_requests = st.fixed_dictionaries(
    {"verb": st.sampled_from(["hold", "release", "delete", "submit", "requeue"]) | _values},
    optional={
        "instance": st.just("postfix") | _values,
        "ids": st.lists(_texts, max_size=5) | _values,
        "names": st.lists(_texts, max_size=5) | _values,
        "directory": _values,
    },
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | _values.map(json.dumps).map(str.encode) | _requests.map(json.dumps).map(str.encode))
def test_nothing_but_the_verbs_and_ids_of_the_right_form_reaches_a_command(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, received: bytes
) -> None:
    """The model of Postfix fails on any other command, argument or id."""
    directory = tmp_path_factory.mktemp("fuzz")
    postfix = PostfixModel(directory / "postfix")
    postfix.install(monkeypatch)
    postfix.add(LONG, SHORT)
    table = directory / "table"
    submit_table.make(table)
    held = Held(Path(":memory:"))
    try:
        Helper({"postfix": PostfixQueue(postfix.directory)}, held, table).carry_out(decode_request(received))
    except (ValueError, UnknownInstanceError):
        assert postfix.commands == []
    finally:
        held.close()
    assert postfix.on_hold() <= {LONG, SHORT}
    assert all(name and name[0] not in "!/#" and ":" not in name for name in table.read_text().splitlines())
    assert {path.name for path in directory.iterdir()} == {"postfix", "table"}
