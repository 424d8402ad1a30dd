"""`mailriver topics`: what the registry declares, and bringing a broker in line with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from pipeline import wiring
from pipeline.cli.output import JsonOption, print_rows
from pipeline.cli.session import kafka, loaded
from topics import admin
from topics.registry import TOPICS

app = typer.Typer(no_args_is_help=True, help="Topics: what is declared, and the broker's drift from it.")

ProfileOption = Annotated[
    admin.Profile, typer.Option("--profile", help="Whose partition counts: the embedded stack's or production's.")
]


def register(program: typer.Typer) -> None:
    program.add_typer(app, name="topics")


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


@app.command()
def plan(profile: ProfileOption = admin.Profile.PRODUCTION, json: JsonOption = False) -> None:
    """What `apply` would change, and what differs that it leaves to people."""
    with kafka() as cluster:
        changes = admin.plan(cluster, profile, wiring.topics(loaded()))
    _print(changes, json)


@app.command()
def apply(profile: ProfileOption = admin.Profile.PRODUCTION, json: JsonOption = False) -> None:
    """Create missing topics and alter settings; deletes nothing, shrinks nothing."""
    with kafka() as cluster:
        changes = admin.apply(cluster, profile, wiring.topics(loaded()))
    _print(changes, json)


def _print(changes: Sequence[admin.Change], as_json: bool) -> None:
    columns = ("topic", "change", "setting", "found", "wanted", "left because")
    rows = [(c.topic, c.kind, c.setting, c.found, c.wanted, c.obstacle) for c in changes]
    if rows or as_json:
        print_rows(columns, rows, as_json=as_json)
    else:
        typer.echo("nothing differs")
