"""The alerts for Prometheus: well formed, and each asks for metrics that we have."""

import re
from typing import Any

import pytest
import yaml

from fleet.own import CHECKOUT

ALERTS = yaml.safe_load((CHECKOUT / "deploy/prometheus/alerts.yml").read_text())["groups"][0]["rules"]
SOURCES = {
    "weir_agent_log_": CHECKOUT / "agents/maillog/metrics.py",
    "weir_agent_": CHECKOUT / "agents/metrics.py",
    "weir_streams_": CHECKOUT / "streams/metrics.py",
    "weir_notify_": CHECKOUT / "sinks/notify.py",
}


def test_all_alerts_are_explained() -> None:
    explained = re.findall(r"^\| `(Weir\w+)` \|", (CHECKOUT / "docs/alerts.md").read_text(), re.MULTILINE)
    assert explained == [alert["alert"] for alert in ALERTS]


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_asks_for_metrics_that_we_have_and_says_what_is_wrong(alert: dict[str, Any]) -> None:
    metrics = re.findall(r"weir_\w+", alert["expr"])
    assert metrics
    for metric in metrics:
        prefix = next(prefix for prefix in SOURCES if metric.startswith(prefix))
        name = metric.removeprefix(prefix).removesuffix("_total")
        source = SOURCES[prefix].read_text()
        assert f'"{name}"' in source or f'"{prefix}{name}"' in source or f"{name}:" in source, metric
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert len(alert["annotations"]["summary"]) > 20
