"""The simulated owner's consumer thread and its restores: which partitions are its own, and from where it reads on."""

from __future__ import annotations

from functools import partial
from typing import Final

from sinks.smtp.queue import LaneRecord
from sinks.smtp.state import State, decode
from tests.simulation.clients import Change
from tests.simulation.group import Metadata
from tests.simulation.host import LANE, STATE, Name, lane_record
from tests.simulation.kernel import Future, Steps
from tests.simulation.log import Record
from tests.simulation.sending import Sending
from tests.simulation.transactions import Refusal

DRAIN: Final = 60.0


class Membership(Sending):
    def _consume(self) -> Steps:
        consumer, limit = self.consumer, 0.0
        while not self.stopped:
            if self.stopping:
                if not limit:
                    # Drained before it leaves, and polling all the while: a closing client sends no heartbeats.
                    limit = self.kernel.now + DRAIN
                    for number in sorted(self._terms):
                        self._drain(number)
                if self.kernel.now >= limit or all(drained.done for drained in self._drained.values()):
                    yield from self._leave()
                    return
            found = yield from consumer.poll(0.5 if limit else 2.0, 50)
            if isinstance(found, Change):
                self.note(found.kind, *sorted(found.partitions))
                match found.kind:
                    case "assigned" if not limit:
                        for number in sorted(found.partitions):
                            term = self._terms[number] = object()
                            self.kernel.spawn(self.process, "restore", self._restore(number, term))
                    case "revoked":
                        yield from self._revoked(found.partitions)
                    case "lost":
                        self.lost(found)
                consumer.done(found)
            elif found:
                self._take_in(found)
            # On this thread, after the callbacks of this poll: so never newer than what the core has been told.
            self._hand_over(consumer.metadata())

    def _leave(self) -> Steps:
        everything = frozenset(self._terms)
        yield from self._revoked(everything)
        self.consumer.done(Change("revoked", everything))
        yield from self.consumer.leave()
        self.stopped = True
        self.world.left(self)

    def _hand_over(self, metadata: Metadata) -> None:
        if metadata != self._handed:
            self._handed = metadata
            self.post(partial(self._learn, metadata))

    def _learn(self, metadata: Metadata) -> None:
        self._metadata = metadata

    def _take_in(self, found: list[tuple[Name, Record]]) -> None:
        batches: dict[int, list[LaneRecord]] = {}
        for (topic, number), record in found:
            batches.setdefault(number, []).append(lane_record(topic == LANE[1], record))
        for number, records in batches.items():
            self.post(partial(self._intake, number, self._terms.get(number), records))

    def _intake(self, number: int, term: object, records: list[LaneRecord]) -> None:
        if self._terms.get(number) is term:
            self.owner.intake(number, records, self.wall())

    def lost(self, change: Change) -> None:
        for number in sorted(change.partitions):
            self._drained.pop(number, None)
            if self._terms.pop(number, None) is not None:
                self.world.troubled(self, "lost")
                self.post(partial(self.owner.lost, number))

    def _drain(self, number: int) -> None:
        """Ask for it once in an assignment."""
        if number not in self._drained:
            self._drained[number] = Future()
            self._deadline[number] = self.kernel.now + DRAIN
            self.post(partial(self._revoke, number))

    def _revoked(self, partitions: frozenset[int]) -> Steps:
        kernel, numbers = self.kernel, sorted(number for number in partitions if number in self._terms)
        for number in numbers:
            self._drain(number)
        for number in numbers:
            drained, left = self._drained[number], max(0.0, self._deadline[number] - kernel.now)
            yield kernel.either(drained, kernel.sleep(left))
            if not drained.done:
                self.world.troubled(self, "drain limit")
        told = Future()
        for number in numbers:
            self._terms.pop(number)
            self._drained.pop(number)
            self.post(partial(self.owner.lost, number))
        self.post(told.resolve)
        yield told

    def _revoke(self, number: int) -> None:
        if number in self.owner.partitions:
            self.owner.revoke(number, self.wall())
        elif number in self._drained:
            self._drained[number].resolve()  # still being restored

    # Restore

    def _restore(self, number: int, term: object) -> Steps:
        offsets = yield from self.ask(self.committed_offsets, number)
        end = yield from self.ask(self.end, number)
        states: dict[bytes, bytes] = {}
        position = 0
        while position < end:
            records, position = yield from self.ask(self._read_state, number, position)
            for record in records:
                if record.value is None:
                    states.pop(record.key, None)
                else:
                    states[record.key] = record.value
            if position < end:
                yield self.kernel.sleep(0.1)  # a transaction is open below the end
        found = self.restored([(key, decode(value)) for key, value in states.items()])
        positions = {urgent: offsets.get((LANE[urgent], number), 0) for urgent in (False, True)}
        self.post(partial(self._assigned, number, term, found, positions))

    def _assigned(
        self, number: int, term: object, states: list[tuple[bytes, State]], positions: dict[bool, int]
    ) -> None:
        if self._terms.get(number) is not term or self._drained.get(number) is not None:
            return  # taken away in the meantime
        self.note("restored", number, len(states), positions[False], positions[True])
        self.owner.assigned(number, states, positions, self.wall())
        for urgent, position in positions.items():
            self.consumer.positions[LANE[urgent], number] = position

    def restored(self, states: list[tuple[bytes, State]]) -> list[tuple[bytes, State]]:
        return states

    def committed_offsets(self, number: int) -> dict[Name, int] | Refusal:
        names = [(topic, number) for topic in LANE]
        group = self.broker.group
        if not group.stable(names):
            return Refusal.UNSTABLE
        return {name: group.committed[name] for name in names if name in group.committed}

    def end(self, number: int) -> int:
        """ListOffsets, read_uncommitted."""
        return self.broker.partitions[STATE, number].end

    def _read_state(self, number: int, position: int) -> tuple[list[Record], int]:
        return self.broker.partitions[STATE, number].read(position)
