"""Write facts and state changes to ClickHouse, each exactly once although the process may die at any point.

The order, and what a death after each step means. For all partitions at hand, at 10,000 rows or after a second:
  1. mark: commit offset=first with `last=N`. Dead before: nothing happened, the next owner takes what it likes.
  2. insert [first..N], one block for each topic, under a token that names it. Dead before or in it: the next owner
     finds the marks, reads exactly [first..N] again and inserts the same block, which ClickHouse drops if it has it.
  3. dead letters: what cannot be a row is published, and acked. Dead before: published again, with the same id.
  4. commit N+1. Dead before: as 2.
A failure is waited out and the steps repeated from the first. Second net: should a block be made of other spans after
all (a partition went to another sink in between), tables fold rows by event_id.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Final, NamedTuple, Protocol, TypeVar

import structlog
from clickhouse_connect.driver.exceptions import ClickHouseError

from sinks.clickhouse.core import READ, Block, Mark, Place, Span, Unfit, block, unfit_rows
from sinks.clickhouse.intake import GROUP, Intake
from sinks.clickhouse.migrate import let_read, migrate
from sinks.clickhouse.tables import ClickHouseSinkConfig, Tables, Unreadable, connect
from topics.deadletters import DeadLetters
from topics.errors import Later
from topics.publisher import BatchPublisher
from topics.record import Record

ROWS: Final = 10_000
BYTES: Final = 16 * 1024 * 1024
WAIT_S: Final = 1.0  # the oldest record waits at most this long for company
_IDLE_S: Final = 1.0  # one look a second at `stop`; a record ends the wait
_REREAD_S: Final = 0.2
_TAKE: Final = 2_000  # records at once: bounds memory when they are large
_BACKOFF_FIRST_S: Final = 0.1
_BACKOFF_MAX_S: Final = 5.0

T = TypeVar("T")
log = structlog.get_logger(__name__)

__all__ = ["ClickHouseSinkConfig", "Writer", "run"]


class Store(Protocol):
    """What the writer needs of ClickHouse."""

    def insert(self, block: Block) -> None: ...
    def reads(self, table: str, body: bytes) -> bool: ...


class Slice(NamedTuple):
    """Records of one partition that are written together, and the offsets that they stand for."""

    first: int
    last: int
    records: Sequence[Record]


def run(config: ClickHouseSinkConfig, stop: threading.Event, ready: Callable[[], None]) -> None:
    """Bring the schema up to date, then write until `stop`. Raises MigrationError, Poisoned, Broken."""
    if not _insist(lambda: _prepare(config), stop):
        return
    with (
        BatchPublisher(config.cluster, GROUP) as publisher,
        closing(Tables(lambda: connect(config, config.database))) as tables,
        closing(Intake(config.cluster, READ)) as intake,
    ):
        writer = Writer(intake, tables, DeadLetters(publisher, GROUP), publisher.flush)
        told = False
        while not stop.is_set():
            writer.turn(stop)
            if intake.assigned and not told:
                told = True
                ready()


def _prepare(config: ClickHouseSinkConfig) -> None:
    try:
        with closing(connect(config, "default")) as client:
            migrate(client, config.database)
            let_read(client, config.database, config.reader, config.reader_password)
    except ClickHouseError as error:
        raise Later(f"ClickHouse: {getattr(error, 'name', None) or type(error).__name__}") from None


def _insist(call: Callable[[], None], stop: threading.Event) -> bool:
    """Call until it works; False when stopped before."""
    backoff = _BACKOFF_FIRST_S
    while not stop.is_set():
        try:
            call()
        except Later as later:
            log.warning("later", reason=str(later), wait_s=backoff)
            stop.wait(backoff)
            backoff = min(backoff * 2, _BACKOFF_MAX_S)
        else:
            return True
    return False


class Writer:
    """One thread: everything between two calls of `intake` happens with the same partitions in hand."""

    def __init__(
        self,
        intake: Intake,
        store: Store,
        deadletters: DeadLetters,
        flush: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._intake = intake
        self._store = store
        self._deadletters = deadletters
        self._flush = flush
        self._clock = clock
        self._held: dict[Place, list[Record]] = {}
        self._reread: dict[Place, Mark] = {}  # inserted, or not: must be one block again
        self._unknown: set[Place] = set()  # gained, and their marks not asked for yet
        self._opened: float | None = None  # when the oldest record in hand came

    def turn(self, stop: threading.Event) -> None:
        """Take what comes, up to a second's worth; write it when it is time."""
        self._take(stop)
        if self._due():
            self._write(self._slices(), stop)

    # Taking

    def _take(self, stop: threading.Event) -> None:
        limit = max(1, min(_TAKE, ROWS - self._rows()))
        if self._reread or self._unknown:
            records = self._intake.gather(limit, _REREAD_S)
        elif self._opened is None:
            records = self._intake.wait(limit, _IDLE_S)
        else:
            records = self._intake.gather(limit, max(0.0, self._opened + WAIT_S - self._clock()))
        self._follow_changes()
        for record in records:
            self._held.setdefault((record.topic, record.partition), []).append(record)
        if not self._held:
            self._opened = None
        elif self._opened is None:
            self._opened = self._clock()
        if self._unknown:
            self._learn_marks(stop)

    def _follow_changes(self) -> None:
        """What belongs to partitions that went away is their new owner's, who begins at their marks."""
        dropped, gained = self._intake.changes()
        for place in dropped:
            self._held.pop(place, None)
            self._reread.pop(place, None)
        self._unknown -= dropped
        self._unknown |= gained

    def _learn_marks(self, stop: threading.Event) -> None:
        try:
            marks = self._intake.marks(self._unknown)
        except Later as later:
            log.warning("later", reason=str(later))
            self._intake.hold(_REREAD_S, stop)
            return
        self._unknown.clear()
        self._reread |= {place: mark for place, mark in marks.items() if mark.last is not None}
        if self._reread:
            log.info("rereading", partitions=len(self._reread))
            self._intake.only(self._reread)

    def _rows(self) -> int:
        return sum(map(len, self._held.values()))

    def _due(self) -> bool:
        if self._unknown or not (self._held or self._reread):
            return False
        if self._reread:
            return all(self._is_back(place, mark) for place, mark in self._reread.items())
        size = sum(len(record.value or b"") for records in self._held.values() for record in records)
        late = self._opened is not None and self._clock() - self._opened >= WAIT_S
        return late or self._rows() >= ROWS or size >= BYTES

    def _is_back(self, place: Place, mark: Mark) -> bool:
        records = self._held.get(place, [])
        if records and records[-1].offset >= (mark.last or 0):
            return True
        return place in self._intake.at_end

    def _slices(self) -> dict[Place, Slice]:
        """What to write now; it leaves our hands. What was marked goes first, and alone."""
        if not self._reread:
            taken = {place: Slice(held[0].offset, held[-1].offset, held) for place, held in self._held.items()}
            self._held, self._opened = {}, None
            return taken
        taken = {}
        for place, mark in self._reread.items():
            records = self._held.pop(place, [])
            last = mark.last or 0
            ours = [record for record in records if record.offset <= last]
            if later := records[len(ours) :]:
                self._held[place] = later
            elif not (ours and ours[-1].offset == last):
                # The log ends before `last`: the broker lost records, or is not all back yet. Stand for what is there.
                if not ours:
                    continue
                last = ours[-1].offset
            taken[place] = Slice(mark.offset, last, ours)
        self._reread = {}
        self._intake.only(())
        return taken

    # Writing

    def _write(self, taken: dict[Place, Slice], stop: threading.Event) -> None:
        """The four steps, until they succeed. What is left when stopped has its marks, or was never begun."""
        backoff = _BACKOFF_FIRST_S
        while taken and not stop.is_set():
            try:
                self._steps(taken)
                return
            except Later as later:
                log.warning("later", reason=str(later), wait_s=backoff)
                self._intake.hold(backoff, stop)
                backoff = min(backoff * 2, _BACKOFF_MAX_S)
                self._follow_changes_of(taken)

    def _follow_changes_of(self, taken: dict[Place, Slice]) -> None:
        dropped, gained = self._intake.changes()
        for place in dropped:
            taken.pop(place, None)
            self._held.pop(place, None)
        self._unknown = (self._unknown - dropped) | gained

    def _steps(self, taken: Mapping[Place, Slice]) -> None:
        self._intake.commit({place: Mark(at.first, at.last) for place, at in taken.items()})
        unfit: list[Unfit] = []
        for topic, spans in _by_topic(taken).items():
            made, bad = block(topic, spans)
            unfit += bad
            unfit += self._insert(made)
        for record, reason in unfit:
            self._deadletters.put(record, reason)
        self._flush()
        self._intake.commit({place: Mark(at.last + 1) for place, at in taken.items()})
        self._deadletters.passed(sum(len(at.records) for at in taken.values()))

    def _insert(self, made: Block) -> list[Unfit]:
        if not made.rows:
            return []
        try:
            self._store.insert(made)
        except Unreadable as error:
            # One block is read as a whole before any of it is kept: nothing is in.
            bad = unfit_rows(made.rows, lambda body: self._store.reads(made.table, body))
            if not bad:
                raise Later(f"{made.table}: {error}, yet each row can be read") from None
            rest = made.without(bad)
            if rest.rows:
                self._store.insert(rest)
            return [Unfit(made.rows[index].record, f"ClickHouse: {error}") for index in bad]
        return []


def _by_topic(taken: Mapping[Place, Slice]) -> dict[str, dict[Span, Sequence[Record]]]:
    found: defaultdict[str, dict[Span, Sequence[Record]]] = defaultdict(dict)
    for (topic, partition), at in taken.items():
        found[topic][Span(partition, at.first, at.last)] = at.records
    return found
