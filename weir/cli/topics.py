"""`weir topics`: make the topics that Weir needs, and compare those that are there.

Invariants: nothing is changed if anything has to be refused; a topic is never deleted and its partitions never grow,
since a subject's records are found by their count.
"""

import time
from collections.abc import Iterator
from typing import Any

import msgspec
import typer
from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from weir.cli import options, output
from weir.cli.broker import PATIENCE, Connection
from weir.cli.output import NOT_DONE, REFUSED, CommandError, many
from weir.settings import Settings
from weir.topics import ALL, Topic

app = typer.Typer(no_args_is_help=True, help="Make the topics that Weir needs, and compare those that are there.")


class Found(msgspec.Struct, frozen=True):
    """A topic as the brokers have it."""

    partitions: int
    replication: int
    config: dict[str, str]


class Difference(msgspec.Struct, frozen=True):
    key: str
    ours: str
    theirs: str

    def __str__(self) -> str:
        return f"{self.key} is {self.theirs}, ours {self.ours}"


def wanted(topic: Topic, settings: Settings) -> dict[str, str]:
    """The whole configuration of a topic of ours."""
    return {**topic.config, "min.insync.replicas": str(settings.kafka.min_insync_replicas)}


def fixed(topic: Topic, found: Found, settings: Settings) -> list[Difference]:
    """Differences that no command of ours changes."""
    pairs = {
        "partitions": (topic.partitions, found.partitions),
        "replication factor": (settings.kafka.replication_factor, found.replication),
    }
    return [Difference(key, str(ours), str(theirs)) for key, (ours, theirs) in pairs.items() if ours != theirs]


def changeable(topic: Topic, found: Found, settings: Settings) -> list[Difference]:
    """Differences of configuration; what we do not set may be as it is."""
    ours = wanted(topic, settings)
    return [Difference(key, ours[key], theirs) for key in ours if (theirs := found.config.get(key, "")) != ours[key]]


@app.command()
def create(context: typer.Context, as_json: options.Json = False) -> None:
    """Make all topics, and set those that are there to our configuration.

    Refused, with nothing changed, if one that is there has another number of partitions or replicas.
    """
    settings = options.settings(context)
    connection = Connection(settings)
    admin = connection.admin()
    try:
        found = _found(admin)
        refused = [
            f"{topic.name}: {difference}" for topic, one in _both(found) for difference in fixed(topic, one, settings)
        ]
        if refused:
            raise CommandError("nothing was changed: " + "; ".join(refused), REFUSED)
        made = _make(admin, [topic for topic in ALL if topic.name not in found], settings)
        changed = {topic.name: changeable(topic, one, settings) for topic, one in _both(found)}
        _alter(admin, {name: differences for name, differences in changed.items() if differences})
    except KafkaException as error:
        raise connection.failure(error, admin) from None
    if as_json:
        output.document({"created": made, "changed": {name: those for name, those in changed.items() if those}})
        return
    for topic in ALL:
        if topic.name in made:
            output.say(f"{topic.name}: created, {many(topic.partitions, 'partition')}")
        else:
            changes = ", ".join(f"{one.key} {one.theirs} → {one.ours}" for one in changed[topic.name])
            output.say(f"{topic.name}: {changes or 'as it should be'}")


@app.command("list")
def list_(context: typer.Context, as_json: options.Json = False) -> None:
    """Show our topics beside those that are there; exit code 1 if one is missing or differs."""
    settings = options.settings(context)
    connection = Connection(settings)
    admin = connection.admin()
    try:
        found = _found(admin)
    except KafkaException as error:
        raise connection.failure(error, admin) from None
    states = {topic.name: _state(topic, found.get(topic.name), settings) for topic in ALL}
    if as_json:
        output.document(
            [
                {"name": topic.name, "about": topic.about, "wrong": states[topic.name], "found": found.get(topic.name)}
                for topic in ALL
            ]
        )
    else:
        output.table(
            ["Topic", "Partitions", "Replicas", "What", "State"],
            [
                (
                    topic.name,
                    str(found[topic.name].partitions) if topic.name in found else "–",
                    str(found[topic.name].replication) if topic.name in found else "–",
                    topic.about,
                    "; ".join(states[topic.name]) or "as it should be",
                )
                for topic in ALL
            ],
            ["red" if states[topic.name] else "" for topic in ALL],
        )
    if any(states.values()):
        raise typer.Exit(NOT_DONE)


def _state(topic: Topic, found: Found | None, settings: Settings) -> list[str]:
    if found is None:
        return ["missing"]
    return [str(one) for one in [*fixed(topic, found, settings), *changeable(topic, found, settings)]]


def _both(found: dict[str, Found]) -> Iterator[tuple[Topic, Found]]:
    return ((topic, found[topic.name]) for topic in ALL if topic.name in found)


def _found(admin: AdminClient) -> dict[str, Found]:
    there = admin.list_topics(timeout=PATIENCE).topics
    names = [topic.name for topic in ALL if topic.name in there]
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    asked = admin.describe_configs(resources, request_timeout=PATIENCE) if resources else {}
    found = {}
    for resource, future in asked.items():
        partitions = there[resource.name].partitions
        config = {key: str(entry.value) for key, entry in future.result().items()}
        replicas = {len(partition.replicas) for partition in partitions.values()}
        found[resource.name] = Found(len(partitions), min(replicas), config)
    return found


def _make(admin: AdminClient, missing: list[Topic], settings: Settings) -> list[str]:
    if not missing:
        return []
    new = [
        NewTopic(topic.name, topic.partitions, settings.kafka.replication_factor, config=wanted(topic, settings))
        for topic in missing
    ]
    for only_validated in (True, False):  # so that all are made or none
        for future in admin.create_topics(
            new, operation_timeout=PATIENCE, request_timeout=PATIENCE, validate_only=only_validated
        ).values():
            future.result()
    names = [topic.name for topic in missing]
    _wait_for_leaders(admin, names)
    return names


def _wait_for_leaders(admin: AdminClient, names: list[str]) -> None:
    """Brokers hear of a new topic a little after it is made."""
    patience = time.monotonic() + PATIENCE
    while time.monotonic() < patience:
        there = admin.list_topics(timeout=PATIENCE).topics
        partitions: list[Any] = [one for name in names if name in there for one in there[name].partitions.values()]
        expected = sum(topic.partitions for topic in ALL if topic.name in names)
        if len(partitions) == expected and all(one.leader >= 0 for one in partitions):
            return
        time.sleep(0.05)
    raise CommandError("the topics are made, but not all of their partitions have a leader")


def _alter(admin: AdminClient, changed: dict[str, list[Difference]]) -> None:
    if not changed:
        return
    resources = [
        ConfigResource(
            ResourceType.TOPIC,
            name,
            incremental_configs=[
                ConfigEntry(one.key, one.ours, incremental_operation=AlterConfigOpType.SET) for one in differences
            ],
        )
        for name, differences in changed.items()
    ]
    for future in admin.incremental_alter_configs(resources, request_timeout=PATIENCE).values():
        future.result()
