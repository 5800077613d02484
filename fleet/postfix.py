"""A Postfix host: one instance with its own address, queue and mail log, for authenticated submission.

Invariants
- master ends with us, whatever ends us; its daemons end when they lose it.
- The only way in is port `port` of `address`, with SASL; the only way out is the mail sink. No DNS is asked.
- A policy server that is away or slow costs seconds but no mail (default_action=DUNNO).
"""

import errno
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal, Self

from fleet.process import Process, free_port, tail

Placement = Literal["RCPT", "END-OF-MESSAGE"]

MASTER = "/usr/lib/postfix/sbin/master"
# master changes its user ids as it starts and so loses the death signal; a shell takes it, and SIGTERM, on its behalf.
RUN_MASTER = "trap 'kill $!' TERM; $0 -c $1 & wait; wait"

# inet_interfaces knows no other address of 127/8 than 127.0.0.1: the host's own stands in master.cf.
MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {directory}/spool
data_directory = {directory}/data
maillog_file = {directory}/maillog
maillog_file_prefixes = {directory}
multi_instance_name = postfix-{name}
multi_instance_enable = yes
myhostname = {name}.weir.test
mydomain = weir.test
myorigin = weir.test
mydestination =
local_recipient_maps =
alias_maps =
alias_database =
mynetworks = 127.255.255.254/32
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
enable_long_queue_ids = yes
smtpd_client_port_logging = yes
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
smtp_host_lookup = native
default_transport = smtp:{sink}
relay_transport = smtp:{sink}
transport_maps = {routes}
smtp_connect_timeout = 3s
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = {sasl_path}
smtpd_sasl_security_options = noanonymous
smtpd_relay_restrictions = permit_sasl_authenticated, reject
smtpd_recipient_restrictions = {at_recipient} permit_sasl_authenticated, reject
smtpd_end_of_data_restrictions = {at_end_of_message}
smtpd_client_connection_count_limit = 0
smtpd_error_sleep_time = 0
in_flow_delay = 0
service_throttle_time = 1s
"""

POLICY_CHECK = (
    "check_policy_service {{ {policy_service}, timeout=2s, default_action=DUNNO, policy_context=submission }},"
)

MASTER_CF = """\
{address}:{port} inet n - n - - smtpd
    -o syslog_name=postfix-{name}/submission
pickup   unix n - n 60 1 pickup
cleanup  unix n - n - 0 cleanup
qmgr     unix n - n 300 1 qmgr
rewrite  unix - - n - - trivial-rewrite
bounce   unix - - n - 0 bounce
defer    unix - - n - 0 bounce
trace    unix - - n - 0 bounce
flush    unix n - n 1000? 0 flush
smtp     unix - - n - - smtp
showq    unix n - n - - showq
error    unix - - n - - error
retry    unix - - n - - error
discard  unix - - n - - discard
anvil    unix - - n - 1 anvil
scache   unix - - n - 1 scache
postlog  unix-dgram n - n - 1 postlogd
"""

_CLIENT = re.compile(r"/smtpd\[\d+\]: (\w+): client=.*, sasl_username=([^,\s]+)")
_QUEUED = re.compile(r"/qmgr\[\d+\]: (\w+): from=.* \(queue active\)$")


class PostfixHost:
    """One Postfix host with all its files in `directory`; leaving its `with` block stops it.

    Start Dovecot, the mail sink and the policy server before it.
    """

    def __init__(
        self,
        name: str,
        address: str,
        directory: Path,
        policy_service: str,
        sasl_path: Path,
        *,
        sink: str = "127.0.0.21:2525",
        routes: Mapping[str, str] = MappingProxyType({}),
        placements: Sequence[Placement] = ("RCPT", "END-OF-MESSAGE"),
        port: int | None = None,
    ) -> None:
        """`name` is the host's field in the mail log, `address` one of 127/8, `sink` is ADDRESS:PORT,
        and `routes` has others of domains that do not end there.

        `policy_service` is as in main.cf: "unix:/path" or "inet:127.0.0.11:10040", asked at each of `placements`.
        `port` defaults to a free one.
        """
        self.name = name
        self.address = address
        self.port = port or free_port(address)
        self.maillog = directory / "maillog"
        self._directory = directory
        check = POLICY_CHECK.format(policy_service=policy_service)
        self._main_cf = MAIN_CF.format(
            directory=directory,
            name=name,
            sink=_hop(sink),
            routes=_inline({domain: f"smtp:{_hop(address)}" for domain, address in routes.items()}),
            sasl_path=sasl_path,
            at_recipient=check if "RCPT" in placements else "",
            at_end_of_message=check.rstrip(",") if "END-OF-MESSAGE" in placements else "",
        )
        self._process = Process(
            name,
            ["sh", "-c", RUN_MASTER, MASTER, directory],
            directory / "master.log",
            # As the postfix command would have it: else what stops master early is said nowhere.
            env={"POSTLOG_SERVICE": str(directory / "spool/public/postlog"), "POSTLOG_HOSTNAME": name},
            death_signal="TERM",
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()

    @property
    def running(self) -> bool:
        """Whether Postfix itself says that this instance is up."""
        return self._postfix("status").returncode == 0

    def start(self) -> None:
        """Start the host and return when it takes clients; raises RuntimeError with the mail log's tail otherwise."""
        if _is_taken(self.address, self.port):
            raise RuntimeError(f"Postfix {self.name} cannot start: {self.address}:{self.port} is taken")
        self._configure()
        # It makes the queue's folders, and says what is wrong with the configuration.
        if self._postfix("check").returncode:
            raise RuntimeError(f"Postfix {self.name} refuses its configuration:\n{tail(self.maillog)}")
        self._process.start()
        try:
            self._process.wait_ready(self._greets, 10.0)
        except BaseException as error:
            self._process.terminate()
            raise RuntimeError(f"Postfix {self.name} did not start:\n{tail(self.maillog)}") from error

    def stop(self) -> None:
        """Stop the host; open sessions are cut off, the queue and the mail log stay."""
        if self._process.running:
            self._process.terminate()

    def reload(self) -> None:
        self._postfix("reload")

    def accepted_queue_ids(self) -> list[tuple[str, str]]:
        """Return (sasl_username, queue id) of each message that was submitted with SASL and came into the queue.

        In the order of the mail log, each queue id once (retries log "queue active" again). A message refused at
        END-OF-MESSAGE has a client line too, but never becomes active.
        """
        users: dict[str, str] = {}
        accepted: dict[str, str] = {}
        with self.maillog.open(encoding="utf-8", errors="replace") as log:
            for line in log:
                if client := _CLIENT.search(line):
                    users[client[1]] = client[2]
                elif (queued := _QUEUED.search(line)) and queued[1] in users:
                    accepted.setdefault(queued[1], users[queued[1]])
        return [(user, queue_id) for queue_id, user in accepted.items()]

    def _configure(self) -> None:
        self._directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._directory.chmod(0o711)
        (self._directory / "spool").mkdir(exist_ok=True)
        data = self._directory / "data"
        data.mkdir(mode=0o700, exist_ok=True)
        shutil.chown(data, "postfix")
        main_cf = self._directory / "main.cf"
        main_cf.write_text(self._main_cf)
        # Postfix' commands wait until the file has not changed for two seconds: it may be half written.
        written_before = time.time() - 60.0
        os.utime(main_cf, (written_before, written_before))
        master_cf = MASTER_CF.format(address=self.address, port=self.port, name=self.name)
        (self._directory / "master.cf").write_text(master_cf)

    def _postfix(self, command: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["postfix", "-c", self._directory, command], check=False, stdin=subprocess.DEVNULL, capture_output=True
        )

    def _greets(self) -> bool:
        """Tell whether it is this host that greets, and not another one at its address."""
        try:
            with socket.create_connection((self.address, self.port), timeout=5.0) as connection:
                return connection.recv(512).startswith(f"220 {self.name}.weir.test ".encode())
        except OSError:
            return False


def _inline(table: Mapping[str, str]) -> str:
    return f"inline:{{ {', '.join(f'{{ {key} = {value} }}' for key, value in table.items())} }}" if table else ""


def _hop(address: str) -> str:
    host, port = address.rsplit(":", 1)
    return f"[{host}]:{port}"


def _is_taken(address: str, port: int) -> bool:
    """Tell whether somebody listens there: Postfix itself would not mind, and share the port (SO_REUSEPORT)."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
        return False
