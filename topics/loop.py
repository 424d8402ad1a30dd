"""The at-least-once batch loop: take records, handle them, wait until their facts are acked, then let the offsets go.

Decides order, repetition and what a failure means for a batch; what to do with a record is left to `handle`. In this
order, because a crash between two steps must repeat work, never skip it: the facts are out before the offset says
"done", and a repeat makes the same facts with the same ids.

Urgent topics (`….urgent`) have a consumer and a group of their own (`GROUP.urgent`), looked at before every batch. With
one consumer for both, urgent records queue up behind whatever the client has fetched ahead of the bulk topics.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import structlog

from schemas.codec import Undecodable
from topics.deadletters import DeadLetters
from topics.errors import Broken, Later, Never
from topics.filling import Filling
from topics.inlet import Inlet
from topics.kafka import Cluster
from topics.publisher import BatchPublisher
from topics.record import Record
from topics.registry import MAX_READ, Topic

__all__ = ["Broken", "Later", "Loop", "Never", "Record", "run"]

Handle = Callable[[Sequence[Record]], None]
"""Gets a batch, in order of offset within a partition. Publishes facts through the loop's publisher, on the loop's
thread. May see any record again, at once or after a crash. Raises `Later` or `Never`; `Undecodable` is a `Never`."""

BATCH = 500
URGENT = ".urgent"
_WAIT_S = 0.2  # idle wait for records; one that arrives ends it, and so a stop is seen within it
_WAIT_URGENT_S = 0.05  # idle wait on the urgent topics, and so what the others may wait for their turn
_WAIT_LIVELY_S = 0.005  # wait on the others while records come and go, and so what an urgent one may wait
_LIVELY_S = 1.0  # since the last batch
_FILL_MOST_S = 0.03  # between two batches that are not urgent: company makes records cheaper
_ACK_STEP_S = 1.0  # between two looks at `stop` while waiting for acks
_BACKOFF_FIRST_S = 0.1
_BACKOFF_MAX_S = 5.0
_LAG_EVERY_S = 5.0

log = structlog.get_logger(__name__)


def run(
    cluster: Cluster,
    group: str,
    topics: Sequence[Topic],
    handle: Handle,
    stop: threading.Event,
    *,
    publisher: BatchPublisher,
    ready: Callable[[], None] | None = None,
    batch: int = BATCH,
) -> None:
    """Run a `Loop` until `stop` is set. Raises `Poisoned`, `Broken`, and what else `handle` raises."""
    Loop(cluster, group, topics, handle, publisher=publisher, ready=ready, batch=batch).run(stop)


class _Stopped(Exception):
    """The loop was told to end while it waited; the batch is somebody's next one."""


def waits(inlets: int, busy: bool, since: float, rest: float) -> tuple[float, ...]:
    """Seconds to wait at each inlet, the urgent one first, when a batch began `since` seconds ago. `busy`: it was the
    last turn's; `rest`: for how long the next one that is not urgent may fill yet. At one of them alone, since what
    comes at the other waits as long.
    """
    if inlets == 1:
        return (0.0 if busy else _WAIT_S,)
    if busy or rest:
        return rest, 0.0
    return (0.0, _WAIT_LIVELY_S) if since < _LIVELY_S else (_WAIT_URGENT_S, 0.0)


class Loop:
    """One thread, the caller's. `lag` and `turned_at` may be read from others, to see that it lives."""

    def __init__(
        self,
        cluster: Cluster,
        group: str,
        topics: Sequence[Topic],
        handle: Handle,
        *,
        publisher: BatchPublisher,
        ready: Callable[[], None] | None = None,
        batch: int = BATCH,
        deadletters: DeadLetters | None = None,
    ) -> None:
        self._handle = handle
        self._publisher = publisher
        self._batch = batch
        self._deadletters = deadletters or DeadLetters(publisher, group)
        urgent = [topic for topic in topics if topic.name.endswith(URGENT)]
        others = [topic for topic in topics if topic not in urgent]
        self._inlets = [
            Inlet(cluster, name, chosen) for name, chosen in ((group + URGENT, urgent), (group, others)) if chosen
        ]
        self._ready = ready
        self._filling = Filling(0.0, _FILL_MOST_S)
        self._busy = False
        self._began_at = float("-inf")
        self.lag = 0  # records behind, as of a few seconds ago
        self.turned_at = time.monotonic()  # when the loop last came round
        self._lag_at = self.turned_at

    def run(self, stop: threading.Event) -> None:
        try:
            while not stop.is_set():
                self._turn(stop)
        finally:
            for inlet in self._inlets:
                inlet.close()

    def _turn(self, stop: threading.Event) -> None:
        """One batch of the first inlet that has records."""
        now = time.monotonic()
        pauses = waits(len(self._inlets), self._busy, now - self._began_at, self._filling.wait(now))
        for inlet, wait in zip(self._inlets, pauses, strict=True):
            inlet.commit()  # what could not be committed before, or not yet
            records = inlet.take(self._batch, wait)
            self._tell()
            if records:
                self._busy, self._began_at = True, time.monotonic()
                if self._insist(inlet, records, stop):
                    inlet.commit()
                if inlet is self._inlets[-1] and len(records) < self._batch:
                    # A full batch has all the company that it can have, and more waits: the next begins at once.
                    ended = time.monotonic()
                    self._filling.ended(ended - self._began_at, ended)
                return
        self._busy = False

    def _tell(self) -> None:
        self.turned_at = time.monotonic()
        if self._ready is not None and all(inlet.assigned for inlet in self._inlets):
            self._ready()
            self._ready = None
        if self.turned_at - self._lag_at >= _LAG_EVERY_S:
            self._lag_at = self.turned_at
            self.lag = sum(inlet.lag() for inlet in self._inlets)

    def _insist(self, inlet: Inlet, records: list[Record], stop: threading.Event) -> bool:
        """Work until the batch is done; False when stopped before. While it must wait, it stays in its group."""
        backoff = _BACKOFF_FIRST_S
        while records:
            try:
                self._work(records, stop)
            except _Stopped:
                return False
            except Later as later:
                log.warning("later", group=inlet.group, reason=str(later), wait_s=backoff)
                if inlet.hold(backoff, stop):
                    return False
                self._stay()
                # Partitions taken away meanwhile are their new owner's work.
                records = [record for record in records if inlet.owns(record)]
                backoff = min(backoff * 2, _BACKOFF_MAX_S)
            else:
                self._deadletters.passed(len(records))
                inlet.done(records)
                return True
        return True

    def _work(self, records: list[Record], stop: threading.Event) -> None:
        """Handle and see the facts acked; dead-letter what never will be. Halves the batch to find it."""
        fit = []
        for record in records:
            if record.size <= MAX_READ:
                fit.append(record)
            else:
                self._deadletters.put(record, f"{record.size} bytes: more than the {MAX_READ} that are read")
        pending = [fit]
        while pending:
            part = pending.pop()
            if not part:
                continue
            try:
                self._handle(part)
                self._wait_for_acks(stop)
            except (Never, Undecodable) as never:
                culprit = getattr(never, "record", None)
                at = next((index for index, record in enumerate(part) if record is culprit), None)
                if at is None and len(part) > 1:
                    half = len(part) // 2
                    pending += [part[half:], part[:half]]  # the last is next: order within a partition holds
                    continue
                self._deadletters.put(part[at or 0], str(never))
                pending += [part[(at or 0) + 1 :], part[: at or 0]]
        self._wait_for_acks(stop)  # of the dead letters

    def _wait_for_acks(self, stop: threading.Event) -> None:
        """However long the broker is away: the facts are queued, and handling again would queue them a second time."""
        while not self._publisher.settled(_ACK_STEP_S):
            if stop.is_set():
                raise _Stopped
            self._stay()

    def _stay(self) -> None:
        """A sign of life to the groups, or they would give the partitions away after max.poll.interval.ms."""
        for inlet in self._inlets:
            inlet.keep_alive()
