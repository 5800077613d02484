"""When the brake is on."""

from streams.brake import Brake
from weir.decisions import Decision, Evidence
from weir.settings import Brake as Settings

NOW = 1_800_000_000.0


def block(number: int, shadow: bool = False, subject: str = "") -> Decision:
    subject = subject or f"sasl_username:user{number}@example.org"
    evidence = Evidence("messages", 61, 60, 60, NOW)
    return Decision(1, f"id{number}", subject, "burst", "521", evidence, NOW, NOW + 3600, shadow=shadow)


def test_more_blocks_than_set_within_ten_minutes() -> None:
    brake = Brake(Settings(blocks=3, share=1))
    for number in range(3):
        brake.take(block(number), NOW + number)
    assert not brake.is_on(NOW + 3, active=1)
    brake.take(block(3), NOW + 3)
    assert brake.is_on(NOW + 3, active=1)
    assert brake.is_on(NOW + 600, active=1)
    assert not brake.is_on(NOW + 601, active=1)


def test_the_share_counts_from_ten_blocks_on() -> None:
    brake = Brake(Settings(blocks=50, share=0.05))
    for number in range(9):
        brake.take(block(number), NOW)
    assert not brake.is_on(NOW, active=10)
    brake.take(block(9), NOW)
    assert brake.is_on(NOW, active=199)
    assert not brake.is_on(NOW, active=200)
    assert not Brake(Settings(share=1)).is_on(NOW, active=0)


def test_shadows_clients_local_users_and_repeats_do_not_count() -> None:
    brake = Brake(Settings(blocks=1, share=1))
    brake.take(block(1), NOW)
    brake.take(block(1), NOW - 5)
    brake.take(block(1), NOW + 5)
    brake.take(block(2, shadow=True), NOW)
    brake.take(block(3, subject="client_address:192.0.2.1"), NOW)
    brake.take(block(3, subject="uid:33"), NOW)
    assert not brake.is_on(NOW, active=1)
    brake.take(block(4), NOW)
    assert brake.is_on(NOW, active=1)
    # The first account's block was seen again at NOW + 5, so it counts that much longer.
    assert not brake.is_on(NOW + 601, active=1)
    brake.take(block(5), NOW + 602)
    assert brake.is_on(NOW + 602, active=1)


def test_blocks_read_in_any_order_are_forgotten_at_their_own_time() -> None:
    brake = Brake(Settings(blocks=1, share=1))
    for number, time in enumerate((NOW, NOW - 590, NOW - 595)):
        brake.take(block(number), time)
    assert brake.is_on(NOW, active=1)
    assert not brake.is_on(NOW + 11, active=1)
