"""What must hold in every history: P1, P2 and P4, as far as the outside can see them.

It knows what the broker committed, which facts it holds, which dots the peer saw; it never asks an owner what it
thinks.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from schemas.attempts import AttemptMade
from schemas.envelope import MailEvent
from schemas.messages import MessageEnded
from sinks.smtp.attempts import DOT_WITHIN
from sinks.smtp.state import Kind, Phase, State, decode, message_id_of
from tests.simulation.log import Record
from tests.simulation.peer import Receipt

if TYPE_CHECKING:
    from tests.simulation.world import World

STATE: Final = "state"
LONGEST: Final = 31.0  # seconds for which an owner is frozen or cut off; it may lose its partitions at their end
TRANSACTION: Final = 11.0  # seconds: its time-out, and until the broker looks for hung ones
Name = tuple[str, int]
_KINDS: Final = {
    "attempt.delivered": {Kind.DELIVERED},
    "attempt.deferred": {Kind.DEFERRED, Kind.EXPIRED},
    "attempt.bounced": {Kind.BOUNCED},
    "attempt.held": {Kind.HELD},
    "attempt.unknown": {Kind.UNKNOWN},
}


class Violation(AssertionError):
    """A promise is broken."""


@dataclass(frozen=True, slots=True)
class Committed:
    offset: int
    state: State | None
    by: str
    at: float


@dataclass(frozen=True, slots=True)
class Trouble:
    at: float
    until: float
    sessions: int  # open, or closed with an outcome that is not committed
    why: str


class Judge:
    def __init__(self, world: World) -> None:
        self._world = world
        self._lanes: dict[str, list[tuple[Name, int]]] = defaultdict(list)
        self._states: dict[tuple[int, str], Committed] = {}
        self._sending: dict[tuple[str, int], Committed] = {}  # by message and attempt
        self._doubted: dict[tuple[str, int], float] = {}  # when a doubt was first committed
        self._owed: set[tuple[str, int, Kind, bool]] = set()
        self._ends: dict[str, MessageEnded] = {}
        self._outcomes: dict[tuple[str, int], AttemptMade] = {}
        self._dots: dict[tuple[str, int], Receipt] = {}
        self._troubles: dict[str, list[Trouble]] = defaultdict(list)
        self.facts = 0
        self.unknown = 0
        self.duplicates = 0

    # What happens

    def accepted(self, message: str, lane: Name, offset: int) -> None:
        self._lanes[message].append((lane, offset))

    def trouble(self, worker: str, sessions: int, why: str, seconds: float) -> None:
        now = self._world.kernel.now
        self._troubles[worker].append(Trouble(now, now + seconds, sessions, why))

    def committed(self, by: str, records: list[tuple[Name, Record]]) -> None:
        """A transaction's decision is on disk."""
        now, world = self._world.kernel.now, self._world
        for (topic, number), record in records:
            if topic != STATE:
                self._lanes[record.value.message_id].append(((topic, number), record.offset))
                continue
            message = message_id_of(record.key)
            state = decode(record.value) if record.value is not None else None
            found = Committed(record.offset, state, by, now)
            before = self._states.get((number, message))
            if before is None or before.offset < record.offset:
                self._states[number, message] = found
            if state is None:
                world.note(by, "commit", world.short(message), "gone")
                continue
            owes = state.result.kind.name if state.result is not None else ""
            world.note(by, "commit", world.short((message, state.attempts)), state.phase.name, owes)
            if state.phase is Phase.SENDING:
                self._sending[message, state.attempts] = found
            if state.result is not None:
                if state.result.kind is Kind.UNKNOWN:
                    self._doubted.setdefault((message, state.attempts), now)
                self._owed.add((message, state.attempts, state.result.kind, state.phase is Phase.ENDED))

    def dot(self, worker: str, message: str, attempt: int) -> None:
        """A final dot is written: only within 10 s of the commit of this very attempt, and only once."""
        name, now = self._world.short((message, attempt)), self._world.kernel.now
        found = self._sending.get((message, attempt))
        self._must(found is not None, f"{worker}: dot of {name} without a commit")
        assert found is not None
        self._must(found.by == worker, f"{worker}: dot of {name}, which {found.by} had committed")
        self._must(now - found.at <= DOT_WITHIN, f"{worker}: dot of {name} {now - found.at:.1f} s after its commit")
        earlier = self._dots.get((message, attempt))
        self._must(earlier is None, f"{worker}: a second dot of {name}")
        self._dots[message, attempt] = Receipt(now, message, attempt, worker)

    def fact(self, who: str, fact: MailEvent) -> None:
        """The broker has a fact: one that a committed state owes, and never another for the same thing."""
        self.facts += 1
        message, name = fact.message_id, self._world.short(fact.message_id)
        if isinstance(fact, MessageEnded):
            owed = any(key[0] == message and key[3] for key in self._owed)
            self._must(owed, f"{who}: {fact.type} of {name} is not committed")
            first = self._ends.setdefault(message, fact)
            self._must(first.event_id == fact.event_id, f"{name} ended twice: {first.type} and {fact.type}")
        elif isinstance(fact, AttemptMade):
            number = fact.attempt - (fact.type == "attempt.held")
            owed = any((message, number, kind, end) in self._owed for kind in _KINDS[fact.type] for end in (0, 1))
            self._must(owed, f"{who}: {fact.type} {fact.attempt} of {name} is not committed")
            if fact.type == "attempt.held":
                return
            known = self._outcomes.setdefault((message, fact.attempt), fact)
            both = f"attempt {fact.attempt} of {name} came to {known.type} and to {fact.type}"
            self._must(known.event_id == fact.event_id, both)

    # What holds at any moment

    def conserved(self) -> None:
        """accepted = ended + in flight."""
        world = self._world
        if not world.broker.coordinator.settled:
            return
        taken = world.broker.group.committed
        for message, copies in self._lanes.items():
            states = [found.state for (_, known), found in self._states.items() if known == message]
            waits = any(offset >= taken.get(lane, 0) for lane, offset in copies)
            queued = any(state is not None and state.phase <= Phase.ENDED for state in states)
            self._must(waits or queued or message in self._ends, f"{world.short(message)} is nowhere")
            done = any(state is not None and state.phase is Phase.DONE for state in states)
            self._must(message in self._ends or not done, f"{world.short(message)} is done without an end")

    def quiet(self) -> bool:
        """Whether everything has come to rest."""
        open_states = any(
            found.state is not None and (found.state.phase <= Phase.ENDED or found.state.result is not None)
            for found in self._states.values()
        )
        world = self._world
        taken = world.broker.group.committed
        read = all(
            offset < taken.get(lane, 0) for copies in self._lanes.values() for lane, offset in copies
        )  # fmt: skip
        return not open_states and read and len(self._ends) == len(self._lanes)

    def never_quiet(self) -> None:
        short = self._world.short
        missing = [short(message) for message in self._lanes if message not in self._ends]
        self._must(not missing, f"no end of {', '.join(missing)} (P1)")
        held = [short(message) for (_, message), found in self._states.items()
                if found.state is not None and found.state.phase <= Phase.ENDED]  # fmt: skip
        raise Violation(f"never quiet: {', '.join(held) or 'lanes not read to their end'}")

    # What holds at the end

    def final(self) -> None:
        self.conserved()
        self._must(self.quiet(), "it was quiet, and is no longer")
        for key in self._dots:
            self._must(key in self._outcomes, f"nothing is known of the dot of {self._world.short(key)}")
        self._doubts()
        self._copies()

    def _doubts(self) -> None:
        """Each doubt has its cause: a reply that was lost, or an owner that was; at most one per session of it."""
        peer, world = self._world.peer, self._world
        lost: dict[tuple[str, float], list[str]] = defaultdict(list)
        for (message, attempt), fact in self._outcomes.items():
            if fact.type != "attempt.unknown":
                continue
            self.unknown += 1
            if (message, attempt) in peer.unanswered:
                continue
            name, sent, found = world.short((message, attempt)), self._sending[message, attempt], None
            # A transaction that was under way when its owner lost the partition may still be committed.
            for trouble in self._troubles[sent.by]:
                if sent.at - TRANSACTION <= trouble.until and trouble.at <= self._doubted[message, attempt]:
                    found = trouble
            self._must(found is not None, f"{name} is in doubt, yet nothing had happened to {sent.by}")
            assert found is not None
            lost[sent.by, found.at].append(name)
        for (worker, at), names in lost.items():
            near = [trouble.sessions for trouble in self._troubles[worker] if at - LONGEST <= trouble.at <= at]
            self._must(
                len(names) <= max(near), f"{worker}: {', '.join(names)} in doubt at {at:.1f}, with {max(near)} sessions"
            )

    def _copies(self) -> None:
        """What the peer got twice was in doubt in between; what it got is delivered, or in doubt."""
        received: dict[str, list[Receipt]] = defaultdict(list)
        for receipt in sorted(
            self._world.peer.received, key=lambda receipt: receipt.attempt
        ):  # a slow dot may be overtaken
            received[receipt.message].append(receipt)
        for message, receipts in received.items():
            name = self._world.short(message)
            for receipt in receipts[:-1]:
                self.duplicates += 1
                outcome = self._outcomes.get((message, receipt.attempt))
                recorded = outcome is not None and outcome.type == "attempt.unknown"
                self._must(recorded, f"{name} was transmitted again after attempt {receipt.attempt}, unrecorded (P4)")
            last = self._outcomes[message, receipts[-1].attempt]
            self._must(
                last.type in ("attempt.delivered", "attempt.unknown"), f"{name} was received, and {last.type} says not"
            )
        for message, end in self._ends.items():
            if end.type == "message.delivered":
                self._must(message in received, f"{self._world.short(message)} is delivered, and nobody received it")
        if self._world.profile.calm:
            self._must(not self.unknown and not self.duplicates, "a doubt without any fault (P4)")

    def _must(self, holds: Any, what: str) -> None:
        if not holds:
            raise Violation(what)
