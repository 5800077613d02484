"""The resolver against a real server on loopback, on asyncio's loop and on uvloop."""

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import dns.message
import dns.rcode
import dns.rrset
import pytest
import structlog
import uvloop

from agents import resolver as resolver_module
from agents.resolver import COUNTS_SECONDS, FAILED_TTL, NEGATIVE_TTL, Resolver, servers
from fleet.dns import DnsServer
from weir.rules.needs import Question

ZONE = {
    "10.2.0.192.bl.test A": ["127.0.0.2"],
    "10.2.0.192.bl.test TXT": ["listed, see https://bl.test/"],
    "example.org MX": ["20 mx2.example.org", "10 mx1.example.org"],
    "example.org NS": ["ns1.example.org"],
    "mx1.example.org A": ["192.0.2.1"],
    "mx1.example.org AAAA": ["2001:db8::1"],
    "www.example.org CNAME": ["mx1.example.org"],
}
LISTED = Question("10.2.0.192.bl.test", "A", "bl.test", 3600)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server() -> Iterator[DnsServer]:
    with DnsServer(dict(ZONE), silent=["slow.test"]) as running:
        yield running


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Any:
    return request.param


def at(port: int, **options: Any) -> Resolver:
    return Resolver([("127.0.0.1", port)], **options)


def with_resolver(resolver: Callable[[], Resolver], use: Callable[[Resolver], Awaitable[Any]], run: Any) -> Any:
    """Run `use` with a resolver, and see that nothing stays behind when that is closed."""

    async def main() -> Any:
        one = resolver()
        try:
            async with asyncio.timeout(20):
                return await use(one)
        finally:
            await one.close()
            assert asyncio.all_tasks() == {asyncio.current_task()}

    return run(main())


def answers(port: int, *questions: Question, run: Any = asyncio.run, **options: Any) -> list[list[str]]:
    async def use(resolver: Resolver) -> list[list[str]]:
        found = await resolver.lookup(questions)
        return [found[question] for question in questions]

    result: list[list[str]] = with_resolver(lambda: at(port, **options), use, run)
    return result


def slow_names(count: int, list_name: str = "slow.test") -> list[Question]:
    return [Question(f"{number}.{list_name}", "A", list_name) for number in range(count)]


def test_each_type_has_its_values(server: DnsServer, run: Any) -> None:
    assert answers(
        server.port,
        LISTED,
        Question("10.2.0.192.bl.test", "TXT"),
        Question("example.org", "MX"),
        Question("example.org", "NS"),
        Question("mx1.example.org", "AAAA"),
        Question("WWW.Example.ORG", "A"),
        Question("none.example.org", "A"),
        Question("example.org", "A"),
        run=run,
    ) == [
        ["127.0.0.2"],
        ["listed, see https://bl.test/"],
        ["mx1.example.org", "mx2.example.org"],
        ["ns1.example.org"],
        ["2001:db8::1"],
        ["192.0.2.1"],
        [],
        [],
    ]


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "a b.example.org",
        "a..example.org",
        ".example.org",
        f"{'x' * 64}.example.org",
        ".".join(["x" * 60] * 5),
        "bücher.example",
        "\\046.example.org",
        "[192.0.2.1]",
        "$$helo_name",
        "a\nb.example.org",
        "example.org\n",
        "٣.example.org",
        "\udcff.example",
        "x" * 100_000,
    ],
)
def test_a_name_that_cannot_be_is_not_asked_for(server: DnsServer, name: str) -> None:
    assert answers(server.port, Question(name, "A"), Question(name, "MX")) == [[], []]
    assert server.queries == []


def test_a_text_is_one_line_of_plain_characters(server: DnsServer) -> None:
    server.zone = {
        "a.test TXT": ["one\r\n\naction=OK\x00 \x85"],
        "b.test TXT": ["x" * 600],
        "c.test TXT": ["grün $$helo_name"],
    }
    first, second, third = answers(server.port, *(Question(f"{letter}.test", "TXT") for letter in "abc"))
    assert first == ["one???action=OK? ?"]
    assert second == ["x" * 255 + " " + "x" * 255 + " "]
    assert third == ["grün $$helo_name"]


def test_a_long_answer_comes_over_tcp_and_is_cut(server: DnsServer, run: Any) -> None:
    server.zone = {"example.org MX": [f"{number} mx{number}.example.org" for number in range(150)]}
    (hosts,) = answers(server.port, Question("example.org", "MX"), run=run)
    assert [transport for _, _, transport in server.queries] == ["udp", "tcp"]
    assert len(hosts) == 100
    assert set(hosts) <= {f"mx{number}.example.org" for number in range(150)}


def test_answers_are_kept_for_the_longer_of_both_times(server: DnsServer, clock: Clock) -> None:
    plain = Question("mx1.example.org", "A")  # the server says 60 seconds

    async def use(resolver: Resolver) -> None:
        for moment, expected in ((0, 2), (59, 2), (61, 3), (3599, 4), (3601, 5)):
            clock.now = 1000.0 + moment
            assert list((await resolver.lookup([LISTED, plain])).values()) == [
                ["127.0.0.2"],
                ["192.0.2.1"],
            ]
            assert (moment, len(server.queries)) == (moment, expected)
        assert resolver.queries == 5
        assert resolver.cache_hits == 5

    with_resolver(lambda: at(server.port, clock=clock), use, asyncio.run)


def test_that_there_is_nothing_is_kept_too(server: DnsServer, clock: Clock) -> None:
    server.zone = {"soa.test SOA": ["ns.soa.test. root.soa.test. 1 2 3 4 30"], "empty.test TXT": ["x"]}
    questions = [
        Question("no.such.test", "A"),
        Question("empty.test", "A"),
        Question("a.soa.test", "A"),
        Question("a.bl.test", "A", "bl.test", 300),
    ]

    async def use(resolver: Resolver) -> list[str]:
        await resolver.lookup(questions)
        asked = []
        for moment in (29, 31, NEGATIVE_TTL - 1, NEGATIVE_TTL + 1, 299, 301):
            clock.now = 1000.0 + moment
            server.queries.clear()
            found = await resolver.lookup(questions)
            assert set(map(tuple, found.values())) == {()}
            asked.append(" ".join(sorted(name for name, _, _ in server.queries)))
        return asked

    assert with_resolver(lambda: at(server.port, clock=clock), use, asyncio.run) == [
        "",
        "a.soa.test",
        "",
        "a.soa.test empty.test no.such.test",
        "a.soa.test empty.test no.such.test",
        "a.bl.test",
    ]


def test_silent_names_of_a_domain_delay_no_other_domain(server: DnsServer) -> None:
    server.silent = ["silent.test"]

    async def use(resolver: Resolver) -> None:
        slow = [
            asyncio.create_task(resolver.lookup([Question(f"helo{number}.silent.test", "A")])) for number in range(400)
        ]
        await asyncio.sleep(0)
        start = time.monotonic()
        assert list((await resolver.lookup([Question("mx1.example.org", "A")])).values()) == [["192.0.2.1"]]
        assert time.monotonic() - start < 1.0
        await asyncio.gather(*slow)
        assert not resolver._domains

    with_resolver(lambda: at(server.port, timeout=2.0), use, asyncio.run)


def test_the_cache_has_a_bound(server: DnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver_module, "MAX_CACHED", 4)
    server.zone = {"two.test A": ["192.0.2.1", "192.0.2.2"]}

    async def use(resolver: Resolver) -> None:
        for name in ("two.test", "a.test", "b.test", "c.test", "c.test", "two.test", "a.test"):
            await resolver.lookup([Question(name, "A")])

    with_resolver(lambda: at(server.port), use, asyncio.run)
    # c.test pushed two.test out, which then pushed a.test and b.test out
    assert [name for name, _, _ in server.queries] == ["two.test", "a.test", "b.test", "c.test", "two.test", "a.test"]


def test_the_same_question_goes_out_once(server: DnsServer) -> None:
    async def use(resolver: Resolver) -> None:
        found = await asyncio.gather(
            *(resolver.lookup([LISTED, LISTED._replace(name=LISTED.name.upper())]) for _ in "abc")
        )
        assert [len(values) for one in found for values in one.values()] == [1] * 6

    with_resolver(lambda: at(server.port), use, asyncio.run)
    assert len(server.queries) == 1


def test_many_slow_lists_take_one_time_out(server: DnsServer, run: Any) -> None:
    questions = [Question(f"10.list{number}.slow.test", "A", f"list{number}") for number in range(20)]
    began = time.monotonic()
    found = answers(server.port, *questions, LISTED, run=run, timeout=0.6)
    took = time.monotonic() - began
    assert found == [[]] * 20 + [["127.0.0.2"]]
    assert 0.55 < took < 3  # one after the other they would take 12 seconds


@pytest.mark.parametrize("slow_list", ["", "slow.test"])
def test_slow_names_and_lists_delay_no_other_look_up(server: DnsServer, run: Any, slow_list: str) -> None:
    mail = Question("example.org", "MX")

    async def use(resolver: Resolver) -> None:
        questions = [Question(f"{n}.slow.test", "A", slow_list) for n in range(300)]
        slow = asyncio.create_task(resolver.lookup(questions))
        while len(server.queries) < (200 if slow_list else resolver_module.OF_DOMAIN):
            await asyncio.sleep(0.005)
        async with asyncio.timeout(1.5):
            assert all((await resolver.lookup([LISTED, mail])).values())
        assert not slow.done()
        assert set(map(tuple, (await slow).values())) == {()}

    with_resolver(lambda: at(server.port, timeout=4.0), use, run)


def test_a_lost_query_is_sent_again(server: DnsServer) -> None:
    server.silent = ["bl.test"]

    async def use(resolver: Resolver) -> None:
        looked_up = asyncio.create_task(resolver.lookup([LISTED]))
        while not server.queries:
            await asyncio.sleep(0.005)
        server.silent = []
        assert (await looked_up)[LISTED] == ["127.0.0.2"]
        assert resolver.timeouts == 0

    with_resolver(lambda: at(server.port, timeout=2.0), use, asyncio.run)
    assert len(server.queries) == 2


def test_a_list_with_too_many_time_outs_is_off_for_a_while(server: DnsServer, clock: Clock) -> None:
    async def use(resolver: Resolver) -> None:
        slow = slow_names(5)
        await resolver.lookup(slow[:2])
        assert (resolver.timeouts, resolver.lists_off) == (2, [])
        await resolver.lookup([slow[2]])
        assert (resolver.timeouts, resolver.switched_off, resolver.lists_off) == (3, 1, ["slow.test"])
        server.queries.clear()
        found = await resolver.lookup([slow[3], LISTED])
        assert list(found.values()) == [[], ["127.0.0.2"]]
        assert [name for name, _, _ in server.queries] == [LISTED.name]
        clock.now += COUNTS_SECONDS - 0.1
        await resolver.lookup([slow[3]])
        assert len(server.queries) == 1
        clock.now += 0.2
        await resolver.lookup([slow[3]])
        assert {name for name, _, _ in server.queries[1:]} == {"3.slow.test"}
        assert (resolver.timeouts, resolver.lists_off) == (4, [])

    with structlog.testing.capture_logs() as logs:
        with_resolver(lambda: at(server.port, timeout=0.6, max_timeouts=2, clock=clock), use, asyncio.run)
    assert [(entry["event"], entry["list"]) for entry in logs] == [
        ("DNS list switched off: too many time-outs", "slow.test"),
        ("DNS list switched on again", "slow.test"),
    ]


def test_time_outs_are_forgotten_before_they_are_too_many(server: DnsServer, clock: Clock) -> None:
    async def use(resolver: Resolver) -> None:
        for question in slow_names(4):
            await resolver.lookup([question])
            clock.now += COUNTS_SECONDS / 2
        assert (resolver.timeouts, resolver.lists_off) == (4, [])

    with_resolver(lambda: at(server.port, timeout=0.1, max_timeouts=2, clock=clock), use, asyncio.run)


@pytest.mark.parametrize(("list_name", "max_timeouts"), [("", 1), ("slow.test", 0)])
def test_look_ups_without_list_and_without_bound_are_never_off(
    server: DnsServer, list_name: str, max_timeouts: int
) -> None:
    async def use(resolver: Resolver) -> None:
        await resolver.lookup([question._replace(list=list_name) for question in slow_names(5)])
        server.queries.clear()
        await resolver.lookup([Question("more.slow.test", "A", list_name)])
        assert server.queries
        assert resolver.switched_off == 0

    with_resolver(lambda: at(server.port, timeout=0.1, max_timeouts=max_timeouts), use, asyncio.run)


def test_a_failure_is_kept_for_the_next_recipients(server: DnsServer, clock: Clock) -> None:
    async def use(resolver: Resolver) -> None:
        (question,) = slow_names(1)
        await resolver.lookup([question])
        await resolver.lookup([question])
        assert (resolver.timeouts, resolver.cache_hits) == (1, 1)
        clock.now += FAILED_TTL + 1
        await resolver.lookup([question])
        assert resolver.timeouts == 2

    with_resolver(lambda: at(server.port, timeout=0.1, clock=clock), use, asyncio.run)


def test_a_dead_server_is_no_answer_and_no_wait(run: Any) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        port = holder.getsockname()[1]
    assert answers(port, LISTED, run=run) == [[]]  # ours have 20 seconds in all, the time-out is two times 7


def test_the_next_server_is_asked(server: DnsServer) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        both = [("127.0.0.1", mute.getsockname()[1]), ("127.0.0.1", server.port)]

        async def use(resolver: Resolver) -> None:
            assert (await resolver.lookup([LISTED]))[LISTED] == ["127.0.0.2"]

        with_resolver(lambda: Resolver(both, timeout=1.0), use, asyncio.run)


@contextmanager
def liar(replies: Callable[[bytes], list[bytes]]) -> Iterator[tuple[int, list[tuple[int, int]]]]:
    """A server that sends whatever `replies` makes of a query; its port, and id and source port of the queries."""
    seen: list[tuple[int, int]] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                wire, (host, port) = sock.recvfrom(4096)
                if wire == b"end":
                    return
                seen.append((int.from_bytes(wire[:2]), port))
                for reply in replies(wire):
                    sock.sendto(reply, (host, port))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield sock.getsockname()[1], seen
        finally:
            sock.sendto(b"end", sock.getsockname())
            thread.join()


def forged(wire: bytes, name: str = "", kind: str = "", id_change: int = 0, rcode: int = 0) -> bytes:
    """A reply that says 127.0.0.9, or one that a forger would send."""
    query = dns.message.from_wire(wire)
    asked = query.question[0].name.to_text()
    if name or kind:
        query = dns.message.make_query(name or asked, kind or "A", id=query.id)
    response = dns.message.make_response(query)
    response.id = query.id ^ id_change
    response.set_rcode(dns.rcode.Rcode(rcode))
    if not rcode:
        response.answer.append(dns.rrset.from_text(name or asked, 60, "IN", "A", "127.0.0.9"))
    return response.to_wire()


def garbage(wire: bytes) -> list[bytes]:
    whole = forged(wire)
    return [b"", b"x", wire, whole[:-3], whole + b"more", b"\xff" * 512, wire[:12] + b"\xc0\x0c" * 20]


@pytest.mark.parametrize(
    "lies",
    [
        garbage,
        lambda wire: [forged(wire, id_change=1)],
        lambda wire: [forged(wire, name="other.test.")],
        lambda wire: [forged(wire, kind="AAAA")],
    ],
    ids=["garbage", "id", "name", "type"],
)
def test_only_the_reply_to_the_question_counts(lies: Callable[[bytes], list[bytes]]) -> None:
    with liar(lies) as (port, _):
        assert answers(port, LISTED, timeout=0.3) == [[]]
    with liar(lambda wire: [*lies(wire), forged(wire)]) as (port, _):
        assert answers(port, LISTED, timeout=5.0) == [["127.0.0.9"]]


def test_a_stranger_cannot_answer_for_the_server() -> None:
    """A reply that is right but for its sender's address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger, liar(lambda wire: []) as (port, seen):

        async def use(resolver: Resolver) -> None:
            looked_up = asyncio.create_task(resolver.lookup([LISTED]))
            while not seen:
                await asyncio.sleep(0.005)
            identity, source = seen[0]
            query = dns.message.make_query(LISTED.name, "A", id=identity)
            stranger.sendto(forged(query.to_wire()), ("127.0.0.1", source))
            assert (await looked_up)[LISTED] == []

        with_resolver(lambda: at(port, timeout=0.5), use, asyncio.run)


def test_ids_and_ports_are_not_to_be_guessed() -> None:
    with liar(lambda wire: [forged(wire)]) as (port, seen):
        answers(port, *(Question(f"{number}.test", "A") for number in range(100)))
    ids = [identity for identity, _ in seen]
    ports = [source for _, source in seen]
    assert len(set(ids)) > 95
    assert len(set(ports)) > 95
    steps = {later - earlier for earlier, later in pairwise(ids)}
    assert len(steps) > 90


@pytest.mark.parametrize("rcode", [1, 2, 4, 5])
def test_an_error_is_no_answer(rcode: int) -> None:
    with liar(lambda wire: [forged(wire, rcode=rcode)]) as (port, _):
        assert answers(port, LISTED) == [[]]


def test_an_alias_without_end_is_no_answer(server: DnsServer) -> None:
    server.zone = {"loop.test CNAME": ["loop.test"]}
    assert answers(server.port, Question("loop.test", "A")) == [[]]


def test_closing_gives_up_what_is_under_way(server: DnsServer, run: Any) -> None:
    async def main() -> dict[Question, list[str]]:
        resolver = at(server.port)
        looked_up = asyncio.create_task(resolver.lookup(slow_names(3)))
        while not server.queries:
            await asyncio.sleep(0.005)
        await resolver.close()
        async with asyncio.timeout(1):
            found = await looked_up
            assert (await resolver.lookup([LISTED])) == {LISTED: []}
        return found

    assert run(main()) == {question: [] for question in slow_names(3)}


def test_a_look_up_that_is_given_up_takes_no_other_with_it(server: DnsServer) -> None:
    async def use(resolver: Resolver) -> None:
        first = asyncio.create_task(resolver.lookup([LISTED]))
        second = asyncio.create_task(resolver.lookup([LISTED]))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second)[LISTED] == ["127.0.0.2"]

    with_resolver(lambda: at(server.port), use, asyncio.run)


@pytest.mark.parametrize(
    ("place", "expected"), [("127.0.0.1:5353", [("127.0.0.1", 5353)]), ("[::1]:53", [("::1", 53)])]
)
def test_a_server_is_named_by_address_and_port(place: str, expected: list[tuple[str, int]]) -> None:
    assert servers(place) == expected


@pytest.mark.parametrize("place", ["127.0.0.1", "ns.example.org:53", ":53", "127.0.0.1:", "127.0.0.1:0", "::1:x"])
def test_another_place_is_an_error(place: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        servers(place)
