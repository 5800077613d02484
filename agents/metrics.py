"""Metrics of an agent for Prometheus: read from what it holds anyway, when they are asked for.

Invariant: a request pays for no metric but one counter.
"""

from collections.abc import Iterable, Iterator

import structlog
from prometheus_client import CollectorRegistry, Metric, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from agents.agent import Agent
from agents.follower import Follower
from agents.limits import FLEET, HOST
from agents.policy_server import PolicyServer
from agents.shipper import Shipper
from agents.spool import Spool
from weir import __version__

log = structlog.get_logger(__name__)


class AgentCollector(Collector):
    def __init__(self, agent: Agent, server: PolicyServer, spool: Spool, shipper: Shipper, follower: Follower) -> None:
        self._agent = agent
        self._server = server
        self._spool = spool
        self._shipper = shipper
        self._follower = follower

    def collect(self) -> Iterator[Metric]:
        yield self._requests()
        yield self._limits()
        yield from self._agent.delays.collect()
        for name, text, value in self._counters():
            yield CounterMetricFamily(f"weir_agent_{name}", text, value=value)
        for name, text, value in self._gauges():
            yield GaugeMetricFamily(f"weir_agent_{name}", text, value=value)
        segment, length = self._spool.synced
        synced = GaugeMetricFamily(
            "weir_agent_spool_synced_bytes",
            "Length of the newest spool segment known to be on disk",
            labels=["segment"],
        )
        synced.add_metric([segment], length)
        yield synced
        info = GaugeMetricFamily("weir_agent_info", "The agent's version", labels=["version"])
        info.add_metric([__version__], 1)
        yield info

    def _requests(self) -> Metric:
        family = CounterMetricFamily(
            "weir_agent_requests",
            "Policy requests answered, by protocol state and who spoke",
            labels=["state", "outcome"],
        )
        for labels, count in tuple(self._agent.requests.items()):
            family.add_metric(labels, count)
        return family

    def _limits(self) -> Metric:
        family = CounterMetricFamily(
            "weir_agent_limits_exceeded",
            "Requests that met an exceeded limit, by whose count said so: this host's or the fleet's",
            labels=["by"],
        )
        for by in (HOST, FLEET):
            family.add_metric([by], self._agent.limits.exceeded[by])
        return family

    def _counters(self) -> Iterator[tuple[str, str, float]]:
        knowledge = self._agent.knowledge
        yield "protocol_errors", "Connections closed because of what came in", self._server.protocol_errors
        yield "failures", "Requests not answered because of a fault of the agent", self._server.failures
        yield "events_dropped", "Events lost: spool full or damaged", self._spool.dropped
        yield "events_shipped", "Events that Kafka has acknowledged, repeated ones too", self._shipper.shipped
        yield "ship_errors", "Times that shipping had to begin again", self._shipper.errors
        yield "records_not_understood", "Records of topics that made no sense", knowledge.garbage
        yield (
            "limits_not_shared",
            "Limits not told to the fleet: too many hit one request",
            self._agent.limits.not_shared,
        )
        yield (
            "limits_left_out",
            "Limits exhausted in the fleet that found no room in memory",
            knowledge.decisions.left_out,
        )
        yield "messages_forgotten", "Messages under way that had to be forgotten", self._agent.counts.forgotten

    def _gauges(self) -> Iterator[tuple[str, str, float]]:
        agent, knowledge = self._agent, self._agent.knowledge
        yield "connections", "Connections of Postfix", len(self._server.connections)
        yield "spool_bytes", "Bytes of events that Kafka has not acknowledged", self._spool.unacknowledged_bytes
        yield "envelopes_in_flight", "Envelopes on their way to Kafka", self._shipper.in_flight
        yield "freshness_seconds", "Age of what the fleet knows of this host; -1: unknown", agent.age
        yield "clock_offset_seconds", "What this host's clock is ahead of the broker's", agent.clock_offset
        yield "decisions", "Subjects with decisions in memory", len(knowledge.decisions)
        yield "operators_words", "Operators' blocks and allows in memory", len(knowledge.operators.standing)
        yield "limits", "Limits' counters of this host", len(agent.counters)
        yield "messages", "Messages under way that are remembered", len(agent.counts)
        yield "stale", "1 until decisions and operators' words were read to their end", not knowledge.complete
        yield "follow_failing", "1 while decisions and operators' words cannot be read", self._follower.failing
        yield "kept_after_loss", "Records kept from the snapshot: their topic was made anew", agent.kept_after_loss


def serve(address: str, collectors: Iterable[Collector]) -> None:
    """Serve the metrics at HOST:PORT from a thread. Mail is protected without them too: a failure is only logged."""
    host, _, port = address.rpartition(":")
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    for collector in collectors:
        registry.register(collector)
    try:
        start_http_server(int(port), host.strip("[]"), registry)
    except OSError as error:
        log.error("metrics cannot be served", address=address, error=str(error))
