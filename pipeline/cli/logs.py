"""Where the log of a process goes: JSON lines on stderr for a role; for a command that a person watches a file, and of
it only what is wrong on the screen.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, TextIO

import structlog
import typer


def log_to_stderr() -> None:
    """For a role: JSON lines, or aligned text where a person started it in a terminal."""
    person = sys.stderr.isatty()
    _configure([structlog.dev.ConsoleRenderer() if person else structlog.processors.JSONRenderer()], sys.stderr)


def log_failures() -> None:
    """For a command that a person calls: what went wrong is its last sentence; logged is only what nobody expected."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    # Without a handler, what a library complains of would be printed before our sentence about it.
    logging.basicConfig(handlers=[logging.NullHandler()])


def log_to_file(path: Path) -> None:
    """For a command with progress bars: JSON lines to the file; warnings are told on stderr in a line each too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _configure([_tell, structlog.processors.JSONRenderer()], path.open("a", buffering=1, encoding="utf-8"))


def _configure(last: list[structlog.typing.Processor], output: TextIO) -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            *last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(output),
        cache_logger_on_first_use=True,
    )
    # Libraries log by the standard module, some with addresses at INFO: warnings only.
    line = "%(levelname)s %(name)s %(message)s"
    logging.basicConfig(level=logging.WARNING, stream=output, format=line, force=True)


def _tell(_logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if method in ("warning", "error", "critical", "exception"):
        shown = {name: value for name, value in event.items() if name not in ("event", "level", "timestamp")}
        details = ", ".join(f"{name} {value}" for name, value in shown.items())
        # sys.stderr is looked up now: while a progress bar is shown it is the bar's, which keeps the line apart.
        typer.echo(f"{method}: {str(event.get('event', '')).replace('_', ' ')} ({details})", err=True)
    return event
