"""How commands speak: a table for people or JSON for programs, and failures in one sentence."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

_PIPED = 10_000  # columns: where no person reads, no line is broken


class Failure(Exception):
    """A command could not do its work: what, where, what to do. Printed without a traceback."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


def print_rows(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], *, as_json: bool, title: str | None = None
) -> None:
    if as_json:
        print_json([dict(zip(columns, row, strict=True)) for row in rows])
    else:
        _console().print(table(columns, rows, title=title))


def watch(look: Callable[[], Table], every: float) -> None:
    """Show what `look` gives, anew every so many seconds, until Ctrl-C."""
    with Live(look(), console=_console(), auto_refresh=False) as live:
        while True:
            time.sleep(every)
            live.update(look(), refresh=True)


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, title: str | None = None) -> Table:
    made = Table(title=title, title_justify="left", header_style="bold", box=None, padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(_cell(value) for value in row))
    return made


def print_fields(fields: Mapping[str, Any]) -> None:
    """One thing: a name and a value per line."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in fields.items():
        table.add_row(name, _cell(value))
    _console().print(table)


def print_json(value: Sequence[Any] | Mapping[str, Any]) -> None:
    typer.echo(json.dumps(value, indent=2, default=str, ensure_ascii=False))


def _console() -> Console:
    # Cells come from databases and mail: no markup is read from them, no control character passed to the terminal.
    return Console(markup=False, highlight=False, emoji=False, width=None if sys.stdout.isatty() else _PIPED)


def _cell(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() else "·" for c in text)
