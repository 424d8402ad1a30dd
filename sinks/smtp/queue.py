"""What waits, and where: messages, sites and sessions of a queue owner, in memory.

Data and order only. What happens to them, and when, is core.py's. A million entries must fit in 1 GiB: an entry has no
body (the lane keeps it, `Body` is a bounded cache), its identity is 16 bytes, and wheels hold references instead of
sorted tuples.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

from schemas.lanes import MessageQueue
from sinks.smtp.policy import Limits
from sinks.smtp.state import Phase, State
from sinks.smtp.turns import Turns

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LaneRecord:
    """A command as it stands on a lane; `value` is what it was read from."""

    urgent: bool
    offset: int
    lane: str  # the record's key: pool/site#shard
    command: MessageQueue
    value: bytes

    @property
    def size(self) -> int:
        return len(self.value)


class Entry:
    """A message that has not ended, or whose facts are owed. Phase DONE and MOVED are markers in `Partition.marks`."""

    __slots__ = (
        "accepted_at",
        "attempts",
        "body",
        "expires_at",
        "keep_until",
        "key",
        "next_at",
        "offset",
        "phase",
        "result",
        "session",
        "site",
        "ticket",
        "turn",
    )

    def __init__(self, key: bytes, site: Site, state: State) -> None:
        self.key = key
        self.site = site
        self.phase = state.phase
        # Two numbers in one: the lane offset, doubled, and whether the lane is the urgent one.
        self.offset = state.offset << 1 | state.urgent
        self.attempts = state.attempts
        self.accepted_at = state.accepted_at  # ms
        self.next_at = state.next_at  # ms
        self.expires_at = state.expires_at  # s
        self.keep_until = state.keep_until  # s
        self.result = state.result  # its facts are owed
        # Two numbers in one again: the tenant's, and the priority.
        self.turn = shared(state.tenant << 2 | state.priority)
        self.body: LaneRecord | None = None
        self.session: Session | None = None
        self.ticket = 0  # of the facts on their way; 0: none

    @property
    def urgent(self) -> bool:
        return bool(self.offset & 1)

    @property
    def tenant(self) -> int:
        return self.turn >> 2

    @property
    def ended(self) -> bool:
        return self.phase >= Phase.ENDED

    def state(self) -> State:
        lane = self.site.lane if self.phase <= Phase.SENDING else ""
        return State(
            self.phase, self.urgent, self.offset >> 1, lane, self.attempts,
            self.accepted_at, self.next_at, self.expires_at, self.keep_until, self.result,
            self.tenant, self.turn & 3,
        )  # fmt: skip


_numbers: dict[int, int] = {}


def shared(number: int) -> int:
    """The same number as one object: a million entries of one tenant need one."""
    return _numbers.setdefault(number, number)


class Stage(Enum):
    """How far a session has come. A message on it is `sending` from ASSIGNED to the outcome."""

    OPENING = "opening"
    IDLE = "idle"
    TRANSFER = "transfer"  # MAIL to the body
    READY = "ready"  # all but the dot is written
    DOT = "dot"  # the dot may be on its way


class Session:
    __slots__ = ("committed", "entry", "idle_since", "number", "order", "room", "sent", "site", "source", "stage")

    def __init__(self, number: int, site: Site) -> None:
        self.number = number
        self.site = site
        self.stage = Stage.OPENING
        self.source = ""  # what it leaves from, by name; known when it is open
        self.entry: Entry | None = None
        self.committed: float | None = None  # BOOTTIME at which the commit of its entry's `sending` began
        self.sent = 0
        self.order = 0  # what it has taken of the room where its message is composed
        self.room = 0  # bytes that it has taken of the room for large mail
        self.idle_since = 0.0


class Site:
    """One lane: a destination's queue within a partition, its sessions and its limits."""

    __slots__ = (
        "bounded", "connect_tat", "failures", "fetching", "held_until", "hungry", "idle", "lane", "limits", "opening",
        "parked", "partition", "ready", "ready_urgent", "sessions", "shape_at", "suspended_until", "tat", "wake_at",
    )  # fmt: skip

    def __init__(
        self, lane: str, partition: Partition, limits: Limits, weight: Callable[[int], int] = lambda tenant: 1
    ) -> None:
        self.lane = lane
        self.partition = partition
        self.limits = limits
        self.ready = Turns(weight)
        self.ready_urgent = Turns(weight)
        self.sessions: dict[int, Session] = {}
        self.idle: list[Session] = []  # the last one used is taken first, so that superfluous ones fall silent
        self.opening = 0
        self.failures = 0
        self.suspended_until = 0.0  # it rests after a failure
        self.held_until = 0.0  # it is suspended by an override
        self.bounded = False  # by what its sources may send
        self.shape_at = 0.0  # when to ask what overrides leave of the limits
        self.tat = 0.0  # theoretical arrival time of the next message (GCRA)
        self.connect_tat = 0.0  # of the next connection
        self.hungry = False  # waits for a connection of the worker's total
        self.wake_at = 0.0
        self.fetching = False  # bodies are on their way
        self.parked = 0  # messages set aside, which come back

    def push(self, entry: Entry) -> None:
        (self.ready_urgent if entry.offset & 1 else self.ready).push(entry)

    def push_front(self, entry: Entry) -> None:
        (self.ready_urgent if entry.offset & 1 else self.ready).push_front(entry)

    @property
    def waiting(self) -> int:
        return len(self.ready) + len(self.ready_urgent)

    def unused(self, now: float) -> bool:
        busy = self.ready or self.ready_urgent or self.sessions or self.fetching or self.parked
        # Forgotten too early, it would be asked for more than its rates allow.
        return not busy and max(self.suspended_until, self.tat, self.connect_tat) <= now


class Wheel(Generic[T]):
    """Things by the time at which to look at them, in slots of `step` seconds: 8 bytes a thing.

    A thing may have changed since: whoever takes it looks. It comes when its slot is over: up to `step` late, never
    early.
    """

    __slots__ = ("_order", "_slots", "step")

    def __init__(self, step: float) -> None:
        self.step = step
        self._slots: dict[int, list[T]] = {}
        self._order: list[int] = []

    def add(self, at: float, thing: T) -> None:
        slot = int(at / self.step) + 1
        things = self._slots.get(slot)
        if things is None:
            self._slots[slot] = [thing]
            heapq.heappush(self._order, slot)
        else:
            things.append(thing)

    def due(self, now: float) -> list[T]:
        found: list[T] = []
        while self._order and self._order[0] * self.step <= now:
            found += self._slots.pop(heapq.heappop(self._order))
        return found

    @property
    def next_at(self) -> float | None:
        return self._order[0] * self.step if self._order else None


class Wakes:
    """Sites by the time at which to look at them again."""

    __slots__ = ("_count", "_order")

    def __init__(self) -> None:
        self._order: list[tuple[float, int, Site]] = []
        self._count = 0  # orders those of the same time

    def add(self, site: Site, at: float) -> None:
        """Unless the site is looked at before."""
        if not site.wake_at or at < site.wake_at:
            site.wake_at = at
            self._count += 1
            heapq.heappush(self._order, (at, self._count, site))

    def next(self, now: float) -> Site | None:
        """One whose time has come. To be asked until there is none."""
        if not self._order or self._order[0][0] > now:
            return None
        site = heapq.heappop(self._order)[2]
        site.wake_at = 0.0
        return site


class Hold(Enum):
    """Whether a partition takes part."""

    OWNED = "owned"
    DRAINING = "draining"
    DRAINED = "drained"
    GONE = "gone"


@dataclass(slots=True)
class Partition:
    """One partition of the lanes with its state. `marks`: done and moved messages, as offset << 2 | urgent << 1 |
    moved.
    """

    number: int
    positions: dict[bool, int]  # the next lane offset to take in, by urgency
    hold: Hold = Hold.OWNED
    entries: dict[bytes, Entry] = field(default_factory=dict)
    marks: dict[bytes, int] = field(default_factory=dict)
    sites: dict[str, Site] = field(default_factory=dict)
    dirty: dict[bytes, Entry | None] = field(default_factory=dict)  # to be written, oldest first; None: a tombstone
    moved: list[Relaned] = field(default_factory=list)
    repeats: tuple[set[int], set[int]] = field(default_factory=lambda: (set(), set()))  # offsets; the fact is not acked
    touched: bool = False  # its offsets advanced
    due: Wheel[Entry] = field(default_factory=lambda: Wheel(0.25))  # what waits for its next_at
    expiry: Wheel[Entry] = field(default_factory=lambda: Wheel(4.0))
    windows: Wheel[bytes] = field(default_factory=lambda: Wheel(60.0))  # marks by the end of their duplicate window

    def offset(self, urgent: bool) -> int:
        """What may be committed. A repeat whose fact is not acknowledged is to be read again after a crash.

        So is all that follows it, without harm: a record at the very offset that the state names is not a repeat.
        """
        return min((self.positions[urgent], *self.repeats[urgent]))


@dataclass(frozen=True, slots=True)
class Relaned:
    """A message that goes to another lane, in the transaction that writes its `moved` here."""

    partition: int
    urgent: bool  # the core sets it: as it was
    lane: str
    command: MessageQueue
