"""`weir notify`: the process that tells people of blocks.

    weir.decisions ─▶ told? ─▶ one teller for each destination ─▶ message    then the offsets are committed

It ends with status 0 after SIGTERM or SIGINT, a message that is on its way sent. What was not sent by then, or is not
known to be, is told after the next start: at least once, and to every destination.
"""

import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict

import msgspec
import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sinks import alerts, destinations, metrics
from sinks.decision_source import DecisionSource
from sinks.teller import Teller
from sinks.told import Told
from weir import decisions, logs, systemd
from weir.cli.output import NOT_DONE, CommandError, say
from weir.decisions import Decision
from weir.settings import Settings

COMMIT_SECONDS = 1.0

log = structlog.get_logger(__name__)


def test() -> None:
    """Send a test to each destination. Raises CommandError if one of them does not take it."""
    troubles = [(one.name, one.send(alerts.TEST)) for one in destinations.from_environment()]
    for name, trouble in troubles:
        say(f"{name}: {f'not sent: {trouble}' if trouble else 'sent'}")
    if any(trouble for _, trouble in troubles):
        raise CommandError("not every destination took the test", NOT_DONE)


def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT. Raises CommandError for what prevents its start."""
    logs.configure()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    places = destinations.from_environment()
    notifier = Notifier(settings, [Teller(place.name, place.send) for place in places])
    if settings.notify.metrics:
        try:
            metrics.serve(settings.notify.metrics, NotifyCollector(notifier))
        except OSError as error:
            raise CommandError(f"notify.metrics: {error}", NOT_DONE) from None
    systemd.notify("READY=1")
    log.info("telling", destinations=[place.name for place in places])
    while not stopping.is_set():
        notifier.step()
    systemd.notify("STOPPING=1")
    notifier.close()


class Notifier:
    def __init__(self, settings: Settings, tellers: list[Teller]) -> None:
        self.tellers = tellers
        self.given = 0
        """Decisions that went to the tellers."""
        self.lag = 0
        """Messages not read yet."""
        self.not_understood = 0
        self._told = Told()
        self._source = DecisionSource(settings)
        self._commit_at = 0.0

    def step(self) -> None:
        """Read what has come, give on what is to be told, and commit what was."""
        now = time.time()
        for record in self._source.read():
            decision = self._decoded(record.value)
            if decision is not None and (record.new or decision.until > now):
                is_told = self._told.take(decision)
                if is_told and record.new:
                    self.given += 1
                    for teller in self.tellers:
                        teller.give(decision)
            if record.new:
                self._source.progress.note(self.given, record.partition, record.offset + 1)
        if time.monotonic() >= self._commit_at:
            self._commit()
        if not all(teller.alive for teller in self.tellers):
            raise RuntimeError("a teller ended")

    def close(self) -> None:
        for teller in self.tellers:
            teller.stop()
        for teller in self.tellers:
            teller.join()
        self._commit()
        self._source.close()

    def _commit(self) -> None:
        self._source.commit(min(teller.finished for teller in self.tellers))
        self.lag = self._source.lag()
        self._commit_at = time.monotonic() + COMMIT_SECONDS

    def _decoded(self, value: bytes | None) -> Decision | None:
        if value is None:
            return None  # a limit's decision that is over
        try:
            decision = decisions.decoder.decode(value)
        except msgspec.DecodeError:  # the sink puts it into weir.dead
            self.not_understood += 1
            return None
        if decision.version != decisions.VERSION:
            self.not_understood += 1
            return None
        return decision


_ABOUT = {
    "sent": "Decisions told",
    "over": "Decisions that were over before they could be told, and were only counted",
    "given_up": "Decisions not told, since the destination failed for too long",
    "messages": "Messages sent",
    "failures": "Attempts that failed",
}


class NotifyCollector(Collector):
    """What Prometheus reads."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier

    def collect(self) -> Iterator[Metric]:
        for name, about in _ABOUT.items():
            family = CounterMetricFamily(f"weir_notify_{name}", about, labels=["destination"])
            for teller in self._notifier.tellers:
                family.add_metric([teller.name], asdict(teller.counts)[name])
            yield family
        waiting = GaugeMetricFamily("weir_notify_waiting", "Decisions not told yet", labels=["destination"])
        for teller in self._notifier.tellers:
            waiting.add_metric([teller.name], teller.waiting)
        yield waiting
        yield GaugeMetricFamily("weir_notify_lag", "Messages not read yet", value=self._notifier.lag)
        yield CounterMetricFamily(
            "weir_notify_not_understood", "Records that nobody understands", value=self._notifier.not_understood
        )
