"""`weir agent`, `queue-helper`, `streams`, `sink`, `notify`: from the command to the process that it starts.

Invariant: a process on a mail host holds nothing of the command line: it takes this one's place.
"""

import importlib
import os
import sys
from types import ModuleType
from typing import Annotated

import typer
from confluent_kafka import KafkaError, KafkaException

from weir.cli import options
from weir.cli.output import USAGE, CommandError

AS_WRITTEN = {"allow_extra_args": True, "ignore_unknown_options": True}
"""For a command that passes its arguments on."""


def agent(context: typer.Context) -> None:
    """Run the agent of this mail host (in the foreground, as systemd wants it); with --standalone it needs no fleet."""
    _become(context, "agents")


def queue_helper(context: typer.Context) -> None:
    """Run the queue's helper of this mail host as root (in the foreground): it holds messages for the agent."""
    _become(context, "agents.queue")


def streams(context: typer.Context) -> None:
    """Run a streams worker (in the foreground); more of them share the partitions."""
    _run(context, "streams.app", "streams")


def sink(context: typer.Context) -> None:
    """Run the sink, which writes the history (in the foreground); more of them share the work."""
    _run(context, "sinks.app", "sinks")


def notify(
    context: typer.Context,
    test: Annotated[bool, typer.Option("--test", help="Only send a test, and say which destinations took it.")] = False,
) -> None:
    """Run the process that tells people of blocks (in the foreground), where WEIR_NOTIFY_URLS says."""
    if test:
        options.settings(context)
        installed("sinks.notify", "notify").test()
    else:
        _run(context, "sinks.notify", "notify")


def _become(context: typer.Context, module: str) -> None:
    config = ["--config", str(context.obj)] if context.obj else []
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *config, *context.args])  # noqa: S606 (no shell is meant)


def _run(context: typer.Context, module: str, extra: str) -> None:
    """Run a part's process; raises CommandError for what prevents its start."""
    settings = options.settings(context)
    app = installed(module, extra)
    try:
        app.run(settings)
    except KafkaException as error:
        if error.args[0].code() != KafkaError._INVALID_ARG:
            raise
        raise CommandError(f"settings of Kafka's client: {error.args[0].str()}", USAGE) from None


def installed(module: str, extra: str) -> ModuleType:
    """A module of a part that comes with an extra of the package; raises CommandError if that is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        if package == "weir" or package == module.partition(".")[0]:
            raise  # ours: a fault, not something to install
        raise CommandError(f"{package} is not installed: install Weir with its extra '{extra}'") from None
