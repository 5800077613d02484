"""One destination's thread: it waits for what comes together, sends it as one message, and tries until that is out.

Invariants: nobody waits for it; decisions are finished in the order in which they were given, so one number says how
far it is; one is finished when it was sent or, after GIVE_UP_SECONDS of failures, given up.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import structlog
from tenacity import RetryCallState, Retrying, retry_if_result, stop_when_event_set, wait_random_exponential
from tenacity.nap import sleep_using_event

from sinks.alerts import Message, compose
from weir.decisions import Decision

TOGETHER_SECONDS = 0.5
"""What comes so soon after the first stands in its message."""
GAP_SECONDS = 2.0, 60.0
"""Between two messages, at first and at most: twice as long each time, while more comes within it."""
GIVE_UP_SECONDS = 900.0
_LONGEST_WAIT = 30.0
_STOP_SECONDS = 5.0
"""For a message that is on its way."""

log = structlog.get_logger(__name__)


@dataclass
class Counts:
    sent: int = 0
    over: int = 0
    """Decisions that were over before they could be told: only their number was."""
    given_up: int = 0
    messages: int = 0
    failures: int = 0
    """Attempts."""


class Pace:
    """How long to wait for more, so that a storm makes few messages. Pure: times are seconds of any clock."""

    def __init__(self) -> None:
        self._gap = GAP_SECONDS[0]
        self._next = float("-inf")

    def wait(self, now: float) -> float:
        """Seconds until that may be sent which came at `now`, after a time without any."""
        early = self._next - now
        self._gap = min(self._gap * 2, GAP_SECONDS[1]) if early > 0 else GAP_SECONDS[0]
        return max(early, TOGETHER_SECONDS)

    def sent(self, now: float) -> None:
        self._next = now + self._gap


class Teller:
    def __init__(self, name: str, send: Callable[[Message], str]) -> None:
        """`send` returns what was wrong, or ""."""
        self.name = name
        self.counts = Counts()
        self.finished = 0
        """Decisions, of all that were given."""
        self._send = send
        self._given: SimpleQueue[tuple[float, Decision] | None] = SimpleQueue()
        self._waiting: list[tuple[float, Decision]] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"tell {name}", daemon=True)
        self._thread.start()

    def give(self, record: Decision) -> None:
        self._given.put((time.monotonic(), record))

    @property
    def waiting(self) -> int:
        return len(self._waiting) + self._given.qsize()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def stop(self) -> None:
        """No message begins any more."""
        self._stopping.set()
        self._given.put(None)

    def join(self) -> None:
        self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        pace = Pace()
        retrying = Retrying(
            retry=retry_if_result(bool),
            wait=wait_random_exponential(multiplier=1, max=_LONGEST_WAIT),
            stop=stop_when_event_set(self._stopping),
            sleep=sleep_using_event(self._stopping),
            before_sleep=self._failed,
            retry_error_callback=lambda _: "",
        )
        while not self._stopping.is_set():
            self._take(self._given.get())
            if not self._stopping.wait(pace.wait(time.monotonic())):
                retrying(self._attempt)
                pace.sent(time.monotonic())

    def _take(self, given: tuple[float, Decision] | None) -> None:
        if given is not None:
            self._waiting.append(given)

    def _attempt(self) -> str:
        """Send all that waits, what came meanwhile too; returns what was wrong."""
        try:
            while True:
                self._take(self._given.get_nowait())
        except Empty:
            pass
        if not self._waiting:
            return ""
        message = compose([record for _, record in self._waiting], time.time())
        if trouble := self._send(message):
            self.counts.failures += 1
            self._give_up(time.monotonic() - GIVE_UP_SECONDS)
            return trouble if self._waiting else ""
        number = len(self._waiting)
        self.counts.messages += 1
        self.counts.over += message.over
        self.counts.sent += number - message.over
        self._finish(number)
        return ""

    def _give_up(self, before: float) -> None:
        """What was given before that time is told nobody here."""
        number = sum(given < before for given, _ in self._waiting)
        if number:
            ids = [record.id for _, record in self._waiting[:number]]
            log.error("given up", destination=self.name, decisions=number, first=ids[:20])
            self.counts.given_up += number
            self._finish(number)

    def _finish(self, number: int) -> None:
        del self._waiting[:number]
        self.finished += number

    def _failed(self, state: RetryCallState) -> None:
        if state.attempt_number in (1, 5) or state.attempt_number % 20 == 0:
            trouble = state.outcome.result() if state.outcome else ""
            log.warning("not sent, tried again", destination=self.name, trouble=trouble, attempts=state.attempt_number)
