"""Keep a set of child processes running: start in order, start again what ends, stop in reverse order.

How a child is tied to our life is `pipeline.embedded.process`'s business; what a role does is its own. A service says
that it works by creating its ready file.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from pipeline.embedded.process import Child

_log = structlog.get_logger(__name__)

FIRST_PAUSE = 0.5  # seconds before the first restart; doubled for each further one
LONGEST_PAUSE = 10.0
STEADY = 30.0  # seconds of running after which the next end counts as the first
ENDS = 3  # of a service that is waited for: then it will not work by itself
_LOOK = 0.2  # seconds between two looks at the children


class ServiceFailed(Exception):
    """A service did not get ready; the text has the end of its log."""


@dataclass(frozen=True, slots=True)
class Service:
    name: str
    launch: Callable[[], Child]
    ready: Path  # created by the child when it does its work
    drain: float = 10.0  # seconds it may take to end after SIGTERM


@dataclass(slots=True)
class _Kept:
    service: Service
    child: Child
    started_at: float
    pause: float = FIRST_PAUSE
    due_at: float | None = None  # when to start it again, while it is down
    held: bool = False  # down because somebody wants it so
    ends: int = field(default=0)  # without being asked
    restarts: int = field(default=0)


class Supervisor:
    """Owns the children from `start` to `stop`. Methods may be called from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        self._groups: list[list[_Kept]] = []  # in the order of `start`
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._watch = threading.Thread(target=self._keep, name="supervisor", daemon=True)

    def start(self, services: Sequence[Service]) -> None:
        """Launch the services; `wait_ready` tells when they work. They are stopped together, before earlier ones."""
        with self._lock:
            group: list[_Kept] = []
            self._groups.append(group)
            for service in services:
                service.ready.parent.mkdir(parents=True, exist_ok=True)
                service.ready.unlink(missing_ok=True)
                kept = _Kept(service, service.launch(), self._clock())
                self._kept[service.name] = kept
                group.append(kept)
        if not self._watch.is_alive():
            self._watch.start()

    def wait_ready(self, names: Sequence[str], limit: float) -> None:
        """Return when all are ready. Raises ServiceFailed after `limit` seconds, or when one ends again and again."""
        deadline = self._clock() + limit
        before = {name: self._kept[name].ends for name in names}
        while missing := [self._kept[name] for name in names if not self._kept[name].service.ready.exists()]:
            for kept in missing:
                if kept.ends - before[kept.service.name] >= ENDS:
                    raise ServiceFailed(f"{kept.service.name} ends each time it is started; {_log_of(kept)}")
            if self._clock() > deadline:
                names_missing = ", ".join(kept.service.name for kept in missing)
                raise ServiceFailed(f"{names_missing} not ready after {limit:.0f} s; {_log_of(missing[0])}")
            if self._stopping.wait(0.05):
                raise ServiceFailed("stopped while starting")

    def pid(self, name: str) -> int:
        return self._kept[name].child.pid

    def restarts(self) -> dict[str, int]:
        return {name: kept.restarts for name, kept in self._kept.items()}

    def down(self) -> tuple[str, ...]:
        """Services that ended and wait for their restart."""
        return tuple(name for name, kept in self._kept.items() if kept.due_at is not None)

    @contextmanager
    def held(self, name: str) -> Iterator[None]:
        """Stop a service cleanly; it is launched again on the way out."""
        kept = self._kept[name]
        with self._lock:
            kept.held = True
        _end(kept)
        try:
            yield
        finally:
            with self._lock:
                kept.held, kept.due_at = False, self._clock()

    def stop(self) -> None:
        """End all children, those last started first; each gets its drain time, those started together at once."""
        self._stopping.set()
        if self._watch.is_alive():
            self._watch.join()
        for group in reversed(self._groups):
            if group:
                with ThreadPoolExecutor(len(group), thread_name_prefix="stop") as pool:
                    list(pool.map(_end, group))

    def _keep(self) -> None:
        while not self._stopping.wait(_LOOK):
            now = self._clock()
            with self._lock:
                for kept in self._kept.values():
                    self._look_at(kept, now)

    def _look_at(self, kept: _Kept, now: float) -> None:
        if kept.held:
            return
        if kept.due_at is None:
            status = kept.child.poll()
            if status is None:
                return
            if now - kept.started_at > STEADY:
                kept.pause = FIRST_PAUSE
            _log.warning("service_ended", service=kept.service.name, status=status, restart_in_s=kept.pause)
            kept.service.ready.unlink(missing_ok=True)
            kept.ends += 1
            kept.due_at = now + kept.pause
            kept.pause = min(kept.pause * 2, LONGEST_PAUSE)
        elif now >= kept.due_at:
            try:
                kept.child = kept.service.launch()
            except OSError as error:
                _log.error("service_not_launched", service=kept.service.name, error=str(error), retry_in_s=kept.pause)
                kept.due_at = now + kept.pause
                return
            kept.started_at, kept.due_at = now, None
            kept.restarts += 1


def _end(kept: _Kept) -> None:
    if kept.child.poll() is None:
        kept.child.stop(kept.service.drain)
    kept.service.ready.unlink(missing_ok=True)


def _log_of(kept: _Kept) -> str:
    return f"{kept.child.log} ends with:\n{kept.child.last_lines()}"
