"""How a command asks this host's agent (`weir.control`)."""

from pathlib import Path
from typing import Annotated

import typer

from weir import control
from weir.cli import options
from weir.cli.output import UNREACHABLE, CommandError

Directory = Annotated[
    Path | None,
    typer.Option(
        "--state", metavar="DIR", help="The folder of a standalone agent; without it the settings' agent.spool."
    ),
]


def ask(context: typer.Context, directory: Path | None, question: control.Question) -> control.Answer:
    """The agent's answer; raises CommandError."""
    path = (directory or options.settings(context).agent.spool) / control.NAME
    try:
        return control.ask(path, question)
    except OSError as error:
        raise CommandError(f"the agent cannot be asked at {path}: {error.strerror or error}", UNREACHABLE) from None
    except ValueError as error:
        raise CommandError(f"the agent says: {error}") from None
