"""The vocabulary of conditions: known items, and what each is compared as.

Any other name may be an item too: an attribute of a newer Postfix, or what `set()` made. Those are texts.

Facts: Postfix's SMTPD_POLICY_README for the attributes; postfwd 2.03 for the rest.
"""

import difflib
import enum


class Kind(enum.Enum):
    """What an item's values are, and so how they are checked and compared."""

    TEXT = "text"
    NUMBER = "number"
    ADDRESS = "address"
    """The client's."""
    DNS_ADDRESS = "looked-up address"
    DNS_NAME = "looked-up name"
    DNS_LIST = "DNS list"
    DATE = "date"
    TIME = "time"
    DAYS = "days"
    MONTHS = "months"


_KINDS = {
    **dict.fromkeys(("size", "recipient_count", "encryption_keysize", "request_score"), Kind.NUMBER),
    "client_address": Kind.ADDRESS,
    **dict.fromkeys(("helo_address", "sender_ns_addrs", "sender_mx_addrs"), Kind.DNS_ADDRESS),
    **dict.fromkeys(("sender_ns_names", "sender_mx_names"), Kind.DNS_NAME),
    **dict.fromkeys(
        ("rbl", "rhsbl", "rhsbl_client", "rhsbl_sender", "rhsbl_reverse_client", "rhsbl_helo"), Kind.DNS_LIST
    ),
    "date": Kind.DATE,
    "time": Kind.TIME,
    "days": Kind.DAYS,
    "months": Kind.MONTHS,
}

ATTRIBUTES = frozenset(
    (
        "request",
        "protocol_state",
        "protocol_name",
        "helo_name",
        "queue_id",
        "sender",
        "recipient",
        "recipient_count",
        "client_address",
        "client_name",
        "client_port",
        "reverse_client_name",
        "server_address",
        "server_port",
        "instance",
        "sasl_method",
        "sasl_username",
        "sasl_sender",
        "size",
        "ccert_subject",
        "ccert_issuer",
        "ccert_fingerprint",
        "ccert_pubkey_fingerprint",
        "encryption_protocol",
        "encryption_cipher",
        "encryption_keysize",
        "etrn_domain",
        "stress",
        "policy_context",
        "compatibility_level",
        "mail_version",
    )
)
"""What Postfix sends."""

DERIVED = frozenset(
    (
        "sender_localpart",
        "sender_domain",
        "recipient_localpart",
        "recipient_domain",
        "reverse_address",
        "request_hits",
        "request_score",
        "score",
        "matches",
        "ratecount",
        "dnsbltext",
    )
)
"""What an evaluation adds."""

SETTINGS = frozenset(("id", "action", "cache", "score", "rblcount", "rhsblcount"))
"""What stands in a rule like a condition and is none."""

KNOWN = ATTRIBUTES | DERIVED | SETTINGS | frozenset(_KINDS)

LISTS = frozenset(item for item, kind in _KINDS.items() if kind not in (Kind.TEXT, Kind.NUMBER, Kind.DNS_NAME))
"""Items whose values are separated by commas."""

NUMERIC = frozenset(("=>", "=<", ">", "<", "!>", "!<"))
"""Operators that compare any item as a number."""

PATTERN = frozenset(("=", "=~", "!~"))
"""Operators that look for a pattern in a text."""


def kind(item: str) -> Kind:
    return _KINDS.get(item, Kind.TEXT)


def nearest(name: str) -> str | None:
    """The known item that a name may be a misspelling of."""
    near = difflib.get_close_matches(name.lower(), KNOWN, 1, 0.8)
    return near[0] if near else None
