"""Configurations of Kafka's clients."""

import pytest
from confluent_kafka import Consumer

from weir import kafka, settings


def test_plain_text_has_no_secrets() -> None:
    configuration = kafka.client(settings.Kafka(bootstrap_servers="k1:9092,k2:9092"))
    assert configuration["bootstrap.servers"] == "k1:9092,k2:9092"
    assert not [key for key in configuration if key.startswith(("sasl.", "ssl."))]


def test_passwords_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIR_KAFKA_SASL_PASSWORD", "one")
    monkeypatch.setenv("WEIR_KAFKA_SSL_KEY_PASSWORD", "two")
    configuration = kafka.client(
        settings.Kafka(security_protocol="SASL_SSL", sasl_username="weir", ssl_ca_location="/etc/ca.pem")
    )
    assert configuration["sasl.username"] == "weir"
    assert configuration["sasl.password"] == "one"
    assert configuration["ssl.key.password"] == "two"
    assert configuration["ssl.ca.location"] == "/etc/ca.pem"
    assert "ssl.key.location" not in configuration


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])
def test_librdkafka_takes_each_protocol(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEIR_KAFKA_SASL_PASSWORD", "one")
    Consumer(kafka.reader(settings.Kafka(security_protocol=protocol, sasl_username="weir"))).close()


def test_readers_read_what_is_committed_and_hear_of_ends() -> None:
    configuration = kafka.reader(settings.Kafka())
    assert configuration["isolation.level"] == "read_committed"
    assert configuration["enable.partition.eof"] is True
    assert configuration["enable.auto.commit"] is False
