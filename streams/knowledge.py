"""What a worker must know before it decides: operators' words, and the blocks of the last ten minutes for the brake."""

import time
from collections.abc import Callable

import structlog
from confluent_kafka import Message

from streams.brake import SECONDS as BRAKE_SECONDS
from streams.brake import Brake
from streams.follow import Follower
from streams.metrics import Counts
from weir import decisions, envelopes, operators, topics
from weir.operators import Operators
from weir.settings import Settings
from weir.subjects import PARTITIONS

log = structlog.get_logger()


class Knowledge:
    def __init__(self, settings: Settings, counts: Counts, released: Callable[[str, float], None]) -> None:
        """`released` is called with subject and time of each release, old ones too."""
        self.operators = Operators()
        self.brake = Brake(settings.brake)
        self._counts = counts
        self._released = released
        self._words = Follower(settings, topics.OPERATORS, 1, self._take_word)
        self._decided = Follower(settings, topics.DECISIONS, PARTITIONS, self._take_decision)

    def start(self) -> None:
        self._words.start()
        self._decided.start(time.time() - BRAKE_SECONDS)

    async def current(self) -> None:
        """Wait until all operators' words, and the blocks from before the start, are known. Raises KafkaException."""
        await self._words.current()
        await self._decided.whole()

    def stop(self) -> None:
        self._words.stop()
        self._decided.stop()

    def _take_word(self, message: Message) -> None:
        key = message.key() or b""
        try:
            self.operators.apply(key, message.value(), message.timestamp()[1] / 1000)
        except envelopes.UNREADABLE as error:
            self._complain(message, error)
            return
        group, subject = operators.split_key(key)
        if group == operators.RELEASE and message.value() is not None:
            self._released(subject, self.operators.released(subject))

    def _take_decision(self, message: Message) -> None:
        value = message.value()
        if value is None:
            return
        try:
            self.brake.take(decisions.decoder.decode(value), message.timestamp()[1] / 1000)
        except envelopes.UNREADABLE as error:
            self._complain(message, error)

    def _complain(self, message: Message, error: Exception) -> None:
        self._counts.bad_words += 1
        log.warning("a record makes no sense", topic=message.topic(), offset=message.offset(), error=str(error))
