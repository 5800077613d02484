"""The host's counters with the fleet's word beside, and requests that rules judge, at once or later."""

import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agents import limits as module
from agents.decisions import Decisions
from agents.limits import FLEET, HOST, FleetLimits
from tests.agents.test_agent import Running, echoed, record
from tests.agents.test_decisions import decision
from weir import decisions, limits, operators, subjects, tallies, topics
from weir.events import Request
from weir.limits import MAX_HITS, Hit
from weir.operators import Operators, Word
from weir.rules.needs import Limit, Limits, Outcome
from weir.settings import OwnRule, Rules

NOW = 1_800_000_000.0
ALICE = "alice@example.org"
LIMIT = Limit("rate", "sasl_username", 3.0, 60.0, "DAILY", "0" * 16)
SUBJECT = subjects.limit(limits.digest(LIMIT), subjects.limit_key("sasl_username", ALICE))


class Fleet:
    """What one agent knows, and its counters."""

    def __init__(self, settings: Rules | None = None) -> None:
        self.decisions = Decisions()
        self.operators = Operators()
        self.limits = FleetLimits(settings or Rules(), "example.org", self.decisions, self.operators)
        self.hits: list[Hit] = []

    def count(self, key: str = ALICE, limit: Limit = LIMIT, now: float = NOW, increment: int = 1) -> tuple[int, bool]:
        return self.limits.count(limit, key, increment, {}, now, self.hits)

    def exhaust(self, subject: str = SUBJECT, until: float = NOW + 60, after: float = 0.0, count: int = 7) -> None:
        made = decision(subject, limits.CAUSE, until, after=after)
        made.evidence.count = count
        self.decisions.apply(decisions.key(made.cause, subject), decisions.encoder.encode(made), NOW)

    def say(self, word: str, subject: str, time: float = NOW, until: float = NOW + 600) -> None:
        made = Word(operators.VERSION, "op", word, subject, "me", "why", until)  # type: ignore[arg-type]
        self.operators.apply(operators.key(made), operators.encoder.encode(made), time)


def test_without_the_fleets_word_the_host_counts_as_postfwd() -> None:
    fleet = Fleet()
    assert [fleet.count() for _ in range(5)] == [(1, False), (2, False), (3, False), (4, True), (5, True)]
    assert fleet.count(now=NOW + 61) == (1, False)
    assert fleet.limits.exceeded == {HOST: 2}


def test_an_exhausted_limit_is_exceeded_with_the_fleets_count_until_its_end() -> None:
    fleet = Fleet()
    fleet.exhaust(count=7, until=NOW + 30)
    assert fleet.count() == (7, True)
    assert fleet.count("bob@example.org") == (1, False)
    assert fleet.limits.exceeded == {FLEET: 1}
    assert fleet.count(now=NOW + 30) == (2, False), "the host has counted what the fleet refused"


def test_the_hosts_own_refusal_comes_before_the_fleets() -> None:
    fleet = Fleet()
    fleet.exhaust(count=7)
    for _ in range(3):
        fleet.count()
    assert fleet.count() == (4, True)
    assert fleet.limits.exceeded == {FLEET: 3, HOST: 1}


def test_times_of_decisions_are_the_brokers() -> None:
    fleet = Fleet()
    fleet.limits.clock_offset = 3600.0
    fleet.exhaust(until=NOW + 30)
    assert fleet.count(now=NOW + 3600) == (7, True)


@pytest.mark.parametrize(
    "settings",
    [Rules(limits="host"), Rules(own={"DAILY": OwnRule(limits="host")})],
    ids=["all", "this rule"],
)
def test_a_limit_of_the_host_is_neither_told_nor_exhausted(settings: Rules) -> None:
    fleet = Fleet(settings)
    fleet.exhaust()
    assert fleet.count() == (1, False)
    assert fleet.hits == []


def test_one_rule_may_count_over_the_fleet_where_others_do_not() -> None:
    fleet = Fleet(Rules(limits="host", own={"DAILY": OwnRule(limits="fleet")}))
    fleet.exhaust()
    assert fleet.count() == (7, True)


def test_other_settings_are_taken_while_it_counts() -> None:
    fleet = Fleet()
    fleet.exhaust()
    assert fleet.count() == (7, True)
    fleet.limits.configure(Rules(limits="host"), "example.org")
    assert fleet.count() == (2, False)
    assert len(fleet.hits) == 1


def test_a_limit_that_adds_nothing_is_not_told_but_may_be_exhausted() -> None:
    fleet = Fleet()
    fleet.exhaust()
    assert fleet.count(increment=0) == (7, True)
    assert fleet.hits == []


@pytest.mark.parametrize("seconds", [11.9, limits.MAX_SECONDS + 1])
def test_very_short_and_very_long_limits_stay_on_the_host(seconds: float) -> None:
    fleet = Fleet()
    assert fleet.count(limit=Limit("rate", "sasl_username", 3.0, seconds, "DAILY", "0" * 16)) == (1, False)
    assert fleet.hits == []


def test_a_hit_tells_all_that_streams_need() -> None:
    fleet = Fleet()
    fleet.count(limit=Limit("size5321", "recipient", 2e9, 3600.0, "BIG", "ab" * 8), key="X" * 500, increment=12)
    (hit,) = fleet.hits
    assert (hit.increment, hit.maximum, hit.seconds, hit.what) == (12, 2e9, 3600.0, "size5321 BIG")
    assert len(hit.key) <= limits.MAX_KEY
    assert hit.key.startswith("recipient=XXX")


def test_limits_that_are_made_of_what_clients_send_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LIMITS_KEPT", 10)
    fleet = Fleet()
    for number in range(1, 50):
        fleet.count(limit=Limit("rate", "sender", float(number), 60.0, "R", "0" * 16))
        fleet.hits.clear()
        assert len(fleet.limits._known) <= 10


def test_limits_of_one_rule_are_told_apart() -> None:
    various = [
        LIMIT,
        Limit("rcpt", "sasl_username", 3.0, 60.0, "DAILY", "0" * 16),
        Limit("rate", "client_address", 3.0, 60.0, "DAILY", "0" * 16),
        Limit("rate", "sasl_username", 4.0, 60.0, "DAILY", "0" * 16),
        Limit("rate", "sasl_username", 3.0, 61.0, "DAILY", "0" * 16),
        Limit("rate", "sasl_username", 3.0, 60.0, "DAILY", "1" * 16),
    ]
    assert len({limits.digest(limit) for limit in various}) == len(various)


def test_more_limits_than_are_told_still_count_on_the_host() -> None:
    fleet = Fleet()
    for number in range(MAX_HITS + 2):
        fleet.count(f"user{number}")
    assert len(fleet.hits) == MAX_HITS
    assert fleet.limits.not_shared == 2


def test_an_allow_switches_off_limits_keyed_by_its_own_item_only() -> None:
    fleet = Fleet()
    fleet.exhaust()
    fleet.say("allow", f"sasl_username:{ALICE}", until=NOW + 30)
    by_sender = Limit("rate", "sender", 1.0, 60.0, "S", "0" * 16)
    assert [fleet.count() for _ in range(5)] == [(0, False)] * 5
    assert fleet.hits == []
    assert [fleet.count(limit=by_sender) for _ in range(2)] == [(1, False), (2, True)]
    assert fleet.count(now=NOW + 30) == (7, True), "the allow is over"


def test_an_allow_of_a_client_covers_its_network() -> None:
    fleet = Fleet()
    fleet.say("allow", subjects.client_address("2001:db8::1"))
    by_client = Limit("rate", "client_address", 1.0, 60.0, "C", "0" * 16)
    assert fleet.count("2001:db8::2", by_client) == (0, False)
    assert fleet.count("2001:db8:0:1::2", by_client) == (1, False)


def test_the_default_realm_belongs_to_the_account() -> None:
    fleet = Fleet()
    fleet.say("allow", f"sasl_username:{ALICE}")
    assert fleet.count("alice") == (0, False)


def test_a_release_voids_counters_that_began_before_it_and_decisions_that_did_not_know_it() -> None:
    fleet = Fleet()
    fleet.exhaust()
    for _ in range(3):
        fleet.count()
    fleet.say("release", f"sasl_username:{ALICE}", time=NOW + 10)
    assert fleet.count(now=NOW + 11) == (1, False)
    assert [fleet.count(now=NOW + 12) for _ in range(3)] == [(2, False), (3, False), (4, True)]
    fleet.exhaust(after=NOW + 10)
    assert fleet.count(now=NOW + 72) == (1, False)
    fleet.exhaust(after=NOW + 10, until=NOW + 100)
    assert fleet.count(now=NOW + 73) == (7, True)


def test_a_limit_may_be_released_itself() -> None:
    fleet = Fleet()
    fleet.exhaust()
    fleet.say("release", SUBJECT, time=NOW + 10)
    assert fleet.count(now=NOW + 11) == (1, False)


# Through the agent


class Script:
    """An engine whose rules are a limit and what is done when it is exceeded; with `later` it answers when told to."""

    def __init__(self, action: str = "REJECT", later: bool = False) -> None:
        self.action = action
        self.later = later
        self.ruleset = SimpleNamespace(
            rules=(SimpleNamespace(id="OTHER"), SimpleNamespace(id="DAILY")), digest="d" * 16
        )
        self.under_way: list[Any] = []

    def evaluate(self, items: Mapping[str, str], now: float, limits: Limits, done: Any) -> None:
        def run() -> None:
            _, exceeded = limits.count(LIMIT, items["sasl_username"].lower(), 1, items, now)
            action, rule = (self.action, 1) if exceeded else ("DUNNO", -1)
            done(Outcome(action=action, hits=[], notes=[], rule=rule))

        if self.later:
            self.under_way.append(run)
        else:
            run()


def exhausted(offset: int) -> Any:
    made = decision(SUBJECT, limits.CAUSE, time.time() + 60)
    made.evidence.count = 9
    return record(topics.DECISIONS, offset, decisions.key(limits.CAUSE, SUBJECT), decisions.encoder.encode(made))


def test_a_rules_action_is_the_reply_and_the_event_tells_its_rule(tmp_path: Path) -> None:
    running = Running(tmp_path, Script("REJECT too much"))
    rcpt = {"protocol_state": "RCPT", "sasl_username": ALICE}
    assert [running.ask(**rcpt, instance=str(number)) for number in range(4)] == [*["DUNNO"] * 3, "REJECT too much"]
    *passed, refused = running.stop()
    assert isinstance(refused, Request)
    assert (refused.action, refused.rule, refused.messages) == ("REJECT too much", "DAILY", 0)
    assert [hit.key for hit in refused.limits] == [f"sasl_username={ALICE}"]
    assert SUBJECT not in {tally.subject for tally in tallies.tallies(refused)}
    for event in passed:
        assert isinstance(event, Request)
        (counted,) = [tally for tally in tallies.tallies(event) if tally.subject == SUBJECT]
        assert (event.rule, counted.increment, counted.maximum, counted.seconds) == ("", 1, 3.0, 60.0)
        assert counted.seq == event.seq
    assert running.agent.requests == {("RCPT", "dunno"): 3, ("RCPT", "rule"): 1}


def test_the_fleets_word_takes_the_rules_action(tmp_path: Path) -> None:
    running = Running(tmp_path, Script("REJECT too much"))
    running.agent.learn([exhausted(0)], time.time())
    assert running.ask(protocol_state="RCPT", sasl_username=ALICE) == "REJECT too much"
    running.stop()


def test_operators_and_detectors_come_before_rules(tmp_path: Path) -> None:
    running = Running(tmp_path, Script())
    until = time.time() + 60
    made = decision(f"sasl_username:{ALICE}", until=until)
    value = decisions.encoder.encode(made)
    running.agent.learn([record(topics.DECISIONS, 0, decisions.key("burst", made.subject), value)], time.time())
    assert running.ask(protocol_state="RCPT", sasl_username=ALICE) == made.action
    assert len(running.agent.limits.counters) == 0
    running.stop()


@pytest.mark.parametrize("action", ["DUNNO", "dunno"])
def test_a_dunno_of_the_rules_is_nobodys(tmp_path: Path, action: str) -> None:
    running = Running(tmp_path, Script(action))
    running.agent.learn([exhausted(0)], time.time())
    assert running.ask(protocol_state="RCPT", sasl_username=ALICE) == action
    (event,) = running.stop()
    assert isinstance(event, Request)
    assert (event.rule, running.agent.requests) == ("", {("RCPT", "dunno"): 1})


def test_what_is_answered_later_counts_when_it_is_answered(tmp_path: Path) -> None:
    script = Script(later=True)
    running = Running(tmp_path, script)
    order: list[str] = []
    running.agent.settle_soon = lambda: order.append("settle")
    for name in ("first", "second"):
        running.begin(
            lambda _, name=name: order.append(name),  # type: ignore[misc]
            protocol_state="RCPT",
            sasl_username=ALICE,
            instance="m",
            recipient=f"{name}@example.net",
        )
    assert order == []
    asked = time.time()
    for run in reversed(script.under_way):
        run()
    assert order == ["second", "settle", "first", "settle"]
    running.agent.settle()
    second, first = running.stop()
    assert isinstance(second, Request)
    assert isinstance(first, Request)
    assert (second.recipient, second.messages, second.seq) == ("second@example.net", 1, 1)
    assert (first.recipient, first.messages, first.recipients) == ("first@example.net", 0, 1)
    assert asked <= second.time <= first.time


def test_a_late_reply_that_brings_the_next_request_keeps_the_order(tmp_path: Path) -> None:
    script = Script(later=True)
    running = Running(tmp_path, script)

    def next_one(_: bytes) -> None:
        script.later = False
        running.begin(lambda _: None, protocol_state="RCPT", sasl_username=ALICE, recipient="second@example.net")

    running.begin(next_one, protocol_state="RCPT", sasl_username=ALICE, recipient="first@example.net")
    script.under_way[0]()
    running.agent.settle()
    assert [event.recipient for event in running.stop() if isinstance(event, Request)] == [
        "first@example.net",
        "second@example.net",
    ]


def test_heartbeats_carry_the_digest_and_limits_keep_partitions_from_being_quiet(tmp_path: Path) -> None:
    running = Running(tmp_path, Script())
    running.agent.learn([echoed(0, 0, 1)], time.time())
    running.ask(protocol_state="END-OF-MESSAGE", sasl_username=ALICE)
    running.agent.heartbeat(time.time())
    _, beat = running.stop()
    assert beat.rules == "d" * 16  # type: ignore[union-attr]
    assert subjects.partition(SUBJECT) not in beat.quiet_partitions  # type: ignore[union-attr]
