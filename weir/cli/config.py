"""`weir config`: the settings' file, its reference and its check."""

from pathlib import Path
from typing import Annotated

import typer

from weir import settings_file
from weir.cli import options, output
from weir.cli.output import USAGE
from weir.settings_file import SettingsError

app = typer.Typer(no_args_is_help=True, help="The settings' file: its reference and its check.")


@app.command()
def reference() -> None:
    """Print all settings with their defaults and meaning, as a file that can be used."""
    typer.echo(settings_file.reference(), nl=False)


@app.command()
def check(
    context: typer.Context,
    path: Annotated[Path | None, typer.Argument(help="The file; without it the one that is in use.")] = None,
    as_json: options.Json = False,
) -> None:
    """Tell all that is wrong in a settings' file; exit code 2 if anything is."""
    found = settings_file.chosen(path or context.obj)
    errors: list[str] = []
    try:
        settings_file.load(found)
    except SettingsError as error:
        errors = error.errors
    if as_json:
        output.document({"file": str(found) if found else None, "errors": errors})
    else:
        for text in errors:
            output.tell(text)
        if not errors:
            output.say(f"{found}: all is right" if found else "there is no file: the defaults are in use")
    if errors:
        raise typer.Exit(USAGE)
