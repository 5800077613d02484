"""What a worker tells each second: how far its partitions are counted (weir.echo), and its own state (weir.status).

Invariants: an echo tells what is committed, never what is only counted; what cannot be delivered is dropped, the next
second tells more.
"""

import msgspec
from confluent_kafka import Producer

from weir import echo, kafka, status, topics
from weir.echo import Echo
from weir.settings import Settings
from weir.status import WorkerStatus

_encoder = msgspec.json.Encoder()


class Reports:
    def __init__(self, settings: Settings, name: str) -> None:
        self._name = name
        self._producer = Producer(
            kafka.client(settings.kafka)
            | {"enable.idempotence": True, "linger.ms": 5, "message.timeout.ms": 5000, "retry.backoff.ms": 50}
        )

    def tell(self, written: dict[int, int], state: WorkerStatus) -> None:
        """Send an echo of each partition's committed offset, and the worker's state; returns at once."""
        for number, offset in written.items():
            told = Echo(echo.VERSION, number, offset, self._name)
            self._send(topics.ECHO, str(number).encode(), echo.encoder.encode(told))
        self._send(topics.STATUS, status.worker_key(self._name), _encoder.encode(state))
        self._producer.poll(0)

    def stop(self) -> None:
        self._producer.flush(1)

    def _send(self, topic: str, key: bytes, value: bytes) -> None:
        self._producer.produce(topic, key=key, value=value, partition=0)
