"""`mailriver run`: roles against the configured Kafka and ClickHouse, as a production installation starts them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import structlog
import typer

from pipeline.cli.logs import log_to_stderr
from pipeline.cli.output import Failure
from pipeline.cli.session import configured, loaded
from pipeline.roles import ROLES
from pipeline.settings import Settings

_log = structlog.get_logger(__name__)

_START_LIMIT = 300.0  # seconds until all of several roles must have worked once


def register(app: typer.Typer) -> None:
    app.command()(run)


def run(
    roles: Annotated[list[str], typer.Argument(help=f"One or more of: {', '.join(ROLES)}.", metavar="ROLE…")],
    ready_file: Annotated[Path | None, typer.Option(help="Created when the roles do their work.")] = None,
) -> None:
    """Run roles against the configured Kafka and ClickHouse. Several roles are several supervised processes."""
    wanted = list(dict.fromkeys(roles))
    if unknown := [name for name in wanted if name not in ROLES]:
        raise Failure(f"there is no role {unknown[0]}; the roles are {', '.join(ROLES)}", status=2)
    settings = loaded()
    log_to_stderr()
    if len(wanted) == 1:
        _run_here(wanted[0], settings, ready_file)
    else:
        _run_as_processes(wanted, settings, ready_file)


def _run_here(name: str, settings: Settings, ready_file: Path | None) -> None:
    role = ROLES[name]
    os.nice(role.niceness)
    try:
        with configured():
            role.run(settings, lambda: ready_file.touch() if ready_file else None)
    except Failure:
        raise
    except OSError as error:  # a port in use, a folder that cannot be written
        raise Failure(f"{name}: {error}") from None
    except Exception as error:
        _log.error("role_failed", role=name, exc_info=True)
        raise Failure(f"{name} cannot go on: {type(error).__name__}: {error}") from None


def _run_as_processes(names: list[str], settings: Settings, ready_file: Path | None) -> None:
    from pipeline.cli.signals import end_by_signal, until_signal
    from pipeline.embedded.process import Child, launch
    from pipeline.supervisor import Service, ServiceFailed, Supervisor

    folder = settings.data

    def service(name: str) -> Service:
        ready = folder / "run" / f"{name}.ready"

        def start() -> Child:
            argv = [sys.executable, "-m", "pipeline", "run", name, "--ready-file", str(ready)]
            return launch(name, argv, log=folder / "logs" / f"{name}.log")

        return Service(name, start, ready, ROLES[name].drain)

    end_by_signal()
    supervisor = Supervisor()
    try:
        supervisor.start([service(name) for name in names])
        supervisor.wait_ready(names, _START_LIMIT)
        if ready_file:
            ready_file.touch()
        until_signal()
    except ServiceFailed as error:
        raise Failure(str(error)) from None
    except OSError as error:
        raise Failure(f"{folder}: {error}") from None
    finally:
        supervisor.stop()
