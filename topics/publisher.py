"""The one way in which events are written: idempotent, in order per key, every record either acked or reported.

Chooses topic and key by the event, encodes, and waits where librdkafka's queue is full. What to do about a failed
record is left to the caller: by `flush`, which raises, and with a `Publisher` also through `on_ack` or by awaiting
`published`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Self

import structlog
from confluent_kafka import KafkaError, KafkaException, Message

from schemas.codec import Headers, encode
from schemas.envelope import Event
from topics.errors import Broken, Later, mapped
from topics.kafka import Cluster
from topics.registry import BY_TYPE, Topic

OnAck = Callable[[KafkaError | None], None]

_POLL_S = 0.2  # a delivery report ends the wait at once; this only bounds how late the thread sees close()
_FULL_PAUSE_S = 0.01
_FULL_MAX_S = 60.0
_BATCH = {"linger.ms": 100, "delivery.report.only.error": True}

log = structlog.get_logger(__name__)


def _now() -> datetime:
    return datetime.now(UTC)


class _Ledger(threading.local):
    """What one thread has published, and how it went. Every thread sees its own."""

    def __init__(self) -> None:
        self.account = _Account()


class _Account:
    __slots__ = ("acked", "error", "sent")

    def __init__(self) -> None:
        self.sent = 0  # written by the publishing thread only
        self.acked = 0  # written by the polling thread only
        self.error: KafkaError | None = None  # the first one that no on_ack took


class BatchPublisher:
    """For one thread that publishes a batch and then waits until all of it is acked, as a loop does.

    It is the cheaper one. The wait ends the lingering, so that each partition gets the batch in one request, at once;
    nothing is reported but failures, and no thread serves the reports but the one that waits.
    """

    def __init__(
        self,
        cluster: Cluster,
        source: str,
        *,
        clock: Callable[[], datetime] = _now,
        settings: Mapping[str, Any] = _BATCH,
    ) -> None:
        """`source` is the CloudEvents source, a role's name; `settings` are librdkafka's, by dotted name."""
        self._cluster = cluster
        self._source = source
        self._clock = clock
        self._names: dict[str, str] = {}
        self._producer = cluster.producer(source, **settings)
        self._error: KafkaError | None = None  # the first since somebody was told
        self._closed = False

    def publish(self, event: Event, *, topic: Topic | None = None, partition: int | None = None) -> None:
        """Queue the event for its topic (or for `topic`, such as an urgent twin), keyed by `event.key`.

        Sets `recorded_at` where the event has none. Waits while the queue is full (64 MiB or 100,000 records), up to a
        minute. Raises `Later` after that, `Never` when the record is too large.
        """
        self.send(*self._record(event, topic), partition=partition)

    def send(
        self,
        topic: Topic,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None = None,
        *,
        partition: int | None = None,
    ) -> None:
        """`publish` for bytes: what passes through as it came, tombstones (value None), commands from upstream."""
        for pause in self._queue(topic, key, value, headers, partition, self._report):
            self._producer.poll(pause)

    def flush(self, timeout: float = 60.0) -> None:
        """Wait until all that has been published is acked; raise `Later` after `timeout` seconds.

        Raises the first failure since the last flush.
        """
        if not self.settled(timeout):
            raise Later(f"no ack within {timeout:.0f} s")

    def settled(self, timeout: float) -> bool:
        """As `flush`, but False when the time is over and nothing has failed: the records are still on their way."""
        done = self._producer.flush(timeout) == 0
        error, self._error = self._error, None
        if error is not None:
            raise mapped(error)
        return done

    @property
    def outstanding(self) -> int:
        """Records of all threads that are not acked yet."""
        return len(self._producer)

    def close(self, timeout: float = 30.0) -> None:
        """Send what is queued, then end. Raises `Later` when records were left unacked after `timeout` seconds."""
        if self._closed:
            return
        self._closed = True
        left = self._producer.flush(timeout)
        if left:
            raise Later(f"{left} records were not acked within {timeout:.0f} s")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _report(self, error: KafkaError | None, _message: Message) -> None:
        self._error = self._error or error

    def _record(self, event: Event, topic: Topic | None) -> tuple[Topic, bytes, bytes, Headers]:
        encoded = encode(event, source=self._source, recorded_at=self._clock())
        return topic or BY_TYPE[event.type], encoded.key, encoded.value, encoded.headers

    def _queue(
        self,
        topic: Topic,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None,
        partition: int | None,
        report: Callable[[KafkaError | None, Message], None],
    ) -> Iterator[float]:
        """Queue the record. While there is no room, yields seconds for which to wait; after a minute raises `Later`.

        How to wait is the caller's: it serves the reports meanwhile, sleeps, or leaves its event loop to others.
        """
        name = self._names.get(topic.name) or self._names.setdefault(topic.name, self._cluster.topic(topic))
        deadline = 0.0
        while True:
            if self._closed:
                raise Broken("the publisher is closed")
            try:
                self._producer.produce(
                    name,
                    value,
                    key,
                    -1 if partition is None else partition,
                    on_delivery=report,
                    headers=list(headers) if headers else None,
                )
            except BufferError:
                now = time.monotonic()
                deadline = deadline or now + _FULL_MAX_S
                if now > deadline:
                    raise Later("the producer's queue is full") from None
                yield _FULL_PAUSE_S
            except KafkaException as error:
                raise mapped(error) from None
            else:
                return


class Publisher(BatchPublisher):
    """Thread-safe. Its own thread serves the delivery reports, so `on_ack` runs there: be quick, and do not raise."""

    def __init__(
        self,
        cluster: Cluster,
        source: str,
        *,
        clock: Callable[[], datetime] = _now,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(cluster, source, clock=clock, settings=settings or {})
        self._ledger = _Ledger()
        self._changed = threading.Condition()
        self._waiting = 0
        self._closing = threading.Event()
        self._poller = threading.Thread(target=self._poll, name=f"publisher-{source}", daemon=True)
        self._poller.start()

    def publish(
        self, event: Event, *, topic: Topic | None = None, partition: int | None = None, on_ack: OnAck | None = None
    ) -> None:
        self.send(*self._record(event, topic), partition=partition, on_ack=on_ack)

    async def published(self, event: Event, *, topic: Topic | None = None, partition: int | None = None) -> None:
        """As `publish`, and return when Kafka has acked it; raises `Later` or `Never`. Never blocks the event loop."""
        await self.sent(*self._record(event, topic), partition=partition)

    def send(
        self,
        topic: Topic,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None = None,
        *,
        partition: int | None = None,
        on_ack: OnAck | None = None,
    ) -> None:
        for pause in self._counted(topic, key, value, headers, partition, on_ack):
            time.sleep(pause)

    async def sent(
        self,
        topic: Topic,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None = None,
        *,
        partition: int | None = None,
    ) -> None:
        """`published` for bytes."""
        loop = asyncio.get_running_loop()
        acked: asyncio.Future[KafkaError | None] = loop.create_future()

        def settle(error: KafkaError | None) -> None:
            if not acked.done():  # the caller may have given up
                acked.set_result(error)

        def on_ack(error: KafkaError | None) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(settle, error)

        for pause in self._counted(topic, key, value, headers, partition, on_ack):
            await asyncio.sleep(pause)
        if (error := await acked) is not None:
            raise mapped(error)

    def flush(self, timeout: float = 60.0) -> None:
        """Wait for what *this thread* has published. Where a record had an `on_ack`, that is told of its failure."""
        super().flush(timeout)

    def settled(self, timeout: float) -> bool:
        account = self._ledger.account
        with self._changed:
            self._waiting += 1
            done = self._changed.wait_for(lambda: account.acked == account.sent, timeout)
            self._waiting -= 1
        error, account.error = account.error, None
        if error is not None:
            raise mapped(error)
        return done

    def close(self, timeout: float = 30.0) -> None:
        self._closing.set()
        self._poller.join()  # before flush: two threads that serve reports would spoil the counts
        super().close(timeout)

    def _counted(
        self,
        topic: Topic,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None,
        partition: int | None,
        on_ack: OnAck | None,
    ) -> Iterator[float]:
        """`_queue`, with an entry in this thread's account."""
        account = self._ledger.account
        yield from self._queue(
            topic, key, value, headers, partition, lambda error, _message: self._deliver(account, error, on_ack)
        )
        account.sent += 1  # its ack may be counted already: this thread looks at the account only later

    def _deliver(self, account: _Account, error: KafkaError | None, on_ack: OnAck | None) -> None:
        try:
            if on_ack is not None:
                on_ack(error)
            elif error is not None and account.error is None:
                account.error = error
        except Exception:
            # It must not end the polling thread, which serves everyone. The caller's bug is in the log with its trace.
            log.exception("on_ack_failed", source=self._source)
        finally:
            account.acked += 1
            if self._waiting and account.acked == account.sent:
                with self._changed:
                    self._changed.notify_all()

    def _poll(self) -> None:
        while not self._closing.is_set():
            self._producer.poll(_POLL_S)
