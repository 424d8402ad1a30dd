"""`mailriver demo`: the whole of mailriver on this machine, a campaign through it, and an honest comparison."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from pipeline import places
from pipeline.cli.logs import configure_logs
from pipeline.cli.output import Failure
from pipeline.cli.stack import started, wait_for_signal


def register(app: typer.Typer) -> None:
    app.command()(demo)


def demo(
    recipients: Annotated[
        int, typer.Option(min=1, help="Of the campaign; a tenth as many receipts go out too.")
    ] = 2_000,
    seed: Annotated[int, typer.Option(help="Of the simulated internet: the same seed, the same world.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers to this file.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running, with the page where the mails are.")] = False,
) -> None:
    """Start everything, send a campaign, print what ClickHouse knows of it, check it against the witness.

    Exits with 1 when a message was lost, doubled, or arrived without being sent.
    """
    from pipeline.demo.run import run
    from pipeline.embedded.stack import StackPlan

    configure_logs()
    console = Console()
    with started(StackPlan(places.data(), seed=seed), Console(stderr=True)) as stack:
        with _Bars(console) as bars:
            result = run(stack, recipients, bars.show)
        numbers = result.as_json()
        if json_file:
            json_file.write_text(json.dumps(numbers, indent=2) + "\n")
        console.print(_numbers_table(result.name, numbers, result.funnel))
        console.print(_providers_table(result.providers))
        _print_verdict(console, numbers)
        if keep:
            console.print(f"\nRead the mails at [bold]{stack.simulator['http']}[/]; Ctrl-C ends it.")
            wait_for_signal()
    if not result.verdict.clean:
        raise Failure("the witness disagrees: see the table above")


class _Rate(ProgressColumn):
    """Messages per second of a bar."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.finished_speed or task.speed or 0:7,.0f}/s", style="cyan")


class _Bars:
    """Published, accepted and ended, each with rate and time left."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description:>10}"), BarColumn(40), MofNCompleteColumn(), _Rate(), TimeRemainingColumn(),
            console=console,
        )  # fmt: skip
        self._tasks = {name: self._progress.add_task(name, total=None) for name in ("published", "accepted", "ended")}

    def __enter__(self) -> _Bars:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def show(self, state: Any) -> None:
        for name, task in self._tasks.items():
            self._progress.update(task, completed=getattr(state, name), total=state.total)


def _numbers_table(name: str, numbers: dict[str, Any], funnel: dict[str, object]) -> Table:
    table = Table(title=f"{name}: campaign and receipts, from ClickHouse", title_justify="left", show_header=False)
    table.add_column(justify="left")
    table.add_column(justify="right")
    for key in ("accepted", "delivered", "bounced", "suppressed", "expired", "failed", "unknown", "late_bounced"):
        table.add_row(key.replace("_", " "), f"{numbers[key]:,}")
    for key in ("opened", "opened_human", "clicked", "clicked_human", "unsubscribed", "complained"):
        if key in funnel:
            table.add_row(f"campaign: {key.replace('_', ' ')}", f"{funnel[key]:,}")
    table.add_row("seconds", f"{numbers['seconds']:,.1f}")
    table.add_row("messages per second", f"{numbers['messages_per_second']:,.0f}")
    return table


def _providers_table(rows: list[tuple[object, ...]]) -> Table:
    table = Table(title="by mailbox provider", title_justify="left")
    for column in ("provider", "messages", "delivered", "bounced", "attempts"):
        table.add_column(column, justify="left" if column == "provider" else "right")
    for row in rows:
        table.add_row(*(str(value) for value in row))
    return table


def _print_verdict(console: Console, numbers: dict[str, Any]) -> None:
    wrong = {key: numbers[key] for key in ("lost", "duplicates", "phantom")}
    style = "bold red" if any(wrong.values()) else "bold green"
    console.print("witness: " + ", ".join(f"{count} {key}" for key, count in wrong.items()), style=style)
