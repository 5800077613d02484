"""What the demo states, each statement checked against an independent source.

Postfix's own mail logs and the clients' ledger are the truth; events, decisions and agents' logs are held against them.
"""

import contextlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec

from fleet.demo.traffic import NEWSLETTER, VICTIM, Ledger
from fleet.own import Agent
from fleet.postfix import PostfixHost
from fleet.process import wait_until
from fleet.reading import read_events
from weir.events import Event, Request, is_accepted


class Check(msgspec.Struct):
    statement: str
    holds: bool
    found: str


class Figures(msgspec.Struct):
    """All that the demo found; `--json` writes it as it is."""

    accepted_by_host: dict[str, int]
    """Messages of the stolen login that each host accepted before the block (all that it accepted in the attack)."""
    applied_after_ms: dict[str, float]
    """By host: from the request that crossed the threshold to the decision applied."""
    last_accepted_after_ms: dict[str, float]
    """By host: from that request to the last message of the stolen login that was accepted; negative: before it."""
    decision: dict[str, Any]
    sends_after_release: dict[str, str]
    messages: int
    """Messages that Postfix accepted in all."""
    checks: list[Check]


def queued(hosts: Sequence[PostfixHost]) -> Counter[tuple[str, ...]]:
    """Messages by account and host, as Postfix's mail logs have them."""
    return Counter((account, host.name) for host in hosts for account, _queue_id in host.accepted_queue_ids())


def counted(events: Sequence[tuple[str, Event]]) -> Counter[tuple[str, ...]]:
    """Messages by account and host, as the accepted END-OF-MESSAGE events have them."""
    return Counter(
        (event.sasl_username, host)
        for host, event in events
        if isinstance(event, Request) and event.protocol_state == "END-OF-MESSAGE" and is_accepted(event.action)
    )


def busiest_minute(times: Sequence[float]) -> int:
    """The most of these times that lie within 60 s."""
    ranked = sorted(times)
    return max((bisect_right(ranked, time + 60) - index for index, time in enumerate(ranked)), default=0)


def read_until_equal(bootstrap: str, hosts: Sequence[PostfixHost], timeout: float = 15.0) -> list[tuple[str, Event]]:
    """All events with their hosts, once they are as many as Postfix logged (or as they are when time is up)."""
    events: list[tuple[str, Event]] = []

    def equal() -> bool:
        events[:] = [(host, event) for (host, _epoch, _seq), event in read_events(bootstrap).items()]
        return counted(events) == queued(hosts)

    with contextlib.suppress(TimeoutError):  # then the check below says what differs
        wait_until(equal, timeout, "events of all messages", interval=0.5)
    return events


def attack_figures(
    agents: Sequence[Agent], hosts: Sequence[PostfixHost], ledger: Ledger, bootstrap: str, decision: dict[str, Any]
) -> Figures:
    """Figures and checks of the attack, after it and before the release."""
    events = read_until_equal(bootstrap, hosts)
    by_log, by_event = queued(hosts), counted(events)
    crossed = float(decision["evidence"]["time"])
    applied = {
        agent.host: float(line["delay_ms"])
        for agent in agents
        for line in agent.logged("decision applied")
        if line["id"] == decision["id"]
    }
    last = {
        host.name: max(
            (
                event.time - event.clock_offset
                for name, event in events
                if name == host.name and isinstance(event, Request)
                if event.sasl_username == VICTIM and is_accepted(event.action)
            ),
            default=crossed,
        )
        for host in hosts
    }
    refused_others = sorted({sent.account for sent in ledger.entries if not sent.answer.accepted} - {VICTIM})
    refused_events = {
        event.sasl_username for _, event in events if isinstance(event, Request) and not is_accepted(event.action)
    } - {VICTIM}
    newsletter = busiest_minute([sent.time for sent in ledger.entries if sent.account == NEWSLETTER])
    differing = {key: (by_log[key], by_event[key]) for key in by_log | by_event if by_log[key] != by_event[key]}
    checks = [
        Check("the stolen login was accepted at first", all(by_log[VICTIM, host.name] for host in hosts), ""),
        Check(
            "then it was refused with 521 on every host",
            all(
                any(s.host == host.name and s.account == VICTIM and s.answer.code == 521 for s in ledger.entries)
                for host in hosts
            ),
            f"{sum(sent.answer.code == 521 for sent in ledger.entries)} refusals",
        ),
        Check("every agent applied the decision", set(applied) == {agent.host for agent in agents}, f"{len(applied)}"),
        Check(
            "no other account was refused",
            not refused_others and not refused_events,
            ", ".join([*refused_others, *refused_events]) or "none",
        ),
        Check(
            "the newsletter sent more than others may, and was not blocked",
            newsletter > 60,
            f"{newsletter} messages in its busiest minute",
        ),
        Check(
            "accepted END-OF-MESSAGE events = messages in the mail logs, for each account and host",
            not differing and bool(by_log),
            f"{sum(by_event.values())} events, {sum(by_log.values())} queue ids, differing: {differing or 'none'}",
        ),
    ]
    return Figures(
        accepted_by_host={host.name: by_log[VICTIM, host.name] for host in hosts},
        applied_after_ms=applied,
        last_accepted_after_ms={name: round((time - crossed) * 1000, 1) for name, time in last.items()},
        decision=decision,
        sends_after_release={},
        messages=sum(by_log.values()),
        checks=checks,
    )
