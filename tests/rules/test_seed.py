"""The rules that a hosting provider is told to write against stolen logins: limits for named users, classes of clients.

Source: "How to detect and prevent postfix from dishing out spam email from compromised mail account", Server Fault; the
answer that recommends postfwd.
"""

from pathlib import Path

import pytest

from tests.rules.driving import Host

NAMED_USERS = r"""
# Do not allow more than 20MB or 1000 recipients per day for users alice and bob
id=RULE003
    protocol_state==END-OF-MESSAGE
    sasl_username=~/^(alice|bob)$/
    action=size(sasl_username/20971520/86400/REJECT only 20mb per day for $$recipient)
id=RULE004
    protocol_state==END-OF-MESSAGE
    sasl_username=~/^(alice|bob)$/
    action=rcpt(sasl_username/1000/86400/REJECT only 1000 recipients per day for $$sasl_username)
"""

CLASSES = """
# Class 1: high volume clients
# - per mail: max 30MB, max 200 concurrent recipients
id=CLASS100; client_address=table:@DIR@/class1.cf; action=jump(CLASS101)

# Class 2: medium limited access
# - per mail: max 10MB, max 50 concurrent recipients
# - rate limit: 1000 recipients or 100MB per day
id=CLASS200; client_address=table:@DIR@/class2.cf; action=jump(CLASS201)

# Class 3: very tight limits
# - per mail: max 4MB, max 10 concurrent recipients
# - rate limit: 100 recipients or 20MB per day
id=CLASS300; client_address=table:@DIR@/class3.cf; action=jump(CLASS301)

# Does not fit anywhere? REJECT
id=DEFAULT; action=REJECT please contact postmaster@example.org

id=CLASS101; size>31457280;       action=REJECT at most 30 MB a mail
id=CLASS102; recipient_count>200; action=REJECT at most 200 recipients a mail
id=CLASS103; action=DUNNO

id=CLASS201; size>10485760;       action=REJECT at most 10 MB a mail
id=CLASS202; recipient_count>50;  action=REJECT at most 50 recipients a mail
id=CLASS203; protocol_state==END-OF-MESSAGE
    action=rcpt(client_address/1000/86400/REJECT only 1000 recipients a day)
    action=size(client_address/104857600/86400/REJECT only 100 MB a day)
id=CLASS204; action=DUNNO

id=CLASS301; size>4194304;        action=REJECT at most 4 MB a mail
id=CLASS302; recipient_count>10;  action=REJECT at most 10 recipients a mail
id=CLASS303; protocol_state==END-OF-MESSAGE
    action=rcpt(client_address/100/86400/REJECT only 100 recipients a day)
    action=size(client_address/20971520/86400/REJECT only 20 MB a day)
id=CLASS304; action=DUNNO
"""
TABLES = {
    "class1.cf": "192.0.2.0/26 high-volume\n2001:db8:1::/48 high-volume\n",
    "class2.cf": "192.0.2.64/26 medium\n",
    "class3.cf": "192.0.2.128/25 tight\n",
}
MB = 1024 * 1024
DAY = 86400


@pytest.fixture
def named(tmp_path: Path) -> Host:
    return Host(tmp_path, NAMED_USERS)


@pytest.fixture
def classes(tmp_path: Path) -> Host:
    for name, text in TABLES.items():
        (tmp_path / name).write_text(text)
    return Host(tmp_path, CLASSES.replace("@DIR@", str(tmp_path)))


def send(host: Host, recipients: int = 1, size: int = 1000, **attributes: str) -> str:
    """The reply at the end of a message."""
    return host.ask(
        protocol_state="END-OF-MESSAGE", recipient_count=str(recipients), size=str(size), queue_id="4Vx1", **attributes
    )


def test_named_users_have_a_thousand_recipients_a_day(named: Host) -> None:
    assert [send(named, 100, sasl_username="alice") for _ in range(10)] == ["DUNNO"] * 10
    assert send(named, sasl_username="alice") == "REJECT only 1000 recipients per day for alice"
    assert send(named, 1000, sasl_username="bob") == "DUNNO"
    assert send(named, sasl_username="Bob") == "REJECT only 1000 recipients per day for Bob"
    assert [send(named, 500, sasl_username="carol") for _ in range(5)] == ["DUNNO"] * 5
    named.now += DAY + 1
    assert send(named, sasl_username="alice") == "DUNNO"


def test_named_users_have_20_megabytes_a_day(named: Host) -> None:
    assert send(named, size=15 * MB, sasl_username="alice") == "DUNNO"
    assert send(named, size=5 * MB, sasl_username="alice") == "DUNNO"
    refused = "REJECT only 20mb per day for bob@example.com"
    assert send(named, sasl_username="alice") == refused
    assert send(named, size=20 * MB + 1, sasl_username="bob") == refused
    assert send(named, size=100 * MB, sasl_username="carol") == "DUNNO"


def test_a_recipient_alone_counts_for_nobody(named: Host) -> None:
    assert [named.ask(sasl_username="alice", size=str(30 * MB)) for _ in range(5)] == ["DUNNO"] * 5
    assert send(named, sasl_username="alice") == "DUNNO"


@pytest.mark.parametrize(
    ("address", "size", "recipients", "reply"),
    [
        ("192.0.2.1", 30 * MB, 200, "DUNNO"),
        ("2001:db8:1::25", 30 * MB, 200, "DUNNO"),
        ("192.0.2.1", 30 * MB + 1, 1, "REJECT at most 30 MB a mail"),
        ("192.0.2.1", 1, 201, "REJECT at most 200 recipients a mail"),
        ("192.0.2.64", 10 * MB, 50, "DUNNO"),
        ("192.0.2.64", 10 * MB + 1, 1, "REJECT at most 10 MB a mail"),
        ("192.0.2.64", 1, 51, "REJECT at most 50 recipients a mail"),
        ("192.0.2.200", 4 * MB, 10, "DUNNO"),
        ("192.0.2.200", 4 * MB + 1, 1, "REJECT at most 4 MB a mail"),
        ("192.0.2.200", 1, 11, "REJECT at most 10 recipients a mail"),
        ("198.51.100.1", 1, 1, "REJECT please contact postmaster@example.org"),
        ("2001:db8:2::25", 1, 1, "REJECT please contact postmaster@example.org"),
    ],
)
def test_each_class_has_its_own_mails(classes: Host, address: str, size: int, recipients: int, reply: str) -> None:
    assert send(classes, recipients, size, client_address=address) == reply


@pytest.mark.parametrize(
    ("address", "recipients", "times", "reply"),
    [
        ("192.0.2.64", 50, 20, "REJECT only 1000 recipients a day"),
        ("192.0.2.200", 10, 10, "REJECT only 100 recipients a day"),
    ],
)
def test_a_class_has_so_many_recipients_a_day(
    classes: Host, address: str, recipients: int, times: int, reply: str
) -> None:
    assert [send(classes, recipients, client_address=address) for _ in range(times)] == ["DUNNO"] * times
    assert send(classes, client_address=address) == reply
    assert send(classes, client_address=address.replace(".64", ".65").replace(".200", ".201")) == "DUNNO"


@pytest.mark.parametrize(
    ("address", "size", "times", "reply"),
    [
        ("192.0.2.64", 10 * MB, 10, "REJECT only 100 MB a day"),
        ("192.0.2.200", 4 * MB, 5, "REJECT only 20 MB a day"),
    ],
)
def test_a_class_has_so_many_bytes_a_day(classes: Host, address: str, size: int, times: int, reply: str) -> None:
    assert [send(classes, size=size, client_address=address) for _ in range(times)] == ["DUNNO"] * times
    assert send(classes, client_address=address) == reply
    classes.now += DAY + 1
    assert send(classes, client_address=address) == "DUNNO"


def test_the_high_volume_class_has_no_daily_limit(classes: Host) -> None:
    assert {send(classes, 200, 30 * MB, client_address="192.0.2.1") for _ in range(50)} == {"DUNNO"}
