"""What the core of the queue owner asks of its driver, and the questions it asks back. Data only.

A driver carries each command out once, in the order in which `Owner.take` gives them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from schemas.envelope import MailEvent
from schemas.lanes import MessageQueue
from sinks.smtp.policy import Limits, Policy, Shape
from sinks.smtp.queue import LaneRecord, Partition, Relaned, Session
from sinks.smtp.state import Phase, Result


@dataclass(frozen=True, slots=True)
class Open:
    """Connect to the next hop of this message's domain. Answer: `opened`, or `open_failed`."""

    session: int
    lane: str
    command: MessageQueue


class Start(NamedTuple):
    """Compose this message, and write all of it but the final dot. Answer: `composed`, and `ready` when it is written;
    or `outcome`.
    """

    session: int
    attempt: int
    record: LaneRecord


class Dot(NamedTuple):
    """Write the final dot, unless CLOCK_BOOTTIME is past `not_after`. Answer: `outcome`; `late` when it was past."""

    session: int
    not_after: float


@dataclass(frozen=True, slots=True)
class Drop:
    """Cut the connection at once, without a dot. Nothing that it reports later is looked at."""

    session: int


@dataclass(frozen=True, slots=True)
class Close:
    """Say QUIT and close: no attempt runs. Nothing that it reports later is looked at."""

    session: int


class Publish(NamedTuple):
    """Write these facts. Answer: `acked` with the ticket, once all are acknowledged or one has failed."""

    ticket: int
    facts: tuple[MailEvent, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    key: bytes
    urgent: bool
    offset: int


@dataclass(frozen=True, slots=True)
class Fetch:
    """Read these records of the partition's lanes again. Answer: `bodies` with the ticket, once."""

    ticket: int
    partition: int
    wanted: tuple[Wanted, ...]


@dataclass(frozen=True, slots=True)
class Drained:
    """A revoked partition has nothing left to wait for: give it up (and call `lost`)."""

    partition: int


Command = Open | Start | Dot | Drop | Close | Publish | Fetch | Drained


class Record(NamedTuple):
    """A state to write. `value` None is a tombstone."""

    partition: int
    key: bytes
    value: bytes | None


class Offset(NamedTuple):
    """The next offset of a lane partition."""

    partition: int
    urgent: bool
    offset: int


class Written(NamedTuple):
    """What a record said when it was taken, so that its commit can be applied to what the entry is then."""

    partition: Partition
    key: bytes
    phase: Phase | None  # None: a tombstone
    result: Result | None
    session: Session | None


@dataclass(frozen=True, slots=True)
class Transaction:
    """Written as one. `offsets` has both lanes of every partition in `records`, unchanged ones too.

    Without offsets a transaction of an expelled member would commit; with them, and the group metadata of its
    assignment, the broker refuses it.
    """

    number: int
    records: tuple[Record, ...]
    offsets: tuple[Offset, ...]
    moves: tuple[Relaned, ...] = ()
    written: tuple[Written, ...] = field(default=(), repr=False, compare=False)  # the core's own


@dataclass(frozen=True, slots=True)
class Go:
    """The attempt may start."""


@dataclass(frozen=True, slots=True)
class Refuse:
    """The message ends without an attempt: SUPPRESSED, CANCELLED or FAILED, with its reason."""

    result: Result


@dataclass(frozen=True, slots=True)
class Park:
    """Not before `Owner.unpark([key])`, or `until`. Nothing is written of it: a million may be parked, and released."""

    key: str
    until: float = inf


@dataclass(frozen=True, slots=True)
class Move:
    """It belongs to another lane. There it waits for its time, as it would here, or is tried at once."""

    to: Relaned
    at_once: bool = False


@dataclass(frozen=True, slots=True)
class Rest:
    """No message of its tenant at this site before `until`; other tenants go on. Nothing is written of it.

    `apart`: no message with this name before then, and the tenant's others go on too.
    """

    until: float
    apart: str = ""


Verdict = Go | Refuse | Park | Move | Rest
GO = Go()


@dataclass(frozen=True, slots=True)
class Rules:
    """What the core asks while it decides; pure as far as it can see.

    `admit` is asked at the moment an attempt starts: suppressions, controls, campaigns; `began` is told when it has
    started, from which source, and nothing else has since it was asked about. `stands` is asked when it has started a
    moment ago and nothing of it is on the wire yet: about all that `admit` is but limits, and about its source. Of a
    lane whose `Shape` is `bounded`, `source_until` and `sources_until` say for how long one of its sources, or all of
    them, may not be used. `gate` is asked before that, of a lane: where all of it is to be parked, no message is looked
    at and no connection opened. `reviews`: whether messages of a lane are to be looked at before their turn. `limits`
    are a lane's ceilings, `shape` what overrides leave of them now: asked when they run out, and after `Owner.reshape`.
    """

    admit: Callable[[MessageQueue, float], Verdict] = lambda command, now: GO
    gate: Callable[[str, float], Park | None] = lambda lane, now: None
    stands: Callable[[MessageQueue, str, float], bool] = lambda command, source, now: True
    began: Callable[[MessageQueue, str, float], None] = lambda command, source, now: None
    source_until: Callable[[str, str, float], float] = lambda lane, source, now: 0.0
    sources_until: Callable[[str, float], float] = lambda lane, now: 0.0
    reviews: Callable[[str, float], bool] = lambda lane, now: False
    onward: Callable[[MessageQueue], Relaned] = lambda command: Relaned(0, False, command.key, command)  # from `via`
    policy: Callable[[MessageQueue], Policy] = lambda command: Policy()
    limits: Callable[[str], Limits] = lambda lane: Limits()
    shape: Callable[[str, Limits, float], Shape] = lambda lane, limits, now: Shape(limits)
    weight: Callable[[int], int] = lambda tenant: 1  # of a tenant's turns at a site, by its number in states
    scale: float = 1.0  # of retry waits and backoffs
    sessions: int = 1_000  # connections of this worker, all sites together
    size: Callable[[LaneRecord], int] = lambda record: record.size  # of a mail when it is composed, about
    large_bytes: int = 256 * 1024 * 1024  # of large mail under way at a time
    orders: int = 64  # messages that are being composed at a time, and as many urgent ones
    cache_bytes: int = 64 * 1024 * 1024  # bodies of waiting messages kept in memory
    batch: int = 2_000  # records after which a transaction takes no further partition
    lanes: tuple[str, str] = ("mail.lanes.main", "mail.lanes.main.urgent")
    worker: str = ""


Bodies = dict[bytes, LaneRecord | None]
"""The answer to `Fetch`: None for a record that is no longer there."""
