"""`mailriver demo`: the whole of mailriver on this machine, a campaign through it, and an honest comparison."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from pipeline.cli import report
from pipeline.cli.output import Failure
from pipeline.cli.signals import until_signal
from pipeline.cli.stack import check_writable, started

if TYPE_CHECKING:
    from pipeline.demo.run import Progress as State
    from pipeline.demo.run import Result


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
    if json_file is not None:
        check_writable(json_file)
    console = Console(stderr=True)
    with started(console, seed=seed) as stack:
        from clickhouse_connect.driver.exceptions import ClickHouseError

        from pipeline.demo.run import run

        try:
            with Bars(console) as bars:
                result = run(stack, recipients, bars.show)
        except ClickHouseError as error:
            raise Failure(f"ClickHouse stopped answering ({type(error).__name__}); see {_logs()}") from None
        conclude(result, Console(), json_file)
        console.print(report.where_next(result, stack.endpoints(), keep), highlight=False, soft_wrap=True)
        if keep:
            until_signal()
            console.print("ending …")
    judge(result)


def conclude(result: Result, console: Console, json_file: Path | None) -> None:
    """Print the numbers, and write them to the file."""
    if json_file is not None:
        json_file.write_text(json.dumps(result.as_json(), indent=2) + "\n")
    for part in report.of(result):
        console.print(part, highlight=False, soft_wrap=isinstance(part, str))


def judge(result: Result) -> None:
    """Raises Failure where the witness does not confirm what we say."""
    if not result.verdict.clean:
        raise Failure(f"the witness disagrees; what each role did is in {_logs()}")


def _logs() -> str:
    from pipeline import places

    return str(places.data() / "logs")


class _Rate(ProgressColumn):
    """Messages per second: of late while the bar runs, on average when it is full."""

    def render(self, task: Task) -> Text:
        average = task.completed / task.finished_time if task.finished_time else None
        return Text(f"{average or task.speed or 0.0:7,.0f}/s", style="cyan")


class Bars:
    """Published, accepted and ended, each with rate and time left; then the feedback of those who got the mails."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("  {task.description:<10}"), BarColumn(36), MofNCompleteColumn(), _Rate(),
            TimeRemainingColumn(elapsed_when_finished=True), console=console,
        )  # fmt: skip
        self._tasks = {name: self._progress.add_task(name, total=None) for name in ("published", "accepted", "ended")}
        self._feedback = self._progress.add_task("feedback", total=None, visible=False)
        self._most = 0  # visits and reports that were ahead at once

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def show(self, state: State) -> None:
        counts: Mapping[str, int] = {"published": state.published, "accepted": state.accepted, "ended": state.ended}
        for name, task in self._tasks.items():
            self._progress.update(task, completed=counts[name], total=state.total)
        if state.pending > self._most:
            self._most = state.pending
            self._progress.reset(self._feedback, visible=True)
        if self._most:
            self._progress.update(self._feedback, completed=self._most - state.pending, total=self._most)
