"""When a worker is taken to stand still."""

from streams.health import STARVED_CHECKS, STUCK_CHECKS, Stillness


def test_a_partition_with_more_to_count_that_does_not_move_stands_still() -> None:
    stillness = Stillness()
    for _ in range(STUCK_CHECKS):
        assert stillness.check({1: 10, 2: 20}, {1: 11, 2: 20}) == []
    assert stillness.check({1: 10, 2: 20}, {1: 11, 2: 20}) == [1]


def test_whoever_moves_or_has_nothing_to_count_does_not() -> None:
    stillness = Stillness()
    for offset in range(50):
        assert stillness.check({1: offset, 2: 7}, {1: 1000, 2: 7}) == []


def test_a_partition_that_went_and_came_back_begins_anew() -> None:
    stillness = Stillness()
    for _ in range(STUCK_CHECKS):
        stillness.check({1: 10}, {1: 11})
    stillness.check({}, {})
    assert stillness.check({1: 10}, {1: 11}) == []


def test_a_partition_may_wait_for_longer_while_others_move() -> None:
    stillness = Stillness()
    for offset in range(STARVED_CHECKS):
        assert stillness.check({1: 10, 2: offset}, {1: 11, 2: 1000}) == []
    assert stillness.check({1: 10, 2: STARVED_CHECKS}, {1: 11, 2: 1000}) == [1]
