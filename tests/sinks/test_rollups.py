"""Sums of minutes and days, made from the events themselves."""

from collections import Counter

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sinks import rollups, rows
from sinks.embedded import Embedded
from sinks.rows import Events
from sinks.store import Store
from tests.sinks.conftest import KEEP_DAYS
from tests.sinks.made import NOON, Way, event, events, insert, login, rejected, rows_of

DAY = 86400
LATER = 20 * 3600


def store_and_sum(store: Store, *batches: list[Events]) -> None:
    for batch in batches:
        insert(store, "events", rows.EVENT, rows_of(*batch))
        touched = rollups.nothing()
        assert rollups.touch(touched, batch, KEEP_DAYS, NOON) == 0
        rollups.make(store, touched)


def minutes(store: Embedded) -> list[list[object]]:
    return list(
        map(
            list,
            store.query(
                "SELECT toUInt32(minute), sasl_username, client, host, events, messages, recipients, refused, blocked "
                "FROM minutes FINAL ORDER BY minute, sasl_username, client, host"
            ),
        )
    )


def test_a_minute_is_made_anew_from_all_its_events(store: Embedded) -> None:
    refused = event(3, action="521 5.7.1 no", decision="0123456789ab", messages=0, recipients=0)
    rejected = event(4, action="REJECT", messages=0, recipients=0)
    store_and_sum(store, [events([event(1), event(2)])], [events([event(2), refused, rejected])])
    assert minutes(store) == [[int(NOON), "alice@example.org", "192.0.2.10", "mx1", 4, 2, 4, 2, 1]]


def test_heartbeats_and_unknown_kinds_are_in_no_sum(store: Embedded) -> None:
    store_and_sum(store, [events([event(1), b'{"kind":"greeting","seq":2,"time":1790000041}'])])
    assert [row[4] for row in minutes(store)] == [1]


def outcomes(store: Store, table: str = "account_outcomes", name: str = "sasl_username") -> list[list[object]]:
    sql = f"SELECT toUInt32(hour), {name}, outcome, reason, count FROM {table} FINAL ORDER BY 1, 2, 3, 4"
    return list(map(list, store.query(sql)))


HOUR = int(NOON) // 3600 * 3600


def test_outcomes_are_counted_for_account_client_and_host(store: Embedded) -> None:
    told = Way(1).submitted().delivery("sent").delivery("bounced", bounce="listed").delivery("deferred", bounce="rate")
    own = [rejected(5, sasl_username="alice@example.org"), rejected(6, decision="0123456789ab")]
    tried = [login(7), login(8, tries=3, failed="credentials"), login(9, failed="credentials", tries=2)]
    store_and_sum(store, [events([*told.events, *own, *tried])])
    results = [
        *(["bounced", "listed", 1], ["deferred", "rate", 1], ["login", "", 1], ["login_failed", "credentials", 5]),
        *(["rejected", "", 1], ["sent", "", 1], ["submitted", "", 1]),
    ]
    assert outcomes(store) == [[HOUR, "alice@example.org", *one] for one in results]
    with_ours = [*results[:5], ["rejected", "weir", 1], *results[5:]]
    assert outcomes(store, "client_outcomes", "client") == [[HOUR, "192.0.2.10", *one] for one in with_ours]
    sql = "SELECT toUInt32(minute), host, outcome, reason, count FROM host_outcomes FINAL ORDER BY 3, 4"
    assert list(map(list, store.query(sql))) == [[int(NOON), "mx1", *one] for one in with_ours]


def test_a_late_bounce_counts_at_its_messages_submission(store: Embedded) -> None:
    first = Way(1).delivery("deferred").events
    later = Way(2).delivery("bounced", NOON + LATER).events
    other = Way(3, submitted=NOON + LATER).delivery("sent", NOON + LATER).events
    store_and_sum(store, [events(first)], [events(later), events(other)], [events(later)])
    alice = "alice@example.org"
    assert outcomes(store) == [
        [HOUR, alice, "bounced", "other", 1],
        [HOUR, alice, "deferred", "", 1],
        [HOUR + LATER, alice, "sent", "", 1],
    ]


def test_outcomes_that_are_nobodys_are_the_hosts(store: Embedded) -> None:
    nobody = Way(1, sasl_username="", client_address="", uid=33).submitted(unasked=True).events
    store_and_sum(store, [events(nobody)])
    assert outcomes(store) == outcomes(store, "client_outcomes", "client") == []
    found = store.query("SELECT uid, outcome, reason, count FROM outcomes FINAL")
    assert list(map(list, found)) == [[33, "submitted", "unasked", 1]]
    assert [list(row) for row in store.query("SELECT outcome, count FROM host_outcomes FINAL")] == [["submitted", 1]]


def test_a_row_made_by_who_saw_less_does_not_win(store: Embedded) -> None:
    store_and_sum(store, [events([event(1), event(2)])])
    store.run("INSERT INTO minutes SELECT * REPLACE (1 AS events, 1 AS messages) FROM minutes")
    assert [row[4:6] for row in minutes(store)] == [[2, 2]]


def test_a_day_counts_clients_and_hosts(store: Embedded) -> None:
    second = event(1, client_address="2001:db8::1", time=NOON + 3600)
    store_and_sum(store, [events([event(1)])], [events([second], host="mx2")], [events([event(2, sasl_username="")])])
    found = store.query("SELECT toString(day), sasl_username, events, messages, clients, hosts FROM days FINAL")
    assert list(map(list, found)) == [["2026-09-21", "alice@example.org", 2, 2, 2, 2]]


def test_what_is_too_old_touches_nothing() -> None:
    touched = rollups.nothing()
    batch = [events([event(1, time=NOON - 28 * DAY - 61), event(2, time=NOON - 28 * DAY + 61)])]
    assert rollups.touch(touched, batch, 30, NOON) == 1
    hour = (int(NOON) - 28 * DAY) // 3600 * 3600
    assert touched == rollups.nothing()._replace(
        minutes={(int(NOON) - 28 * DAY + 60, "mx1")},
        account_hours={(hour, "alice@example.org")},
        client_hours={(hour, "192.0.2.10")},
    )


def test_many_hosts_and_accounts_are_made_in_parts(store: Embedded) -> None:
    batch = [events([event(1, sasl_username=f"user{number}@x'\\y.test")], host=f"h'{number}") for number in range(1203)]
    store_and_sum(store, batch)
    assert len(minutes(store)) == 1203
    ((days,),) = store.query("SELECT count() FROM days FINAL")
    assert days == 1203


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(1, 30), st.sampled_from(["mx1", "mx2"]), st.sampled_from("abc"), st.integers(0, 200)),
            min_size=1,
            max_size=20,
        ),
        min_size=1,
        max_size=4,
    )
)
def test_any_batches_give_the_sums_of_all_events(
    store: Embedded, batches: list[list[tuple[int, str, str, int]]]
) -> None:
    for table in ("events", "minutes", "days"):
        store.run(f"TRUNCATE TABLE {table}")
    first: dict[tuple[str, int], tuple[str, int]] = {}
    made: list[list[Events]] = []
    for batch in batches:
        made.append([])
        for seq, host, account, offset in batch:
            account, offset = first.setdefault((host, seq), (account, offset))  # noqa: PLW2901 (an event never changes)
            made[-1].append(events([event(seq, sasl_username=account, time=NOON + offset)], host=host))
    store_and_sum(store, *made)
    expected = Counter((int(NOON) + offset // 60 * 60, account, host) for (host, _), (account, offset) in first.items())
    assert {(row[0], row[1], row[3]): row[4] for row in minutes(store)} == dict(expected)
