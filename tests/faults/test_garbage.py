"""Garbage in every topic: the last good of a key stays, poison is put aside, nothing exits, no window is zeroed."""

import json
import random
import time
from collections.abc import Iterator
from contextlib import suppress

import msgspec
import pytest
from confluent_kafka import Producer

from fleet.kafka import Kafka
from fleet.load import Sender
from fleet.process import wait_until
from fleet.reading import read_topic
from fleet.truth import newest
from streams import changelog
from tests.faults.system import BLOCKS, BURST, System, kill
from weir import decisions, envelopes, operators, subjects, topics
from weir.dead_letters import DeadLetter

pytestmark = [pytest.mark.fleet, pytest.mark.soak, pytest.mark.timeout(180)]

HEAD = envelopes.head("t0-garbage", "0123456789abcdef")
POISON = {
    "a broken version": b'{"version":99,"host":"t0-garbage","epoch":"0"}\n{"seq":1,"subject":"x:y","time":1.0}',
    "half a line": HEAD + b'{"seq":1,"subject":"sasl_user',
    "a negative count": HEAD + b'{"seq":2,"subject":"sasl_username:a@b","time":1.0,"messages":-5}',
    "a huge count": HEAD + b'{"seq":3,"subject":"sasl_username:a@b","time":1.0,"messages":1e300}',
    "a number for a subject": HEAD + b'{"seq":4,"subject":17,"time":1.0}',
    "no subject": HEAD + b'{"seq":5,"time":1.0,"messages":1}',
    "nothing": b"",
}


class Garbler:
    """Writes garbage, and keeps where it lies."""

    def __init__(self, kafka: Kafka, chosen: random.Random) -> None:
        self.offsets: set[tuple[str, int, int]] = set()
        self._producer = Producer({"bootstrap.servers": kafka.bootstrap, "log_level": 0})
        self._chosen = chosen

    def put(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> None:
        self._producer.produce(
            topic,
            value,
            key,
            partition,
            on_delivery=lambda error, message: self.offsets.add((topic, partition, message.offset() or 0)),
        )
        assert self._producer.flush(10) == 0

    def noise(self) -> bytes:
        return self._chosen.randbytes(self._chosen.randint(1, 2000))

    def versions_of(self, record: bytes, **changes: object) -> Iterator[bytes]:
        """What a good record could have become."""
        good = json.loads(record)
        for name, value in {"version": 99, "subject": "client_address:192.0.2.1", **changes}.items():
            yield json.dumps(good | {name: value}).encode()
        yield record[: self._chosen.randrange(1, len(record))]
        yield self.noise()
        yield b""


def test_garbage_in_every_topic_changes_nothing(system: System, chosen: random.Random) -> None:
    system.start(BLOCKS)
    (worker,) = system.workers.values()
    by_detector, by_operator = system.attacker(chosen), system.attacker(chosen)
    system.attack(by_detector)
    system.wait_refused(by_detector)
    system.operator("block", by_operator.account, "--for", "1h", "--reason", "stolen")
    system.wait_refused(by_operator)
    garbler = Garbler(system.kafka, chosen)

    # Noise under keys of its own, in all topics.
    for topic in topics.ALL:
        for partition in range(topic.partitions):
            garbler.put(topic.name, partition, garbler.noise(), garbler.noise())
    # Broken records under the keys that are in force.
    (decision,) = newest_of(system, topics.DECISIONS, decisions.key("burst", account_of(by_detector)))
    garble_key(garbler, topics.DECISIONS, decision, until="tomorrow", action=5)
    (word,) = newest_of(system, topics.OPERATORS, f"standing {account_of(by_operator)}".encode())
    garble_key(garbler, topics.OPERATORS, word, word="allwo", until=None)
    for partition in range(subjects.PARTITIONS):
        garbler.put(topics.ECHO, 0, str(partition).encode(), b'{"version":1,"partition":-1,"next":"many","worker":5}')
        for value in POISON.values():
            garbler.put(topics.TALLIES, partition, None, value)

    def both_are_refused() -> bool:
        found = [*system.answers(by_detector), *system.answers(by_operator)]
        return all(answer.startswith("521") for answer in found)

    assert both_are_refused()
    another = system.attacker(chosen)
    system.attack(another)
    system.wait_refused(another)
    kills = {}
    for host, agent in system.agents.items():
        kills[host] = [kill(agent)]
        agent.wait_serving()
        wait_until(lambda a=agent: a.metrics().get("weir_agent_records_not_understood_total", 0) > 0, 5.0, "garbage")  # type: ignore[misc]
    assert both_are_refused()
    kill(worker)
    system.wait_all_owned()
    last = system.attacker(chosen)
    system.attack(last)
    system.wait_refused(last)

    with system.load(rate=50):
        time.sleep(1.0)
    assert worker.restarts == 1
    system.wait_counted()
    poison = {place for place in garbler.offsets if place[0] == topics.TALLIES}
    assert sorted(dead_letters_of(system)) == sorted(poison)
    system.assert_exact(kills)


def test_a_broken_window_stops_its_partition_until_it_is_mended(system: System, chosen: random.Random) -> None:
    system.start(BLOCKS)
    (worker,) = system.workers.values()
    healthy = set(range(subjects.PARTITIONS))
    victims, good, broken = [], [], []
    for spoil in (chosen.choice((spoil_head, spoil_version, empty)), spoil_rest):
        victim = system.attacker(chosen, healthy)
        healthy.remove(partition_of(victim))
        system.attack(victim, BURST // 2)
        system.wait_counted()
        victims.append(victim)
        good.append(window_record(system, victim))
        broken.append(spoil(good[-1]))

    garbler = Garbler(system.kafka, chosen)
    for victim, record in zip(victims, broken, strict=True):
        garbler.put(topics.WINDOWS, partition_of(victim), changelog.window_key(account_of(victim)), record)
    kill(worker)
    for victim in victims:
        system.attack(victim, BURST)  # would cross, if anybody counted it
    wait_until(lambda: worker.owned() == len(healthy), 30.0, "the partitions of broken windows to stop", 0.1)
    assert worker.metrics()["weir_streams_partitions_stopped"] == len(victims)
    other = system.attacker(chosen, healthy)
    system.attack(other)
    system.wait_refused(other)
    for victim, record in zip(victims, broken, strict=True):
        assert window_record(system, victim) == record
        assert system.decisions(victim.account) == []
    assert worker.restarts == 1

    for victim, record in zip(victims, good, strict=True):
        garbler.put(topics.WINDOWS, partition_of(victim), changelog.window_key(account_of(victim)), record)
    kill(worker)
    system.wait_all_owned()
    for victim in victims:
        system.wait_refused(victim)
    system.assert_exact()


def spoil_head(record: bytes) -> bytes:
    return record[:2]


def spoil_version(record: bytes) -> bytes:
    return msgspec.msgpack.encode([99, *msgspec.msgpack.decode(record)[1:]])


def empty(record: bytes) -> bytes:
    return b""


def spoil_rest(record: bytes) -> bytes:
    """Its head is good: it is found to be broken only when it is needed."""
    return msgspec.msgpack.encode(msgspec.msgpack.decode(record)[:3])


def partition_of(sender: Sender) -> int:
    return subjects.partition(account_of(sender))


def window_record(system: System, sender: Sender) -> bytes:
    (record,) = newest_of(system, topics.WINDOWS, changelog.window_key(account_of(sender)), partition_of(sender))
    return record


def account_of(sender: Sender) -> str:
    return subjects.sasl_username(sender.account)


def newest_of(system: System, topic: str, key: bytes, partition: int | None = None) -> list[bytes]:
    """The newest value under this key."""
    found = newest(read_topic(system.kafka.bootstrap, topic))
    return [value for (number, one), value in found.items() if one == key and partition in (None, number)]


def garble_key(garbler: Garbler, topic: str, record: bytes, **changes: object) -> None:
    """Write what `record` could have become over it, under its own key and in its own partition."""
    subject = json.loads(record)["subject"]
    is_decision = topic == topics.DECISIONS
    key = decisions.key("burst", subject) if is_decision else operators.key(operators.decoder.decode(record))
    for value in garbler.versions_of(record, **changes):
        garbler.put(topic, subjects.partition(subject) if is_decision else 0, key, value)


def dead_letters_of(system: System) -> list[tuple[str, int, int]]:
    """Origins of the dead letters so far; garbage that lies on the topic itself is left out."""
    origins = []
    for message in read_topic(system.kafka.bootstrap, topics.DEAD):
        with suppress(msgspec.DecodeError):
            letter = msgspec.json.decode(message.value or b"", type=DeadLetter)
            origins.append((letter.topic, letter.partition, letter.offset))
    return origins
