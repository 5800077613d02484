"""Events of a day in a hosting provider's fleet, made by ClickHouse itself, and their roll-ups.

Two events for each message (RCPT and END-OF-MESSAGE), 50 hosts, 50,000 accounts of which few send much, three client
addresses each; recipients, instances and queue ids are as random as real ones.
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
            attempted_messages, attempted_recipients)
        WITH
            intDiv(number, 2) AS message,
            number % 2 AS ends,
            cityHash64(message) AS random,
            toUInt32({ACCOUNTS} * pow((random % 1000003) / 1000003, 3)) AS account,
            concat('user', toString(account), '@customer', toString(account % 20000), '.example') AS name,
            cityHash64(account, random % 3) AS place,
            IPv4NumToString(toUInt32(place)) AS address,
            toInt64({start} * 1000 + number * {DAY * 1000} / {number}) AS at,
            random % 200 = 0 AS no,
            hex(cityHash64(message, 'instance')) AS id,
            concat(hex(toUInt16(message)), '.', hex(toUInt32(intDiv(at, 1000))), '.', hex(random % 16), '.0') AS tied,
            lower(hex(cityHash64(message, 'to') % 1000000)) AS local,
            concat(local, '@domain', toString(cityHash64(message, 'at') % 5000), '.example') AS addressee
        SELECT
            toDateTime(intDiv(at, 60000) * 60, 'UTC'), fromUnixTimestamp64Milli(at, 'UTC'),
            concat('mx', toString(random % {HOSTS})), toString(random % {HOSTS}), number, 'request',
            ends ? 'END-OF-MESSAGE' : 'RCPT', no ? '521 5.7.1 no [weir burst 0123456789ab]' : 'DUNNO', no,
            no ? '0123456789ab' : '', name, 'PLAIN', name,
            addressee, ends, address, address, concat('host', toString(place % 100000), '.dyn.example.net'),
            1024 + cityHash64(message, 'port') % 60000, concat('[', address, ']'), '192.0.2.25',
            ends ? substring(id, 1, 10) : '', lower(tied),
            ends ? 2000 + random % 200000 : 0, 'TLSv1.3', NOT ends AND NOT no, NOT ends AND NOT no,
            ends AND NOT no ? 2000 + random % 200000 : 0, NOT ends, NOT ends
        FROM numbers({begin}, {count})
    """


_SUMS = "sum(messages), sum(recipients), sum(bytes), sum(attempted_messages), sum(attempted_recipients)"
_ALL_SUMS = f"sum(events), {_SUMS}, sum(refused), sum(blocked)"
_SUMMED = (
    f"""INSERT INTO minutes SELECT minute, sasl_username, client, host, count(), {_SUMS}, sum(refused),
        countIf(refused AND decision != '') FROM events GROUP BY minute, sasl_username, client, host""",
    f"INSERT INTO host_minutes SELECT minute, host, {_ALL_SUMS} FROM minutes GROUP BY minute, host",
    f"""INSERT INTO account_hours SELECT toStartOfHour(minute) AS hour, sasl_username, {_ALL_SUMS},
        uniqExactState(client), uniqExactState(host) FROM minutes GROUP BY hour, sasl_username""",
    f"""INSERT INTO client_hours SELECT toStartOfHour(minute) AS hour, client, {_ALL_SUMS},
        uniqExactState(sasl_username), uniqExactState(host) FROM minutes GROUP BY hour, client""",
    f"""INSERT INTO days SELECT toDate(hour) AS day, sasl_username, {_ALL_SUMS}, uniqExactMerge(clients),
        uniqExactMerge(hosts) FROM account_hours GROUP BY day, sasl_username""",
)
