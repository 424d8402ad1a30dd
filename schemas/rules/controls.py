"""What the operators' controls, taken together, say of a message or a lane at a moment.

Pure. A control is an event that `read` has found sound; `Controls` is the set of those in force, built once whenever
one changes and looked up for every message: by the most telling term of each, so a set that names one campaign costs a
message one look into a dictionary. Who may issue controls is `signing`'s; what an owner does about a verdict, its
core's.

Where several hold: a purge whose grace is over, then a purge in grace, then a move, then a suspension.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from math import inf
from typing import Final

from pydantic import TypeAdapter, ValidationError

from schemas.envelope import Name
from schemas.lanes import MessageQueue
from schemas.rules import selector
from schemas.rules.selector import Selector, SelectorError
from schemas.state import ControlSet

IN_FORCE_MAX: Final = 1_000  # controls at a time
TRACED_FOR: Final = timedelta(hours=1)  # at most
PURGED_FOR: Final = timedelta(days=8)  # after its grace: longer than any message lives
_LANES_KEPT: Final = 100_000  # lanes come from outside
_NAME: Final[TypeAdapter[str]] = TypeAdapter(Name)


class ControlError(ValueError):
    """A control that nobody can carry out; the text says why."""


class Action(IntEnum):
    """In the order in which they win."""

    PURGE = 1
    MOVE = 2
    SUSPEND = 3
    TRACE = 4  # decides nothing: somebody watches


@dataclass(frozen=True, slots=True)
class Control:
    """`until`, in seconds since the epoch: of a purge, the end of its grace; else, the end of its effect."""

    control_id: str
    action: Action
    selector: Selector
    until: float
    set_at: datetime
    reason: str
    pool: str = ""  # of a move: where to

    @property
    def ends_at(self) -> float:
        """When it can be forgotten."""
        return self.until + (PURGED_FOR.total_seconds() if self.action is Action.PURGE else 0.0)


_STARTS: Final = {
    "suspend": Action.SUSPEND,
    "purge": Action.PURGE,
    "move": Action.MOVE,
    "trace": Action.TRACE,
}


def read(event: ControlSet, pools: Mapping[str, Collection[str]]) -> Control | None:
    """The control that the event sets, where pools have these sources; None when it takes one back. Raises
    ControlError.
    """
    action = _STARTS.get(event.action)
    if action is None:
        return None
    try:
        found = selector.parse(event.selector).within(pools)
    except SelectorError as error:
        raise ControlError(str(error)) from None
    if event.until is None and action is not Action.SUSPEND:
        raise ControlError(f"a {event.action} needs a time (until)")
    if action is Action.TRACE:
        if found.index is None or found.index[0] not in ("recipient_domain", "site") or len(found.as_dict()) > 1:
            raise ControlError("a trace is of one domain or site")
        if event.until is not None and event.until - event.occurred_at > TRACED_FOR:
            raise ControlError(f"a trace lasts at most {TRACED_FOR}")
    elif action is Action.SUSPEND and found.source and not {*found.as_dict()} <= {selector.SOURCE, "site", "provider"}:
        raise ControlError("a source is suspended as a whole, or for a site or provider: its pool's others go on")
    elif found.before is None and action is not Action.SUSPEND:
        raise ControlError(f"a {event.action} needs {selector.BEFORE}: it is about what waits, not about all to come")
    pool = ""
    if action is Action.MOVE:
        try:
            pool = _NAME.validate_python(event.arguments.get("pool"))
        except ValidationError:
            raise ControlError("a move needs the pool to move to") from None
        if pool not in pools:
            raise ControlError(f"pool {pool} is not configured")
    until = event.until.timestamp() if event.until is not None else inf
    return Control(event.control_id, action, found, until, event.occurred_at, event.reason, pool)


class Controls:
    """Those in force; immutable. Times are seconds since the epoch."""

    def __init__(self, controls: Iterable[Control] = ()) -> None:
        self.all: tuple[Control, ...] = tuple(sorted(controls, key=lambda each: (each.action, each.control_id)))
        self._traces = tuple(each for each in self.all if each.action is Action.TRACE)
        self.of_sources = tuple(each for each in self.all if each.action is Action.SUSPEND and each.selector.source)
        self._deciding = tuple(
            each
            for each in self.all
            if each.action is not Action.TRACE and not (each.action is Action.SUSPEND and each.selector.source)
        )
        self._by: dict[str, dict[str, tuple[Control, ...]]] = {}
        self._others: tuple[Control, ...] = ()
        for control in self._deciding:
            if (index := control.selector.index) is None:
                self._others += (control,)
            else:
                attribute, value = index
                known = self._by.setdefault(attribute, {})
                known[value] = (*known.get(value, ()), control)
        self._suspensions = tuple(each for each in self._deciding if each.action is Action.SUSPEND)
        self._early = tuple(each for each in self._deciding if each.action is not Action.SUSPEND)
        self._lanes: dict[str, tuple[Control, ...]] = {}

    def __bool__(self) -> bool:
        """Whether any of them decides about messages."""
        return bool(self._deciding)

    def watching(self, command: MessageQueue, now: float) -> Control | None:
        """The trace that sees this message's session."""
        return next((each for each in self._traces if now < each.until and each.selector.matches(command)), None)

    def of(self, command: MessageQueue, now: float) -> Control | None:
        """The control that decides about this message, if any does."""
        best: Control | None = None
        for attribute, known in self._by.items():
            for control in known.get(getattr(command, attribute) or "", ()):
                best = _better(best, control, command, now)
        for control in self._others:
            best = _better(best, control, command, now)
        return best

    def closing(self, lane: str, now: float) -> Control | None:
        """A suspension of everything on the lane."""
        if not self._suspensions:
            return None
        found = self._lanes.get(lane)
        if found is None:
            if len(self._lanes) >= _LANES_KEPT:
                self._lanes.clear()
            pool, site = pool_and_site(lane)
            found = tuple(each for each in self._suspensions if each.selector.covers(pool, site))
            self._lanes[lane] = found
        return next((each for each in found if each.until > now), None)

    def source_until(self, source: str, site: str, now: float) -> float:
        """Until when nothing may leave from a source to a site; 0: it may."""
        if not self.of_sources:
            return 0.0
        keeping = (each.until for each in self.of_sources if each.until > now and each.selector.keeps(source, site))
        return max(keeping, default=0.0)

    def reviewing(self, now: float) -> bool:
        """Whether messages are to be looked at before their turn: some are to move, or to end."""
        return any(_acts(each, now) for each in self._early)

    def reviews(self, lane: str, now: float) -> bool:
        """The same of the messages of a lane."""
        if not self._early:
            return False
        pool, site = pool_and_site(lane)
        return any(_acts(each, now) and each.selector.may_concern(pool, site) for each in self._early)

    def next_at(self, now: float) -> float:
        """When the next of them begins or ceases to act, by itself."""
        return min((at for each in self.all for at in (each.until, each.ends_at) if at > now), default=inf)


def _acts(control: Control, now: float) -> bool:
    """Whether a purge is past its grace, or a move not yet over."""
    return (control.until <= now < control.ends_at) if control.action is Action.PURGE else now < control.until


def _better(best: Control | None, other: Control, command: MessageQueue, now: float) -> Control | None:
    if best is not None and (best.action, best.until) <= (other.action, other.until):
        # Of two purges the one whose grace ends first; of two suspensions any will do.
        return best
    if now >= other.ends_at or not other.selector.matches(command):
        return best
    if other.action is Action.MOVE and (
        command.pool == other.pool or (command.moved_at is not None and command.moved_at >= other.set_at)
    ):
        # Moved by it, or by a later one: else a move and its reversal would send a message to and fro.
        return best
    return other


def pool_and_site(lane: str) -> tuple[str, str]:
    """Of a lane's key, `pool/site#shard`. Of a key that states abbreviate, a site that nobody can mean."""
    pool, _, rest = lane.partition("/")
    return pool, rest.rpartition("#")[0]
