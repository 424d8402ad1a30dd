"""One partition of the model broker: records, transactions that are open on it, its last stable offset, compaction.

Offsets are those of a real log: control records take one each, and compaction leaves gaps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Rows = list[tuple[Any, Any]]  # key and value


@dataclass(slots=True)
class Span:
    """The part of one transaction that lies on one partition; `outcome` is None until its marker is written."""

    producer: int
    first: int
    outcome: bool | None = None
    records: list[Record] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Record:
    offset: int
    key: Any
    value: Any
    span: Span | None = None
    control: bool = False


@dataclass(slots=True)
class Partition:
    name: tuple[str, int]
    records: list[Record] = field(default_factory=list)
    end: int = 0
    open: dict[int, Span] = field(default_factory=dict)  # by producer id
    fences: dict[int, int] = field(default_factory=dict)  # producer id: the least epoch that may still write
    sequences: dict[tuple[int, int], int] = field(default_factory=dict)
    watchers: list[Callable[[], None]] = field(default_factory=list)

    @property
    def stable(self) -> int:
        """The last stable offset: what a read_committed reader may not pass."""
        return min((span.first for span in self.open.values()), default=self.end)

    def append(self, rows: Rows, span: Span | None = None) -> int:
        """Returns the offset of the first row."""
        first = self.end
        for key, value in rows:
            record = Record(self.end, key, value, span)
            self.records.append(record)
            self.end += 1
            if span is not None:
                span.records.append(record)
        if span is None:
            self._changed()
        return first

    def append_transactional(self, producer: int, rows: Rows) -> None:
        span = self.open.get(producer)
        if span is None:
            span = self.open[producer] = Span(producer, self.end)
        self.append(rows, span)

    def mark(self, producer: int, epoch: int, committed: bool) -> None:
        """Write a transaction's marker: its records become visible, or never will."""
        self.fences[producer] = max(epoch, self.fences.get(producer, 0))
        span = self.open.pop(producer, None)
        if span is not None:
            span.outcome = committed
        self.records.append(Record(self.end, "", None, span, control=True))
        self.end += 1
        self._changed()

    def read(self, position: int, *, committed: bool = True, limit: int = 500) -> tuple[list[Record], int]:
        """Records from `position`, and the position after them (past markers and aborted records too)."""
        bound = self.stable if committed else self.end
        found: list[Record] = []
        for record in self.records[self._index(position) :]:
            if record.offset >= bound:
                break
            if not record.control and (not committed or record.span is None or record.span.outcome):
                if len(found) == limit:
                    return found, found[-1].offset + 1
                found.append(record)
        return found, max(position, bound)

    def at(self, offset: int) -> Record | None:
        index = self._index(offset)
        if index < len(self.records) and self.records[index].offset == offset:
            return self.records[index]
        return None

    def compact(self) -> None:
        """Drop what a later committed record of the same key replaces, and what was aborted; the newest stays."""
        bound = self.stable
        newest: dict[Any, int] = {}
        for record in self.records:
            if record.offset < bound and not record.control and (record.span is None or record.span.outcome):
                newest[record.key] = record.offset
        self.records = [
            record for record in self.records if record.offset >= bound or newest.get(record.key) == record.offset
        ]

    def _index(self, position: int) -> int:
        records = self.records
        low, high = 0, len(records)
        while low < high:
            middle = (low + high) // 2
            if records[middle].offset < position:
                low = middle + 1
            else:
                high = middle
        return low

    def _changed(self) -> None:
        for watcher in tuple(self.watchers):
            watcher()
