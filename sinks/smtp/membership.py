"""Which partitions are ours: the consumer's events, in their order, told to the core. Restores run beside the loop.

The metadata of the group is taken over in the same order, so a transaction of the core's present view never carries a
newer one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import Any

from sinks.smtp import intake
from sinks.smtp.core import Owner
from sinks.smtp.state import State, Unreadable, decode
from topics import memory, store
from topics.errors import Broken
from topics.kafka import Cluster
from topics.registry import Topic


@dataclass(slots=True)
class _Restoring:
    term: int
    cancelled: bool = False


class Membership:
    """Belongs to the loop's thread."""

    def __init__(
        self,
        cluster: Cluster,
        group: str,
        state: Topic,
        lanes: tuple[Topic, Topic],
        owner: Owner,
        resume: Callable[[int, int], None],
        after: Callable[[], None],
        fail: Callable[[str], None],
    ) -> None:
        """`resume` opens the lanes of a restored partition, `after` carries out what the core says."""
        self.metadata: Any = None
        self._cluster = cluster
        self._group = group
        self._state = state
        self._lanes = lanes
        self._owner = owner
        self._resume = resume
        self._after = after
        self._fail = fail
        self._restoring: dict[int, _Restoring] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining: dict[int, Event] = {}

    def hear(self, event: intake.Event) -> None:
        match event:
            case intake.Polled(metadata, records, skipped):
                self.metadata = metadata
                now = time.time()
                for number, found in records.items():
                    self._owner.intake(number, found, now)
                for each in skipped:
                    self._owner.skipped(each.partition, each.urgent, each.offset)
            case intake.Assigned(number, term):
                self._restoring[number] = restoring = _Restoring(term)
                task = asyncio.get_running_loop().create_task(self._restore(number, restoring))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case intake.Revoked(number, done):
                self._cancel(number)
                if number in self._owner.partitions:
                    self._draining[number] = done
                    self._owner.revoke(number, time.time())
                else:
                    done.set()
            case intake.Lost(number):
                self._cancel(number)
                self.drained(number)
                self._owner.lost(number)
            case intake.Failed(reason):
                self._fail(reason)

    def drained(self, number: int) -> None:
        if (done := self._draining.pop(number, None)) is not None:
            done.set()

    def drop_all(self) -> None:
        """The process ends, for a reason that lets it write nothing more."""
        for number in self._owner.partitions:
            self.drained(number)
            self._owner.lost(number)
        self._after()

    async def close(self) -> None:
        for number in list(self._restoring):
            self._cancel(number)
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _cancel(self, number: int) -> None:
        if (restoring := self._restoring.pop(number, None)) is not None:
            restoring.cancelled = True

    async def _restore(self, number: int, restoring: _Restoring) -> None:
        try:
            states, positions = await asyncio.to_thread(self._read, number, restoring)
        except store.Cancelled:
            return
        except (Broken, Unreadable) as error:
            self._fail(f"partition {number} cannot be restored: {error}")
            return
        if restoring.cancelled:
            return
        del self._restoring[number]
        self._owner.assigned(number, states, positions, time.time())
        memory.settle()
        self._resume(number, restoring.term)
        self._after()

    def _read(self, number: int, restoring: _Restoring) -> tuple[list[tuple[bytes, State]], dict[bool, int]]:
        restored = store.restore(
            self._cluster,
            group=self._group,
            state=self._state,
            inputs=self._lanes,
            partition=number,
            cancelled=lambda: restoring.cancelled,
        )
        states = [(key, decode(value)) for key, value in restored.values.items()]
        ordinary, urgent = self._lanes
        return states, {False: restored.positions[ordinary], True: restored.positions[urgent]}
