"""Which limits a subject has, and what exceeds them."""

import math

import pytest

from streams.detectors import Burst, Crossing, crossing
from streams.windows import Limits, Sums
from weir.settings import Burst as BurstSettings
from weir.settings import Detectors, OwnThresholds, Settings


def test_accounts_and_clients_have_their_own_limits() -> None:
    burst = Burst(Settings())
    assert burst.limits("sasl_username:alice@example.org") == Limits(60, 200, 500, 1500)
    assert burst.limits("client_address:192.0.2.1") == Limits(240, 800, 2000, 6000)


def test_a_local_user_may_send_as_much_as_an_account_whatever_is_trusted() -> None:
    settings = Settings(
        trusted=["0.0.0.0/0", "::/0"],
        detectors=Detectors(burst=BurstSettings(own={"uid:33": OwnThresholds(messages_per_hour=9)})),
    )
    burst = Burst(settings)
    assert burst.limits("uid:48") == burst.limits("sasl_username:alice@example.org") == Limits(60, 200, 500, 1500)
    assert burst.limits("uid:33") == Limits(60, 200, 9, 1500)


@pytest.mark.parametrize("subject", ["heartbeat:7", "limit:0a1b:alice", "client_address:unknown"])
def test_what_sends_nothing_is_not_judged(subject: str) -> None:
    assert Burst(Settings()).limits(subject) is None


@pytest.mark.parametrize(
    ("subject", "trusted"),
    [
        ("client_address:127.0.0.9", True),
        ("client_address:10.255.0.1", True),
        ("client_address:11.0.0.1", False),
        ("client_address:fd00:1:2:3::/64", True),
        ("client_address:2001:db8:1:2::/64", True),
        ("client_address:2001:db8:1:3::/64", False),
        ("client_address:::/64", True),
    ],
)
def test_trusted_networks_are_not_judged(subject: str, trusted: bool) -> None:
    """An IPv6 client is its /64: one trusted address in it is enough, since all of it would be blocked."""
    settings = Settings()
    settings.trusted.append("2001:db8:1:2::25/128")
    assert (Burst(settings).limits(subject) is None) == trusted


def test_own_thresholds_replace_those_given_and_zero_switches_off() -> None:
    own = {
        "News@Example.org": OwnThresholds(messages_per_minute=5000, messages_per_hour=0),
        "bob": OwnThresholds(recipients_per_hour=7),
        "192.0.2.1": OwnThresholds(recipients_per_minute=1),
    }
    settings = Settings(default_realm="example.net", detectors=Detectors(burst=BurstSettings(own=own)))
    burst = Burst(settings)
    assert burst.limits("sasl_username:news@example.org") == Limits(5000, 200, math.inf, 1500)
    assert burst.limits("sasl_username:bob@example.net") == Limits(60, 200, 500, 7)
    assert burst.limits("client_address:192.0.2.1") == Limits(240, 1, 2000, 6000)


LIMITS = Limits(1, 2, 3, math.inf)


@pytest.mark.parametrize(
    ("sums", "expected"),
    [
        (Sums(0, 1, 2, 3, 10**9), None),
        (Sums(0, 2, 3, 4, 0), Crossing("messages", 2, 1, 60)),
        (Sums(0, 1, 3, 4, 0), Crossing("recipients", 3, 2, 60)),
        (Sums(0, 1, 2, 4, 0), Crossing("messages", 4, 3, 3600)),
    ],
)
def test_only_more_than_the_limit_exceeds_it(sums: Sums, expected: Crossing | None) -> None:
    assert crossing(sums, LIMITS) == expected
