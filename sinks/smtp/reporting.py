"""What leaves the queue owner as events: facts with their acknowledgements, and tallies.

Facts are owed: the core hears of each ticket when all its facts are acked, or that one failed. Tallies are not:
they steer, and a crash may lose a second of them.
"""

from __future__ import annotations

import queue
import threading
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Final, Literal

import structlog

from schemas.lanes import MessageQueue
from schemas.operations import TallyCounted
from sinks.smtp.commands import Publish
from sinks.smtp.state import Kind, Result
from topics.errors import Broken, Later, Never
from topics.publisher import BatchPublisher, Publisher

Subject = tuple[Literal["source", "campaign", "tenant"], str, str, str]  # kind, name, provider, tenant

_OUTCOMES: Final = {kind: kind.name.lower() for kind in Kind}

# More unacked records than this, and nothing new is begun: Kafka is away, or too slow for us.
CROWDED: Final = 20_000
_ACK_STEP_S: Final = 1.0  # between two looks at whether we are closing

log = structlog.get_logger(__name__)


class Facts:
    """Facts go out in batches, each acked as a whole before the next: a report for each record would take the
    interpreter away from the event loop twice for each message. Of a batch with a failure all tickets have failed.

    On the event loop. `wake` is called in a thread of its own when there is something for `settled`; `fail`, there or
    here, when the publisher takes no more.
    """

    def __init__(self, publisher: BatchPublisher, wake: Callable[[], None], fail: Callable[[str], None]) -> None:
        self._publisher = publisher
        self._wake = wake
        self._fail = fail
        self._waiting: list[Publish] = []
        self._under_way: list[Publish] = []
        self._unacked = 0  # records of both
        self._acked = False  # how it went with what was under way
        self._closing = False
        self._work: queue.SimpleQueue[bool] = queue.SimpleQueue()  # False: the end
        self._thread = threading.Thread(target=self._run, name="facts", daemon=True)
        self._thread.start()

    def publish(self, command: Publish) -> None:
        """Goes with the next batch."""
        self._waiting.append(command)
        self._unacked += len(command.facts)

    def send(self) -> None:
        """Begin a batch of what waits, unless one is under way."""
        if self._under_way or not self._waiting:
            return
        self._under_way, self._waiting = self._waiting, []
        try:
            for command in self._under_way:
                for fact in command.facts:
                    self._publisher.publish(fact)
        except (Later, Never, Broken) as error:
            self._fail(f"facts: {error}")  # what is owed is in the journal: the next owner publishes it
        else:
            self._work.put(True)

    def settled(self) -> list[tuple[int, bool]]:
        """Tickets, and whether all their facts are acked. To be followed by `send`."""
        over, self._under_way = self._under_way, []
        self._unacked -= sum(len(command.facts) for command in over)
        return [(command.ticket, self._acked) for command in over]

    @property
    def crowded(self) -> bool:
        return self._unacked > CROWDED

    def close(self) -> None:
        """What is not acked by now is owed by the next owner."""
        self._closing = True
        self._work.put(False)
        self._thread.join()

    def _run(self) -> None:
        while self._work.get():
            self._acked = self._settle()
            self._wake()

    def _settle(self) -> bool:
        try:
            while not self._publisher.settled(_ACK_STEP_S):
                if self._closing:
                    return False
        except (Later, Never) as error:
            log.warning("facts_not_acked", reason=str(error))
            return False
        except Broken as error:
            self._fail(f"facts: {error}")
            return False
        return True


class Tallies:
    """Counts of outcomes by source, campaign and tenant, published once a second."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._counts: dict[Subject, Counter[str]] = {}
        self._number = 0

    def count(self, command: MessageQueue, result: Result) -> None:
        if not result.started_at:
            return
        subjects: list[Subject] = [("tenant", command.tenant, command.provider, command.tenant)]
        if command.campaign_id:
            subjects.append(("campaign", command.campaign_id, command.provider, command.tenant))
        if result.source:
            subjects.append(("source", result.source, command.provider, command.tenant))
        for subject in subjects:
            counts = self._counts.get(subject)
            if counts is None:
                counts = self._counts[subject] = Counter()
            counts[_OUTCOMES[result.kind]] += 1
            if result.bounce_class and result.kind in (Kind.BOUNCED, Kind.DEFERRED):
                counts[f"class:{result.bounce_class}"] += 1

    def publish(self, publisher: Publisher, now: datetime, seconds: float) -> None:
        taken, self._counts = self._counts, {}
        for (kind, name, provider, tenant), counts in taken.items():
            self._number += 1
            publisher.publish(
                TallyCounted.from_cause(
                    f"{self._worker}/{now.isoformat()}/{self._number}",
                    occurred_at=now,
                    tenant=tenant,
                    worker=self._worker,
                    subject_kind=kind,
                    subject_name=name,
                    provider=provider,
                    seconds=seconds,
                    counts=dict(counts),
                )
            )
