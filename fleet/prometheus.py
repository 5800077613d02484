"""Debian's Prometheus and Alertmanager, which look and tell each second. Loopback only."""

import http.client
import json
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fleet.process import Process, free_port

START_SECONDS = 20.0
_ALERTMANAGER = """\
route: {{receiver: test, group_by: [alertname, instance], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}
receivers: [{{name: test, webhook_configs: [{{url: "{webhook}", send_resolved: true}}]}}]
"""
_PROMETHEUS = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}


class _Server(Process):
    """Starts when its `with` block is entered, and answers then."""

    address: str

    def start(self) -> None:
        super().start()
        try:
            self.wait_ready(self._ready, START_SECONDS, 0.1)
        except BaseException:
            self.terminate()
            raise

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, http.client.HTTPException):
            return False


class Alertmanager(_Server):
    """Posts each alert to `webhook` (an URL) at once, and that it is over."""

    def __init__(self, directory: Path, webhook: str) -> None:
        directory.mkdir(mode=0o711)
        self.address = f"127.0.0.1:{free_port()}"
        config = directory / "alertmanager.yml"
        config.write_text(_ALERTMANAGER.format(webhook=webhook))
        command = ["prometheus-alertmanager", f"--config.file={config}", f"--storage.path={directory / 'data'}"]
        command += [f"--web.listen-address={self.address}", "--cluster.listen-address="]
        super().__init__("alertmanager", command, directory / "log")


class Prometheus(_Server):
    """Scrapes `jobs`, name → addresses, applies the rules of a file, and tells the Alertmanager at `alertmanager`."""

    def __init__(self, directory: Path, jobs: Mapping[str, Sequence[str]], rules: Path, alertmanager: str) -> None:
        directory.mkdir(mode=0o711)
        self.address = f"127.0.0.1:{free_port()}"
        config = directory / "prometheus.yml"
        settings = {
            "global": _PROMETHEUS,
            "rule_files": [str(rules)],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager]}]}]},
            "scrape_configs": [
                {"job_name": name, "static_configs": [{"targets": list(addresses)}]} for name, addresses in jobs.items()
            ],
        }
        config.write_text(json.dumps(settings))  # which is YAML too
        command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={directory / 'data'}"]
        command += [f"--web.listen-address={self.address}"]
        super().__init__("prometheus", command, directory / "log")

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series that the expression gives now."""
        url = f"http://{self.address}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return [(one["metric"], float(one["value"][1])) for one in found]
