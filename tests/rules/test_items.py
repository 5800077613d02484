"""The vocabulary of conditions."""

import pytest

from weir.rules import items
from weir.rules.items import Kind


@pytest.mark.parametrize(
    ("item", "kind"),
    [
        ("sender", Kind.TEXT),
        ("anything_else", Kind.TEXT),
        ("size", Kind.NUMBER),
        ("client_address", Kind.ADDRESS),
        ("sender_mx_addrs", Kind.DNS_ADDRESS),
        ("sender_mx_names", Kind.DNS_NAME),
        ("rhsbl_helo", Kind.DNS_LIST),
        ("days", Kind.DAYS),
    ],
)
def test_what_items_are(item: str, kind: Kind) -> None:
    assert items.kind(item) is kind


def test_items_with_lists_are_those_of_the_language() -> None:
    looked_up = {"helo_address", "sender_ns_addrs", "sender_mx_addrs"}
    listed = {"rbl", "rhsbl", "rhsbl_client", "rhsbl_sender", "rhsbl_reverse_client", "rhsbl_helo"}
    assert {"client_address", "date", "time", "days", "months"} | looked_up | listed == items.LISTS


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("client_adress", "client_address"),
        ("Sender", "sender"),
        ("sasl_user_name", "sasl_username"),
        ("recipientcount", "recipient_count"),
        ("AUTH", None),
        ("X", None),
        ("my_new_attr", None),
        ("HIT_rbls", None),
    ],
)
def test_misspelt_items_are_recognised(name: str, known: str | None) -> None:
    assert items.nearest(name) == known
