"""The engine: what an evaluation needs is met beside other requests, rules are reloaded, faults are no silence."""

import asyncio
import gc
import os
import smtplib
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import structlog

from agents import errands
from agents.engine import Engine
from agents.resolver import Resolver, servers
from fleet.dns import DnsServer
from weir.rules.counters import Counters
from weir.rules.needs import Mail, Outcome
from weir.rules.rule import RulesError
from weir.rules.ruleset import Source

ATTRIBUTES = {
    "request": "smtpd_access_policy",
    "protocol_state": "RCPT",
    "client_address": "192.0.2.10",
    "client_name": "host.example.net",
    "sender": "alice@example.org",
    "recipient": "bob@example.com",
    "sasl_username": "alice@example.org",
}


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as entries:
        yield entries


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    return tmp_path / "rules.cf"


def engine(rules: Path, text: str, resolver: Resolver | None = None) -> Engine:
    rules.write_text(text)
    return Engine([Source(rules)], resolver=resolver)


class Asked:
    """A request that was given to an engine."""

    def __init__(self, engine: Engine, limits: Counters | None = None, **attributes: str) -> None:
        self.outcome: Outcome | None = None
        self._done = asyncio.Event()
        engine.evaluate({**ATTRIBUTES, **attributes}, time.time(), Counters() if limits is None else limits, self._take)

    @property
    def action(self) -> str:
        """What was answered; empty if nothing was."""
        return self.outcome.action if self.outcome else ""

    async def answered(self) -> str:
        async with asyncio.timeout(10):
            await self._done.wait()
        return self.action

    def _take(self, outcome: Outcome) -> None:
        assert self.outcome is None, "done is called once"
        self.outcome = outcome
        self._done.set()


def run(client: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(client())


def test_what_needs_nothing_is_answered_at_once(rules: Path) -> None:
    async def client() -> None:
        used = engine(rules, "id=A; sender==alice@example.org; action=REJECT a\nid=B; action=OK b\n")
        assert Asked(used).action == "REJECT a"
        assert Asked(used, sender="x@y.example").action == "OK b"
        assert used.hits == {"A": 1, "B": 1}

    run(client)


def test_a_limit_counts_in_what_is_given(rules: Path) -> None:
    async def client() -> None:
        used = engine(rules, "id=A; action=rate(sasl_username/1/60/REJECT limit)\n")
        limits = Counters()
        assert [Asked(used, limits).action for _ in range(2)] == ["DUNNO", "REJECT limit"]
        assert Asked(used).action == "DUNNO"

    run(client)


def test_groups_hits_and_requests_under_way_of_a_former_engine_go_on(rules: Path, tmp_path: Path) -> None:
    async def client() -> None:
        former = engine(
            rules, "id=A; sender==alice@example.org; action=groupadd(%%SEEN/sender)\nid=W; action=wait(0.2)\n"
        )
        slow = Asked(former)
        other = tmp_path / "other.cf"
        other.write_text("id=B; sender=%%SEEN; action=REJECT seen\n")
        later = Engine([Source(other)], former=former)
        assert Asked(later).action == "REJECT seen"
        await later.finish(10)
        assert slow.action == "DUNNO"
        assert later.hits == {"A": 1, "W": 1, "B": 1}

    run(client)


def test_who_waits_does_not_hold_others_up(rules: Path) -> None:
    async def client() -> None:
        used = engine(rules, "id=W; sender==slow@x.example; action=wait(0.2)\nid=B; action=OK\n")
        slow = Asked(used, sender="slow@x.example")
        assert slow.action == ""
        assert Asked(used).action == "OK"
        start = time.monotonic()
        assert await slow.answered() == "OK"
        assert time.monotonic() - start > 0.1

    run(client)


def test_dns_is_asked_and_off_without_a_resolver(rules: Path) -> None:
    text = "id=R; rbl=bl.test; action=REJECT listed\nid=B; action=OK\n"

    async def client() -> None:
        with DnsServer({"10.2.0.192.bl.test A": ["127.0.0.2"]}) as server:
            resolver = Resolver(servers(server.address), timeout=2.0)
            used = engine(rules, text, resolver)
            assert await Asked(used).answered() == "REJECT listed"
            assert await Asked(used, client_address="192.0.2.11").answered() == "OK"
            await resolver.close()
        assert await Asked(engine(rules, text)).answered() == "OK"

    run(client)


class Other:
    """Another policy server: takes one request, and answers what it is told, None: nothing."""

    def __init__(self, answer: bytes | None) -> None:
        self._answer = answer
        self.asked = b""
        self._ended = asyncio.Event()

    async def __aenter__(self) -> "Other":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *raised: object) -> None:
        self._server.close()
        await self._ended.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked = await reader.readuntil(b"\n\n")
        if self._answer is None:
            await reader.read(-1)
        else:
            writer.write(self._answer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        self._ended.set()


@pytest.mark.parametrize(
    ("answer", "action"),
    [
        (b"action=REJECT from there\n\n", "REJECT from there"),
        (b"nonsense\n\n", "OK here"),
        (b"", "OK here"),
        (b"action=" + b"x" * 100_000, "OK here"),
    ],
)
def test_another_policy_server_is_asked(rules: Path, answer: bytes, action: str) -> None:
    async def client() -> None:
        async with Other(answer) as other:
            used = engine(rules, f"id=A; action=ask(127.0.0.1:{other.port})\nid=B; action=OK here\n")
            assert await Asked(used, helo_name="x=y").answered() == action
        lines = other.asked.decode().split("\n")
        assert lines[0] == "request=smtpd_access_policy"
        assert "helo_name=x=y" in lines

    run(client)


def test_a_policy_server_that_is_away_or_silent_is_passed_over(rules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errands, "ASK_SECONDS", 0.2)

    text = "id=A; action=ask(127.0.0.1:{})\nid=B; action=OK here\n"

    async def client() -> None:
        async with Other(None) as silent:
            assert await Asked(engine(rules, text.format(silent.port))).answered() == "OK here"
        assert await Asked(engine(rules, text.format(1))).answered() == "OK here"

    run(client)


def test_a_mail_is_sent_beside(rules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer does not wait for it, and a server that is away changes nothing."""
    may_send = threading.Event()
    sent: list[Mail] = []
    told = threading.Event()

    def by_smtp(mail: Mail) -> None:
        assert may_send.wait(10)
        sent.append(mail)
        told.set()

    monkeypatch.setattr(errands, "_by_smtp", by_smtp)

    async def client() -> None:
        used = engine(
            rules, "id=M; action=mail(127.0.0.1:25/helo/w@x.example/o@x.example/of $$sender/body)\nid=B; action=OK\n"
        )
        assert await Asked(used).answered() == "OK"
        assert not sent
        may_send.set()
        assert await asyncio.to_thread(told.wait, 10)

    run(client)
    (mail,) = sent
    assert (mail.server, mail.recipient, mail.subject) == ("127.0.0.1:25", "o@x.example", "of alice@example.org")


def test_a_mail_by_smtp_is_a_whole_message(monkeypatch: pytest.MonkeyPatch) -> None:
    class Connection:
        """In the place of smtplib's."""

        def __init__(self, *where: object) -> None:
            seen.append(where)

        def __enter__(self) -> "Connection":
            return self

        def __exit__(self, *raised: object) -> None:
            return None

        def sendmail(self, *what: object) -> None:
            seen.append(what)

    seen: list[object] = []
    monkeypatch.setattr(smtplib, "SMTP", Connection)
    errands._by_smtp(Mail("mx.test:2525", "", "a@x", "b@y", "line\r\nBcc: c@z", "body", "helo.test"))
    assert seen == [
        ("mx.test", 2525, "helo.test", errands.MAIL_SECONDS),
        ("a@x", ["b@y"], b"From: a@x\r\nTo: b@y\r\nSubject: line Bcc: c@z\r\n\r\nbody\r\n"),
    ]


def test_a_mail_by_a_program_takes_no_option_from_a_client(tmp_path: Path) -> None:
    program = tmp_path / "sendmail"
    program.write_text(
        f'#!/bin/sh\nfor word in "$@"; do echo "[$word]"; done >{tmp_path}/words\ncat >{tmp_path}/text\n'
    )
    program.chmod(0o700)
    errands._by_program(Mail("", str(program), "a@x", "-oQ/tmp", "subject", "body"))
    assert (tmp_path / "words").read_text().split() == ["[-i]", "[-f]", "[a@x]", "[--]", "[-oQ/tmp]"]
    assert (tmp_path / "text").read_text().endswith("Subject: subject\n\nbody\n")


def test_mails_beyond_the_room_are_dropped_and_told(monkeypatch: pytest.MonkeyPatch, logs: list[Any]) -> None:
    monkeypatch.setattr(errands, "MAILS", 1)
    may_send = threading.Event()
    taken = threading.Event()

    def by_smtp(_: Mail) -> None:
        taken.set()
        may_send.wait(10)

    monkeypatch.setattr(errands, "_by_smtp", by_smtp)
    post = errands.Post()
    mail = Mail("mx.test", "", "a@x", "b@y", "subject", "body")
    post.send(mail)
    assert taken.wait(10)
    post.send(mail)
    post.send(mail)
    may_send.set()
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == [
        "mail dropped: too many wait to be sent"
    ]


def test_bad_rules_are_refused_with_all_their_errors(rules: Path) -> None:
    with pytest.raises(RulesError) as raised:
        engine(rules, "id=A; size=abc; action=OK\nid=B; action=SCORE(x)\n")
    assert {error.position.line for error in raised.value.errors} == {1, 2}


def test_good_rules_replace_those_in_use_and_bad_ones_do_not(rules: Path, logs: list[Any]) -> None:
    async def client() -> None:
        used = engine(rules, "id=A; action=OK first\n")
        rules.write_text("id=B; action=OK second\n")
        assert await used.reload()
        assert Asked(used).action == "OK second"
        rules.write_text("id=C; size=abc; action=OK third\n")
        assert not await used.reload()
        assert Asked(used).action == "OK second"
        rules.unlink()
        assert not await used.reload()
        assert Asked(used).action == "OK second"
        assert used.hits == {"B": 3}

    run(client)
    told = [entry for entry in logs if entry["event"].startswith("rules ")]
    assert [entry["log_level"] for entry in told] == ["info", "error", "error"]
    assert f"{rules}:1:" in told[1]["errors"][0]


def test_requests_are_answered_while_rules_are_read(rules: Path) -> None:
    """The file is a pipe, which is read to its end as soon as somebody has written; until then no reload can end."""
    text = "id=L; action=rate(sender/3/600/REJECT $$ratecount)\nid=A; action=OK first\n"

    async def client() -> None:
        used = engine(rules, text)
        limits = Counters()
        assert Asked(used, limits).action == "OK first"
        rules.unlink()
        os.mkfifo(rules)
        reload = asyncio.create_task(used.reload())
        writer = await asyncio.to_thread(rules.open, "w")  # it is open as soon as the reload reads
        assert [Asked(used, limits).action for _ in range(2)] == ["OK first"] * 2
        with writer:
            writer.write(text.replace("first", "second"))
        assert await reload
        assert used.hits == {"L": 3, "A": 3}
        assert Asked(used, limits, sender="bob@example.org").action == "OK second"
        assert Asked(used, limits).action == "REJECT 4"
        assert used.hits == {"L": 5, "A": 4}, "what was counted meanwhile stays"

    run(client)


def test_requests_are_answered_while_rules_compile(rules: Path) -> None:
    many = "".join(f"id=R{number}; client_name=~host{number}\\.; action=REJECT\n" for number in range(1000))

    async def client() -> None:
        used = engine(rules, "id=A; action=OK first\n")
        rules.write_text(many + "id=A; action=OK second\n")
        reload = asyncio.create_task(used.reload())
        answers = set()
        count = 0
        while not reload.done():
            answers.add(Asked(used).action)
            count += 1
            await asyncio.sleep(0)
        assert answers <= {"OK first", "OK second"}
        assert "OK first" in answers
        assert count > 20, "a loop that reads and compiles itself answers once"
        assert Asked(used).action == "OK second"

    run(client)


def test_no_collection_of_garbage_looks_at_rules(rules: Path) -> None:
    """With hundreds of thousands of networks it would hold all threads for a quarter of a second."""
    networks = rules.with_name("networks")
    networks.write_text("".join(f"10.{number // 250}.{number % 250}.0/24\n" for number in range(5000)))
    text = f"id=A; client_address=file:{networks}; action=OK\n"
    collected: list[str] = []

    def watch(phase: str, _: dict[str, int]) -> None:
        collected.append(threading.current_thread().name)

    async def client() -> None:
        used = engine(rules, text)
        assert await used.reload()
        rules.write_text(f"{text}id=B; size=abc; action=OK\n")
        assert not await used.reload()
        value = used.ruleset.rules[0].conditions[0].values[0]
        assert gc.is_tracked(value)
        assert not any(one is value for one in gc.get_objects()), "it is frozen"

    gc.callbacks.append(watch)
    try:
        run(client)
    finally:
        gc.callbacks.remove(watch)
    assert "reload" not in collected


def test_an_evaluation_ends_by_the_rules_it_began_with(rules: Path) -> None:
    async def client() -> None:
        used = engine(rules, "id=W; action=wait(0.05)\nid=A; action=OK first\n")
        asked = Asked(used)
        rules.write_text("id=B; action=OK second\n")
        assert await used.reload()
        assert await asked.answered() == "OK first"
        assert used.hits == {"W": 1, "A": 1}

    run(client)


@pytest.mark.parametrize("item", ["sender=", "helo_address", "sender_mx_addrs", "sender_ns_names"])
def test_live_lists_are_read_with_the_rules(item: str, rules: Path, logs: list[Any]) -> None:
    """What is wrong with one is told before anybody asks, so no request waits for its reading; and once."""
    path = rules.with_name("list")
    path.write_text("192.0.2.0/24\n!!()\n")

    async def client() -> None:
        used = engine(rules, f"id=A; {item}=lfile:{path}; action=OK\n")
        assert [entry["event"] for entry in logs] == ["live list"]
        Asked(used)
        assert len(logs) == 1

    run(client)


def test_a_fault_of_ours_is_answered_with_dunno(rules: Path, logs: list[Any]) -> None:
    class Broken(Counters):
        def count(self, *_: Any) -> tuple[int, bool]:
            raise RuntimeError("a fault of ours")

    async def client() -> None:
        used = engine(rules, "id=W; sender==slow@x.example; action=wait(0.01)\nid=A; action=rate(sender/1/60/REJECT)\n")
        for sender in ("slow@x.example", "fast@x.example"):
            asked = Asked(used, Broken(), sender=sender)
            assert await asked.answered() == "DUNNO"
            assert asked.outcome is not None
            assert "a fault of ours" in asked.outcome.trouble
        assert used.faults == 2

    run(client)
    assert "error" in {entry["log_level"] for entry in logs}


def test_at_the_end_what_is_under_way_has_its_time(rules: Path) -> None:
    async def client() -> None:
        used = engine(
            rules,
            "id=S; sender==short@x.example; action=wait(0.05)\nid=L; sender==long@x.example; action=wait(60)\n"
            "id=A; action=OK\n",
        )
        short, long = Asked(used, sender="short@x.example"), Asked(used, sender="long@x.example")
        await used.finish(0.5)
        assert (short.action, long.action) == ("OK", "")

    run(client)


def test_notes_are_logged(rules: Path, logs: list[Any]) -> None:
    async def client() -> None:
        used = engine(rules, "id=N; action=note(seen $$sender)\nid=A; action=OK\n")
        assert Asked(used).action == "OK"

    run(client)
    assert [entry["text"] for entry in logs if entry["event"] == "note"] == ["seen alice@example.org"]
