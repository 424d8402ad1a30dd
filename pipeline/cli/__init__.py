"""The command line: `mailriver COMMAND`. Each file here is a group of commands; this one joins them and turns errors
into sentences.

Only the file of the command that is called is imported: most calls are a role's process, and eight of them start with
the stack, each of which would load what the others need.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from pipeline.cli.logs import log_failures
from pipeline.cli.output import Failure

COMMANDS = {  # in the order of the help: the module below this package that registers each
    "demo": "demo",
    "up": "stack",
    "run": "run",
    "send": "operate",
    "campaign": "campaign",
    "message": "data",
    "queue": "queue",
    "trace": "trace",
    "sql": "data",
    "shaping": "shaping",
    "topics": "topics",
    "schema": "schema",
    "dkim": "dkim",
    "doctor": "doctor",
    "clean": "clean",
}


def version() -> str:
    try:
        return importlib.metadata.version("mailriver")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "0.1.0 (checkout)"


def app_for(argv: Sequence[str]) -> typer.Typer:
    """The program with the command that `argv` names; with all of them when it names none."""
    app = typer.Typer(
        name="mailriver",
        help="An organisation's outgoing email as an event log on Kafka.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    named = next((word for word in argv if not word.startswith("-")), "")
    wanted = [COMMANDS[named]] if named in COMMANDS else COMMANDS.values()
    for module in dict.fromkeys(wanted):
        importlib.import_module(f"{__name__}.{module}").register(app)
    return app


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command and exit with its status: 0, 1 for a failure, 2 for wrong use or configuration, 130 for Ctrl-C."""
    given = sys.argv[1:] if argv is None else list(argv)
    log_failures()  # until the command says otherwise
    try:
        app_for(given)(given)
    except Failure as failure:
        typer.echo(f"mailriver: {failure}", err=True)
        sys.exit(failure.status)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mailriver {version()}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the program itself."""
