"""The broker's side of transactions: producer epochs, fencing, markers, pending offsets, time-outs.

As Kafka does it: the answer to a commit comes when the decision is on disk, before the markers are; until they are
written, readers stop at the last stable offset and offsets in the transaction are pending. Ending a transaction asks
nobody whether its author still belongs to the group: only `add_offsets` does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from tests.simulation.group import Group, Metadata
from tests.simulation.kernel import Kernel
from tests.simulation.log import Partition, Record, Rows

Name = tuple[str, int]


class Refusal(Enum):
    FENCED = "fenced"  # a newer epoch of this transactional.id exists: fatal to the producer
    CONCURRENT = "concurrent"  # the previous transaction's markers are still being written: ask again
    MEMBER = "member"  # the group does not know this member at this epoch: the transaction must be aborted
    UNSTABLE = "unstable"  # offsets are pending in a transaction: ask again
    EMPTY = "empty"  # no transaction is open
    INVALID = "invalid"  # not a step that this transaction can take now: a bug of the client


class Phase(Enum):
    EMPTY = "empty"
    OPEN = "open"
    COMMITTING = "committing"
    ABORTING = "aborting"
    COMMITTED = "committed"
    ABORTED = "aborted"


@dataclass(slots=True)
class Transaction:
    author: str  # the transactional.id
    producer: int
    epoch: int = 0
    phase: Phase = Phase.EMPTY
    timeout: float = 10.0
    started: float = 0.0
    partitions: set[Name] = field(default_factory=set)
    offsets: dict[Name, int] = field(default_factory=dict)
    group: Group | None = None
    number: int = 0
    left: int = 0  # markers still to be written


class Coordinator:
    """All transactional ids of the model broker."""

    def __init__(self, kernel: Kernel, partitions: dict[Name, Partition]) -> None:
        self._kernel = kernel
        self._partitions = partitions
        self._by_id: dict[str, Transaction] = {}
        self.marker_delay = (0.001, 0.004)
        self.on_commit: Callable[[str, list[tuple[Name, Record]]], None] | None = None  # the decision is on disk
        self.hung_check = 1.0  # transaction.abort.timed.out.transaction.cleanup.interval.ms of our brokers

    @property
    def settled(self) -> bool:
        """Whether no transaction is between its decision and its last marker."""
        return not any(found.phase in (Phase.COMMITTING, Phase.ABORTING) for found in self._by_id.values())

    def init(self, transactional_id: str, timeout: float) -> tuple[int, int] | Refusal:
        found = self._by_id.get(transactional_id)
        if found is None:
            found = self._by_id[transactional_id] = Transaction(transactional_id, len(self._by_id) + 1, -1)
        if found.phase in (Phase.COMMITTING, Phase.ABORTING):
            return Refusal.CONCURRENT
        found.epoch += 1
        if found.phase is Phase.OPEN:
            self._end(found, False)
            return Refusal.CONCURRENT
        found.phase, found.timeout = Phase.EMPTY, timeout
        return found.producer, found.epoch

    def write(self, transactional_id: str, epoch: int, sequence: int, rows: dict[Name, Rows]) -> Refusal | None:
        """Add partitions to the transaction and append to them; a repeat of the same sequence changes nothing."""
        found = self._by_id[transactional_id]
        refusal = self._joined(found, epoch)
        if refusal is not None:
            return refusal
        for name, batch in rows.items():
            partition = self._partitions[name]
            if partition.sequences.get((found.producer, epoch), -1) < sequence:
                partition.sequences[found.producer, epoch] = sequence
                partition.append_transactional(found.producer, batch)
                found.partitions.add(name)
        return None

    def add_offsets(
        self, transactional_id: str, epoch: int, group: Group, metadata: Metadata, offsets: dict[Name, int]
    ) -> Refusal | None:
        found = self._by_id[transactional_id]
        refusal = self._joined(found, epoch)
        if refusal is not None:
            return refusal
        if not group.admits(metadata, self._kernel.now):
            return Refusal.MEMBER
        found.group = group
        found.offsets.update(offsets)
        for name in offsets:
            group.pending.setdefault(name, set()).add(found.producer)
        return None

    def end(self, transactional_id: str, epoch: int, commit: bool) -> Refusal | None:
        found = self._by_id[transactional_id]
        if found.epoch != epoch:
            return Refusal.FENCED
        match found.phase:
            case Phase.OPEN:
                self._end(found, commit)
                return None
            case Phase.COMMITTING | Phase.ABORTING:
                return Refusal.CONCURRENT if commit == (found.phase is Phase.COMMITTING) else Refusal.INVALID
            case Phase.COMMITTED | Phase.ABORTED:
                return None if commit == (found.phase is Phase.COMMITTED) else Refusal.INVALID
            case Phase.EMPTY:
                return Refusal.EMPTY

    def _joined(self, found: Transaction, epoch: int) -> Refusal | None:
        if found.epoch != epoch:
            return Refusal.FENCED
        if found.phase in (Phase.COMMITTING, Phase.ABORTING):
            return Refusal.CONCURRENT
        if found.phase is not Phase.OPEN:
            found.phase, found.started, found.number = Phase.OPEN, self._kernel.now, found.number + 1
            self._kernel.at(found.timeout, self._expire, found, found.number)
        return None

    def _expire(self, found: Transaction, number: int) -> None:
        if found.phase is Phase.OPEN and found.number == number:
            # The broker looks for hung transactions once in a while, and fences their producer.
            self._kernel.at(self.hung_check * self._kernel.random.random(), self._abort_hung, found, number)

    def _abort_hung(self, found: Transaction, number: int) -> None:
        if found.phase is Phase.OPEN and found.number == number:
            found.epoch += 1
            self._end(found, False)

    def _end(self, found: Transaction, commit: bool) -> None:
        found.phase = Phase.COMMITTING if commit else Phase.ABORTING
        found.left = len(found.partitions) + 1
        if commit and self.on_commit is not None:
            partitions = [(name, self._partitions[name]) for name in sorted(found.partitions)]
            spans = [(name, partition.open[found.producer]) for name, partition in partitions]
            self.on_commit(found.author, [(name, record) for name, span in spans for record in span.records])
        low, high = self.marker_delay
        for name in sorted(found.partitions):
            self._kernel.at(self._kernel.random.uniform(low, high), self._mark, found, name, commit)
        self._kernel.at(self._kernel.random.uniform(low, high), self._settle_offsets, found, commit)

    def _mark(self, found: Transaction, name: Name, commit: bool) -> None:
        self._partitions[name].mark(found.producer, found.epoch, commit)
        self._marked(found)

    def _settle_offsets(self, found: Transaction, commit: bool) -> None:
        if found.group is not None:
            for name, offset in found.offsets.items():
                found.group.pending[name].discard(found.producer)
                if commit:
                    found.group.committed[name] = offset
        self._marked(found)

    def _marked(self, found: Transaction) -> None:
        found.left -= 1
        if found.left == 0:
            found.phase = Phase.COMMITTED if found.phase is Phase.COMMITTING else Phase.ABORTED
            found.partitions, found.offsets, found.group = set(), {}, None
