"""Pieces of the lines' patterns, each of which ends where its daemon ended it, whatever a client wrote into it.

Sources: Postfix's global/mail_queue.h (queue ids), smtpd/smtpd.h (namaddr), proto/postconf (info_log_address_format).
"""

import re
from collections.abc import Callable
from typing import TypeAlias

Matcher: TypeAlias = Callable[[str], re.Match[str] | None]

QUEUE_ID = r"(?:[0-9A-F]{6,21}|[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{10,30})"
"""Short ones are hexadecimal and have at least an inode after five digits of microseconds; long ones have no vowels."""

CLIENT = r"(?:[^\s\[\]]++)?\[[^\s\[\]]++\](?::\w++)?"
"""`mail.example.net[192.0.2.1]:4711`: a name that resolves has no brackets; postscreen writes none."""
CLIENT_PARTS = r"([^\s\[\]]++)?\[([^\s\[\]]++)\](?::\w++)?"
"""The same, as the groups name and address."""

ADDRESS = r'(?:"(?:[^"\\]|\\.)*+"[^<>"]*+|[^<>"]*+)'
"""Between angle brackets: one that holds such characters is quoted."""


def whole(pattern: str) -> Matcher:
    """A matcher of whole texts."""
    return re.compile(pattern, re.ASCII).fullmatch


def bare(queue_id: str) -> str:
    """The queue id; "" for NOQUEUE."""
    return "" if queue_id == "NOQUEUE" else queue_id
