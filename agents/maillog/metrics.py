"""Metrics of the mail log, beside the agent's: read from what it holds anyway, when they are asked for."""

from collections.abc import Iterator

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from agents.agent import Agent
from agents.maillog.reader import MailLog
from agents.maillog.rotation import Lost


class MailLogCollector(Collector):
    def __init__(self, maillog: MailLog, agent: Agent) -> None:
        self._maillog = maillog
        self._agent = agent

    @property
    def _holding_failures(self) -> int:
        return self._agent.holding.failures if self._agent.holding is not None else 0

    def collect(self) -> Iterator[Metric]:
        reading = self._maillog.reading
        for name, text, value in (
            ("lines", "Lines of the mail log that were read", self._maillog.lines),
            ("faults", "Lines of the mail log that the agent failed at", reading.faults),
            ("unasked", "Messages with a login that no policy request was seen of", self._agent.unasked),
            ("holding_failures", "Requests that the queue's helper did not carry out", self._holding_failures),
            ("evicted", "Messages that had to be forgotten for others", reading.tracker.under_way.evicted),
            ("forgotten", "Messages whose end the mail log did not tell", reading.tracker.under_way.forgotten),
        ):
            yield CounterMetricFamily(f"weir_agent_log_{name}", text, value=value)
        for name, text, value in (
            ("messages", "Messages in the queues that are remembered", len(reading.tracker.under_way)),
            ("failing", "Files of the mail log, or the journal, that cannot be read", self._maillog.failing),
        ):
            yield GaugeMetricFamily(f"weir_agent_log_{name}", text, value=value)
        unknown = CounterMetricFamily(
            "weir_agent_log_not_understood", "Lines of the mail log that were not understood", labels=["daemon"]
        )
        for daemon, count in tuple(reading.unknown.counts.items()):
            unknown.add_metric([daemon], count)
        yield unknown
        losses = CounterMetricFamily(
            "weir_agent_log_losses", "Times that lines of the mail log were lost, or may have been", labels=["reason"]
        )
        found = self._maillog.losses
        for reason in Lost:  # those that did not happen too: Prometheus sees no rise of what was not there
            losses.add_metric([reason.value], found[reason.value])
        yield losses
