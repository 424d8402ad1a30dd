"""`mailriver topics`: what the registry declares, and bringing a broker in line with it."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.output import JsonOption, print_rows
from topics import admin
from topics.registry import TOPICS

app = typer.Typer(no_args_is_help=True, help="Topics: what is declared, and the broker's drift from it.")

ProfileOption = Annotated[
    admin.Profile, typer.Option("--profile", help="Whose partition counts: the embedded stack's or production's.")
]


@app.command("list")
def list_(json: JsonOption = False) -> None:
    """What each topic holds, its key, how long it is kept, who writes and who reads. Needs no broker."""
    columns = ("topic", "key", "types", "partitions", "kept", "writers", "readers")
    rows = [
        (
            topic.name,
            topic.key,
            ", ".join(topic.types),
            f"{topic.embedded} / {topic.production}",
            "compacted" if topic.keep_ms < 0 else f"{topic.keep_ms // 86_400_000} d",
            ", ".join(topic.writers),
            ", ".join(topic.readers),
        )
        for topic in TOPICS
    ]
    print_rows(columns, rows, as_json=json, title="partitions: embedded / production")
