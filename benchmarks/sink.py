"""`bench sink`: rows a second from Kafka into ClickHouse, beside bare inserts of the same rows by clickhouse-driver.

The topic is filled before the sink starts; its time runs from its first insert to its last, with the roll-ups and
commits between them. The bare inserts have their rows ready, in batches as large as the sink's; their table is gone
before the sink starts, so that its merges are not the sink's.
"""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from clickhouse_driver import Client
from confluent_kafka import Producer

from benchmarks.fleet import running_kafka
from benchmarks.measure import cpu_seconds, show
from fleet.clickhouse import KEEP_DAYS, ClickHouse
from fleet.kafka import Kafka
from fleet.own import Sink
from fleet.process import run_directory, wait_until
from sinks import rows
from sinks.source import BATCH_ROWS
from weir import envelopes, topics
from weir.events import Request, encoder

ROWS = 1_500_000
HOSTS = 20
ENVELOPE = 50
"""Events in one, as an agent with some thousand requests a second makes them."""


class Took(NamedTuple):
    seconds: float
    client: float
    """CPU seconds, as those of the servers."""
    clickhouse: float
    kafka: float

    def row(self, way: str, bare: "Took") -> tuple[str, ...]:
        used = self[1:]
        shown = (f"{used_seconds / ROWS * 1e6:.1f}" for used_seconds in (*used, sum(used)))
        return (way, f"{ROWS / self.seconds:,.0f}", f"{bare.seconds / self.seconds:.2f}", *shown)


def main() -> None:
    made = _envelopes(time.time() - 600)
    with (
        run_directory() as directory,
        running_kafka(directory) as kafka,
        ClickHouse(directory / "clickhouse") as server,
    ):
        version = server.version
        server.history("bare")
        bare = _bare(server, kafka, made)
        _fill(kafka.bootstrap, made)
        sink = _sink(directory, kafka, server)
    show(
        f"{ROWS:,} events into ClickHouse {version}",
        ("way", "rows/s", "share of bare", "µs CPU a row: client", "ClickHouse", "Kafka", "all"),
        [bare.row("bare inserts, rows ready", bare), sink.row("weir sink, from Kafka, with roll-ups", bare)],
    )


def _envelopes(start: float) -> list[tuple[str, bytes]]:
    """Host and envelope, the events spread over ten minutes."""
    made = []
    seqs = [0] * HOSTS
    for number in range(ROWS // ENVELOPE):
        host = number % HOSTS
        events = []
        for index in range(ENVELOPE):
            seqs[host] += 1
            account = (number * 31 + index * 7) % 2000
            events.append(
                Request(
                    seq=seqs[host],
                    time=round(start + 600 * number * ENVELOPE / ROWS, 3),
                    protocol_state="RCPT",
                    sasl_username=f"user{account}@customer{account % 97}.example",
                    sasl_method="PLAIN",
                    sender=f"user{account}@customer{account % 97}.example",
                    recipient=f"{number:x}.{index}@domain{number % 500}.example",
                    client_address=f"10.0.{account >> 8}.{account & 255}",
                    client_name=f"host{account}.dyn.example.net",
                    client_port=str(1024 + number % 60000),
                    helo_name=f"[10.0.{account >> 8}.{account & 255}]",
                    server_address="192.0.2.25",
                    instance=f"{number:x}.65f1.{index}.0",
                    encryption_protocol="TLSv1.3",
                    messages=1,
                    recipients=1,
                    attempted_messages=1,
                    attempted_recipients=1,
                )
            )
        name = f"mx{host}"
        made.append((name, envelopes.encode(envelopes.head(name, "bench"), map(encoder.encode, events))))
    return made


def _bare(server: ClickHouse, kafka: Kafka, made: list[tuple[str, bytes]]) -> Took:
    ready = [row for _, value in made for row in _rows(rows.events(value, "full"))]
    client = Client("127.0.0.1", server.port, database="bare")
    before = _now(os.getpid(), server, kafka)
    for begin in range(0, len(ready), BATCH_ROWS):
        client.execute(f"INSERT INTO events ({', '.join(rows.REQUEST)}) VALUES", ready[begin : begin + BATCH_ROWS])
    took = _since(before, os.getpid(), server, kafka)
    client.execute("DROP DATABASE bare")
    client.disconnect()
    return took


def _now(client: int, server: ClickHouse, kafka: Kafka) -> Took:
    """`client` is its process id."""
    return Took(time.perf_counter(), *map(cpu_seconds, (client, server.process.pid, kafka.process.pid)))


def _since(before: Took, client: int, server: ClickHouse, kafka: Kafka, share: float = 1.0) -> Took:
    """What all of the rows would have taken, of which it was this share."""
    return Took(*((now - then) / share for now, then in zip(_now(client, server, kafka), before, strict=True)))


def _rows(events: rows.Events) -> Iterator[rows.Row]:
    """All columns of a request, also those that the sink need not send."""
    return zip(*map(events.column, rows.REQUEST), strict=True)


def _fill(bootstrap: str, made: list[tuple[str, bytes]]) -> None:
    """As agents do: in order, compressed."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "enable.idempotence": True,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 1_000_000,
        }
    )
    for host, value in made:
        producer.produce(topics.EVENTS, value, host)
    if producer.flush(60):
        raise TimeoutError("Kafka did not take the events within a minute")


def _sink(directory: Path, kafka: Kafka, server: ClickHouse) -> Took:
    """From the first insert to the last."""
    history = {"server": server.history("weir").server, "keep_days": KEEP_DAYS}
    with Sink("sink", directory / "sink", kafka.bootstrap, {"history": history}) as sink:
        wait_until(lambda: sink.metrics().get("weir_sink_events_total", 0.0) > 0, 60, "the first insert", 0.005)
        first = sink.metrics()["weir_sink_events_total"]
        before = _now(sink.pid, server, kafka)
        wait_until(lambda: sink.metrics()["weir_sink_events_total"] >= ROWS, 300, "all to be stored", 0.05)
        return _since(before, sink.pid, server, kafka, (ROWS - first) / ROWS)


if __name__ == "__main__":
    main()
