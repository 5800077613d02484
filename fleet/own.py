"""Weir's own processes, each with a settings file, restarted as systemd would."""

import http.client
import json
import sys
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from fleet.process import Supervised, free_port

CHECKOUT = Path(__file__).resolve().parent.parent
METRICS_SECONDS = 0.1
"""Between two looks at a process's metrics, which cost it some milliseconds each."""

Table = Mapping[str, Any]


def toml(settings: Table, prefix: str = "") -> str:
    """A TOML document of nested tables; strings, numbers, booleans and lists are written as JSON writes them."""
    plain = {name: value for name, value in settings.items() if not isinstance(value, Mapping)}
    lines = [f"[{prefix}]"] if prefix and plain else []
    lines += [f"{name} = {json.dumps(value)}" for name, value in plain.items()]
    text = "".join(f"{line}\n" for line in lines)
    for name, table in settings.items():
        if isinstance(table, Mapping):
            key = name if name.replace("_", "").isalnum() else json.dumps(name)
            text += toml(table, f"{prefix}.{key}" if prefix else key)
    return text


def merged(under: Table, over: Table) -> dict[str, Any]:
    """Two documents in one; where both have a value, that of `over`."""
    result = dict(under)
    for name, value in over.items():
        below = result.get(name)
        result[name] = merged(below, value) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return result


class Own(Supervised):
    """One of our processes: `weir COMMAND` with a settings file, logs and all in `directory`."""

    def __init__(
        self,
        name: str,
        command: list[str],
        directory: Path,
        settings: Table,
        env: Mapping[str, str] | None = None,
    ) -> None:
        directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        self.directory = directory
        self.config = directory / "weir.toml"
        self.config.write_text(toml(settings))
        super().__init__(
            name,
            [sys.executable, "-m", "weir.cli", "--config", str(self.config), *command],
            directory / "log",
            env=env,
            cwd=CHECKOUT,
        )

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The structured log lines of this event so far."""
        found = []
        with self.log_path.open(encoding="utf-8", errors="replace") as log:
            for line in log:
                if line.startswith("{") and event in line:
                    try:
                        record = json.loads(line)
                    except ValueError:
                        continue  # the last line may be half written
                    if record.get("event") == event:
                        found.append(record)
        return found

    def metrics(self) -> dict[str, float]:
        """What Prometheus would read now: sample name, with its labels' values behind it, → value; {} if it is away."""
        try:
            with urllib.request.urlopen(f"http://{self.metrics_address}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except (OSError, http.client.HTTPException):  # it may end in the middle of its answer
            return {}
        return {
            " ".join([sample.name, *sample.labels.values()]): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    metrics_address: str


class Agent(Own):
    """`weir agent` of one mail host; Postfix reaches it by `policy_service`."""

    def __init__(
        self,
        host: str,
        directory: Path,
        bootstrap: str,
        settings: Table | None = None,
        address: str = "127.0.0.1",
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.host = host
        self.socket = directory / "policy.sock"
        self.tcp = (address, free_port(address))
        self.spool = directory / "spool"
        self.policy_service = f"unix:{self.socket}"
        self.metrics_address = f"127.0.0.1:{free_port()}"
        base = {
            "kafka": {"bootstrap_servers": bootstrap},
            "agent": {
                "host": host,
                "listen": [f"unix:{self.socket}", f"{self.tcp[0]}:{self.tcp[1]}"],
                "spool": str(self.spool),
                "metrics": self.metrics_address,
            },
        }
        super().__init__(f"agent {host}", ["agent"], directory, merged(base, settings or {}), env)

    def wait_serving(self, timeout: float = 20.0) -> None:
        """Return when it answers and has read decisions and operators' words to their end."""
        self.wait_ready(
            lambda: self.socket.is_socket() and self.metrics().get("weir_agent_stale") == 0.0, timeout, METRICS_SECONDS
        )


class Worker(Own):
    """`weir streams`: one worker."""

    def __init__(
        self,
        name: str,
        directory: Path,
        bootstrap: str,
        settings: Table | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.metrics_address = f"127.0.0.1:{free_port()}"
        base = {
            "kafka": {"bootstrap_servers": bootstrap},
            "streams": {"name": name, "metrics": self.metrics_address},
        }
        super().__init__(f"worker {name}", ["streams"], directory, merged(base, settings or {}), env)

    def owned(self) -> int:
        """How many partitions it counts just now."""
        return int(self.metrics().get("weir_streams_partitions", 0.0))

    def wait_counting(self, partitions: int = 12, timeout: float = 30.0) -> None:
        """Return when it counts that many partitions."""
        self.wait_ready(lambda: self.owned() >= partitions, timeout, METRICS_SECONDS)


class Sink(Own):
    """`weir sink`; if no server is in its settings, the history is in `path` and asked at `queries`."""

    def __init__(
        self,
        name: str,
        directory: Path,
        bootstrap: str,
        settings: Table | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.metrics_address = f"127.0.0.1:{free_port()}"
        self.queries = f"127.0.0.1:{free_port()}"
        self.path = directory / "history"
        base = {
            "kafka": {"bootstrap_servers": bootstrap},
            "history": {"path": str(self.path), "listen": self.queries, "metrics": self.metrics_address},
        }
        super().__init__(f"sink {name}", ["sink"], directory, merged(base, settings or {}), env)


class Notify(Own):
    """`weir notify`, telling the destinations `urls`."""

    def __init__(
        self,
        name: str,
        directory: Path,
        bootstrap: str,
        urls: Iterable[str],
        settings: Table | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.metrics_address = f"127.0.0.1:{free_port()}"
        base = {"kafka": {"bootstrap_servers": bootstrap}, "notify": {"metrics": self.metrics_address}}
        environment = {"WEIR_NOTIFY_URLS": " ".join(urls), **(env or {})}
        super().__init__(f"notify {name}", ["notify"], directory, merged(base, settings or {}), environment)

    def wait_following(self, timeout: float = 30.0) -> None:
        """Return when it was given partitions."""
        self.wait_ready(lambda: self.logged("assigned"), timeout, METRICS_SECONDS)
