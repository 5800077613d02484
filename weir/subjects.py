"""Subjects: what is counted and what can be blocked, as one canonical text each.

    sasl_username:alice@example.org     an account: lower case, default realm added
    client_address:192.0.2.10           an address: IPv4-mapped IPv6 as IPv4, other IPv6 as its /64
    uid:33                              a local user, such as a web server's, who sends by sendmail(1)
    limit:DIGEST:sasl_username=alice@example.org    what a limit of a rule counts (`weir.limits`): its name and its key
    heartbeat:7                         nothing is counted: it only carries an agent's position in a partition

Invariants: the same account or address always gives the same subject, whoever asks (agent, streams, command line);
`canonical(canonical(x)) == canonical(x)`; a subject is at most MAX_LENGTH characters long and holds no line break.
"""

import hashlib
import ipaddress
import re
import socket
import zlib
from functools import lru_cache

from weir.limits import MAX_KEY

PARTITIONS = 12
"""Partitions of weir.tallies, weir.windows and weir.decisions: fixed for the life of a fleet."""

MAX_LENGTH = 300

_SASL_USERNAME = "sasl_username:"
_CLIENT_ADDRESS = "client_address:"
_UID = "uid:"
_LIMIT = "limit:"
_HEARTBEAT = "heartbeat:"


@lru_cache(maxsize=8192)
def sasl_username(name: str, default_realm: str = "") -> str:
    """The subject of an account, or "" for a request without a login."""
    if not name:
        return ""
    if default_realm and "@" not in name:
        name = f"{name}@{default_realm}"
    return _bounded(_SASL_USERNAME + name.lower())


def client_address(address: str) -> str:
    """The subject of a client's address, or "" for what is no address (Postfix says `unknown` for some)."""
    network = _network(address)
    return _CLIENT_ADDRESS + network if network else ""


def uid(number: int) -> str:
    """The subject of a local user, by the number that he has on every host."""
    return f"{_UID}{number}"


@lru_cache(maxsize=8192)
def limit_key(item: str, value: str) -> str:
    """The key of a limit's counter as `ITEM=VALUE`: bounded, without control characters, and told apart by a digest if
    that changed it.
    """
    text = f"{item}={value}"
    key = _CONTROLS.sub(" ", text)
    if key == text and len(key) <= MAX_KEY:
        return key
    return f"{key[: MAX_KEY - 33]}~{hashlib.sha256(text.encode()).hexdigest()[:32]}"


def limit(digest: str, key: str) -> str:
    """The subject of a limit's counter, of the limit's name and `limit_key`."""
    return f"{_LIMIT}{digest}:{key}"


def owner(subject: str, default_realm: str = "") -> str:
    """The account or client whose item a limit's counter is keyed by, or "": then it is keyed by another item.

    A name that was cut in the key has no owner: accounts with names of more than 140 characters.
    """
    item, _, text = subject.partition(":")[2].partition(":")[2].partition("=")
    return keyed_by(item, text, default_realm)


def keyed_by(item: str, value: str, default_realm: str = "") -> str:
    """The subject that an item of a request stands for, or "" if that item makes none."""
    if item == "sasl_username":
        return sasl_username(value, default_realm)
    return client_address(value) if item == "client_address" else ""


def parse(text: str, default_realm: str = "") -> str:
    """The subject that an operator means: a full subject, or a short one (an address, or else an account).

    Raises ValueError with what was expected.
    """
    text = text.strip()
    if not text or any(character in text for character in "\r\n\0"):
        raise ValueError("expected a subject: an account such as alice@example.org, or an address")
    if text.startswith(_SASL_USERNAME):
        name = text.removeprefix(_SASL_USERNAME)
        if not name:
            raise ValueError("expected an account after 'sasl_username:'")
        return sasl_username(name, default_realm)
    if text.startswith(_UID):
        if not re.fullmatch("uid:[0-9]{1,10}", text):
            raise ValueError("expected a number after 'uid:'")
        return uid(int(text.removeprefix(_UID)))
    if text.startswith(_LIMIT):
        if not re.fullmatch(f"{_LIMIT}[0-9a-f]{{16}}:[^=]+=.*", text) or len(text) > MAX_LENGTH:
            raise ValueError("expected a name of 16 hexadecimal digits, a colon and ITEM=VALUE after 'limit:'")
        return text
    is_address = text.startswith(_CLIENT_ADDRESS)
    found = client_address(text.removeprefix(_CLIENT_ADDRESS))
    if is_address and not found:
        raise ValueError(f"expected an IPv4 or IPv6 address after 'client_address:', got {text!r}")
    return found or sasl_username(text, default_realm)


def kind(subject: str) -> str:
    """The word before the colon: `sasl_username`, `client_address`, `uid`, `limit` or `heartbeat`."""
    return subject.partition(":")[0]


def value(subject: str) -> str:
    """What stands after the first colon."""
    return subject.partition(":")[2]


def is_account(subject: str) -> bool:
    return subject.startswith(_SASL_USERNAME)


def is_client(subject: str) -> bool:
    return subject.startswith(_CLIENT_ADDRESS)


def is_uid(subject: str) -> bool:
    return subject.startswith(_UID)


def is_limit(subject: str) -> bool:
    return subject.startswith(_LIMIT)


def is_heartbeat(subject: str) -> bool:
    return subject.startswith(_HEARTBEAT)


def partition(subject: str) -> int:
    """The partition of all records about this subject: crc32 of its UTF-8 bytes, modulo PARTITIONS."""
    return zlib.crc32(subject.encode()) % PARTITIONS


def heartbeat(number: int) -> str:
    """The heartbeat subject that lies in partition `number`."""
    return _HEARTBEATS[number]


def _heartbeats() -> list[str]:
    found: dict[int, str] = {}
    candidate = 0
    while len(found) < PARTITIONS:
        subject = f"{_HEARTBEAT}{candidate}"
        found.setdefault(partition(subject), subject)
        candidate += 1
    return [found[number] for number in range(PARTITIONS)]


_HEARTBEATS = _heartbeats()


@lru_cache(maxsize=8192)
def _network(address: str) -> str:
    try:
        socket.inet_pton(socket.AF_INET, address)
    except (OSError, ValueError):
        pass
    else:
        return address  # inet_pton takes dotted quads in their canonical form only
    try:
        six = ipaddress.IPv6Address(address.removesuffix("/64").partition("%")[0])
    except ValueError:
        return ""
    if six.ipv4_mapped is not None:
        return str(six.ipv4_mapped)
    # The customer of an access provider is given a /64 and changes addresses within it at will (RFC 8981).
    return str(ipaddress.IPv6Network((int(six) >> 64 << 64, 64)))


def _bounded(subject: str) -> str:
    """A hostile client chooses its login name's length: a long one is cut, and told apart by its digest."""
    subject = subject.translate(_NO_LINE_BREAKS)
    if len(subject) <= MAX_LENGTH:
        return subject
    digest = hashlib.sha256(subject.encode()).hexdigest()[:32]
    return f"{subject[: MAX_LENGTH - 33]}~{digest}"


_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")
_NO_LINE_BREAKS = str.maketrans("\r\n\0", "   ")
