"""Events of a day in a hosting provider's fleet, made by ClickHouse itself, and their roll-ups.

Five events for each message (RCPT and END-OF-MESSAGE, and of the mail log submitted, delivery and removed), 50 hosts,
50,000 accounts of which few send much, three client addresses each; recipients, instances, queue ids and message ids
are as random as real ones.
"""

from sinks.store import Store

ACCOUNTS = 50_000
HOSTS = 50
DAY = 86_400

BUSIEST = "user0@customer0.example"
"""The account that sends most."""


def fill(store: Store, number: int, end: int) -> None:
    """So many events in the 24 hours before `end` (Unix seconds), and the sums of their minutes and days."""
    for begin in range(0, number, 2_000_000):
        store.run(f"INSERT INTO events {_events(begin, min(2_000_000, number - begin), number, end - DAY)}")
    for statement in _SUMMED:
        store.run(statement)


def _events(begin: int, count: int, number: int, start: int) -> str:
    return f"""
        (minute, time, host, epoch, seq, kind, protocol_state, action, refused, decision, sasl_username, sasl_method,
            sender, recipient, recipient_count, client, client_address, client_name, client_port, helo_name,
            server_address, queue_id, instance, size, encryption_protocol, messages, recipients, bytes,
            attempted_messages, attempted_recipients, submitted, message_id, status, relay, dsn, bounce, text, how)
        WITH
            intDiv(number, 5) AS message,
            number % 5 = 0 AS begins,
            number % 5 = 1 AS ends,
            number % 5 >= 2 AS told,
            ['request', 'request', 'submitted', 'delivery', 'removed'][number % 5 + 1] AS name_of_kind,
            number % 5 = 3 AS delivers,
            cityHash64(message) AS random,
            toUInt32({ACCOUNTS} * pow((random % 1000003) / 1000003, 3)) AS account,
            concat('user', toString(account), '@customer', toString(account % 20000), '.example') AS name,
            cityHash64(account, random % 3) AS place,
            IPv4NumToString(toUInt32(place)) AS address,
            toInt64({start} * 1000 + number * {DAY * 1000} / {number}) AS at,
            random % 200 = 0 AND NOT told AS no,
            hex(cityHash64(message, 'instance')) AS id,
            concat(hex(toUInt16(message)), '.', hex(toUInt32(intDiv(at, 1000))), '.', hex(random % 16), '.0') AS tied,
            delivers AND cityHash64(message, 'result') % 12 = 0 AS bounces,
            lower(hex(cityHash64(message, 'to') % 1000000)) AS local,
            concat(local, '@domain', toString(cityHash64(message, 'at') % 5000), '.example') AS addressee
        SELECT
            toDateTime(intDiv(at, 60000) * 60, 'UTC'), fromUnixTimestamp64Milli(at, 'UTC'),
            concat('mx', toString(random % {HOSTS})), toString(random % {HOSTS}), number, name_of_kind,
            multiIf(told, '', ends, 'END-OF-MESSAGE', 'RCPT'),
            no ? '521 5.7.1 no [weir burst 0123456789ab]' : 'DUNNO', no,
            no ? '0123456789ab' : '', name, told ? '' : 'PLAIN', name,
            begins OR delivers ? addressee : '', ends, address, address,
            told ? '' : concat('host', toString(place % 100000), '.dyn.example.net'),
            told ? 0 : 1024 + cityHash64(message, 'port') % 60000, told ? '' : concat('[', address, ']'),
            told ? '' : '192.0.2.25', begins ? '' : substring(id, 1, 10), told ? '' : lower(tied),
            ends ? 2000 + random % 200000 : 0, told ? '' : 'TLSv1.3', begins AND NOT no, begins AND NOT no,
            ends AND NOT no ? 2000 + random % 200000 : 0, begins, begins,
            told ? toDateTime(intDiv(at, 1000), 'UTC') : toDateTime(0, 'UTC'), told ? {_MESSAGE_ID} : '',
            multiIf(bounces, 'bounced', delivers, 'sent', ''),
            delivers ? concat('mx.domain', toString(cityHash64(message, 'at') % 5000), '.example[192.0.2.9]:25') : '',
            delivers ? '2.0.0' : '', bounces ? 'unknown_recipient' : '',
            bounces ? concat('550 5.1.1 <', addressee, '> unknown') : '', number % 5 = 4 ? 'removed' : ''
        FROM numbers({begin}, {count})
    """


_MESSAGE_ID = "concat('<', lower(hex(cityHash64(message, 'message'))), '@mail.example>')"
_SUMS = "sum(messages), sum(recipients), sum(bytes), sum(attempted_messages), sum(attempted_recipients)"
_ALL_SUMS = f"sum(events), {_SUMS}, sum(refused), sum(blocked)"
_SUMMED = (
    f"""INSERT INTO minutes SELECT minute, sasl_username, client, host, count(), {_SUMS}, sum(refused),
        countIf(refused AND decision != '') FROM events WHERE kind = 'request'
        GROUP BY minute, sasl_username, client, host""",
    f"INSERT INTO host_minutes SELECT minute, host, {_ALL_SUMS} FROM minutes GROUP BY minute, host",
    f"""INSERT INTO account_hours SELECT toStartOfHour(minute) AS hour, sasl_username, {_ALL_SUMS},
        uniqExactState(client), uniqExactState(host) FROM minutes GROUP BY hour, sasl_username""",
    f"""INSERT INTO client_hours SELECT toStartOfHour(minute) AS hour, client, {_ALL_SUMS},
        uniqExactState(sasl_username), uniqExactState(host) FROM minutes GROUP BY hour, client""",
    f"""INSERT INTO days SELECT toDate(hour) AS day, sasl_username, {_ALL_SUMS}, uniqExactMerge(clients),
        uniqExactMerge(hosts) FROM account_hours GROUP BY day, sasl_username""",
    """INSERT INTO outcomes SELECT toStartOfHour(submitted) AS hour, sasl_username, client, uid,
        if(kind = 'delivery', status, kind) AS outcome, bounce, minute, host, count() FROM events
        WHERE kind IN ('submitted', 'delivery')
        GROUP BY hour, sasl_username, client, uid, outcome, bounce, minute, host""",
    """INSERT INTO host_outcomes SELECT minute, host, outcome, reason, sum(count) FROM outcomes
        GROUP BY minute, host, outcome, reason""",
    *(
        f"""INSERT INTO {table} SELECT hour, {name}, outcome, reason, sum(count) FROM outcomes
            GROUP BY hour, {name}, outcome, reason"""
        for table, name in (("account_outcomes", "sasl_username"), ("client_outcomes", "client"))
    ),
)
