"""The only place with transactions: states and lane offsets, written as one, by one thread, one transaction at a time.

What is in a transaction is the core's decision, when it is taken the agent's. Every transaction carries the group
metadata that was true when the core still owned its partitions: the broker refuses it from a member that was expelled
since. Here, only the outcome is decided:

committed   in the log
aborted     not in the log, surely: the core writes all of it again
broken      nobody can say, or we are fenced: the process must end, and the next owner reads the log
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import structlog
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from schemas.codec import encode
from sinks.smtp.clock import boottime
from sinks.smtp.commands import Transaction
from sinks.smtp.queue import Relaned
from topics.errors import Broken, mapped
from topics.kafka import Cluster
from topics.registry import Topic

# Not above the group's session time-out (15 s), or a take-over waits for the dead worker's transaction.
TRANSACTION_TIMEOUT_MS: Final = 10_000
_CALL_S: Final = 5.0  # of one call; it is repeated until the outcome is known
_PAUSE_S: Final = 0.05
_CLOSE_S: Final = 15.0  # for the transaction under way

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Committed:
    number: int
    began: float  # CLOCK_BOOTTIME before the broker checked that we are a member


@dataclass(frozen=True, slots=True)
class Aborted:
    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The journal can never write again."""

    reason: str


Report = Committed | Aborted | Ended


@dataclass(frozen=True, slots=True)
class Topics:
    state: Topic
    lanes: tuple[Topic, Topic]  # ordinary, urgent
    moves: tuple[Topic, Topic]  # where to what moves goes: the same, or those of a newer generation


class Journal:
    """`report` is called in the journal's thread, once for each `write`, and with Ended at most once."""

    def __init__(
        self, cluster: Cluster, topics: Topics, group: str, instance: str, report: Callable[[Report], None]
    ) -> None:
        """`instance` is stable over restarts: a new process of that name fences the old one's transactions."""
        self._topics = topics
        self._names = {topic: cluster.topic(topic) for topic in (topics.state, *topics.lanes, *topics.moves)}
        self._source = f"{group}.{instance}"
        self._report = report
        self._work: queue.SimpleQueue[tuple[Transaction, Any] | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._called_at: float | None = None
        self._producer: Producer = cluster.producer(
            f"journal-{instance}",
            **{
                "transactional.id": cluster.transactional_id(f"{group}.{instance}"),
                "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
                "message.timeout.ms": TRANSACTION_TIMEOUT_MS,
                "linger.ms": 1,
                # librdkafka (to 2.16 at least) remembers the group's coordinator for as long as metadata may age, and
                # waits for ever on one whose broker has died since (confluentinc/librdkafka issues 5456 and 5511).
                "metadata.max.age.ms": 1_000,
                "topic.metadata.refresh.interval.ms": 300,
            },
        )
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)

    def open(self) -> None:
        """Fence a former process of this name, and settle its transaction. Blocks until Kafka answers; Broken if
        never.
        """
        while not self._stopping.is_set():
            try:
                self._producer.init_transactions(_CALL_S)
                break
            except KafkaException as error:
                _require_hope(error)
        self._thread.start()

    def write(self, transaction: Transaction, metadata: Any) -> None:
        """`metadata`: what the consumer's thread captured after the poll that delivered the present assignment."""
        self._work.put((transaction, metadata))

    def close(self) -> None:
        """After the transaction under way."""
        self._stopping.set()
        self._work.put(None)
        if self._thread.is_alive():
            self._thread.join(_CLOSE_S)

    @property
    def hung(self) -> float:
        """Seconds for which one call of the client has not returned: more than a few, and it ignores its time-out."""
        return time.monotonic() - began if (began := self._called_at) is not None else 0.0

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            try:
                report = self._write(*work)
            except (Broken, KafkaException) as error:
                # KafkaException: the abort failed too.
                reason = str(mapped(error)) if isinstance(error, KafkaException) else str(error)
                log.error("journal_ended", reason=reason)
                self._report(Ended(reason))
                return
            except Exception:
                log.exception("journal_failed")
                self._report(Ended("a bug in the journal"))
                return
            self._report(report)

    def _write(self, transaction: Transaction, metadata: Any) -> Report:
        try:
            self._producer.begin_transaction()
            self._produce(transaction)
            began = boottime()
            offsets = [
                TopicPartition(self._names[self._topics.lanes[each.urgent]], each.partition, each.offset)
                for each in transaction.offsets
            ]
            self._until_known(lambda: self._producer.send_offsets_to_transaction(offsets, metadata, _CALL_S))
            self._until_known(lambda: self._producer.commit_transaction(_CALL_S))
        except KafkaException as error:
            reason = _require_hope(error)
            log.warning("journal_aborts", transaction=transaction.number, reason=reason)
            self._until_known(lambda: self._producer.abort_transaction(_CALL_S))
            return Aborted(transaction.number, reason)
        return Committed(transaction.number, began)

    def _produce(self, transaction: Transaction) -> None:
        produce, state = self._producer.produce, self._names[self._topics.state]
        for record in transaction.records:
            self._with_room(produce, state, record.value, record.key, record.partition)
        for moved in transaction.moves:
            self._move(moved)

    def _move(self, moved: Relaned) -> None:
        encoded = encode(moved.command, source=self._source)
        topic = self._names[self._topics.moves[moved.urgent]]
        self._with_room(
            self._producer.produce, topic, encoded.value, moved.lane.encode(), moved.partition, headers=encoded.headers
        )

    def _with_room(self, produce: Callable[..., None], *record: Any, **more: Any) -> None:
        while True:
            try:
                produce(*record, **more)
                return
            except BufferError:
                self._producer.poll(_PAUSE_S)

    def _until_known(self, call: Callable[[], Any]) -> None:
        """Repeat a call that may be repeated: a time-out or a moving coordinator says nothing about the outcome."""
        while True:
            self._called_at = time.monotonic()
            try:
                call()
                return
            except KafkaException as error:
                cause: KafkaError = error.args[0]
                if not cause.retriable() or cause.txn_requires_abort() or cause.fatal():
                    raise
                if self._stopping.is_set():
                    raise Broken(f"stopped while {cause.name()}") from None
                log.info("journal_waits", reason=cause.name())
                time.sleep(_PAUSE_S)
            finally:
                self._called_at = None


def _require_hope(error: KafkaException) -> str:
    """The reason of a failure after which the producer can go on (after an abort); else Broken."""
    cause: KafkaError = error.args[0]
    if cause.fatal() or not (cause.txn_requires_abort() or cause.retriable()):
        raise Broken(cause.name()) from None
    return str(cause.name())
