"""Options and arguments that several commands have, and the settings that a command runs with."""

from typing import Annotated

import typer

from weir import settings_file, subjects
from weir.cli import durations
from weir.settings import Settings


def settings(context: typer.Context) -> Settings:
    """The settings of the file that --config names. Raises SettingsError."""
    return settings_file.load(context.obj)


def subject(text: str, loaded: Settings) -> str:
    """The subject that the operator means; raises BadParameter."""
    try:
        return subjects.parse(text, loaded.default_realm)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="SUBJECT") from None


def duration(text: str) -> int:
    """Seconds of a duration; raises BadParameter."""
    try:
        return durations.seconds(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _reason(text: str) -> str:
    if not text.strip():
        raise typer.BadParameter("expected a few words that tell the next person why")
    return text.strip()[:1000]


Subject = Annotated[
    str,
    typer.Argument(
        metavar="SUBJECT",
        help="An account (alice@example.org), an address (192.0.2.10), a local user (uid:33), or in full.",
    ),
]
For = Annotated[int, typer.Option("--for", metavar="DURATION", parser=duration, help="90s, 30m, 12h or 7d.")]
Reason = Annotated[str, typer.Option("--reason", callback=_reason, help="Why, for the next person who looks.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
