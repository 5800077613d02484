"""Destinations: Apprise's URLs, of which nothing is told."""

import re

import pytest

from fleet.own import CHECKOUT
from fleet.process import free_port
from sinks import destinations
from sinks.alerts import TEST
from sinks.destinations import Destination
from weir.cli.output import USAGE, CommandError
from weir.settings_checks import NOTIFY_URLS

# Its module for keys of PGP imports it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")

SECRETS = ("s3cr3t", "t0k3n", "hush%2Fhush")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("kind", ["json", "form", "mailto"])
def test_what_is_wrong_is_told_without_the_url(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    user, password, token = SECRETS[1], SECRETS[2], SECRETS[0]
    url = (
        f"{kind}://{user}:{password}@127.0.0.1:{free_port()}/{token}?from=a@example.org&to=b@example.org&mode=insecure"
    )
    destination = Destination(1, url)
    trouble = destination.send(TEST)
    assert "onnection error" in trouble
    captured = capfd.readouterr()
    told = destination.name + trouble + captured.out + captured.err
    assert not [part for part in (*SECRETS, "hush", "127.0.0.1", "example.org") if part in told]


def test_a_fault_of_the_library_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    destination = Destination(1, "json://127.0.0.1/s3cr3t")

    def fault(*_: object, **__: object) -> None:
        raise RuntimeError("s3cr3t")

    monkeypatch.setattr(destination._apprise, "notify", fault)
    assert destination.send(TEST) == "RuntimeError"


def test_what_is_too_long_for_a_pager_is_cut() -> None:
    destination = Destination(1, f"pagerduty://{'a' * 20}@{'b' * 20}")
    (plugin,) = destination._apprise
    (sent,) = plugin._apply_overflow("x" * 5000, "title")
    assert len(sent["body"]) <= plugin.body_maxlen
    assert destination.name == "1 Pager Duty"


def test_the_examples_of_the_documentation_are_understood() -> None:
    examples = re.findall(r"^    (\w+://\S+)$", (CHECKOUT / "docs/alerts.md").read_text(), re.MULTILINE)
    names = [Destination(number, url).name for number, url in enumerate(examples, 1)]
    assert names == ["1 E-Mail", "2 Pager Duty", "3 Slack", "4 ntfy", "5 JSON"]


def test_none_at_all_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NOTIFY_URLS, raising=False)
    with pytest.raises(CommandError, match=r"WEIR_NOTIFY_URLS: expected .*, got nothing") as raised:
        destinations.from_environment()
    assert raised.value.code == USAGE


@pytest.mark.parametrize("bad", ["nonsense-s3cr3t", "another://s3cr3t", "slack://s3cr3t", "json://"])
def test_one_that_is_not_understood_is_told_by_its_number(
    bad: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(NOTIFY_URLS, f"json://127.0.0.1/ \n {bad}")
    with pytest.raises(CommandError, match=r"^WEIR_NOTIFY_URLS: URL 2 is not understood$") as raised:
        destinations.from_environment()
    assert raised.value.code == USAGE
    captured = capfd.readouterr()
    assert "s3cr3t" not in captured.out + captured.err
