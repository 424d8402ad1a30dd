"""Virtual time and cooperative tasks: one thread, no real clock, every choice drawn from one seeded generator.

A task is a generator that yields futures; a process is a set of tasks that live, sleep and die together. What a step of
a task does is the caller's; when a process is killed or frozen is decided by whoever sets `on_step`.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

Steps = Generator["Future", Any, Any]


def done() -> Future:
    """A future to yield between two steps that nothing else need come between, though the process may end there."""
    future = Future()
    future.done = True
    return future


class Future:
    """A value that comes later; the first `resolve` counts."""

    __slots__ = ("done", "value", "waiters")

    def __init__(self) -> None:
        self.done = False
        self.value: Any = None
        self.waiters: list[Callable[[Any], None]] = []

    def resolve(self, value: Any = None) -> None:
        if self.done:
            return
        self.done = True
        self.value = value
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            waiter(value)

    def then(self, waiter: Callable[[Any], None]) -> None:
        if self.done:
            waiter(self.value)
        else:
            self.waiters.append(waiter)


def _resolve_with(first: Future, value: Future, _: Any) -> None:
    first.resolve(value)


class Process:
    """What an operating system can kill or stop: its tasks, and the steps that wait while it is stopped."""

    __slots__ = ("alive", "backlog", "frozen", "name", "steps")

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.frozen = False
        self.backlog: deque[tuple[Task, Any]] = deque()
        self.steps: dict[str, int] = {}


class Task:
    __slots__ = ("done", "generator", "label", "process")

    def __init__(self, process: Process, label: str, generator: Steps) -> None:
        self.process = process
        self.label = label
        self.generator = generator
        self.done = Future()


class Kernel:
    """The scheduler. `now` is seconds of virtual time since the world began."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.random = random.Random(seed)
        self.on_step: Callable[[Process, str], None] | None = None
        self._due: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0

    def at(self, delay: float, call: Callable[..., None], *args: Any) -> None:
        self._sequence += 1
        heapq.heappush(self._due, (self.now + delay, self._sequence, call, args))

    def sleep(self, delay: float) -> Future:
        future = Future()
        self.at(delay, future.resolve)
        return future

    def either(self, *futures: Future) -> Future:
        """Resolved, with that future itself, by the first of them."""
        first = Future()
        for future in futures:
            future.then(partial(_resolve_with, first, future))
        return first

    def spawn(self, process: Process, label: str, generator: Steps) -> Task:
        task = Task(process, label, generator)
        self.at(0.0, self._step, task, None)
        return task

    def kill(self, process: Process) -> None:
        """As `kill -9`: nothing of it runs again."""
        process.alive = False
        process.backlog.clear()

    def freeze(self, process: Process, seconds: float) -> None:
        """As SIGSTOP, and SIGCONT after `seconds`: time goes on, the process does not see it."""
        process.frozen = True
        self.at(seconds, self.thaw, process)

    def thaw(self, process: Process) -> None:
        process.frozen = False
        waiting = list(process.backlog)  # one step of each task at most: they run in any order
        self.random.shuffle(waiting)
        process.backlog = deque(waiting)
        while process.backlog and process.alive and not process.frozen:
            task, value = process.backlog.popleft()
            self._step(task, value)

    def run(self, until: float) -> None:
        """Let everything due up to `until` happen; time stands at `until` afterwards."""
        due = self._due
        while due and due[0][0] <= until:
            self.now, _, call, args = heapq.heappop(due)
            call(*args)
        self.now = max(self.now, until)

    def _step(self, task: Task, value: Any) -> None:
        process = task.process
        while True:
            if not process.alive:
                return
            if not process.frozen and self.on_step is not None:
                self.on_step(process, task.label)
                if not process.alive:
                    return
            if process.frozen:
                process.backlog.append((task, value))
                return
            try:
                awaited = task.generator.send(value)
            except StopIteration as stop:
                task.done.resolve(stop.value)
                return
            if not awaited.done:
                awaited.waiters.append(lambda value: self.at(0.0, self._step, task, value))
                return
            value = awaited.value
