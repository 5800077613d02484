"""Forms and ranges of the settings: for each field of each struct what its value must be like.

Invariants: every field has a check; a check takes a value of the right type and says what was expected, or "".
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from weir import subjects
from weir.kafka import SASL_PASSWORD, SSL_KEY_PASSWORD
from weir.settings import (
    Agent,
    Brake,
    Burst,
    Detectors,
    Grafana,
    History,
    Kafka,
    Log,
    Notify,
    OwnRule,
    OwnThresholds,
    PostfixInstance,
    Queue,
    Rules,
    Settings,
    Streams,
    Thresholds,
)

Check = Callable[[Any], str]

CLICKHOUSE_PASSWORD = "WEIR_CLICKHOUSE_PASSWORD"  # noqa: S105 (names of environment variables)
GRAFANA_TOKEN = "WEIR_GRAFANA_TOKEN"  # noqa: S105
GRAFANA_CLICKHOUSE_PASSWORD = "WEIR_GRAFANA_CLICKHOUSE_PASSWORD"  # noqa: S105
NOTIFY_URLS = "WEIR_NOTIFY_URLS"

SECRETS = {
    "kafka": {
        "ssl_key_pass": SSL_KEY_PASSWORD,
        "clickhouse_pass": GRAFANA_CLICKHOUSE_PASSWORD,
        "token": GRAFANA_TOKEN,
        "passw": SASL_PASSWORD,
        "secret": SASL_PASSWORD,
    },
    "history": {"passw": CLICKHOUSE_PASSWORD, "secret": CLICKHOUSE_PASSWORD},
    "notify": {"url": NOTIFY_URLS, "passw": NOTIFY_URLS, "secret": NOTIFY_URLS},
    "grafana": {
        "token": GRAFANA_TOKEN,
        "passw": GRAFANA_CLICKHOUSE_PASSWORD,
        "secret": GRAFANA_CLICKHOUSE_PASSWORD,
    },
}
"""Table → part of a key that somebody may try there → the environment variable instead; the first that fits counts.
Elsewhere it is as in `kafka`."""

MAX_BLOCK_SECONDS = 30 * 86400
MAX_TEXT = 200
MAX_SOCKET_PATH = 107
"""Bytes that the kernel takes as a unix socket's address."""


def text_of_reply(text: str) -> str:
    """A refusal's own words: they stand in one line of SMTP."""
    fits = 0 < len(text) <= MAX_TEXT and text.isascii() and text.isprintable()
    return "" if fits else f"1 to {MAX_TEXT} printable ASCII characters"


def _anything(_: object) -> str:
    return ""


def _pattern(pattern: str, expected: str) -> Check:
    return lambda text: "" if re.fullmatch(pattern, text) else expected


def _one_of(*words: str) -> Check:
    return lambda word: "" if word in words else f"one of {', '.join(words)}"


def _from(least: int, most: int | None = None) -> Check:
    def check(number: float) -> str:
        fits = number >= least and (most is None or number <= most)
        return "" if fits else f"a number from {least} to {most}" if most is not None else f"{least} or more"

    return check


def _host_and_port(text: str) -> str:
    host, colon, port = text.rpartition(":")
    is_port = port.isdecimal() and port.isascii() and 1 <= int(port) <= 65535
    is_host = bool(re.fullmatch(r"[A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\]", host))
    return "" if colon and is_port and is_host else "HOST:PORT"


def _host_and_port_or_nothing(text: str) -> str:
    return _host_and_port(text) and "HOST:PORT, or empty" if text else ""


def _address_and_port_or_nothing(text: str) -> str:
    host, _, _ = text.rpartition(":")
    try:
        is_address = not text or bool(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        is_address = False
    return "" if is_address and not _host_and_port_or_nothing(text) else "ADDRESS:PORT, or empty"


def _servers(text: str) -> str:
    return "HOST:PORT, or several with commas" if any(map(_host_and_port, text.split(","))) else ""


def _listen(places: list[str]) -> str:
    for place in places:
        path = place.removeprefix("unix:")
        fits = path.startswith("/") and len(path.encode()) <= MAX_SOCKET_PATH if path != place else False
        if not fits and _host_and_port(place):
            return f"unix:/PATH (at most {MAX_SOCKET_PATH} bytes) or HOST:PORT"
    return ""


def _networks(networks: list[str]) -> str:
    for network in networks:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            return f"networks such as 192.0.2.0/24 ({error})"
    return ""


def _addresses(addresses: list[str]) -> str:
    try:
        for address in addresses:
            ipaddress.ip_address(address)
    except ValueError as error:
        return f"addresses such as 192.0.2.1 ({error})"
    return ""


def _user_ids(numbers: list[int]) -> str:
    return "" if all(0 <= number < 2**32 for number in numbers) else "numbers of users, 0 or more"


def _absolutes(paths: list[str]) -> str:
    return "" if all(path.startswith("/") for path in paths) else "absolute paths"


def _scores(scores: list[str]) -> str:
    fits = all(re.fullmatch(r"-?[0-9]+(\.[0-9]+)?=\S.*", score) for score in scores)
    return "" if fits else "texts such as 5.0=REJECT score exceeded"


def _absolute(path: str) -> str:
    return "" if path.startswith("/") else "an absolute path"


def _socket_path(path: str) -> str:
    fits = path.startswith("/") and len(path.encode()) <= MAX_SOCKET_PATH
    return "" if fits else f"an absolute path of at most {MAX_SOCKET_PATH} bytes"


_address = _pattern(
    r"https?://([A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?(/[^\s?#]*)?", "http://HOST:PORT or https://HOST/PATH"
)
_scope = _one_of("fleet", "host")
_name = _pattern(r"[A-Za-z0-9._-]{0,200}", "letters, digits, dots, dashes and underscores, at most 200")

CHECKS: dict[type[msgspec.Struct], dict[str, Check]] = {
    Settings: {
        "default_realm": _pattern(r"[^@\s]*", "a domain, without @"),
        "trusted": _networks,
    },
    Kafka: {
        "bootstrap_servers": _servers,
        "security_protocol": _one_of("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"),
        "sasl_mechanism": _one_of("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"),
        "sasl_username": _anything,
        "ssl_ca_location": _anything,
        "ssl_certificate_location": _anything,
        "ssl_key_location": _anything,
        "replication_factor": _from(1, 32767),
        "min_insync_replicas": _from(1, 32767),
    },
    Agent: {
        "host": _name,
        "listen": _listen,
        "socket_mode": _pattern("0?[0-7]{3}", "a mode in octal such as 0666"),
        "spool": _absolute,
        "spool_max_bytes": _from(1024**2),
        "metrics": _host_and_port_or_nothing,
    },
    OwnRule: {"limits": _scope},
    Rules: {
        "files": _absolutes,
        "limits": _scope,
        "scores": _scores,
        "dns": _anything,
        "resolver": _address_and_port_or_nothing,
        "dns_timeout_seconds": _from(0, 60),
        "dns_timeouts": _from(0),
    },
    Log: {"files": _absolutes, "journal": _anything, "filters": _addresses, "ignore_uids": _user_ids},
    PostfixInstance: {"config_directory": _absolute},
    Queue: {
        "socket": _socket_path,
        "user": _pattern("[A-Za-z0-9_.-]{1,64}", "a user's name"),
        "held": _absolute,
        "submit_table": _absolute,
    },
    Streams: {
        "name": _name,
        "group": _pattern(r"[A-Za-z0-9._-]{1,200}", "letters, digits, dots, dashes and underscores, 1 to 200"),
        "metrics": _host_and_port_or_nothing,
    },
    History: {
        "server": _host_and_port_or_nothing,
        "database": _pattern("[A-Za-z_][A-Za-z0-9_]{0,99}", "letters, digits and underscores, at most 100"),
        "user": _anything,
        "secure": _anything,
        "ca_location": _anything,
        "path": _absolute,
        "listen": _host_and_port,
        "keep_days": _from(3, 3650),
        "recipients": _one_of("full", "domain"),
        "group": _pattern(r"[A-Za-z0-9._-]{1,200}", "letters, digits, dots, dashes and underscores, 1 to 200"),
        "metrics": _host_and_port_or_nothing,
    },
    Notify: {
        "group": _pattern(r"[A-Za-z0-9._-]{1,200}", "letters, digits, dots, dashes and underscores, 1 to 200"),
        "metrics": _host_and_port_or_nothing,
    },
    Grafana: {
        "url": _address,
        "clickhouse": _host_and_port,
        "clickhouse_protocol": _one_of("native", "http"),
        "clickhouse_secure": _anything,
        "clickhouse_user": _pattern(r"\S{1,200}", "a name without spaces"),
    },
    Thresholds: {field: _from(0) for field in Thresholds.__struct_fields__},
    OwnThresholds: {field: _from(0) for field in OwnThresholds.__struct_fields__},
    Burst: {
        "block_seconds": _from(1, MAX_BLOCK_SECONDS),
        "text": text_of_reply,
        "shadow": _anything,
    },
    Detectors: {},
    Brake: {
        "blocks": _from(1),
        "share": _from(0, 1),
    },
}


def together(settings: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is wrong between several values that are right alone: the key where it is told, and the text."""
    kafka = settings.kafka
    if kafka.min_insync_replicas > kafka.replication_factor:
        yield (
            ("kafka", "min_insync_replicas"),
            f"kafka.min_insync_replicas: expected at most kafka.replication_factor ({kafka.replication_factor}), "
            f"got {kafka.min_insync_replicas}",
        )
    if kafka.security_protocol.startswith("SASL_") and not kafka.sasl_username:
        yield (
            ("kafka", "security_protocol"),
            f"kafka.sasl_username: expected a name for {kafka.security_protocol}, got nothing",
        )
    if bool(kafka.ssl_certificate_location) != bool(kafka.ssl_key_location):
        given = "ssl_certificate_location" if kafka.ssl_certificate_location else "ssl_key_location"
        other = "ssl_key_location" if kafka.ssl_certificate_location else "ssl_certificate_location"
        yield ("kafka", given), f"kafka.{given}: expected kafka.{other} with it, got nothing"
    yield from _own(settings)


def _own(settings: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
    """Keys of own thresholds are subjects, each once."""
    named: dict[str, str] = {}
    for text in settings.detectors.burst.own:
        try:
            subject = subjects.parse(text, settings.default_realm)
        except ValueError as error:
            yield ("detectors", "burst", "own", text), f"detectors.burst.own: {error}"
            continue
        if subject in named:
            yield (
                ("detectors", "burst", "own", text),
                f"detectors.burst.own: expected each subject once, got {named[subject]} and {text}",
            )
        named[subject] = text
