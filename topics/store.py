"""Partition state kept in a compacted topic: how a new owner of a partition reads what the former one wrote.

The order is the whole point. (1) The committed offsets of the owner's inputs, read "stable": this waits until every
transaction of a former owner that moved them is decided, and as each such transaction does, none can follow. (2) The
end of the state, read uncommitted: under a hung transaction a read_committed end stands still, even at 0. (3) The state
itself, read committed, until the *position* is at that end: the last offsets hold markers, or aborted records, that
no consumer ever hands out. Only then input may be taken, from the offsets of (1).

Decides what is in the log; what a value means is its owner's. State is written by the owner's journal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import structlog
from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_INVALID,
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # exported without saying so

from topics.errors import Broken, Later, mapped
from topics.kafka import Cluster
from topics.registry import Topic

_ASK_S = 5.0
_AGAIN_S = 0.1  # between two tries while a transaction is undecided or a broker is away
_POLL_S = 0.2
_BATCH = 10_000
_EARLIEST = OffsetSpec.earliest()  # type: ignore[no-untyped-call]  # as the package has it
_LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Restored:
    """`positions`: where to read on, by input topic. `values`: the newest value of each key, without tombstones."""

    partition: int
    positions: dict[Topic, int]
    values: dict[bytes, bytes]
    end: int


class Cancelled(Exception):
    """The caller no longer wants the partition."""


def restore(
    cluster: Cluster,
    *,
    group: str,
    state: Topic,
    inputs: Iterable[Topic],
    partition: int,
    cancelled: Callable[[], bool] = lambda: False,
) -> Restored:
    """Read a partition's state for its new owner. Takes as long as the broker needs; raises Cancelled or Broken.

    `group` is the owner's consumer group. May run while that group's consumer polls in another thread: it uses clients
    of its own, and joins nothing.
    """
    began = time.monotonic()
    client_id = f"restore-{partition}"
    consumer = cluster.consumer(
        group,
        client_id,
        **{
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 20,  # that a log is read to its end is known when a fetch has waited for more in vain
            "group.protocol": "classic",  # it never joins; the setting spares it KIP-848's checks
        },
    )
    admin = AdminClient(cluster.client_config(client_id))  # asked by its own connections: its answers stay uncommitted
    try:
        places = {topic: TopicPartition(cluster.topic(topic), partition) for topic in inputs}
        positions = _patiently(lambda: _committed(consumer, admin, places), cancelled)
        place = TopicPartition(cluster.topic(state), partition)
        end = _patiently(lambda: _offset(admin, place, _LATEST), cancelled)
        # Of a topic that it meets only when it is told to read it, librdkafka asks for the leader up to a second later.
        _patiently(lambda: consumer.list_topics(place.topic, timeout=_ASK_S), cancelled)
        values = _read(consumer, place, end, cancelled)
    finally:
        consumer.close()
    log.info("restored", partition=partition, keys=len(values), end=end, seconds=round(time.monotonic() - began, 2))
    return Restored(partition, positions, values, end)


def _patiently(ask: Callable[[], Any], cancelled: Callable[[], bool]) -> Any:
    """Ask until there is an answer. An offset that a transaction holds back is one of the reasons to wait."""
    said = ""
    while True:
        if cancelled():
            raise Cancelled
        try:
            return ask()
        except KafkaException as error:
            failure = mapped(error)
        except Later as error:
            failure = error
        if isinstance(failure, Broken):
            raise failure
        if str(failure) != said:
            said = str(failure)
            log.info("restore_waits", reason=said)
        time.sleep(_AGAIN_S)


def _committed(consumer: Consumer, admin: AdminClient, places: dict[Topic, TopicPartition]) -> dict[Topic, int]:
    """The group's offsets, decided ones only (read_committed asks for stable offsets, KIP-447)."""
    answers = {answer.topic: answer for answer in consumer.committed(list(places.values()), timeout=_ASK_S)}
    found: dict[Topic, int] = {}
    for topic, place in places.items():
        answer = answers[place.topic]
        if answer.error is not None:
            raise KafkaException(answer.error)
        # A group that has committed nothing begins at the first record that there is.
        found[topic] = answer.offset if answer.offset != OFFSET_INVALID else _offset(admin, place, _EARLIEST)
    return found


def _offset(admin: AdminClient, place: TopicPartition, spec: OffsetSpec) -> int:
    asked: dict[TopicPartition, Future[Any]] = admin.list_offsets(
        {place: spec}, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=_ASK_S
    )
    return int(asked[place].result().offset)


def _read(consumer: Consumer, place: TopicPartition, end: int, cancelled: Callable[[], bool]) -> dict[bytes, bytes]:
    values: dict[bytes, bytes] = {}
    if end == 0:
        return values
    consumer.assign([TopicPartition(place.topic, place.partition, OFFSET_BEGINNING)])
    position = 0
    while position < end:
        if cancelled():
            raise Cancelled
        first = consumer.poll(_POLL_S)
        if first is None:
            continue
        for message in (first, *consumer.consume(_BATCH, 0)):
            position = max(position, _fold(values, message))
    return values


def _fold(values: dict[bytes, bytes], message: Message) -> int:
    """Take one record in; returns the position behind it."""
    error = message.error()
    if error is None:
        key, value = message.key() or b"", message.value()
        if value is None:
            values.pop(key, None)
        else:
            values[key] = value
        return (message.offset() or 0) + 1
    if error.code() == KafkaError._PARTITION_EOF:
        # The position of a read_committed consumer, markers and aborted records included. It comes again when a
        # transaction that held it back is decided.
        return message.offset() or 0
    if error.fatal():
        raise Broken(error.name())
    log.warning("restore_consume_error", error=error.name())
    return 0
