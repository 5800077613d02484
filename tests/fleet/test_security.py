"""TLS and SASL reach every client: topics, agent, streams (Faust's clients too) and the operator's command."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.kafka import Kafka
from fleet.own import CHECKOUT, Agent, Worker
from fleet.policy_client import PolicyClient, new_instance
from fleet.process import wait_until

pytestmark = pytest.mark.fleet

USER, PASSWORD = "weir", "secret-of-the-test"


@pytest.fixture(scope="module")
def kafka(directory: Path) -> Iterator[Kafka]:
    with Kafka(directory / "kafka", user=(USER, PASSWORD)) as running:
        yield running


def _settings(kafka: Kafka) -> dict[str, object]:
    security = {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_username": USER,
        "ssl_ca_location": str(kafka.certificate),
        "replication_factor": 1,
        "min_insync_replicas": 1,
    }
    thresholds = {"account": {"messages_per_minute": 2}}
    return {"kafka": security, "trusted": [], "detectors": {"burst": thresholds}}


def test_a_block_over_tls_and_sasl(kafka: Kafka, directory: Path) -> None:
    secret = {"WEIR_KAFKA_SASL_PASSWORD": PASSWORD}
    settings = _settings(kafka)
    worker = Worker("w1", directory / "w1", kafka.secure_bootstrap, settings, env=secret)
    agent = Agent("mx1", directory / "mx1", kafka.secure_bootstrap, settings, env=secret)

    def weir(*arguments: str, password: str = PASSWORD) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "weir.cli", "--config", worker.config, *arguments],
            cwd=CHECKOUT,
            env=os.environ | {"WEIR_KAFKA_SASL_PASSWORD": password},
            capture_output=True,
            text=True,
            check=False,
        )

    created = weir("topics", "create")
    assert created.returncode == 0, created.stderr
    with worker, agent:
        agent.wait_serving()
        worker.wait_counting()
        with PolicyClient(agent.socket) as postfix:
            wait_until(
                lambda: postfix.at_recipient("alice@example.org", "192.0.2.1", new_instance()).startswith("521 "),
                10,
                "the block",
            )
        found = json.loads(weir("decisions", "list", "--json").stdout)
        assert [row["subject"] for row in found] == ["sasl_username:alice@example.org"]
        refused = weir("decisions", "list", password="wrong")
        assert refused.returncode == 3, refused.stdout + refused.stderr
        assert PASSWORD not in worker.log_path.read_text() + agent.log_path.read_text()
