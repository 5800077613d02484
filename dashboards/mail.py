"""Panels about mail: how much, through which host, by whom.

Invariant: mail is read from sums as coarse as a panel can be: `host_minutes`, `host_outcomes`, and hours for accounts
and clients; never from single events.
"""

from dashboards.commands import history
from dashboards.panels import BAD, MIND, Panel, Step, marked, stat, table, time_series
from dashboards.query import CHOSEN_HOSTS, CHOSEN_HOURS, CHOSEN_TIME, LAST_DAY, LAST_MINUTES, WHOLE_INTERVALS

MOST_HOSTS = 20
"""Hosts with a colour of their own in a time series; the others are one series."""
OTHERS = "other hosts"

HOSTS = f"SELECT DISTINCT host FROM host_minutes FINAL WHERE {CHOSEN_TIME} ORDER BY host"  # noqa: S608 (our own text)
"""The values of the variable `host`."""


def now(title: str, column: str, what: str, *steps: Step) -> Panel:
    return stat(
        title,
        f"{what} per minute on the chosen hosts: mean of the last five whole minutes of the chosen time.",
        f"SELECT sum({column}) / 5 AS per_minute FROM host_minutes FINAL WHERE {LAST_MINUTES} AND {CHOSEN_HOSTS}",  # noqa: S608 (our own text)
        "short",
        *steps,
    )


def behind() -> Panel:
    return stat(
        "History is behind",
        "Age of the newest minute in the history. Up to two minutes are as they should be; more, and all panels "
        "show old figures: look at the sink, its log (`journalctl -u weir-sink`) and its metric `weir_sink_lag`. "
        "Blocks do not depend on the history.",
        f"""
        SELECT if(count() = 0, NULL, dateDiff('second', max(minute), $__toTime)) AS behind
        FROM host_minutes FINAL
        WHERE {LAST_DAY}
        """,  # noqa: S608 (our own text)
        "s",
        (180, MIND),
        (600, BAD),
        none="no mail for a day",
    )


def by_host(title: str, description: str, column: str) -> Panel:
    """A time series of each host, per minute."""
    chosen = f"{WHOLE_INTERVALS} AND {CHOSEN_HOSTS}"
    busiest = f"""
                SELECT host FROM host_minutes FINAL WHERE {chosen}
                GROUP BY host ORDER BY sum({column}) DESC, host LIMIT {MOST_HOSTS}"""  # noqa: S608 (our own text)
    return time_series(
        f"{title} by host",
        f"{description} The {MOST_HOSTS} hosts with most have a colour each.",
        f"""
            SELECT
                $__timeInterval(minute) AS time,
                if(host IN ({busiest}
                ), toString(host), '{OTHERS}') AS name,
                sum({column}) * 60 / $__interval_s AS per_minute
            FROM host_minutes FINAL
            WHERE {chosen}
            GROUP BY time, name
            ORDER BY time, name
        """,  # noqa: S608 (our own text)
        "short",
        "name",
    )


def by_kind(title: str, description: str, outcome: str) -> Panel:
    """A time series of why messages were not delivered, per minute: when the mail log told it."""
    return time_series(
        f"{title} by kind",
        description,
        f"""
            SELECT
                $__timeInterval(minute) AS time,
                if(reason = '', 'other', replaceAll(toString(reason), '_', ' ')) AS name,
                sum(count) * 60 / $__interval_s AS per_minute
            FROM host_outcomes FINAL
            WHERE {WHOLE_INTERVALS} AND {CHOSEN_HOSTS} AND outcome = '{outcome}'
            GROUP BY time, name
            ORDER BY time, name
        """,  # noqa: S608 (our own text)
        "short",
        "name",
    )


def _most(table: str, name: str) -> str:
    """Who asked for most recipients: of them alone clients, accounts and hosts are told apart, which costs most."""
    return f"""
                SELECT {name} FROM {table} FINAL WHERE {CHOSEN_HOURS}
                GROUP BY {name} ORDER BY sum(attempted_recipients) DESC, {name} LIMIT 20"""  # noqa: S608 (our own text)


def top_accounts() -> Panel:
    return table(
        "Top accounts",
        "Who asked for most recipients on all hosts in the hours of the chosen time, whether they were accepted or "
        "refused. Many clients for one account, or an account that nobody knows, is worth a look: paste the command "
        "of the last column.",
        f"""
            SELECT
                sasl_username AS account,
                sum(attempted_recipients) AS tried,
                sum(recipients) AS recipients,
                sum(messages) AS messages,
                sum(refused) AS refused,
                sum(blocked) AS blocked,
                uniqExactMerge(clients) AS from_clients,
                uniqExactMerge(hosts) AS through_hosts,
                {history("account")} AS look
            FROM account_hours FINAL
            WHERE {CHOSEN_HOURS} AND sasl_username IN ({_most("account_hours", "sasl_username")})
            GROUP BY account
            ORDER BY tried DESC, account
            LIMIT 20
        """,  # noqa: S608 (our own text)
        {
            "account": {"displayName": "Account", "custom.width": 220},
            "tried": {"displayName": "Recipients asked for"},
            "recipients": {"displayName": "Recipients"},
            "messages": {"displayName": "Messages"},
            "refused": {"displayName": "Refused", **marked()},
            "blocked": {"displayName": "Blocked", **marked()},
            "from_clients": {"displayName": "Clients"},
            "through_hosts": {"displayName": "Hosts"},
            "look": {"displayName": "To look closer", "custom.width": 260},
        },
        "Nobody sent mail in this time",
    )


def top_clients() -> Panel:
    return table(
        "Top clients",
        "Addresses (an IPv6 client is its /64) that asked for most recipients on all hosts in the hours of the chosen "
        "time. One address with many accounts is a webmail, a shared office, or somebody who tries stolen passwords.",
        f"""
            SELECT
                client AS address,
                sum(attempted_recipients) AS tried,
                sum(recipients) AS recipients,
                uniqExactMerge(accounts) AS for_accounts,
                sum(refused) AS refused
            FROM client_hours FINAL
            WHERE {CHOSEN_HOURS} AND client IN ({_most("client_hours", "client")})
            GROUP BY address
            ORDER BY tried DESC, address
            LIMIT 20
        """,  # noqa: S608 (our own text)
        {
            "address": {"displayName": "Client", "custom.width": 200},
            "tried": {"displayName": "Recipients asked for"},
            "recipients": {"displayName": "Recipients"},
            "for_accounts": {"displayName": "Accounts"},
            "refused": {"displayName": "Refused", **marked()},
        },
        "Nobody sent mail in this time",
    )
