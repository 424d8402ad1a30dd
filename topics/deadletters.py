"""Records that cannot be handled: kept with their reason on `mail.deadletters`, so that their neighbours go on.

Too many of them is not bad records but a bad topic or a bad release: then `Poisoned` stops the consumer before it
empties the topic into the dead letters. What is hopeless is decided by the handler; the order of acks and offsets by
the loop.
"""

from __future__ import annotations

from base64 import b64encode
from collections import deque
from datetime import UTC, datetime
from hashlib import sha256

import structlog

from schemas.codec import encode
from schemas.operations import RecordDeadLettered
from schemas.redact import redact
from topics.publisher import BatchPublisher
from topics.record import Record
from topics.registry import DEADLETTERS

KEEP_VALUE = 64 * 1024  # bytes
KEEP_KEY = 1024  # bytes
KEEP_HEADERS = 32  # headers, of 256 bytes each
REASON_CHARS = 500
WINDOW = 1_000  # records
LIMIT = 100  # dead letters within the window; one more stops the consumer

log = structlog.get_logger(__name__)


class Poisoned(Exception):
    """Too many of the last records were dead-lettered. The consumer stops and keeps its place."""


class DeadLetters:
    """Of one consumer group. Not thread-safe: it belongs to the loop's thread."""

    def __init__(self, publisher: BatchPublisher, group: str, *, limit: int = LIMIT, window: int = WINDOW) -> None:
        self._publisher = publisher
        self._group = group
        self._limit = limit
        self._window = window
        self._seen = 0
        self._bad: deque[tuple[int, str]] = deque()  # when, by count of records seen; position

    def put(self, record: Record, reason: str) -> None:
        """Write the record to the dead letters (acked by the publisher's next `flush`), or raise `Poisoned`."""
        event = dead_letter(record, self._group, reason)
        self._forget()
        if all(position != record.position for _seen, position in self._bad):  # a batch that is repeated counts once
            self._bad.append((self._seen, record.position))
        if len(self._bad) > self._limit:
            raise Poisoned(
                f"{len(self._bad)} of the last {self._window} records of group {self._group} could not be handled; "
                f"stopped at {record.position}: {event.reason}"
            )
        encoded = encode(event, source=self._group)
        key = encoded.key if record.key is None or len(record.key) > KEEP_KEY else record.key
        self._publisher.send(DEADLETTERS, key, encoded.value, encoded.headers)
        log.warning("dead_letter", position=record.position, group=self._group, reason=event.reason)

    def passed(self, count: int) -> None:
        """Count records that are done with, good or bad: they are what the limit is a share of."""
        self._seen += count
        self._forget()

    def _forget(self) -> None:
        while self._bad and self._bad[0][0] <= self._seen - self._window:
            self._bad.popleft()


def dead_letter(record: Record, group: str, reason: str) -> RecordDeadLettered:
    """The fact of a record that `group` cannot handle; a repeat has the same id and the same time, the record's own."""
    value = record.value or b""
    headers = [(name[:256], (content or b"")[:256].decode(errors="replace")) for name, content in record.headers]
    return RecordDeadLettered.from_cause(
        f"{group}/{record.position}",
        occurred_at=datetime.fromtimestamp(max(record.timestamp_ms, 0) / 1000, UTC),
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        group=group,
        reason=redact(" ".join(reason.split()), limit=REASON_CHARS),
        # The model's fields take base64 and show bytes.
        record_key=b64encode((record.key or b"")[:KEEP_KEY]),
        record_value=b64encode(value[:KEEP_VALUE]),
        record_headers=dict(headers[:KEEP_HEADERS]),
        record_size=record.size,
        sha256=sha256(value).hexdigest(),
    )
