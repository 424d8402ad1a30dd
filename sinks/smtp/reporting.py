"""What leaves the queue owner as events: facts with their acknowledgements, and tallies.

Facts are owed: the core hears of each ticket when all its facts are acked, or that one failed. Tallies are not:
they steer, and a crash may lose a second of them.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from datetime import datetime
from typing import Final, Literal

from confluent_kafka import KafkaError

from schemas.lanes import MessageQueue
from schemas.operations import TallyCounted
from sinks.smtp.commands import Publish
from sinks.smtp.state import Kind, Result
from topics.errors import Later
from topics.publisher import Publisher

Subject = tuple[Literal["source", "campaign", "tenant"], str, str, str]  # kind, name, provider, tenant

_OUTCOMES: Final = {kind: kind.name.lower() for kind in Kind}

# More unacked records than this, and nothing new is begun: Kafka is away, or too slow for us.
CROWDED: Final = 20_000


class Facts:
    """`wake` is called in the publisher's thread when `settled` has something, at most once until it is called."""

    def __init__(self, publisher: Publisher, wake: Callable[[], None]) -> None:
        self._publisher = publisher
        self._wake = wake
        self._done: deque[tuple[int, bool]] = deque()
        self._woken = False

    def publish(self, command: Publish) -> None:
        left = [len(command.facts), 0]  # unacked, failed

        def on_ack(error: KafkaError | None) -> None:
            left[0] -= 1
            left[1] += error is not None
            if not left[0]:
                self._done.append((command.ticket, not left[1]))
                if not self._woken:
                    self._woken = True
                    self._wake()

        for fact in command.facts:
            try:
                self._publisher.publish(fact, on_ack=on_ack)
            except Later:  # its queue has been full for a minute: as if it had come back unacked
                on_ack(KafkaError(KafkaError._QUEUE_FULL))

    def settled(self) -> list[tuple[int, bool]]:
        """Tickets, and whether all their facts are acked. On the agent's thread."""
        self._woken = False  # before the first look: what comes after it wakes again
        found = []
        while self._done:
            found.append(self._done.popleft())
        return found

    @property
    def crowded(self) -> bool:
        return self._publisher.outstanding > CROWDED


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
