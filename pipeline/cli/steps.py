"""The steps of a start as a person sees them: what is under way, and how long each took."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.status import Status


class Steps:
    """Call it with the name of each step as it begins; leave the context when the last has ended."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._began = self._step_began = clock()
        self._step = ""
        self._status: Status | None = None

    def __call__(self, step: str) -> None:
        first = not self._step
        self._end_step()
        self._step, self._step_began = step, self._clock()
        if not first:  # the first one draws its own progress when there is something to download
            self._status = self._console.status(f"{step} …")
            self._status.start()

    def __enter__(self) -> Steps:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._end_step()
            self._print("ready", self._clock() - self._began, style="bold green")
        else:
            self._stop_status()
            if self._step:
                self._console.print(f"  {self._step}: not finished", style="yellow")

    def _end_step(self) -> None:
        self._stop_status()
        if self._step:
            self._print(self._step, self._clock() - self._step_began)

    def _print(self, what: str, seconds: float, style: str = "") -> None:
        self._console.print(f"  {what:<44}{seconds:6.1f} s", style=style, highlight=False)

    def _stop_status(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
