"""What Prometheus reads from a streams worker."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client import start_http_server
from prometheus_client.core import REGISTRY, CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from streams.partition import Totals
from weir.tallies import RESULTS

_ABOUT = {
    "envelopes": "Envelopes counted",
    "tallies": "Tallies counted",
    "repeats": "Tallies of events that had been counted before",
    "untimely": "Tallies too far in the future or the past for a window",
    "left_out": "Tallies of limits and of the mail log for whose window there was no room",
    "dead": "Envelopes sent to weir.dead",
    "alternating": "Envelopes of an epoch that had been followed by another of its host: two machines with one name",
    "foreign_keys": "Records of weir.windows under keys that are none of ours",
    "decisions": "Decisions, shadows too",
    "shadows": "Decisions that are shadows",
    "bad_words": "Records of weir.operators and weir.decisions that make no sense",
    "gaps": "Messages of weir.tallies that were deleted before they were counted",
    "recreated": "Times that weir.tallies ended before the stored offset",
    "seeks": "Times that messages were missing in the flow and read again",
    "transactions": "Transactions committed",
}

_ABOUT_NOW = {
    "partitions": "Partitions that this worker counts",
    "partitions_stopped": "Partitions that stand still because their changelog is broken",
    "lag": "Messages of weir.tallies not counted yet",
    "accounts": "Accounts with a window",
    "limits": "Limits' counters with a window",
    "outcomes": "Accounts, clients and local users with outcomes of the mail log",
    "brake": "1 while the brake is on",
    "transaction_seconds": "Duration of the last transaction, of the partition where it was slowest",
    "last_transaction_timestamp_seconds": "Time of the last commit",
}


@dataclass
class Figures:
    """Gauges, as of now."""

    partitions: int = 0
    partitions_stopped: int = 0
    lag: int = 0
    accounts: int = 0
    limits: int = 0
    outcomes: int = 0
    brake: bool = False
    transaction_seconds: float = 0.0
    last_transaction_timestamp_seconds: float = 0.0


@dataclass
class Counts(Totals):
    """All counters of a worker."""

    decisions: int = 0
    shadows: int = 0
    bad_words: int = 0
    gaps: int = 0
    recreated: int = 0
    seeks: int = 0
    transactions: int = 0


class _Collector(Collector):
    def __init__(self, counts: Counts, figures: Callable[[], Figures]) -> None:
        self._counts = counts
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        for name, about in _ABOUT.items():
            yield CounterMetricFamily(f"weir_streams_{name}", about, value=getattr(self._counts, name))
        results = CounterMetricFamily(
            "weir_streams_results",
            "Outcomes of the mail log, once for each subject that they count for",
            labels=["result"],
        )
        for result in RESULTS:
            results.add_metric([result], self._counts.results[result])
        yield results
        figures = self._figures()
        for name, about in _ABOUT_NOW.items():
            yield GaugeMetricFamily(f"weir_streams_{name}", about, value=float(getattr(figures, name)))


def serve(address: str, counts: Counts, figures: Callable[[], Figures]) -> None:
    """Serve at HOST:PORT; "" is nowhere. Raises OSError if the port is taken."""
    if not address:
        return
    host, _, port = address.rpartition(":")
    REGISTRY.register(_Collector(counts, figures))
    start_http_server(int(port), host.strip("[]"))
