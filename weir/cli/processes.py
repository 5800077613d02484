"""`weir agent`, `weir streams`: from the command to the process that it starts.

Invariant: an agent's process holds nothing of the command line: it takes this one's place.
"""

import importlib
import os
import sys

import typer
from confluent_kafka import KafkaError, KafkaException

from weir.cli import options
from weir.cli.output import USAGE, CommandError


def agent(context: typer.Context) -> None:
    """Run the agent of this mail host (in the foreground, as systemd wants it)."""
    config = ["--config", str(context.obj)] if context.obj else []
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "agents", *config])  # noqa: S606 (no shell is meant)


def streams(context: typer.Context) -> None:
    """Run a streams worker (in the foreground); more of them share the partitions."""
    settings = options.settings(context)
    try:
        app = importlib.import_module("streams.app")
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package in ("streams", "weir"):
            raise  # ours: a fault, not something to install
        raise CommandError(f"{package} is not installed: pip install 'weir[streams]'") from None
    try:
        app.run(settings)
    except KafkaException as error:
        if error.args[0].code() != KafkaError._INVALID_ARG:
            raise
        raise CommandError(f"settings of Kafka's client: {error.args[0].str()}", USAGE) from None
