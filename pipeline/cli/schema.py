"""`mailriver schema`: the formats, for apps and teams that do not use Python."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import orjson
import typer

from pipeline.cli.output import Failure
from schemas.export import FOLDER, file_name, json_schemas
from topics.asyncapi import document

app = typer.Typer(no_args_is_help=True, help="Formats of events: JSON Schemas and AsyncAPI.")


def register(program: typer.Typer) -> None:
    program.add_typer(app, name="schema")


def exported(app_version: str) -> dict[str, bytes]:
    """Every generated file, by its path below the folder."""
    files = {f"json/{file_name(kind)}": schema for kind, schema in json_schemas().items()}
    files["asyncapi.json"] = document(app_version)
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    return {name: orjson.dumps(content, option=options) for name, content in files.items()}


@app.command()
def export(
    to: Annotated[Path, typer.Option(help="The folder; by default the one that the project keeps them in.")] = FOLDER,
) -> None:
    """Write the JSON Schema of every event, and the AsyncAPI 3 document of all topics."""
    from pipeline.cli import version

    written = exported(version().split()[0])
    try:
        for name, content in written.items():
            path = to / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    except OSError as error:
        raise Failure(f"{to}: {error.strerror}") from None
    typer.echo(f"{len(written)} files in {to}")
