"""The demo's last part: the history, held against Postfix's own mail logs, and how to look at it."""

import contextlib
from collections import Counter
from collections.abc import Sequence

from fleet.demo.figures import Check, queued
from fleet.demo.traffic import VICTIM
from fleet.own import Sink
from fleet.postfix import PostfixHost
from fleet.process import wait_until
from sinks.reader import Reader, reader
from sinks.store import StoreError
from weir.settings import History

EVENTS = """
    SELECT sasl_username, host, countIf(protocol_state = 'END-OF-MESSAGE' AND NOT refused)
    FROM events FINAL WHERE kind = 'request' GROUP BY sasl_username, host
"""
SUMS = "SELECT sasl_username, host, sum(messages) FROM minutes FINAL GROUP BY sasl_username, host"


def check(sink: Sink, hosts: Sequence[PostfixHost], timeout: float = 30.0) -> list[Check]:
    """Messages by account and host: single events and the sums of minutes, each against the mail logs."""
    by_log = queued(hosts)
    found: dict[str, Counter[tuple[str, str]]] = {}

    def equal() -> bool:
        with contextlib.suppress(StoreError), reader(History(listen=sink.queries)) as history:
            found.update(events=_messages(history, EVENTS), sums=_messages(history, SUMS))
        return found.get("events") == by_log and _others(found["sums"]) == _others(by_log)

    with contextlib.suppress(TimeoutError):  # then the checks say what differs
        wait_until(equal, timeout, "the history of all messages", interval=0.5)
    events, sums = found.get("events", Counter()), _others(found.get("sums", Counter()))
    return [
        Check(
            "ClickHouse's events = messages in the mail logs, for each account and host",
            events == by_log,
            f"{events.total()} messages",
        ),
        Check(
            "ClickHouse's sums of minutes = messages in the mail logs, for each other account and host",
            sums == _others(by_log),
            f"{sums.total()} messages",
        ),
    ]


def _others(counts: Counter[tuple[str, str]]) -> Counter[tuple[str, str]]:
    """Without the stolen login: a block between RCPT and END-OF-MESSAGE refuses a message that was counted already."""
    return Counter({key: count for key, count in counts.items() if key[0] != VICTIM})


def _messages(history: Reader, sql: str) -> Counter[tuple[str, str]]:
    counts = Counter({(account, host): int(count) for account, host, count in history.query(sql)})
    return +counts  # without those of none
