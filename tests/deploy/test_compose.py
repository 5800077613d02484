"""deploy/compose.yaml is sound for docker-compose, and agrees with the files beside it.

docker-compose is Debian 12's, 1.29: the form in which it prints what it read is held to here.
"""

import os
import re
import subprocess
import tomllib
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

import weir
from fleet.own import CHECKOUT

DEPLOY = CHECKOUT / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
SECRETS = sorted(set(re.findall(r"\$\{(\w+)", COMPOSE.read_text())))
SETTINGS = {
    "streams": "weir.toml",
    "sink": "weir-sink.toml",
    "notify": "weir-notify.toml",
    "topics": "weir-topics.toml",
}


def config(secrets: list[str]) -> subprocess.CompletedProcess[str]:
    """`docker-compose config` with these variables set, each to its own name, and none from an .env that is there."""
    environment = {name: value for name, value in os.environ.items() if name not in SECRETS}
    with NamedTemporaryFile() as nothing:
        return subprocess.run(
            ["docker-compose", "--env-file", nothing.name, "-f", COMPOSE, "config"],
            env=environment | {name: name for name in secrets},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    done = config(SECRETS)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = yaml.safe_load(done.stdout)
    return document


def kafka_settings(service: str) -> dict[str, Any]:
    with (DEPLOY / SETTINGS[service]).open("rb") as file:
        table: dict[str, Any] = tomllib.load(file)["kafka"]
    return table


def test_no_secret_has_a_default() -> None:
    assert len(SECRETS) == 14
    for missing in SECRETS:
        done = config([name for name in SECRETS if name != missing])
        assert done.returncode != 0, missing
        assert missing in done.stderr


def test_all_secrets_are_told_in_the_head() -> None:
    head = COMPOSE.read_text().partition("services:")[0]
    assert [name for name in SECRETS if name not in head] == []


def test_versions_are_pinned(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert re.fullmatch(r"[\w/-]+:\d+\.\d+\.\d+(\.\d+)?", service["image"]), name
    version = re.search(r"<version>(4[\d.]+)<", (CHECKOUT / "fleet/pom.xml").read_text())
    assert version is not None
    assert compose["services"]["streams"]["image"] == f"weir:{weir.__version__}"
    assert compose["services"]["kafka"]["image"] == f"apache/kafka:{version[1]}"  # what the tests run


def test_services_last_or_come_first(compose: dict[str, Any]) -> None:
    """What ends is waited for by what lasts, and what lasts is restarted, watched, and has its logs bounded."""
    services = compose["services"]
    waited: dict[str, set[str]] = {}
    for service in services.values():
        for name, how in service.get("depends_on", {}).items():
            waited.setdefault(name, set()).add(how["condition"])
    once = {name for name, conditions in waited.items() if conditions == {"service_completed_successfully"}}
    assert once == {"kafka-format", "users", "topics", "dashboards"}
    for name, service in services.items():
        assert service["logging"]["options"]["max-size"] == "10m", name
        assert ("restart" in service) == ("healthcheck" in service) == (name not in once), name


def test_data_lies_in_named_volumes_and_mounted_files_are_there(compose: dict[str, Any]) -> None:
    used = set()
    for service in compose["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            if source.startswith("/"):
                assert volume.endswith(":ro"), volume
                assert Path(source).exists() or Path(source).is_relative_to(DEPLOY / "certificates"), volume
            else:
                used.add(source)
    assert used == set(compose["volumes"]) == {"kafka", "clickhouse", "grafana", "grafana-provisioning"}


@pytest.mark.parametrize("service", SETTINGS)
def test_settings(compose: dict[str, Any], service: str) -> None:
    path = DEPLOY / SETTINGS[service]
    checked = subprocess.run(
        [CHECKOUT / ".venv/bin/weir", "config", "check", path], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert f"{path}:/etc/weir/weir.toml:ro" in compose["services"][service]["volumes"]
    ours = kafka_settings(service)
    network = compose["services"]["kafka"]["networks"]["default"]
    assert ours["bootstrap_servers"] == f"{network['aliases'][0]}:9092"
    assert f"CLIENTS://{ours['bootstrap_servers']}," in (DEPLOY / "kafka/server.properties").read_text()


def test_users_are_those_that_are_made(compose: dict[str, Any]) -> None:
    services = compose["services"]
    made = dict(re.findall(r'^user ([\w-]+) "\$(\w+)"', (DEPLOY / "kafka/create-users-and-acls").read_text(), re.M))
    made["admin"] = "KAFKA_ADMIN_PASSWORD"
    for service in SETTINGS:
        user = kafka_settings(service)["sasl_username"]
        assert services[service]["environment"]["WEIR_KAFKA_SASL_PASSWORD"] == made[user]
    assert set(made.values()) == set(services["users"]["environment"])

    with (DEPLOY / SETTINGS["sink"]).open("rb") as file:
        settings = tomllib.load(file)
    users = ElementTree.parse(DEPLOY / "clickhouse/weir.xml").getroot().find("users")  # noqa: S314 (a file of ours)
    assert users is not None
    hashes = {user.tag: user.findall("password_sha256_hex")[0].get("from_env") for user in users}
    sink = services["sink"]["environment"]["WEIR_CLICKHOUSE_PASSWORD"]
    reader = services["grafana"]["environment"]["WEIR_GRAFANA_CLICKHOUSE_PASSWORD"]
    expected = {settings["history"]["user"]: sink, settings["grafana"]["clickhouse_user"]: reader}
    assert hashes == {user: f"{password}_SHA256" for user, password in expected.items()}
    assert set(hashes.values()) == set(services["clickhouse"]["environment"])


def test_grafana_reads_what_is_exported(compose: dict[str, Any]) -> None:
    services = compose["services"]
    folder = services["dashboards"]["command"][-1]
    assert f"grafana-provisioning:{folder}:rw" in services["dashboards"]["volumes"]
    assert f"grafana-provisioning:{folder}:ro" in services["grafana"]["volumes"]
    assert services["grafana"]["environment"]["GF_PATHS_PROVISIONING"] == f"{folder}/provisioning"


def test_the_image_has_every_package_and_is_not_root() -> None:
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    with (CHECKOUT / "pyproject.toml").open("rb") as file:
        packages = tomllib.load(file)["tool"]["setuptools"]["packages"]["find"]["include"]
    for package in packages:
        name = package.removesuffix("*")
        assert f"COPY {name} {name}\n" in dockerfile
    assert re.findall(r"^USER (.*)$", dockerfile, re.M) == ["weir"]


def test_the_image_has_a_pinned_base_of_the_python_that_we_need() -> None:
    (base,) = re.findall(r"^FROM (.*)$", (DEPLOY / "Dockerfile").read_text(), re.M)
    with (CHECKOUT / "pyproject.toml").open("rb") as file:
        least = tomllib.load(file)["project"]["requires-python"].removeprefix(">=")
    assert re.fullmatch(rf"python:{re.escape(least)}\.\d+-slim-bookworm", base)
