"""Failed logins: a try that several programs tell of is counted once."""

from collections.abc import Iterable

import pytest

from agents.maillog.tries import TOLD, WAIT, Tries
from weir.maillog.messages import LoginFailed

ALICE, BOB = "alice@weir.test", "bob@weir.test"
CLIENT, OTHER = "192.0.2.1", "192.0.2.2"

Said = tuple[float, LoginFailed]


def auth(
    user: str = ALICE, client: str = CLIENT, service: str = "auth", method: str = "sql", reason: str = "credentials"
) -> LoginFailed:
    return LoginFailed(service, user, client, method, reason)


def smtpd(user: str = ALICE, client: str = CLIENT, reason: str = "credentials") -> LoginFailed:
    return LoginFailed("smtpd", user, client, "PLAIN", reason)


def imap(tries: int, user: str = ALICE) -> LoginFailed:
    return LoginFailed("imap-login", user, CLIENT, "PLAIN", "credentials", tries)


def counted(said: Iterable[Said], tries: Tries | None = None) -> list[tuple[str, str, str, int]]:
    """Service, user, client and number of tries of what is told in the end."""
    tries = tries or Tries()
    found: list[LoginFailed] = []
    for time, failed in said:
        found += [one.failed for one in tries.flush(time)]
        found += tries.take(time, failed)
    found += [one.failed for one in tries.flush(1e9)]
    return [(one.service, one.user, one.client_address, one.tries) for one in found]


def test_smtpd_names_it() -> None:
    assert counted([(0, auth()), (2, smtpd())]) == [("smtpd", ALICE, CLIENT, 1)]


def test_smtpd_does_not_name_it() -> None:
    assert counted([(0, auth()), (2, smtpd(user=""))]) == [("smtpd", ALICE, CLIENT, 1)]
    assert counted([(2, smtpd(user=""))]) == [("smtpd", "", CLIENT, 1)]


def test_several_at_once() -> None:
    said = [(0.0, auth()), (0.5, auth(BOB)), (1.0, auth(BOB, OTHER)), (2.0, smtpd(BOB)), (2.0, smtpd("", OTHER))]
    told = counted([*said, (3.0, smtpd())])
    assert told == [("smtpd", BOB, CLIENT, 1), ("smtpd", BOB, OTHER, 1), ("smtpd", ALICE, CLIENT, 1)]


def test_the_checkers_line_is_read_after_smtpds() -> None:
    """It is in another file."""
    said = [(2.0, smtpd("")), (3.0, smtpd("")), (4.0, smtpd(BOB)), (100.0, smtpd())]
    late = [(0.0, auth()), (0.0, auth(method="ldap")), (1.0, auth()), (2.0, auth(BOB)), (100.0, auth())]
    assert counted([*said, *late]) == [(one.service, one.user, CLIENT, 1) for _, one in said]
    assert counted([*said, *late, (101.0, auth())])[4:] == [("auth", ALICE, CLIENT, 1)]


def test_several_data_bases_that_do_not_grant_it() -> None:
    said = [(0.0, auth(method="ldap", reason="unknown user")), (0.0, auth()), (1.0, auth(method="ldap")), (1.0, auth())]
    tries = Tries()
    assert counted(said, tries) == [("auth", ALICE, CLIENT, 1)] * 2
    assert counted([*said, (2.0, smtpd("")), (3.0, smtpd(""))]) == [("smtpd", ALICE, CLIENT, 1)] * 2
    tries = Tries()
    assert [*tries.take(*said[0]), *tries.take(*said[1])] == []
    assert [one.failed.reason for one in tries.flush(WAIT)] == ["credentials"]


def test_a_data_base_that_does_not_grant_it_and_one_that_does() -> None:
    tries = Tries()
    for time, client in ((0.0, CLIENT), (1.0, OTHER), (5.0, CLIENT)):
        assert [*tries.take(time, auth(client=client))] == []
    tries.succeeded(5.5, "Alice", CLIENT)
    assert [(one.time, one.failed.client_address) for one in tries.flush(1e9)] == [(0.0, CLIENT), (1.0, OTHER)]


def test_nobody_else_tells_of_it() -> None:
    assert counted([(0, auth()), (WAIT + 1, smtpd(BOB, OTHER))]) == [
        ("auth", ALICE, CLIENT, 1),
        ("smtpd", BOB, OTHER, 1),
    ]


def test_a_login_process_tells_of_all_tries_at_the_end() -> None:
    said = [(0.0, auth()), (10.0, auth()), (20.0, auth())]
    assert counted([*said, (25.0, imap(3))]) == [("imap-login", ALICE, CLIENT, 3)]
    assert counted([*said, (45.0, imap(3))]) == [
        *2 * [("auth", ALICE, CLIENT, 1)],
        ("imap-login", ALICE, CLIENT, 1),
    ]
    assert counted([*said, (TOLD - 1, imap(3))]) == 3 * [("auth", ALICE, CLIENT, 1)]
    assert counted([(25.0, imap(3))]) == [("imap-login", ALICE, CLIENT, 3)]


def test_saslauthd_knows_no_client() -> None:
    said = auth("Alice", "", "saslauthd")
    assert counted([(0, said), (2, smtpd())]) == [("smtpd", ALICE, CLIENT, 1)]
    assert counted([(0, said), (2, smtpd(""))]) == [("smtpd", "", CLIENT, 1), ("saslauthd", "Alice", "", 1)]


@pytest.mark.parametrize("reason", ["protocol", "unavailable"])
def test_nothing_was_checked(reason: str) -> None:
    assert counted([(0, smtpd(reason=reason))]) == []


def test_over_a_restart() -> None:
    first, again = Tries(), Tries()
    for time, failed in ((0.0, auth()), (40.0, auth(BOB)), (40.0, auth("", OTHER))):
        first.flush(time)
        assert list(first.take(time, failed)) == []
    again.restore(first.records())
    assert counted([(41.0, smtpd(BOB)), (50.0, imap(2))], again) == [
        ("smtpd", BOB, CLIENT, 1),
        ("imap-login", ALICE, CLIENT, 1),
        ("auth", "", OTHER, 1),
    ]
