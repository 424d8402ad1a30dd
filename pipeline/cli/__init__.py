"""The command line: `mailriver COMMAND`. Each file here is a group of commands; this one joins them and turns errors
into sentences.
"""

from __future__ import annotations

import importlib.metadata
import sys
from typing import Annotated

import typer

from pipeline.cli import data, demo, operate, schema, stack, topics
from pipeline.cli.output import Failure

app = typer.Typer(
    name="mailriver",
    help="An organisation's outgoing email as an event log on Kafka.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
demo.register(app)
stack.register(app)
operate.register(app)
data.register(app)
app.add_typer(topics.app, name="topics")
app.add_typer(schema.app, name="schema")


def version() -> str:
    try:
        return importlib.metadata.version("mailriver")
    except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
        return "0.1.0 (checkout)"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mailriver {version()}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the program itself."""


def main() -> None:
    try:
        app()
    except Failure as failure:
        typer.echo(f"mailriver: {failure}", err=True)
        sys.exit(failure.status)
