"""Logins as Dovecot and saslauthd tell them.

A client chooses its login name: a line is understood only if nothing in it could be part of one. Reasons become words
of ours, since Dovecot can be told to write the passwords that were tried into them.

Sources: Dovecot's doc/wiki/Logging and login-common/client-common.c (2.3 and 2.4), auth/auth-request.c;
Cyrus SASL's saslauthd/saslauthd-main.c; real lines in the tests.
"""

from weir.maillog.messages import LoggedIn, LoginEnded, LoginFailed, Message, Noted, Warned
from weir.maillog.patterns import whole

_NAME = r"[^\s<>()\[\],]*+"
_AUTH = whole(
    rf"auth(?:-worker)?(?:\(\d+\))?: (?:Info: )?(?:conn unix:\S+ \([^()]*\): )?(?:auth-worker<\d+>: )?"
    rf"(?P<method>[a-z-]+)\((?P<user>{_NAME}),(?P<address>[0-9A-Fa-f.:]+)?(?:,<[^<>]*>)?\): (?P<said>.*)"
)
# Since 2.4 the process has the name, and the data base comes last; what smtpd asks about may have no address.
_AUTH_2_4 = whole(
    rf"auth(?:-worker)?\((?P<user>{_NAME})(?:,(?P<address>[0-9A-Fa-f.:]+))?(?:,sasl:[\w-]+)?\)(?:<[^<>]*>)*: "
    r"(?:request \[\d+\]: )?(?:Info: )?(?P<method>[a-z-]+): (?P<said>.*)"
)
_LOGIN = whole(
    r"([a-z0-9]+-login): (?:Info: )?([^<>=]*?): "
    rf"user=<({_NAME})>(?:, method=([\w-]+))?, rip=([0-9A-Fa-f.:]+)(?:, lip=[0-9A-Fa-f.:]+)?(?:, mpid=\d+)?"
    r"(?:, (?!method=|rip=|session=)[^<>,]*)*+(?:, session=<[^<>]*>)?"
)
_TRIES = whole(r".*\(auth failed, (\d{1,4}) attempts?[^()]*\).*")
_SUCCEEDED = ("Login", "Logged in")
# What was tried may follow, if Dovecot is told to log it (auth_verbose_passwords).
_TRIED = r"(?: \((?:SHA1 of )?given password: [^()]*\))?"
_CREDENTIALS = whole(
    r"(?:[Pp]assword mismatch(?: \(for LDAP bind\))?|[Ii]nvalid credentials"
    rf"|pam_authenticate\(\) failed: Authentication failure \([Pp]assword mismatch\?\)){_TRIED}"
)
_UNKNOWN_USER = whole(rf"(?:[Uu]nknown user|pam_authenticate\(\) failed: User not known to the underlying .*){_TRIED}")
_OTHERS = whole(
    r"(?:master|anvil|stats|log|config|ssl-params|imap|pop3|lmtp|lda|managesieve|submission|indexer|indexer-worker|replicator|doveadm)"
    r"(?:\([^()]*\))?(?:<[^<>]*>)*: .*"
)
_LEVELLED = whole(r"[a-z0-9-]+(?:\([^()]*\))?(?:<[^<>]*>)*: (Warning|Error|Fatal|Panic): (.*)")

_SASLAUTHD = whole(
    r"(?:do_auth|:\S+)?\s*: auth (failure|success)(?: \(cached\))?: \[user=([^\[\]]*+)\] \[service=[^\[\]]*+\] "
    r"\[realm=([^\[\]]*+)\](?: \[mech=([\w-]+)\])?(?: \[reason=(.*)\])?"
)


def dovecot(text: str) -> Message | None:
    """Dovecot's lines, of all its processes."""
    if found := _LOGIN(text):
        service, what, user, method, address = found.groups("")
        if what in _SUCCEEDED:
            return LoggedIn(service, user, address, method)
        if tries := _TRIES(what):
            return LoginFailed(service, user, address, method, "credentials", int(tries[1]))
        return LoginEnded(service, user, address)
    if found := _AUTH(text) or _AUTH_2_4(text):
        return _checked(**found.groupdict(""))
    if found := _LEVELLED(text):
        return Warned(found[1].lower(), "")
    return Noted("detail", "") if _OTHERS(text) else None


def saslauthd(text: str) -> Message | None:
    found = _SASLAUTHD(text)
    if found is None:
        return None
    outcome, user, realm, method, reason = found.groups("")
    name = f"{user}@{realm}" if realm and "@" not in user else user
    if outcome == "success":
        return LoggedIn("saslauthd", name, "", method)
    is_known = not reason.startswith("Unknown")
    return LoginFailed("saslauthd", name, "", method, "credentials" if is_known else "unknown user")


def _checked(method: str, user: str, address: str, said: str) -> Message | None:
    """The authentication process tells failures only."""
    if _CREDENTIALS(said):
        return LoginFailed("auth", user, address, method, "credentials")
    if _UNKNOWN_USER(said):
        return LoginFailed("auth", user, address, method, "unknown user")
    return None
