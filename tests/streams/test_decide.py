"""When a block begins, moves, is a shadow or is none at all."""

from dataclasses import dataclass, field

from streams.brake import Brake
from streams.decide import Judge
from streams.partition import Partition, Totals
from tests.streams import made
from tests.streams.made import ACCOUNTS, CLIENTS, NOW
from weir import operators
from weir.decisions import Decision, decision_id
from weir.operators import Operators, Word
from weir.settings import Brake as BrakeSettings
from weir.settings import Settings, Thresholds

LIMITS = Thresholds(messages_per_minute=3, recipients_per_minute=0, messages_per_hour=0, recipients_per_hour=0)
ALICE = ACCOUNTS[0]


@dataclass
class Desk:
    """A partition, and operators who speak at moments of their choice."""

    settings: Settings = field(default_factory=lambda: made.settings(LIMITS))
    active: float = 1000.0
    operators: Operators = field(default_factory=Operators)

    def __post_init__(self) -> None:
        self.brake = Brake(self.settings.brake)
        judge = Judge(self.settings, self.operators, self.brake, lambda: self.active)
        self.partition = Partition(made.PARTITION, judge, Totals())
        self.seq = 0

    def send(self, time: float, messages: int = 1, subject: str = ALICE, now: float = NOW, host: str = "mx1") -> None:
        self.seq += 1
        line = made.tally(self.seq, subject, time, messages, beside="client_address:192.0.2.1")
        self.partition.count(self.partition.next, made.envelope([line], host), now)

    def published(self) -> list[Decision]:
        return self.partition.snapshot().decisions

    def say(self, word: str, subject: str, time: float, until: float = 0.0) -> None:
        spoken = Word(operators.VERSION, "id", word, subject, "nora", "why", until)  # type: ignore[arg-type]
        self.operators.apply(operators.key(spoken), operators.encoder.encode(spoken), time)
        if word == "release":
            self.partition.release(subject, time)


def test_more_than_the_threshold_blocks_with_evidence() -> None:
    desk = Desk()
    desk.send(NOW - 10, 2)
    desk.send(NOW - 4, 1, host="mx2")
    assert desk.published() == []
    desk.send(NOW - 3, 1)
    (decision,) = desk.published()
    assert decision.subject == ALICE
    assert decision.id == decision_id(ALICE, "burst", NOW - 5)
    assert (decision.since, decision.until) == (NOW - 5, NOW - 5 + 3600)
    assert decision.action.startswith("521 5.7.1 ")
    assert decision.action.endswith(f"[weir burst {decision.id}]")
    evidence = decision.evidence
    assert (evidence.counter, evidence.count, evidence.threshold, evidence.seconds) == ("messages", 4, 3, 60)
    assert evidence.time == NOW - 3
    assert evidence.hosts == ["mx1", "mx2"]
    assert evidence.beside == ["client_address:192.0.2.1"]
    assert not decision.shadow


def test_evidence_names_only_who_was_seen_within_the_window() -> None:
    desk = Desk()
    desk.send(NOW - 70, 1, host="old")
    desk.send(NOW - 3, 4)
    (decision,) = desk.published()
    assert decision.evidence.hosts == ["mx1"]


def test_a_block_is_published_once() -> None:
    desk = Desk()
    for _ in range(20):
        desk.send(NOW - 3)
    assert len(desk.published()) == 1
    desk.send(NOW, 50)
    assert desk.published() == []


def test_the_next_block_begins_when_the_first_is_over() -> None:
    desk = Desk()
    desk.send(NOW - 3, 4)
    desk.send(NOW + 3594, 4, now=NOW + 3594)  # bucket of the last five seconds
    assert len(desk.published()) == 1
    desk.send(NOW + 3597, 1, now=NOW + 3597)
    (decision,) = desk.published()
    assert decision.since == NOW + 3595
    assert decision.change == 0


def test_mail_that_comes_late_moves_the_block_back() -> None:
    desk = Desk()
    desk.send(NOW - 3, 4)
    (first,) = desk.published()
    desk.send(NOW - 600, 3)
    assert desk.published() == []
    desk.send(NOW - 600, 1)
    (moved,) = desk.published()
    assert (moved.since, moved.until, moved.change) == (NOW - 600, NOW + 3000, 1)
    assert moved.id != first.id


def test_a_block_that_moves_before_it_is_written_is_told_once() -> None:
    desk = Desk()
    for time in (NOW - 3, NOW - 103, NOW - 203):
        desk.send(time, 4)
    (decision,) = desk.published()
    assert (decision.since, decision.change) == (NOW - 205, 2)


def test_late_mail_does_not_move_a_block_into_the_one_before() -> None:
    desk = Desk(made.settings(LIMITS, block_seconds=600))
    for time in (NOW - 900, NOW - 300):
        desk.send(time, 4, now=time)
        assert [decision.since for decision in desk.published()] == [time]
    desk.send(NOW - 400, 4)
    assert desk.published() == []


def test_a_block_that_would_be_over_is_not_published() -> None:
    desk = Desk()
    desk.send(NOW - 3700, 4)
    assert desk.published() == []
    desk.send(NOW - 3590, 4)  # within that block, which began 3,700 s ago
    assert desk.published() == []
    desk.send(NOW - 90, 4)
    assert [decision.since for decision in desk.published()] == [NOW - 90]


def test_a_release_voids_what_was_before_it() -> None:
    desk = Desk()
    desk.send(NOW - 3, 4)
    assert len(desk.published()) == 1
    desk.say("release", ALICE, NOW - 2.5)
    for late in (NOW - 30, NOW - 4, NOW - 3):
        desk.send(late, 10)
    assert desk.published() == []
    desk.send(NOW + 1, 3, now=NOW + 1)
    assert desk.published() == []
    desk.send(NOW + 1, 1, now=NOW + 1)
    (decision,) = desk.published()
    assert decision.after == NOW - 2.5
    assert (decision.evidence.count, decision.since) == (4, NOW)


def test_a_release_holds_for_a_partition_that_is_read_again() -> None:
    desk = Desk()
    desk.send(NOW - 300, 3)
    records = desk.partition.snapshot().records
    desk.say("release", ALICE, NOW - 100)
    desk.partition = Partition(made.PARTITION, desk.partition._judge, Totals())
    desk.partition.restore(records, NOW)
    desk.send(NOW - 300, 10)
    desk.send(NOW - 110, 10, subject=ACCOUNTS[1])
    desk.send(NOW, 3)
    assert [decision.subject for decision in desk.published()] == [ACCOUNTS[1]]


def test_an_allowed_subject_is_not_judged_until_the_allow_ends() -> None:
    desk = Desk()
    desk.say("allow", ALICE, NOW - 100, until=NOW + 10)
    desk.send(NOW - 3, 100)
    assert desk.published() == []
    desk.send(NOW + 12, 1, now=NOW + 12)
    (decision,) = desk.published()
    assert decision.since == NOW + 10


def test_a_detector_in_shadow_blocks_nobody() -> None:
    desk = Desk(made.settings(LIMITS, shadow=True))
    desk.send(NOW - 3, 4)
    desk.send(NOW - 3, 4)
    (decision,) = desk.published()
    assert decision.shadow
    assert decision.why_shadow == "detector"


def test_a_shadow_of_a_pause_is_carried_out_when_the_pause_is_over() -> None:
    desk = Desk()
    desk.say("pause", operators.EVERYTHING, NOW - 100)
    desk.send(NOW - 3, 4)
    desk.send(NOW - 3, 1)
    (shadow,) = desk.published()
    assert (shadow.shadow, shadow.why_shadow) == (True, "pause")
    desk.operators.apply(b"standing *", None, NOW)
    desk.send(NOW, 1)
    (real,) = desk.published()
    assert (real.shadow, real.why_shadow, real.change) == (False, "", 1)
    assert real.id == shadow.id
    desk.send(NOW, 1)
    assert desk.published() == []


def test_the_brake_makes_shadows_of_further_blocks() -> None:
    settings = made.settings(LIMITS)
    settings.brake = BrakeSettings(blocks=2, share=1)
    desk = Desk(settings)
    for account in ACCOUNTS[:5]:
        desk.send(NOW - 3, 4, subject=account)
    assert [decision.shadow for decision in desk.published()] == [False, False, False, True, True]
    desk.send(NOW + 601, 4, subject=ACCOUNTS[4], now=NOW + 601)
    (late,) = desk.published()
    assert (late.shadow, late.change) == (False, 1)


def test_blocks_of_clients_do_not_pull_the_brake() -> None:
    settings = made.settings(LIMITS)
    settings.brake = BrakeSettings(blocks=2, share=1)
    desk = Desk(settings)
    for client in CLIENTS:
        desk.send(NOW - 3, 4, subject=client)
    assert not any(decision.shadow for decision in desk.published())
