"""What is kept of recipients: with `recipients = "domain"` no name before a domain, wherever an event tells one.

Invariant: pure.
"""

import re

_NAME = re.compile(r"[^\s<>()\[\]:;,\"@]+(?=@)")


def kept(recipient: str, recipients: str) -> str:
    """Of an address; `recipients` is the setting, `full` or `domain`."""
    if recipients == "full":
        return recipient
    _, at, domain = recipient.rpartition("@")
    return at + domain if at else ""


def kept_key(key: str, recipients: str) -> str:
    """Of a limit's key, `ITEM=VALUE`."""
    item, _, value = key.partition("=")
    return f"{item}={kept(value, recipients)}" if item.startswith("recipient") else key


def without_names(text: str, recipient: str) -> str:
    """Of what a remote server said: no names before addresses' domains, nor the recipient's alone."""
    name = recipient.rpartition("@")[0] or recipient
    text = _NAME.sub("", text)
    if name and name.lower() in text.lower():
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "", text, flags=re.IGNORECASE)
    return text
