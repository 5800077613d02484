"""What Prometheus reads from a sink."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from prometheus_client import start_http_server
from prometheus_client.core import REGISTRY, CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_ABOUT = {
    "events": "Events inserted",
    "repeats": "Events that the history held already",
    "decisions": "Records of decisions stored",
    "words": "Operators' words stored",
    "dead": "Messages sent to weir.dead",
    "late": "Events stored that are too old for the roll-ups",
    "batches": "Inserts",
    "insert_seconds": "Time that inserts took, seconds",
    "settle_seconds": "Time that roll-ups and commits took, seconds",
    "store_errors": "Attempts that the history refused or did not answer",
}

_ABOUT_NOW = {
    "lag": "Messages not read yet",
    "gaps": "Messages that Kafka deleted before they were read, since the start",
    "uncommitted_events": "Events taken in since the last commit, to be read again after a crash",
    "last_commit_timestamp_seconds": "Time of the last commit",
}


@dataclass
class Counts:
    events: int = 0
    repeats: int = 0
    decisions: int = 0
    words: int = 0
    dead: int = 0
    late: int = 0
    batches: int = 0
    insert_seconds: float = 0.0
    settle_seconds: float = 0.0
    store_errors: int = 0


class SinkCollector(Collector):
    def __init__(self, counts: Counts, now: Callable[[], dict[str, float]]) -> None:
        """`now` gives the gauges."""
        self._counts = counts
        self._now = now

    def collect(self) -> Iterator[Metric]:
        for name, value in asdict(self._counts).items():
            yield CounterMetricFamily(f"weir_sink_{name}", _ABOUT[name], value=value)
        for name, value in self._now().items():
            yield GaugeMetricFamily(f"weir_sink_{name}", _ABOUT_NOW[name], value=value)


def serve(address: str, collector: Collector) -> None:
    """Answer Prometheus at HOST:PORT, in a thread. Raises OSError."""
    host, _, port = address.rpartition(":")
    REGISTRY.register(collector)
    start_http_server(int(port), host.strip("[]"))
