"""The shipper: a thread that reads the spool's tail and brings it to Kafka, each partition in order and without a hole.

    spool ─▶ outbox (envelopes) ─▶ idempotent producer ─▶ weir.events, weir.tallies, weir.status
      ◀──────── position acknowledged by all partitions ◀── delivery reports

Invariants
- Kafka holds, for each partition, a prefix of what the spool's files held, perhaps with a repeated tail. librdkafka
  keeps the order and has no hole (idempotence, gapless guarantee); on any error we throw the producer away and go on
  from the position acknowledged with a new one. The one hole that would leave is closed by the outbox: a new producer
  has one envelope in flight to a partition until that partition has acknowledged it.
- What is in flight is bounded; beyond that the spool's files grow, not our memory.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import msgspec
import structlog
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from agents.outbox import Envelope, Outbox
from agents.segment import POSITION
from agents.segments import Position
from agents.spool import Spool
from weir import events, kafka, settings, topics

READ_BYTES = 32 * 1024
"""Read and sent in one go, under a millisecond: the policy server's thread waits for the interpreter no longer."""
IN_FLIGHT_BYTES = 8 * 1024**2
IN_FLIGHT_ENVELOPES = 2000
BACK_OFF_SECONDS = (0.1, 5.0)
_PAUSE_SECONDS = 0.0005
_REPORT_SECONDS = 0.05
_IDLE_SECONDS = 1.0
STALL_SECONDS = 60.0
"""Without any acknowledgement so long, a new producer is made: librdkafka (2.16) does not always notice that a topic
was made anew on another broker."""
_AWAY = (KafkaError._ALL_BROKERS_DOWN, KafkaError._AUTHENTICATION, KafkaError._SSL)

log = structlog.get_logger(__name__)


class Shipper:
    """`on_delivered` is called in the shipper's thread for each envelope that weir.tallies has acknowledged, with
    partition, offset and the time of the newest event in it (agent's clock).
    """

    def __init__(self, spool: Spool, kafka: settings.Kafka, on_delivered: Callable[[int, int, float], None]) -> None:
        self.errors = 0
        """Times that a producer was thrown away."""
        self.shipped = 0
        """Events that weir.events has acknowledged, repeated ones too."""
        self.in_flight = 0
        """Envelopes that wait for their acknowledgement."""
        self._spool = spool
        self._kafka = kafka
        self._on_delivered = on_delivered
        self._in_flight_bytes = 0
        self._outbox = Outbox(spool.host)
        self._position = Position(0, 0)
        self._seq = 0
        self._progress = 0.0  # monotonic time of the last acknowledgement, or since when something waits for one
        self._error: KafkaError | None = None
        self._failing = False
        self._back_off = BACK_OFF_SECONDS[0]
        self._stopping = threading.Event()
        self._deadline = float("inf")
        self._thread = threading.Thread(target=self._run, name="shipper", daemon=True)

    def start(self) -> None:
        """Begin to ship; the spool is open."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Ship what the spool still holds, but for no longer than `timeout` seconds; call before Spool.close().

        While Kafka is away nothing is tried: Postfix waits for whoever comes after us.
        """
        self._deadline = time.monotonic() + (0.0 if self._failing else timeout)
        self._stopping.set()
        self._spool.wake()
        self._thread.join()

    def _run(self) -> None:
        while not self._finished():
            self._begin()
            try:
                self._ship()
            except (KafkaException, SystemError) as error:
                self._error = _reason(error)
            except OSError as error:
                self._error = KafkaError(KafkaError._FS, str(error))
            except Exception as error:  # a fault of ours; whatever it is, the next events must go on
                log.exception("shipper failed")
                self._error = KafkaError(KafkaError._FAIL, repr(error))
            if self._error is not None:
                self.errors += 1
                self._tell_failure(self._error)
                self._stopping.wait(self._back_off)
                self._back_off = min(2 * self._back_off, BACK_OFF_SECONDS[1])

    def _begin(self) -> None:
        self._outbox = Outbox(self._spool.host)
        self._position = self._spool.acknowledged
        self._error = None
        self._seq = 0
        self.in_flight = self._in_flight_bytes = 0

    def _ship(self) -> None:
        """With one producer, until it fails or all is done."""
        producer = Producer(_configuration(self._kafka), error_cb=self._on_error)
        try:
            while self._error is None and not self._finished():
                self._step(producer)
        finally:
            self._outbox = Outbox(self._spool.host)  # reports of the old one count no more
            producer.purge()
            with suppress(KafkaException, SystemError):  # a fatal error comes from whatever call is next
                producer.flush(1.0)

    def _finished(self) -> bool:
        if not self._stopping.is_set():
            return False
        return self._spool.unacknowledged_bytes == 0 or time.monotonic() >= self._deadline

    def _step(self, producer: Producer) -> None:
        """Read, send what is due, take reports, and wait for what comes next."""
        more = self._may_read() and self._read()
        now = time.monotonic()
        for envelope in (*self._take_full(), *self._outbox.due(now, everything=self._stopping.is_set())):
            self._send(producer, envelope)
        producer.poll(0)
        if self.in_flight and now - self._progress > STALL_SECONDS:
            self._error = KafkaError(KafkaError._TIMED_OUT, "nothing was acknowledged for a minute")
        self._spool.acknowledge(self._outbox.oldest(self._position))
        if more:
            time.sleep(_PAUSE_SECONDS)  # lets the policy server's thread have the interpreter
        elif not self._may_read():
            producer.poll(_REPORT_SECONDS)
        else:
            wait = min(self._outbox.next_due() - now, _REPORT_SECONDS if self.in_flight else _IDLE_SECONDS)
            self._spool.wait(max(wait, _PAUSE_SECONDS))

    def _may_read(self) -> bool:
        return (
            self._in_flight_bytes < IN_FLIGHT_BYTES
            and self.in_flight < IN_FLIGHT_ENVELOPES
            and not self._outbox.blocked
        )

    def _read(self) -> bool:
        """Take the spool's next lines into the outbox; False when there is hardly more: the writer tells of that."""
        chunk = self._spool.read(self._position, READ_BYTES)
        if not chunk.data:
            self._position = chunk.end
            return False
        outbox, decode = self._outbox, events.decoder.decode
        if outbox.begin(chunk.epoch):
            self._seq = 0
        segment, offset = chunk.start
        for line in chunk.data.removesuffix(b"\n").split(b"\n"):
            if line.startswith(POSITION):  # of the mail log, no event
                offset += len(line) + 1
                continue
            try:
                event = decode(line)
                if event.seq <= self._seq:
                    raise ValueError("seq does not rise")  # noqa: TRY301
                outbox.add(line, event, segment, offset)
                self._seq = event.seq
            except (msgspec.DecodeError, ValueError, LookupError):
                self._spool.count_damaged(1)
            offset += len(line) + 1
            if outbox.full:
                self._position = Position(segment, offset)
                return True
        self._position = chunk.end
        return len(chunk.data) > READ_BYTES // 2

    def _take_full(self) -> list[Envelope]:
        full = self._outbox.full[:]
        self._outbox.full.clear()
        return full

    def _send(self, producer: Producer, envelope: Envelope) -> None:
        destination = envelope.destination
        producer.produce(
            destination.topic,
            envelope.value,
            destination.key,
            destination.partition,
            on_delivery=partial(self._delivered, self._outbox, envelope),
        )
        destination.in_flight.append(envelope)
        if not self.in_flight:
            self._progress = time.monotonic()
        self.in_flight += 1
        self._in_flight_bytes += len(envelope.value)

    def _delivered(self, outbox: Outbox, envelope: Envelope, error: KafkaError | None, message: Message) -> None:
        if outbox is not self._outbox or self._error is not None:
            return
        if error is not None:
            self._error = error
            return
        destination = envelope.destination
        destination.in_flight.remove(envelope)  # the leftmost: partitions acknowledge in order
        destination.confirmed = True
        self.in_flight -= 1
        self._progress = time.monotonic()
        self._in_flight_bytes -= len(envelope.value)
        if destination.topic == topics.TALLIES:
            self._on_delivered(destination.partition, message.offset() or 0, envelope.newest)
        elif destination.topic == topics.EVENTS:
            self.shipped += envelope.events
        self._tell_success()

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._error = error
        elif error.code() in _AWAY:
            self._tell_failure(error)

    def _tell_failure(self, error: KafkaError) -> None:
        if not self._failing:
            log.warning("shipping fails, events wait in the spool", error=error.str())
        self._failing = True

    def _tell_success(self) -> None:
        if self._failing:
            log.info("shipping goes on")
            self._failing = False
        self._back_off = BACK_OFF_SECONDS[0]


def _reason(error: KafkaException | SystemError) -> KafkaError:
    """What a call of the producer raised. A fatal error comes as a KafkaException, or, if a delivery report was given
    in the same call, as the cause of a SystemError.
    """
    cause = error if isinstance(error, KafkaException) else error.__cause__
    return cause.args[0] if isinstance(cause, KafkaException) else KafkaError(KafkaError._FATAL)


def _configuration(kafka_settings: settings.Kafka) -> kafka.Configuration:
    return kafka.client(kafka_settings) | {
        "enable.idempotence": True,
        "enable.gapless.guarantee": True,
        "acks": "all",
        "message.timeout.ms": 0,
        "linger.ms": 0,
        "compression.type": "lz4",  # a fourth of the bytes and less, for 3 µs an event in a thread of librdkafka's own
        "socket.nagle.disable": True,
        # Above our own bound, so that produce() never refuses.
        "queue.buffering.max.messages": 4 * IN_FLIGHT_ENVELOPES,
        "queue.buffering.max.kbytes": 4 * IN_FLIGHT_BYTES // 1024,
    }
