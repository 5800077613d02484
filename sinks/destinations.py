"""Where alerts go: a mailbox, a pager, a chat, each as one of Apprise's URLs.

Invariants: URLs hold secrets, so they come from the environment, and nothing of them is told: a destination is named by
its place in the list and its kind, and what the library says of a failure is told without the URL's parts.
"""

import logging
import os
import re
from urllib.parse import unquote

from apprise import Apprise, AppriseAsset, NotifyFormat, NotifyType, OverflowMode

from sinks.alerts import Message
from weir.cli.output import USAGE, CommandError
from weir.settings_checks import NOTIFY_URLS

_ASSET = AppriseAsset(app_id="Weir", app_desc="Weir", app_url="", storage_mode="memory", secure_logging=True)
_SHORTEST_PART = 3
"""Of a URL: shorter ones would make holes in every word, and are no secrets."""


class Destination:
    def __init__(self, number: int, url: str) -> None:
        """Raises ValueError, without the URL, for one that is not understood."""
        plugin = Apprise.instantiate(url, asset=_ASSET, suppress_exceptions=True)
        if plugin is None:
            raise ValueError(f"URL {number} is not understood")
        if plugin.overflow_mode == OverflowMode.UPSTREAM:
            plugin.overflow_mode = OverflowMode.TRUNCATE  # else a pager refuses what is too long, for good
        self.name = f"{number} {plugin.service_name}"
        self._parts = {unquote(part) for part in re.split(r"[/:@?&=#,\s]+", url.partition("://")[2])}
        self._parts |= {part for whole in self._parts for part in re.split(r"[/:@?&=#,\s]+", whole)}
        self._apprise = Apprise(plugin, asset=_ASSET)

    def send(self, message: Message) -> str:
        """Send it, within some seconds; returns "", or what was wrong."""
        try:
            result = self._apprise.notify(
                message.body, message.title, NotifyType(message.urgency), body_format=NotifyFormat.TEXT
            )
        except Exception as error:  # a plugin's own fault is a failure as any other
            return type(error).__name__
        return "" if result else self._without_url("; ".join(entry.message for entry in result.logs())) or "refused"

    def _without_url(self, text: str) -> str:
        for part in sorted(self._parts, key=len, reverse=True):
            if len(part) >= _SHORTEST_PART:
                text = text.replace(part, "…")
        return text


def from_environment() -> list[Destination]:
    """The destinations of WEIR_NOTIFY_URLS. Raises CommandError."""
    library = logging.getLogger("apprise")
    library.addHandler(logging.NullHandler())
    library.propagate = False  # what it says comes back with the result
    urls = os.environ.get(NOTIFY_URLS, "").split()
    if not urls:
        raise CommandError(f"{NOTIFY_URLS}: expected one of Apprise's URLs or more, got nothing", USAGE)
    try:
        return [Destination(number, url) for number, url in enumerate(urls, 1)]
    except ValueError as error:
        raise CommandError(f"{NOTIFY_URLS}: {error}", USAGE) from None
