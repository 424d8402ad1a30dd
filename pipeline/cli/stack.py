"""`mailriver up`, `run`, `clean`: starting and removing things. The demo has a file of its own."""

from __future__ import annotations

import json as json_text
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from pipeline import places
from pipeline.cli.logs import configure_logs
from pipeline.cli.output import Failure
from pipeline.cli.session import loaded
from pipeline.roles import ROLES

if TYPE_CHECKING:  # it needs the extra `embedded`, which a production image does not have
    from pipeline.embedded.stack import Stack, StackPlan


def register(app: typer.Typer) -> None:
    app.command()(up)
    app.command()(run)
    app.command()(clean)


def up(
    endpoints: Annotated[Path | None, typer.Option(help="Write every endpoint to this file, as JSON.")] = None,
    seed: Annotated[int, typer.Option(help="Of the simulated internet: the same seed, the same world.")] = 1,
    brokers: Annotated[int, typer.Option(help="1, or 3 that hold every record three times.")] = 1,
) -> None:
    """Run everything on this machine until Ctrl-C: Kafka, ClickHouse, all roles, and an internet to send to."""
    from pipeline.embedded.stack import StackPlan

    if brokers not in (1, 3):
        raise Failure("--brokers is 1 or 3", status=2)
    configure_logs()
    console = Console(stderr=True)
    with started(StackPlan(places.data(), seed=seed, brokers=3 if brokers == 3 else 1), console) as stack:
        found = stack.endpoints()
        if endpoints is not None:
            _write_private(endpoints, json_text.dumps(found, indent=2))
        shown = {**found, "clickhouse": {**found["clickhouse"], "password": "(mailriver up --endpoints FILE)"}}
        typer.echo(json_text.dumps(shown, indent=2))
        console.print("[bold]mailriver is up[/]; Ctrl-C ends it.")
        wait_for_signal()
        console.print("ending …")


def run(
    roles: Annotated[list[str], typer.Argument(help=f"One or more of: {', '.join(ROLES)}.", metavar="ROLE…")],
    ready_file: Annotated[Path | None, typer.Option(help="Created when the role does its work.")] = None,
) -> None:
    """Run roles against the configured Kafka and ClickHouse. Several roles are several supervised processes."""
    for name in roles:
        if name not in ROLES:
            raise Failure(f"there is no role {name}; the roles are {', '.join(ROLES)}", status=2)
    configure_logs()
    if len(roles) == 1:
        ROLES[roles[0]].run(loaded(), lambda: ready_file.touch() if ready_file else None)
    else:
        _run_as_processes(roles, ready_file)


def _run_as_processes(roles: list[str], ready_file: Path | None) -> None:
    from pipeline.embedded.process import Child, launch
    from pipeline.supervisor import Service, Supervisor

    folder = loaded().data

    def service(name: str) -> Service:
        ready = folder / "run" / f"{name}.ready"

        def start() -> Child:
            argv = [sys.executable, "-m", "pipeline", "run", name, "--ready-file", str(ready)]
            return launch(name, argv, log=folder / "logs" / f"{name}.log")

        return Service(name, start, ready, ROLES[name].drain)

    supervisor = Supervisor()
    try:
        supervisor.start([service(name) for name in roles])
        supervisor.wait_ready(roles, 120)
        if ready_file:
            ready_file.touch()
        wait_for_signal()
    finally:
        supervisor.stop()


def clean(
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
) -> None:
    """List, then remove the embedded stack's data and the downloaded files of this user."""
    found = [folder for folder in (places.data(), places.cache()) if folder.exists()]
    if not found:
        typer.echo("nothing to remove")
        return
    for folder in found:
        size = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
        typer.echo(f"{size / 1e6:9.1f} MB  {folder}")
    if not yes and not typer.confirm("Remove all of it? Secrets in the data folder are removed too"):
        raise typer.Exit(1)
    for folder in found:
        shutil.rmtree(folder)


@contextmanager
def started(plan: StackPlan, console: Console) -> Iterator[Stack]:
    from pipeline.embedded.kafka import KafkaStartFailed, KafkaUnavailable
    from pipeline.embedded.stack import running
    from pipeline.supervisor import ServiceFailed

    try:
        with running(plan, lambda step: console.print(f"  starting {step} …")) as stack:
            yield stack
    except (KafkaUnavailable, KafkaStartFailed, ServiceFailed) as error:
        raise Failure(str(error)) from None


def wait_for_signal() -> None:
    """Return on the first SIGINT or SIGTERM."""
    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    told.wait()


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.chmod(0o600)  # it holds a password
    path.write_text(text + "\n")
