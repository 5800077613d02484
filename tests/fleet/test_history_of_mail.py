"""Thousands of messages of every outcome on three real hosts: what the history says of each account is what Postfix's
own logs say, although agents and the sink are killed meanwhile."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from fleet.clickhouse import KEEP_DAYS, given_or_own
from fleet.dovecot import Dovecot
from fleet.kafka import Kafka
from fleet.mail_log import Outcome, counted
from fleet.mail_sink import MailSink
from fleet.own import Agent, Sink
from fleet.process import free_port, wait_until
from sinks.reader import reader
from tests.faults.system import create_topics, weir
from tests.fleet.mail_host import PASSWORD, Host
from weir.settings import History

pytestmark = [pytest.mark.fleet, pytest.mark.timeout(480)]

MESSAGES = 1000
"""Of each host."""
ACCOUNTS = [f"{name}@weir.test" for name in ("alice", "bob", "carol", "dave")]
MALLORY, NOBODY = "mallory@weir.test", "nobody@weir.test"
LOGINS = [*ACCOUNTS, MALLORY]
TAKES, SLOW, RATE = "takes.test", "slow.test", "rate.test"
REFUSALS = {
    "unknown.test": ("unknown_recipient", "550 5.1.1 User unknown in virtual mailbox table"),
    "listed.test": ("listed", "554 5.7.1 Service unavailable; Client host blocked using zen.spamhaus.org"),
    "spam.test": ("spam", "550 5.7.1 Message rejected as spam"),
    "full.test": ("mailbox_full", "552 5.2.2 Mailbox is full"),
    "other.test": ("other", "550 5.3.0 Error: command failed"),
    SLOW: ("other", "450 4.3.0 Error: command failed"),
    RATE: ("rate", "450 4.2.1 The user is receiving mail at a rate that is too high"),
}
"""Domain → the kind, and what its server says: 4xx to a recipient for now, 5xx for good."""
Row = tuple[str, str, str]
"""Owner, outcome and reason."""
DOMAINS = [TAKES, *REFUSALS]
SUMMED = {"submitted", "sent", "bounced", "deferred", "rejected", "login", "login_failed"}
ENDS = {"removed", "expired", "deleted", "discarded", "refused", "held"}
ACTIONS = {"discard": 25, "hold": 31, "reject": 37}
"""In the subject of every so manieth message: what cleanup does with it."""
MAIN_CF = """\
header_checks = regexp:{directory}/header_checks
smtpd_sender_restrictions = check_sender_access inline:{{ {{ nobody@weir.test = REJECT no such sender }} }}
minimal_backoff_time = 300s
"""


@pytest.fixture(scope="module")
def kafka(directory: Path) -> Iterator[Kafka]:
    with Kafka(directory / "kafka") as broker:
        create_topics(broker, directory)
        yield broker


@pytest.fixture(scope="module")
def history(directory: Path) -> Iterator[History]:
    with given_or_own(directory / "clickhouse") as server:
        yield server.history("weir")


@pytest.fixture(scope="module")
def sink(directory: Path, kafka: Kafka, history: History) -> Iterator[Sink]:
    settings = {"history": {"server": history.server, "database": history.database, "keep_days": KEEP_DAYS}}
    with Sink("sink", directory / "sink", kafka.bootstrap, settings) as one:
        yield one


@pytest.fixture(scope="module")
def mail_sinks(directory: Path) -> Iterator[dict[str, MailSink]]:
    with ExitStack() as stack:
        found = {}
        for number, domain in enumerate(("", *REFUSALS)):
            address = f"127.0.0.{31 + number}"
            _, text = REFUSALS.get(domain, ("", ""))
            options = [] if not text else ["-f", "RCPT", "-B", text] if text[0] == "5" else ["-r", "RCPT", "-b", text]
            found[domain] = stack.enter_context(MailSink(address, free_port(address), directory / "sinks", options))
        yield found


@pytest.fixture(scope="module")
def hosts(directory: Path, kafka: Kafka, mail_sinks: dict[str, MailSink]) -> Iterator[list[Host]]:
    with ExitStack() as stack:
        logins = dict.fromkeys(LOGINS, PASSWORD)
        dovecot = stack.enter_context(Dovecot(directory / "dovecot", logins))
        found = []
        for number in range(1, 4):
            name = f"mx{number}"
            log = {"log": {"files": [str(directory / name / "maillog")]}}
            agent = stack.enter_context(Agent(name, directory / f"agent{number}", kafka.bootstrap, log))
            agent.wait_serving()
            (directory / name).mkdir(mode=0o711)
            actions = "".join(f"/^Subject: {action}/ {action.upper()}\n" for action in ACTIONS)
            (directory / name / "header_checks").write_text(actions)
            main_cf = MAIN_CF.format(directory=directory / name)
            found.append(
                stack.enter_context(Host(name, f"127.0.0.{50 + number}", agent, dovecot, mail_sinks, main_cf=main_cf))
            )
        yield found


def send(host: Host, seed: int) -> None:
    """Sessions of some messages each; some begin with a wrong password, one account is blocked at some time."""
    chance = random.Random(seed)
    sent = 0
    while sent < MESSAGES:
        account = chance.choice(LOGINS)
        if chance.random() < 0.1:
            with host.session(account, "wrong"):
                pass
        with host.session(account) as session:
            for _ in range(chance.randint(1, 20)):
                sent += 1
                action = next((action for action, number in ACTIONS.items() if sent % number == 0), "news")
                sender = NOBODY if sent % 41 == 0 else account
                recipients = [f"r{sent}@{domain}" for domain in chance.sample(DOMAINS, chance.randint(1, 3))]
                session.send(sender, recipients, action)
        if sent % 100 < 10:
            host.submit_locally(f"form@{chance.choice(DOMAINS)}")


def finish(host: Host) -> None:
    """What was slow is delivered, what came at too high a rate expires, some of what is on hold is deleted."""
    wait_until(lambda: host.settled, 60, f"the deliveries of {host.name}", 0.2)
    flush_until(host, lambda: SLOW not in waiting(host), "to deliver what was slow")
    for path in list((host.directory / "spool/hold").iterdir())[:5]:
        host.command("postsuper", "-d", path.name)
    host.change("maximal_queue_lifetime = 0\n")
    flush_until(host, lambda: not waiting(host), "to give up")


def flush_until(host: Host, condition: Callable[[], bool], what: str) -> None:
    """Flush the queue again and again: what a flush meets on its first delivery may be deferred after it."""

    def flushed() -> bool:
        host.command("postqueue", "-f")
        return condition()

    wait_until(flushed, 120, f"{host.name} {what}", 1.0)


def waiting(host: Host) -> set[str]:
    """Domains of the recipients of what is in the queue and not on hold."""
    return {
        one["address"].rpartition("@")[2]
        for message in host.queue
        for one in message["recipients"]
        if message["queue_name"] != "hold"
    }


def reason(one: Outcome) -> str:
    """As the history has it."""
    if one.what == "login_failed":
        return "credentials"
    if one.what in ("bounced", "deferred"):
        return REFUSALS[one.where][0]
    return one.where if one.what == "rejected" else ""


def expected(host: Host) -> Counter[Row]:
    """What the log says, as the history has it."""
    rows: Counter[Row] = Counter()
    for one, number in counted(host.maillog).items():
        rows[one.owner, one.what, reason(one)] += number
    return rows


def told(history: History, host: Host) -> Counter[Row]:
    """What the history says of a host's messages, of each account and local user."""
    rows: Counter[Row] = Counter()
    with reader(history) as reads:
        for user, uid, what, why, number in reads.query(
            f"SELECT sasl_username, uid, outcome, reason, sum(count) FROM outcomes FINAL WHERE host = '{host.name}' "
            "GROUP BY sasl_username, uid, outcome, reason"
        ):
            rows[owner(user, uid), what, apart_from_unasked(why)] += number
        for user, uid, how, number in reads.query(
            "SELECT sasl_username, uid, how, count() FROM events FINAL "
            f"WHERE host = '{host.name}' AND kind = 'removed' GROUP BY sasl_username, uid, how"
        ):
            rows[owner(user, uid), how, ""] += number
    return rows


def of_accounts(history: History) -> Counter[Row]:
    """What it says of each account, all hosts together."""
    with reader(history) as reads:
        found = reads.query(
            "SELECT sasl_username, outcome, reason, sum(count) FROM account_outcomes FINAL "
            "WHERE sasl_username != '' GROUP BY sasl_username, outcome, reason"
        )
    rows: Counter[Row] = Counter()
    for user, what, why, number in found:
        rows[user, what, apart_from_unasked(why)] += number
    return rows


def apart_from_unasked(why: str) -> str:
    """The log does not say which messages came while their agent was killed."""
    return "" if why == "unasked" else why


def owner(user: str, uid: int) -> str:
    return user or (f"uid:{uid}" if uid >= 0 else "")


def difference(told: Counter[Row], expected: Counter[Row]) -> dict[Row, tuple[int, int]]:
    """What differs, as it is told and as it is expected."""
    return {
        row: (told[row], expected[row]) for row in sorted(told.keys() | expected.keys()) if told[row] != expected[row]
    }


def test_the_history_of_every_account_is_what_the_logs_say(
    directory: Path, history: History, sink: Sink, hosts: list[Host], mail_sinks: dict[str, MailSink]
) -> None:
    with ThreadPoolExecutor(len(hosts)) as pool:
        sending = [pool.submit(send, host, seed) for seed, host in enumerate(hosts)]
        wait_until(lambda: len(hosts[0].accepted_queue_ids()) > MESSAGES // 4, 120, "a quarter of the messages", 0.2)
        hosts[0].agent.kill()
        assert weir(hosts[1].agent.config, "block", MALLORY, "--for", "1h", "--reason", "stolen").returncode == 0
        sink.kill()
        wait_until(lambda: len(hosts[1].accepted_queue_ids()) > MESSAGES // 2, 120, "half of the messages", 0.2)
        hosts[1].agent.kill()
        sink.kill()
        for one in sending:
            one.result()
        mail_sinks[SLOW].stop()
        with MailSink(mail_sinks[SLOW].host, mail_sinks[SLOW].port, directory / "sinks"):
            list(pool.map(finish, hosts))
    wanted = {host.name: expected(host) for host in hosts}
    with suppress(TimeoutError):  # what differs says more
        wait_until(lambda: all(told(history, host) == wanted[host.name] for host in hosts), 60, "the history", 0.5)
    for host in hosts:
        assert difference(told(history, host), wanted[host.name]) == {}
    whole = Counter[Row]()
    for rows in wanted.values():
        whole += rows
    of_users = {row: number for row, number in whole.items() if row[0] in LOGINS and row[1] in SUMMED}
    assert difference(of_accounts(history), Counter(of_users)) == {}
    seen = {(what, why) for _, what, why in whole}
    assert seen >= {(status(text), kind) for kind, text in REFUSALS.values()}
    assert {what for what, _ in seen} == {*SUMMED, *ENDS}
    assert ("rejected", "weir") in seen
    assert sum(number for (_, what, _), number in whole.items() if what == "submitted") > 2 * MESSAGES


def status(text: str) -> str:
    return "bounced" if text.startswith("5") else "deferred"
