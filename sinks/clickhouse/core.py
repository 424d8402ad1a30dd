"""Make ClickHouse blocks of Kafka records: which table, which rows, under which name. Pure.

A record's value is a complete JSON object, so its bytes become the row as they are (format JSONEachRow); only its
place in Kafka is put in front. A block's content depends on nothing but the records in its spans: who reads the same
spans again makes the same bytes under the same token, and ClickHouse drops the repeat. When to insert and to commit is
writer.py's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Final, NamedTuple

import orjson

from schemas.codec import Undecodable
from schemas.families import EVENTS
from topics.record import Record
from topics.registry import BY_NAME, MAX_READ, SINK, TOPICS, Topic

Place = tuple[str, int]  # topic, partition

READ: Final[tuple[Topic, ...]] = tuple(topic for topic in TOPICS if SINK in topic.readers)

_PLACE: Final = b'{"kafka_partition":%d,"kafka_offset":%d,'
_OURS: Final = ("kafka_partition", "kafka_offset")
_LAST: Final = "last="


class Span(NamedTuple):
    """Offsets of one partition, both included. Some between them may be gone: Kafka compacts and forgets."""

    partition: int
    first: int
    last: int


class Row(NamedTuple):
    record: Record
    line: bytes


class Unfit(NamedTuple):
    """A record that cannot be a row, and why."""

    record: Record
    reason: str


@dataclass(frozen=True)
class Block:
    """What one INSERT carries. `spans` are in order of partition, `rows` in theirs."""

    topic: str
    spans: tuple[Span, ...]
    rows: tuple[Row, ...]

    @property
    def table(self) -> str:
        return table_of(self.topic)

    @cached_property
    def body(self) -> bytes:
        return b"\n".join([row.line for row in self.rows])

    @cached_property
    def token(self) -> str:
        """Names the spans, as `topic:partition:first-last,…`, and the rows by their digest.

        ClickHouse drops a block with a known token in silence. Were the spans all of it, the rows of a topic that was
        deleted and made again, or those that an older release left out, would be dropped too.
        """
        spans = ",".join(f"{span.partition}:{span.first}-{span.last}" for span in self.spans)
        return f"{self.topic}:{spans}#{blake2b(self.body, digest_size=8).hexdigest()}"

    def without(self, unfit: Sequence[int]) -> Block:
        """The block less the rows with these indexes."""
        left_out = frozenset(unfit)
        return Block(self.topic, self.spans, tuple(row for index, row in enumerate(self.rows) if index not in left_out))


def table_of(topic: str) -> str:
    """`mail.messages` is kept in the table `messages`."""
    return topic.removeprefix("mail.")


def block(topic: str, taken: Mapping[Span, Sequence[Record]]) -> tuple[Block, list[Unfit]]:
    """The block of a topic's records, which are in order of offset in each span; and those that cannot be rows."""
    rows: list[Row] = []
    unfit: list[Unfit] = []
    declared = BY_NAME[topic]
    for span in sorted(taken):
        for record in taken[span]:
            try:
                line = row(record, declared)
            except Undecodable as error:
                unfit.append(Unfit(record, str(error)))
            else:
                if line is not None:
                    rows.append(Row(record, line))
    return Block(topic, tuple(sorted(taken)), tuple(rows)), unfit


def row(record: Record, topic: Topic) -> bytes | None:
    """The record as one row of JSONEachRow; None for a tombstone, which erases state and says nothing for the history.

    Checks what would corrupt neighbours (one JSON object, nothing behind it) or the table's meaning (type, version,
    identity). Types of fields are left to ClickHouse, see `unfit_rows`: our writers validate, and validating all again
    would take twice the time of the rest.
    """
    if record.value is None:
        return None
    if record.size > MAX_READ:
        raise Undecodable(f"{record.size} bytes: more than the {MAX_READ} that are read")
    try:
        content = orjson.loads(record.value)
    except orjson.JSONDecodeError as error:
        raise Undecodable(f"not JSON: {error.msg} at byte {error.pos}") from None
    if not isinstance(content, dict):
        raise Undecodable("not a JSON object")
    kind = content.get("type")
    if not isinstance(kind, str) or kind not in topic.types:
        raise Undecodable(f"type {str(kind)[:64]!r} does not belong on {topic.name}")
    version = content.get("schema_version", 1)
    if not isinstance(version, int) or version > EVENTS[kind].version:
        raise Undecodable(
            f"{kind} has schema_version {str(version)[:16]}; this code reads up to {EVENTS[kind].version}"
        )
    for name in ("event_id", "occurred_at"):
        if not isinstance(content.get(name), str):
            raise Undecodable(f"{name} is missing or no text")
    for name in _OURS:
        if name in content:
            raise Undecodable(f"{name} is not a field of events")
    return _PLACE % (record.partition, record.offset) + record.value.lstrip(b" \t\r\n")[1:]


def unfit_rows(rows: Sequence[Row], fits: Callable[[bytes], bool]) -> list[int]:
    """Indexes of the rows that ClickHouse cannot read, found by halving; `fits` tells whether it could read a body.

    `fits` must depend on its bytes alone, and insert nothing: so who reads the records again leaves out the same ones.
    """
    found: list[int] = []
    pending = [range(len(rows))]
    while pending:
        part = pending.pop()
        if fits(b"\n".join([rows[index].line for index in part])):
            continue
        if len(part) == 1:
            found.append(part[0])
            continue
        half = len(part) // 2
        pending += [part[half:], part[:half]]
    return found


class Mark(NamedTuple):
    """What is committed for a partition: all before `offset` is in ClickHouse. `last` is set while [offset..last] are
    being inserted: they may be in already, so they must be inserted as one block again."""

    offset: int
    last: int | None = None

    @property
    def metadata(self) -> str:
        return "" if self.last is None else f"{_LAST}{self.last}"

    @classmethod
    def read(cls, offset: int, metadata: str | None) -> Mark | None:
        """None where nothing is committed. Metadata that is not ours counts as none."""
        if offset < 0:
            return None
        digits = (metadata or "").removeprefix(_LAST)
        if metadata and metadata.startswith(_LAST) and digits.isdecimal() and int(digits) >= offset:
            return cls(offset, int(digits))
        return cls(offset)
