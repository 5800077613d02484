"""The alerts for Prometheus, by Debian's own tools: each fires when it is to, none does where all is well.

What they make of series is in alerts.yml beside this file.
"""

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Self

import pytest
import yaml

from fleet.kafka import Kafka
from fleet.own import CHECKOUT, Agent, Notify, Own, Sink, Worker
from fleet.process import wait_until
from fleet.prometheus import Alertmanager, Prometheus
from tests.faults.system import create_topics
from tests.sinks.webhook import Webhook
from weir.settings import Settings
from weir.subjects import PARTITIONS

RULES = CHECKOUT / "deploy/prometheus/alerts.yml"
EXAMPLE = CHECKOUT / "deploy/prometheus/prometheus.yml"
SERIES = CHECKOUT / "tests/deploy/alerts.yml"
ALERTS = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
METRICS = sorted(set(re.findall(r"(?:weir|process)_\w+", " ".join(alert["expr"] for alert in ALERTS))))
SHORT = "4s"
"""In place of the rules' own minutes; a scrape each second may fail thrice on a busy machine."""


def ports_of_jobs() -> dict[str, set[int]]:
    jobs = yaml.safe_load(EXAMPLE.read_text())["scrape_configs"]
    return {
        job["job_name"]: {int(target.rpartition(":")[2]) for one in job["static_configs"] for target in one["targets"]}
        for job in jobs
    }


def test_all_alerts_are_explained() -> None:
    explained = re.findall(r"^\| `(Weir\w+)` \|", (CHECKOUT / "docs/alerts.md").read_text(), re.MULTILINE)
    assert explained == [alert["alert"] for alert in ALERTS]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_says_what_is_wrong_and_how_urgent_it_is(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert len(alert["annotations"]["summary"]) > 20


def test_the_example_scrapes_the_default_ports_under_the_names_that_alerts_ask_for() -> None:
    settings = Settings()
    metrics = {
        "weir-agent": settings.agent.metrics,
        "weir-streams": settings.streams.metrics,
        "weir-sink": settings.history.metrics,
        "weir-notify": settings.notify.metrics,
    }
    assert ports_of_jobs() == {job: {int(address.rpartition(":")[2])} for job, address in metrics.items()}
    assert set(re.findall(r'job="([\w-]+)"', RULES.read_text())) == set(metrics)


def test_the_number_of_partitions_is_the_fleets() -> None:
    (alert,) = (alert for alert in ALERTS if alert["alert"] == "WeirPartitionsUncounted")
    assert alert["expr"].endswith(f"< {PARTITIONS}")
    assert f"of {PARTITIONS} partitions" in alert["annotations"]["summary"]


def test_each_alert_has_series_on_which_it_fires_and_on_which_it_does_not() -> None:
    looks = [look for group in yaml.safe_load(SERIES.read_text())["tests"] for look in group.get("alert_rule_test", [])]
    names = [alert["alert"] for alert in ALERTS]
    assert list(dict.fromkeys(look["alertname"] for look in looks if look.get("exp_alerts"))) == names
    assert list(dict.fromkeys(look["alertname"] for look in looks if not look.get("exp_alerts"))) == names


# With Prometheus


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.fleet
def test_promtool_finds_rules_and_example_sound() -> None:
    promtool("check", "rules", "--lint-fatal", RULES)
    promtool("check", "config", "--lint-fatal", EXAMPLE)


@pytest.mark.fleet
def test_alerts_fire_on_the_series_on_which_they_are_to() -> None:
    promtool("test", "rules", SERIES)


class Told(NamedTuple):
    alert: str
    status: str
    instance: str
    summary: str


class Receiver:
    """Takes what Alertmanager posts, while its `with` block lasts."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                for alert in body["alerts"]:
                    labels, summary = alert["labels"], alert["annotations"]["summary"]
                    receiver.told.append(
                        Told(labels["alertname"], alert["status"], labels.get("instance", ""), summary)
                    )
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 (its name there)
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def wait_for(self, alert: str, status: str, instance: str) -> Told:
        def found() -> list[Told]:
            return [one for one in self.told if one[:3] == (alert, status, instance)]

        return wait_until(found, 60, f"{alert} {status} of {instance}")[0]


@pytest.fixture(scope="module")
def parts(directory: Path) -> Iterator[dict[str, Own]]:
    """One of each, all well, by the name of its job."""
    log = directory / "mail.log"
    log.touch()
    with Kafka(directory / "kafka") as kafka, Webhook() as webhook:
        create_topics(kafka, directory)
        agent = Agent("mx1", directory / "mx1", kafka.bootstrap, {"log": {"files": [str(log)]}})
        worker = Worker("w1", directory / "w1", kafka.bootstrap)
        sink = Sink("s1", directory / "s1", kafka.bootstrap)
        notify = Notify("n1", directory / "n1", kafka.bootstrap, [webhook.url])
        with agent, worker, sink, notify:
            agent.wait_serving()
            worker.wait_counting()
            notify.wait_following()
            wait_until(lambda: "weir_sink_lag" in sink.metrics(), 30, "the sink")
            wait_until(lambda: agent.metrics()["weir_agent_freshness_seconds"] >= 0, 30, "streams to know the agent")
            yield {"weir-agent": agent, "weir-streams": worker, "weir-sink": sink, "weir-notify": notify}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


@pytest.fixture(scope="module")
def prometheus(directory: Path, parts: dict[str, Own], receiver: Receiver) -> Iterator[Prometheus]:
    rules = directory / "alerts.yml"
    rules.write_text(re.sub(r"\bfor: \w+", f"for: {SHORT}", RULES.read_text()))
    jobs = {job: [part.metrics_address] for job, part in parts.items()}
    with (
        Alertmanager(directory / "alertmanager", receiver.url) as alertmanager,
        Prometheus(directory / "prometheus", jobs, rules, alertmanager.address) as running,
    ):
        yield running


@pytest.mark.fleet
def test_all_that_alerts_ask_for_is_scraped_and_none_fires_where_all_is_well(
    prometheus: Prometheus, receiver: Receiver
) -> None:
    def scraped() -> dict[str, float]:
        return {labels["job"]: value for labels, value in prometheus.query("count_over_time(up[1m]) and up == 1")}

    wait_until(lambda: len(scraped()) == 4 and min(scraped().values()) >= 10, 60, "ten scrapes of each", 0.5)
    assert [metric for metric in METRICS if not prometheus.query(metric)] == []
    started = {labels["job"] for labels, _ in prometheus.query("process_start_time_seconds")}
    assert started == set(ports_of_jobs())
    assert receiver.told == []


@pytest.mark.fleet
@pytest.mark.parametrize(
    ("job", "alert"),
    [
        ("weir-agent", "WeirAgentDown"),
        ("weir-streams", "WeirWorkerDown"),
        ("weir-sink", "WeirSinkDown"),
        ("weir-notify", "WeirNotifyDown"),
    ],
)
def test_a_part_that_is_down_is_told_and_that_it_is_back(
    prometheus: Prometheus, parts: dict[str, Own], receiver: Receiver, job: str, alert: str
) -> None:
    part = parts[job]
    part.terminate()
    told = receiver.wait_for(alert, "firing", part.metrics_address)
    assert told.summary.startswith(part.metrics_address)
    if job == "weir-streams":
        nobody = receiver.wait_for("WeirPartitionsUncounted", "firing", "")
        assert nobody.summary.startswith("Streams count 0 of 12 partitions")
    part.start()
    receiver.wait_for(alert, "resolved", part.metrics_address)
