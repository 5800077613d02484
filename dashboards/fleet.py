"""The Fleet dashboard: is mail flowing, who sends it, what does Weir refuse, whom did it block and why."""

from typing import Any, NamedTuple

from dashboards import decisions, mail
from dashboards.panels import MIND, Panel, laid_out
from dashboards.query import SOURCE

UID = "weir-fleet"
TITLE = "Weir: fleet"
FOLDER_UID = "weir"
FOLDER = "Weir"


MESSAGES = "Messages that Postfix accepted from users, per minute. None at all: see whether the history is behind."
RECIPIENTS = "Recipients of accepted messages, per minute. One message to many recipients shows here only."
REFUSED = "Requests (usually one per recipient) that Weir answered with a refusal, per minute. Clients of a blocked \
account try again: a high number means that a block works, not that something is broken."
BLOCKED = "Those of the refused requests that fell under a block, a detector's or an operator's, per minute. \
Differs from Refused only if something else refuses."

BOUNCED = "Recipients that remote servers, or Postfix itself, refused for good, per minute, by the kind of reason. \
Listed and spam: somebody sends what he should not, find him below. Unknown recipient: a bought or old address list."
DEFERRED = (
    "Deliveries that were put off, per minute, each try. Rate: large receivers slow us down, often the first sign \
of spam. All kinds at once: see the network and DNS of the hosts."
)


class Query(NamedTuple):
    title: str
    """The panel's."""
    sql: str
    """With macros: `dashboards.query.expand` replaces them."""


def queries() -> list[Query]:
    """All that the dashboard asks ClickHouse, in the order of its panels; the last is the variable `host`."""
    asked = [Query(panel["title"], panel["targets"][0]["rawSql"]) for panel in _panels()]
    return [*asked, Query("host", mail.HOSTS)]


def dashboard() -> dict[str, Any]:
    """The dashboard in the form of Grafana's JSON."""
    return {
        "uid": UID,
        "title": TITLE,
        "description": "Mail of all hosts, what Weir refuses, and whom it blocks. Made by `weir dashboards push`.",
        "tags": ["weir"],
        "schemaVersion": 41,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "browser",
        "time": {"from": "now-3h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [_host_variable()]},
        "panels": _panels(),
    }


def _host_variable() -> dict[str, Any]:
    return {
        "name": "host",
        "label": "Mail host",
        "type": "query",
        "datasource": SOURCE,
        "query": mail.HOSTS,
        "refresh": 2,  # whenever the chosen time changes
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
    }


def _panels() -> list[Panel]:
    return laid_out(
        (
            4,
            (4, mail.now("Messages per minute", "messages", "Accepted messages")),
            (4, mail.now("Recipients per minute", "recipients", "Recipients of accepted messages")),
            (4, mail.now("Refused per minute", "refused", "Requests that Weir refused", (1, MIND))),
            (4, decisions.in_force()),
            (4, decisions.shadow_count()),
            (4, mail.behind()),
        ),
        (
            9,
            (12, mail.by_host("Messages", MESSAGES, "messages")),
            (12, mail.by_host("Recipients", RECIPIENTS, "recipients")),
        ),
        (
            9,
            (8, mail.by_host("Refused", REFUSED, "refused")),
            (8, mail.by_host("Blocked", BLOCKED, "blocked")),
            (8, decisions.over_time()),
        ),
        (
            9,
            (12, mail.by_kind("Bounces", BOUNCED, "bounced")),
            (12, mail.by_kind("Deferred", DEFERRED, "deferred")),
        ),
        (11, (14, mail.top_accounts()), (10, mail.top_clients())),
        (9, (24, decisions.blocks())),
        (9, (12, decisions.shadows()), (12, decisions.operators())),
    )
