"""The `weir` command: one module for each noun, all errors and exit codes in one place.

Invariants: the exit codes are those in the help; an error is told in one line on stderr, without a traceback.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from weir import __version__, settings_file
from weir.cli import (
    config,
    dashboards,
    dead,
    decisions,
    history,
    limits,
    log,
    operators,
    processes,
    rules,
    status,
    topics,
    trace,
)
from weir.cli.output import DONE, USAGE, CommandError, tell
from weir.settings_file import SettingsError

# What typer raises for all that is wrong on the command line; where it stands differs between its releases.
UsageError: type[typer.BadParameter] = typer.BadParameter.__bases__[0]

EXIT_CODES = """\
Exit codes:

0  done

1  not found or not done; for `status` and `topics list`: something is wrong

2  wrong usage or settings

3  Kafka (for `history` and `trace` their store, for `dashboards push` Grafana) cannot be reached within 10 seconds

4  refused
"""


class Command(TyperGroup):
    """The whole command, with its errors told in one line each."""

    def main(self, *args: Any, **rest: Any) -> Any:
        try:
            code = super().main(*args, **{**rest, "standalone_mode": False})
        except UsageError as error:
            if text := error.format_message():  # none where no arguments gave the help
                tell(f"weir: {text}")
            code = USAGE
        except SettingsError as error:
            for text in error.errors:
                tell(f"weir: {text}")
            code = USAGE
        except CommandError as error:
            tell(f"weir: {error}")
            code = error.code
        sys.exit(code or DONE)


app = typer.Typer(cls=Command, no_args_is_help=True, epilog=EXIT_CODES, pretty_exceptions_enable=False)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"weir {__version__}")
        raise typer.Exit


@app.callback()
def weir(
    context: typer.Context,
    path: Annotated[
        Path | None,
        typer.Option(
            "--config",
            envvar=settings_file.ENVIRONMENT,
            metavar="FILE",
            help=f"The settings' file; without it {settings_file.DEFAULT}, if it is there.",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Stops a stolen mail login on all Postfix hosts at once."""
    context.obj = path


OPERATORS = "Operators"
PROCESSES = "Processes"

app.command(rich_help_panel=OPERATORS)(operators.block)
app.command(rich_help_panel=OPERATORS)(operators.release)
app.command(rich_help_panel=OPERATORS)(operators.allow)
app.command(rich_help_panel=OPERATORS)(operators.pause)
app.command(rich_help_panel=OPERATORS)(operators.resume)
app.command("history", rich_help_panel=OPERATORS)(history.history)
app.command("trace", rich_help_panel=OPERATORS)(trace.trace)
app.command("forget", rich_help_panel=OPERATORS)(history.forget)
app.add_typer(decisions.app, name="decisions", rich_help_panel=OPERATORS)
app.add_typer(limits.app, name="limits", rich_help_panel=OPERATORS)
app.add_typer(dead.app, name="dead", rich_help_panel=OPERATORS)
app.add_typer(log.app, name="log", rich_help_panel=OPERATORS)
app.command("status", rich_help_panel=OPERATORS)(status.show)
app.command(rich_help_panel=PROCESSES, context_settings=processes.AS_WRITTEN, add_help_option=False)(processes.agent)
app.command("queue-helper", rich_help_panel=PROCESSES)(processes.queue_helper)
app.command(rich_help_panel=PROCESSES)(processes.streams)
app.command(rich_help_panel=PROCESSES)(processes.sink)
app.command(rich_help_panel=PROCESSES)(processes.notify)
app.add_typer(rules.app, name="rules", rich_help_panel="Setting up")
app.add_typer(topics.app, name="topics", rich_help_panel="Setting up")
app.add_typer(dashboards.app, name="dashboards", rich_help_panel="Setting up")
app.add_typer(config.app, name="config", rich_help_panel="Setting up")


def main() -> None:
    """Run the command line, and end with its exit code."""
    app(prog_name="weir")
