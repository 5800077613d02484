"""The queue's helper as a process, on the queues of three real Postfix hosts."""

import asyncio
import json
import os
import pwd
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from agents.queue.client import HelperAwayError, HelperRefusedError, QueueClient
from fleet.dovecot import Dovecot
from fleet.mail_sink import MailSink
from fleet.own import CHECKOUT, toml
from fleet.postfix import PostfixHost
from fleet.process import Process, free_port, wait_until
from fleet.smtp_client import Session
from tests.fleet.conftest import directory

__all__ = ["directory"]

pytestmark = pytest.mark.fleet

NAMES = ("q1", "q2", "q3")
ACCOUNTS = ("alice@weir.test", "bob@weir.test", "carol@weir.test", "dave@weir.test")
ALICE, BOB, CAROL, DAVE = ACCOUNTS
PASSWORD = "pw"
DEFERRED = "defer_transports = smtp\n"
FORM, FORM_UID = "www-data", 33
REFUSED = f"sendmail: fatal: User {FORM}({FORM_UID}) is not allowed to submit mail"
AGENT = "nobody"


class QueueHost(PostfixHost):
    """Its mail stays in the queue, but while it is `delivering`; the helper's list says who may not submit locally."""

    def __init__(self, name: str, address: str, folder: Path, sasl_path: Path, sink: MailSink, table: Path) -> None:
        super().__init__(name, address, folder, "", sasl_path, sink=sink.address, placements=())
        self.directory = folder
        self._main_cf += f"authorized_submit_users = !{table}, static:all\n{DEFERRED}"

    @contextmanager
    def delivering(self) -> Iterator[None]:
        before = self._main_cf
        self._reconfigure(before.replace(DEFERRED, ""))
        yield
        self._reconfigure(before)

    def _reconfigure(self, main_cf: str) -> None:
        self._main_cf = main_cf
        self._configure()
        self.reload()

    def queue(self) -> dict[str, str]:
        """Queue id → the name of the queue that it is in."""
        listed = subprocess.run(["postqueue", "-c", self.directory, "-j"], capture_output=True, text=True, check=True)
        messages = [json.loads(line) for line in listed.stdout.splitlines()]
        return {message["queue_id"]: message["queue_name"] for message in messages}

    def held(self) -> set[str]:
        return {queue_id for queue_id, queue in self.queue().items() if queue == "hold"}

    def ids_of(self, account: str) -> list[str]:
        return [queue_id for user, queue_id in self.accepted_queue_ids() if user == account]

    def submit(self, account: str, messages: int) -> list[str]:
        """Queue ids of an account's new messages, when they are in the queue and deferred."""
        before = {*self.ids_of(account)}
        with Session(self.address, self.port, "127.0.9.31", account, PASSWORD) as session:
            for _ in range(messages):
                assert session.send(account, ["x@dest.test"]).accepted

        def deferred() -> list[str]:
            ids = [queue_id for queue_id in self.ids_of(account) if queue_id not in before]
            queue = self.queue()
            return ids if len(ids) == messages and all(queue.get(one) == "deferred" for one in ids) else []

        return wait_until(deferred, 60, f"{messages} messages to be deferred", 0.2)

    def submit_locally(self, user: str) -> str:
        """As a web form does it: by the real sendmail, with this host's configuration in the place of the machine's.
        What it says; "" if it takes the message."""
        namespace = ["unshare", "--mount"]
        if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
            pytest.skip("no namespaces here")
        submission = (
            f"mount --bind {self.directory} /etc/postfix && "
            f"setpriv --reuid={user} --regid=nogroup --clear-groups sendmail -f form@weir.test x@dest.test"
        )
        done = subprocess.run(
            [*namespace, "sh", "-c", submission], input="hello\n", capture_output=True, text=True, check=False
        )
        return done.stderr.strip() or ("" if done.returncode == 0 else str(done.returncode))

    def ids_of_local_user(self, uid: int) -> list[str]:
        return re.findall(rf"pickup\[\d+\]: (\w+): uid={uid} from=<form@weir.test>", self.maillog.read_text())

    def hold_by_hand(self, ids: list[str]) -> None:
        command = ["postsuper", "-c", str(self.directory), "-h", "-"]
        subprocess.run(command, input="\n".join(ids), text=True, check=True, capture_output=True)


class RunningHelper(Process):
    def __init__(self, folder: Path, hosts: list[QueueHost], prefix: str = "") -> None:
        """`prefix` stands before the hosts' names in those of the instances."""
        self.socket, self.table = folder / "queue.sock", folder / "refused_submitters"
        config = folder / "weir.toml"
        queue = {
            "instances": {f"{prefix}{host.name}": {"config_directory": str(host.directory)} for host in hosts},
            "socket": str(self.socket),
            "user": AGENT,
            "held": str(folder / "held.sqlite"),
            "submit_table": str(self.table),
        }
        config.write_text(toml({"queue": queue}))
        command = [sys.executable, "-m", "weir.cli", "--config", str(config), "queue-helper"]
        super().__init__("queue helper", command, folder / "log", cwd=CHECKOUT)
        self.client = QueueClient(self.socket)

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        super().start()
        self.wait_ready(self._listens, 20)

    def _listens(self) -> bool:
        return self.socket.is_socket() and self.socket.stat().st_mode & 0o777 == 0o660


@pytest.fixture(scope="module")
def sink(directory: Path) -> Iterator[MailSink]:
    with MailSink("127.0.0.31", free_port("127.0.0.31"), directory / "sink") as running:
        yield running


@pytest.fixture(scope="module")
def hosts(directory: Path, sink: MailSink) -> Iterator[list[QueueHost]]:
    folder = directory / "helper"
    folder.mkdir(mode=0o711)
    table = folder / "refused_submitters"
    with Dovecot(directory / "dovecot", dict.fromkeys(ACCOUNTS, PASSWORD)) as dovecot:
        made = [
            QueueHost(name, f"127.0.0.{31 + number}", directory / name, dovecot.sasl_path, sink, table)
            for number, name in enumerate(NAMES)
        ]
        started: list[QueueHost] = []
        try:
            for host in made:
                host.start()
                started.append(host)
            yield made
        finally:
            for host in started:
                host.stop()


@pytest.fixture
def helper(directory: Path, hosts: list[QueueHost]) -> Iterator[RunningHelper]:
    with RunningHelper(directory / "helper", hosts) as running:
        yield running


def test_500_messages_of_one_account_are_held_and_only_ours_released(
    hosts: list[QueueHost], helper: RunningHelper
) -> None:
    """Three hosts, beside the mail of another account; some are on hold already, by hand."""
    alices = {host: host.submit(ALICE, 500 // 3 + (host.name == "q1") + (host.name == "q2")) for host in hosts}
    bobs = {host: host.submit(BOB, 20) for host in hosts}
    assert sum(map(len, alices.values())) == 500
    theirs = {host: {*alices[host][:5], *bobs[host][:2]} for host in hosts}
    for host in hosts:
        host.hold_by_hand([*theirs[host]])

    async def hold() -> list[set[str]]:
        return [{*await helper.client.hold(host.name, alices[host])} for host in hosts]

    ours = dict(zip(hosts, asyncio.run(hold()), strict=True))
    for host in hosts:
        assert ours[host] == {*alices[host]} - theirs[host]
        assert host.held() == {*alices[host]} | theirs[host], "and of the other account none but those held by hand"

    helper.kill()
    helper.start()
    for host in hosts:
        with host.delivering():
            everything = [*alices[host], *bobs[host]]
            assert {*asyncio.run(helper.client.release(host.name, everything))} == ours[host]
            wait_until(lambda: not ours[host] & {*host.queue()}, 60, "their delivery", 0.2)  # noqa: B023
        assert host.held() == theirs[host]


def test_deleted_is_what_we_hold(hosts: list[QueueHost], helper: RunningHelper) -> None:
    host = hosts[0]
    mine, others, waiting = host.submit(CAROL, 3)
    host.hold_by_hand([others])
    assert asyncio.run(helper.client.hold(host.name, [mine, others])) == [mine]
    assert asyncio.run(helper.client.delete(host.name, [mine, others, waiting, "4jYmyW0Nsyz1SWGt"])) == [mine]
    queue = host.queue()
    assert (mine in queue, queue[others], queue[waiting]) == (False, "hold", "deferred")


def test_killed_at_work_it_knows_what_it_put_on_hold(hosts: list[QueueHost], helper: RunningHelper) -> None:
    host = hosts[1]
    ids = host.submit(DAVE, 300)
    before = host.held()

    async def hold_and_kill() -> None:
        holding = asyncio.create_task(helper.client.hold(host.name, ids))
        moved = host.directory / "spool/hold" / ids[0]
        while not moved.exists():
            await asyncio.sleep(0)
        helper.kill()
        with suppress(HelperAwayError):  # it may have been quicker
            await holding

    asyncio.run(hold_and_kill())
    helper.start()
    assert ids[0] in host.held() - before
    assert {*asyncio.run(helper.client.release(host.name, ids))} >= {ids[0]}
    assert host.held() == before


def test_a_refused_login_cannot_submit(hosts: list[QueueHost], helper: RunningHelper) -> None:
    host = hosts[2]
    assert host.submit_locally(FORM) == ""
    asyncio.run(helper.client.refuse_submission([FORM]))
    assert host.submit_locally(FORM) == REFUSED
    assert host.submit_locally("nobody") == ""
    asyncio.run(helper.client.refuse_submission([]))
    assert host.submit_locally(FORM) == ""
    wait_until(lambda: len(host.ids_of_local_user(FORM_UID)) == 2, 10, "the two that were accepted")


def test_another_user_is_refused_whatever_the_mode_of_the_socket(hosts: list[QueueHost], helper: RunningHelper) -> None:
    def ask_as(uid: int) -> list[str]:
        os.seteuid(uid)
        try:
            return asyncio.run(helper.client.hold(hosts[0].name, ["4jYmyW0Nsyz1SWGt"]))
        finally:
            os.seteuid(0)

    with pytest.raises(HelperAwayError, match="Permission denied"):
        ask_as(FORM_UID)
    helper.socket.chmod(0o666)
    with pytest.raises(HelperRefusedError, match=f"user {FORM_UID} may not ask"):
        ask_as(FORM_UID)
    assert ask_as(pwd.getpwnam(AGENT).pw_uid) == []
