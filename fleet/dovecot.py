"""Dovecot as the SASL server of the Postfix hosts: PLAIN and LOGIN against a file of users, no mail boxes.

It must answer before a Postfix host takes its first client: smtpd without SASL ends, and Postfix then pauses it.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from fleet.process import Process

# Failed logins are answered at once: both the fixed delay and the penalty that grows by client address are off.
CONFIGURATION = """\
base_dir = {directory}/run
state_dir = {directory}/state
log_path = {directory}/dovecot.log
protocols =
ssl = no
auth_verbose = yes
auth_mechanisms = plain login
auth_failure_delay = 0
disable_plaintext_auth = no
passdb {{
  driver = passwd-file
  args = scheme=PLAIN username_format=%u {directory}/users
}}
userdb {{
  driver = static
  args = uid=65534 gid=65534 home=/nonexistent
}}
service auth {{
  unix_listener auth-postfix {{
    mode = 0660
    user = postfix
    group = postfix
  }}
}}
service stats {{
  chroot =
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
"""


class Dovecot:
    """Dovecot with all its files in `directory`; leaving its `with` block stops it.

    `sasl_path` is the socket for Postfix' smtpd_sasl_path.
    """

    def __init__(self, directory: Path, users: Mapping[str, str]) -> None:
        """`users` gives each login (as a client sends it, without colons) its password."""
        self.sasl_path = directory / "run" / "auth-postfix"
        self._directory = directory
        self._users = users
        configuration = directory / "dovecot.conf"
        # Killed outright, its master would leave the others behind.
        self._process = Process(
            "dovecot", ["dovecot", "-F", "-c", configuration], directory / "dovecot.log", death_signal="TERM"
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start and return when logins are answered; raises RuntimeError with the log's tail otherwise."""
        self._directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        shutil.rmtree(self._directory / "run", ignore_errors=True)  # a stale socket there delays the first logins
        (self._directory / "dovecot.conf").write_text(CONFIGURATION.format(directory=self._directory))
        users = self._directory / "users"
        users.write_text("".join(f"{user}:{{PLAIN}}{password}\n" for user, password in self._users.items()))
        users.chmod(0o640)
        shutil.chown(users, "root", "dovecot")
        self._process.start()
        try:
            self._process.wait_ready(self.sasl_path.is_socket, 10.0)
        except BaseException:
            self._process.terminate()
            raise

    def stop(self) -> None:
        if self._process.running:
            self._process.terminate()
