"""Rules of the journal, each broken in the driver: the simulation must notice every one of them.

`python -m tests.simulation --mutation NAME --count 1000` shows how. A rule whose breaking goes unnoticed is either not
a rule, or not tested. (A commit in doubt that is taken for an abort is not here: records hold whole states and are
written again, so nothing comes of it.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from sinks.smtp import facts
from sinks.smtp.commands import Command, Dot, Transaction
from sinks.smtp.state import Phase, State, decode, message_id_of
from tests.simulation.clients import Change, Outcome
from tests.simulation.group import Metadata
from tests.simulation.host import LANE, STATE, Name, Wire
from tests.simulation.kernel import Steps
from tests.simulation.peer import Answer
from tests.simulation.transactions import Refusal
from tests.simulation.worker import STEP, Worker


class DotBeforeCommit(Worker):
    """The final dot does not wait for the commit of `sending`."""

    def written(self, wire: Wire, answer: Answer) -> None:
        if answer is Answer.GO:
            self.dot(wire, float("inf"))
        super().written(wire, answer)

    def do(self, command: Command) -> None:
        if not isinstance(command, Dot):
            super().do(command)


class DotAtAnyTime(Worker):
    """A dot is written however long ago its commit was."""

    def in_time(self, not_after: float) -> bool:
        return True


class OffsetsApart(Worker):
    """Transactions without offsets: these are committed by themselves, afterwards."""

    def offer(self, transaction: Transaction, metadata: Metadata) -> Steps:
        yield STEP
        return Outcome.OK

    def write(self, transaction: Transaction, metadata: Metadata) -> Steps:
        outcome = yield from super().write(transaction, metadata)
        if outcome is Outcome.OK:
            offsets = {(LANE[row.urgent], row.partition): row.offset for row in transaction.offsets}
            yield from self.ask(self._commit_offsets, metadata, offsets)
        return outcome

    def _commit_offsets(self, metadata: Metadata, offsets: dict[Name, int]) -> None:
        group = self.broker.group
        if group.admits(metadata, self.kernel.now):
            group.committed.update(offsets)


class OnlyAdvancedOffsets(Worker):
    """Transactions with only those offsets that have moved."""

    known: Mapping[Name, int] = MappingProxyType({})

    def offer(self, transaction: Transaction, metadata: Metadata) -> Steps:
        offsets = {(LANE[row.urgent], row.partition): row.offset for row in transaction.offsets}
        moved = {name: offset for name, offset in offsets.items() if self.known.get(name) != offset}
        if not moved:
            return Outcome.OK
        return (yield from self.producer.send_offsets(moved, metadata))

    def committed(self, transaction: Transaction, boot: float) -> None:
        offsets = {(LANE[row.urgent], row.partition): row.offset for row in transaction.offsets}
        self.known = {**self.known, **offsets}
        super().committed(transaction, boot)


class MetadataAtCommit(Worker):
    """The group metadata is asked for when the transaction is written, not kept with the assignment."""

    def offer(self, transaction: Transaction, metadata: Metadata) -> Steps:
        return (yield from super().offer(transaction, self.consumer.metadata()))


class DeafToLoss(Worker):
    """A loss of partitions is not passed on to the core."""

    def lost(self, change: Change) -> None:
        pass


class FactsBeforeCommit(Worker):
    """Facts go out with the transaction that will owe them, not after it."""

    def write(self, transaction: Transaction, metadata: Metadata) -> Steps:
        for row in transaction.records:
            if row.value is not None and (state := decode(row.value)).result is not None:
                for fact in facts.owed(self.world.commands[message_id_of(row.key)], state):
                    self.publisher.publish((self.name, fact), lambda ok: None)
        return (yield from super().write(transaction, metadata))


class FactsForgotten(Worker):
    """A fact counts as written though the producer said that it is not."""

    def acked(self, ticket: int, ok: bool) -> None:
        super().acked(ticket, True)


class EndedNotRepublished(Worker):
    """A new owner takes messages that have ended as done, without publishing their facts again."""

    def restored(self, states: list[tuple[bytes, State]]) -> list[tuple[bytes, State]]:
        return [(key, state) for key, state in states if state.phase is not Phase.ENDED]


class StableEnd(Worker):
    """Restores up to the end that a read_committed reader is told, which stands still under a hung transaction."""

    def end(self, number: int) -> int:
        return self.broker.partitions[STATE, number].stable


class LongTransactions(Worker):
    """A transaction may last longer than the session: slow, yet safe, since a new owner waits for it."""

    transaction_timeout = 40.0
    early = 0.0


class PendingIgnored(LongTransactions):
    """Takes the committed offsets as they are, while a transaction with newer ones is under way."""

    def committed_offsets(self, number: int) -> dict[Name, int] | Refusal:
        committed = self.broker.group.committed
        return {(topic, number): committed[topic, number] for topic in LANE if (topic, number) in committed}


class AbortForgets(Worker):
    """What an aborted transaction held is not written again."""

    def aborted(self, transaction: Transaction, boot: float) -> None:
        self.owner.committed(transaction.number, boot, self.wall())


class IntakeSkipsAhead(Worker):
    """Input begins at the end of the lanes, not at the committed offsets."""

    def _assigned(
        self, number: int, term: object, states: list[tuple[bytes, State]], positions: dict[bool, int]
    ) -> None:
        ends = {urgent: self.broker.partitions[LANE[urgent], number].stable for urgent in (False, True)}
        super()._assigned(number, term, states, ends)


@dataclass(frozen=True, slots=True)
class Mutation:
    worker: type[Worker]
    profile: str  # where it shows soonest
    within: int  # histories of that profile in which it must have shown


ALL: Final[dict[str, Mutation]] = {
    "dot-before-commit": Mutation(DotBeforeCommit, "calm", 20),
    "dot-at-any-time": Mutation(DotAtAnyTime, "zombie", 600),
    "offsets-apart": Mutation(OffsetsApart, "cut off", 200),
    "only-advanced-offsets": Mutation(OnlyAdvancedOffsets, "cut off", 300),
    "metadata-at-commit": Mutation(MetadataAtCommit, "cut off", 600),
    "deaf-to-loss": Mutation(DeafToLoss, "zombie", 100),
    "facts-before-commit": Mutation(FactsBeforeCommit, "calm", 20),
    "facts-forgotten": Mutation(FactsForgotten, "facts", 50),
    "ended-not-republished": Mutation(EndedNotRepublished, "facts", 50),
    "stable-end": Mutation(StableEnd, "calm", 600),
    "pending-ignored": Mutation(PendingIgnored, "zombie", 600),
    "abort-forgets": Mutation(AbortForgets, "calm", 20),
    "intake-skips-ahead": Mutation(IntakeSkipsAhead, "calm", 20),
}
