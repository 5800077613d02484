"""The demo's last part: the history, held against Postfix's own mail logs, and how to look at it."""

import contextlib
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from fleet.demo.figures import Check, queued
from fleet.demo.traffic import VICTIM
from fleet.mail_log import counted
from fleet.own import Sink
from fleet.postfix import PostfixHost
from fleet.process import wait_until
from sinks.reader import Reader, reader
from sinks.store import StoreError
from weir.settings import History

Names = Counter[tuple[str, ...]]
EVENTS = """
    SELECT sasl_username, host, countIf(protocol_state = 'END-OF-MESSAGE' AND NOT refused)
    FROM events FINAL WHERE kind = 'request' GROUP BY sasl_username, host
"""
SUMS = "SELECT sasl_username, host, sum(messages) FROM minutes FINAL GROUP BY sasl_username, host"
OUTCOMES = """
    SELECT sasl_username, outcome, host, sum(count) FROM outcomes FINAL
    WHERE outcome IN ('sent', 'bounced') GROUP BY sasl_username, outcome, host
"""


class Counts(NamedTuple):
    """How many, by account and host; of outcomes by account, outcome and host."""

    events: Names
    sums: Names
    outcomes: Names


def check(sink: Sink, hosts: Sequence[PostfixHost], timeout: float = 30.0) -> list[Check]:
    """Messages and what became of them: single events and sums, each against the mail logs."""
    found: list[Counts] = []

    def equal() -> bool:
        with contextlib.suppress(StoreError), reader(History(listen=sink.queries)) as history:
            found[:] = [_logged(hosts), _told(history)]
        return bool(found) and found[0] == found[1]

    with contextlib.suppress(TimeoutError):  # then the checks say what differs
        wait_until(equal, timeout, "the history of all messages", interval=0.5)
    logged, told = found or (_logged(hosts), Counts(Counter(), Counter(), Counter()))
    return [
        Check(
            "ClickHouse's events = messages in the mail logs, for each account and host",
            told.events == logged.events,
            f"{told.events.total()} messages",
        ),
        Check(
            "ClickHouse's sums of minutes = messages in the mail logs, for each other account and host",
            told.sums == logged.sums,
            f"{told.sums.total()} messages",
        ),
        Check(
            "ClickHouse's deliveries and bounces = those in the mail logs, for each account and host",
            told.outcomes == logged.outcomes,
            f"{sum(number for names, number in told.outcomes.items() if 'bounced' in names)} bounces among "
            f"{told.outcomes.total()}",
        ),
    ]


def bounced(hosts: Sequence[PostfixHost]) -> str:
    """The queue id of a message of the stolen login that came back."""
    mine = {queue_id for host in hosts for account, queue_id in host.accepted_queue_ids() if account == VICTIM}
    lines = (line for host in hosts for line in host.maillog.read_text().splitlines() if "status=bounced" in line)
    return next(queue_id for line in lines for queue_id in mine if queue_id in line)


def _logged(hosts: Sequence[PostfixHost]) -> Counts:
    messages = queued(hosts)
    outcomes: Names = Counter()
    for host in hosts:
        for one, number in counted(host.maillog).items():
            if one.what in ("sent", "bounced"):
                outcomes[one.owner, one.what, host.name] += number
    return Counts(messages, _others(messages), outcomes)


def _told(history: Reader) -> Counts:
    return Counts(_counted(history, EVENTS), _others(_counted(history, SUMS)), _counted(history, OUTCOMES))


def _others(counts: Names) -> Names:
    """Without the stolen login: a block between RCPT and END-OF-MESSAGE refuses a message that was counted already."""
    return Counter({key: count for key, count in counts.items() if key[0] != VICTIM})


def _counted(history: Reader, sql: str) -> Names:
    counts = Counter({tuple(names): int(count) for *names, count in history.query(sql)})
    return +counts  # without those of none
