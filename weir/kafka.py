"""How every part of ours reaches Kafka: configurations for librdkafka's clients, from the settings.

Invariants: passwords come from the environment and are never logged; whoever reads what is written in transactions
reads committed records only, and knows a partition's end by librdkafka's PARTITION_EOF.
"""

import os
from typing import TYPE_CHECKING

from weir.settings import Kafka

if TYPE_CHECKING:
    from confluent_kafka import Consumer

SASL_PASSWORD = "WEIR_KAFKA_SASL_PASSWORD"  # noqa: S105 (names of environment variables)
SSL_KEY_PASSWORD = "WEIR_KAFKA_SSL_KEY_PASSWORD"  # noqa: S105

Configuration = dict[str, str | int | bool]


def client(settings: Kafka) -> Configuration:
    """What every client needs: servers, security, and quick reconnects on a network that comes back."""
    configuration: Configuration = {
        "bootstrap.servers": settings.bootstrap_servers,
        "security.protocol": settings.security_protocol,
        "reconnect.backoff.ms": 100,
        "reconnect.backoff.max.ms": 1000,
        "client.id": "weir",
        "log_level": 2,  # what matters comes back as an error of a call; librdkafka's own lines would only repeat it
    }
    if settings.security_protocol.startswith("SASL_"):
        configuration["sasl.mechanism"] = settings.sasl_mechanism
        configuration["sasl.username"] = settings.sasl_username
        configuration["sasl.password"] = os.environ.get(SASL_PASSWORD, "")
    if settings.security_protocol.endswith("SSL"):
        files = {
            "ssl.ca.location": settings.ssl_ca_location,
            "ssl.certificate.location": settings.ssl_certificate_location,
            "ssl.key.location": settings.ssl_key_location,
            "ssl.key.password": os.environ.get(SSL_KEY_PASSWORD, ""),
        }
        configuration.update({name: value for name, value in files.items() if value})
    return configuration


def reader(settings: Kafka) -> Configuration:
    """A consumer that is given its partitions by hand: committed records, ends reported, no offsets kept."""
    return client(settings) | {
        "group.id": "weir-reader",  # librdkafka wants a name; without commits and subscriptions it is never used
        "isolation.level": "read_committed",
        "enable.partition.eof": True,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "fetch.min.bytes": 1,
        "fetch.wait.max.ms": 100,
        "fetch.error.backoff.ms": 50,
    }


def lag(consumer: "Consumer") -> int:
    """Messages of its partitions that the consumer knows of and has not read."""
    behind = 0
    for place in consumer.position(consumer.assignment()):
        _, high = consumer.get_watermark_offsets(place, cached=True)
        if place.offset >= 0 and high >= 0:
            behind += max(high - place.offset, 0)
    return behind
