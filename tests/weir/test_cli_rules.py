"""`weir rules` and `weir limits` without an agent: files checked, shown and tried."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.weir.test_cli import Ran
from weir import cli

RULES = """\
&&OWN { client_address=192.0.2.0/24, 2001:db8::/32; };
id=OWN; &&OWN; sender_domain==example.org; action=note(ours: $$sender); action=jump(LIMIT)
id=REST; action=REJECT not from here
id=LIMIT; action=rate(sasl_username/0.5/60/450 4.7.1 $$ratecount)
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.cf"
    path.write_text(RULES)
    return path


def request(tmp_path: Path, **attributes: str) -> str:
    path = tmp_path / "request"
    path.write_text("".join(f"{name}={value}\n" for name, value in attributes.items()) + "\n")
    return str(path)


class TestCheck:
    def test_good_rules_and_their_warnings(self, rules: Path) -> None:
        ran = Ran("rules", "check", str(rules))
        assert ran.code == 0
        assert f"{rules}:4:" in ran.out
        assert "mail without a login" in ran.out
        assert "3 rules, 1 warning, digest" in ran.out

    def test_all_errors_at_once_with_their_places(self, tmp_path: Path) -> None:
        first, second = tmp_path / "first.cf", tmp_path / "second.cf"
        first.write_text("id=A; sender=*x; action=REJECT\nid=B; &&NOPE; action=OK\n")
        second.write_text("id=C; client_address=1.2.3; action=RATE(sender/1/60/REJECT)\n")
        ran = Ran("rules", "check", str(first), str(second))
        assert ran.code == 2
        for place in (f"{first}:1:", f"{first}:2:", f"{second}:1:"):
            assert place in ran.err
        assert "did you mean rate()" in ran.err
        assert "4 errors" in ran.err

    def test_a_missing_file(self, tmp_path: Path) -> None:
        ran = Ran("rules", "check", str(tmp_path / "none.cf"))
        assert (ran.code, "none.cf" in ran.err) == (2, True)


def test_show_has_macros_expanded(rules: Path) -> None:
    ran = Ran("rules", "show", str(rules))
    assert ran.code == 0
    assert "client_address = 192.0.2.0/24, 2001:db8::/32" in ran.out
    assert "action = jump(LIMIT)  (function)" in ran.out
    assert "&&" not in ran.out


class TestTry:
    def test_the_answer_and_the_way_to_it(self, rules: Path, tmp_path: Path) -> None:
        asked = request(
            tmp_path, client_address="192.0.2.7", sender="alice@example.org", sasl_username="alice@example.org"
        )
        ran = Ran("rules", "test", str(rules), "--request", asked)
        assert ran.code == 0
        assert ran.out.splitlines() == [
            f"matched OWN ({rules}:2)",
            f"matched LIMIT ({rules}:4)",
            "counted rate of sasl_username=alice@example.org: +1, 0.5 in 60 s (LIMIT)",
            "note: ours: alice@example.org",
            "action=450 4.7.1 1",
        ]

    def test_a_request_on_stdin(self, rules: Path) -> None:
        ran = CliRunner().invoke(
            cli.app, ["rules", "test", str(rules), "--request", "-"], input="client_address=198.51.100.1\r\n\r\n"
        )
        assert ran.stdout.splitlines()[-1] == "action=REJECT not from here"

    def test_what_is_no_request(self, rules: Path, tmp_path: Path) -> None:
        path = tmp_path / "request"
        path.write_text("sender=a\nrubbish\n")
        ran = Ran("rules", "test", str(rules), "--request", str(path))
        assert (ran.code, f"{path}:2: expected NAME=VALUE" in ran.err) == (2, True)

    def test_nothing_is_asked(self, tmp_path: Path) -> None:
        path = tmp_path / "asks.cf"
        path.write_text("id=A; action=ask(192.0.2.1:10031); action=wait(60); action=OK\nid=B; rbl=x.test; action=OK\n")
        ran = Ran("rules", "test", str(path), "--request", request(tmp_path, client_address="192.0.2.1"))
        assert "not asked: 192.0.2.1:10031" in ran.out
        assert "not waited: 60 s" in ran.out
        assert ran.out.splitlines()[-1] == "action=OK"


@pytest.mark.parametrize("words", [("rules", "stats"), ("limits", "list"), ("limits", "reset", "sender=x")])
def test_an_agent_that_does_not_run(tmp_path: Path, words: tuple[str, ...]) -> None:
    ran = Ran(*words, "--state", str(tmp_path))
    assert ran.code == 3
    assert f"the agent cannot be asked at {tmp_path}/control" in ran.err
