"""The operators' controls as an owner follows them: fed from `mail.controls`, asked at the moment of an attempt.

Which events count is the register's decision, what a control says of a message `schemas.rules.controls`'; here it
becomes the core's verdict. Fed on the reader's thread; asked and emptied (`take`) on the event loop's, which sees one
finished set of controls or the next, never something in between.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import inf
from threading import Event
from typing import Final

import structlog

from schemas.codec import decode
from schemas.lanes import MessageQueue
from schemas.rules.controls import Action, Control, Controls
from schemas.rules.register import Register
from schemas.state import ControlSet
from schemas.tokens import Keyring
from sinks.smtp.commands import Move, Park, Refuse, Verdict
from sinks.smtp.sites import to_pool
from sinks.smtp.state import Kind, Result
from topics.record import Record
from topics.registry import CONTROLS, Topic
from topics.view_reader import elapsed

_SIZE_MAX: Final = 16 * 1024  # bytes of a control

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Changed:
    keys: tuple[str, ...]  # whatever is parked under them is to be asked about again
    review: bool  # also what is not at its turn
    sources: bool = False  # which of them may be used is to be asked again


class Desk:
    def __init__(
        self, keyring: Keyring, pools: Mapping[str, Collection[str]], worker: str, partitions: Callable[[], int]
    ) -> None:
        self.topics: tuple[Topic, ...] = (CONTROLS,)
        self.controls = Controls()
        self._register = Register(keyring, pools)
        self._worker = worker
        self._partitions = partitions
        self._changed: deque[str] = deque()
        self._sources: tuple[Control, ...] = ()  # suspensions of sources that were told of
        self._next_at = 0.0  # what is there at the start may have begun to act
        self._known_at: float | None = None
        self._ready = Event()

    # On the reader's thread

    def feed(self, record: Record) -> None:
        control_id = self._offered(record)
        if control_id and self._ready.is_set():
            self.controls = self._register.in_force()
            # After the set: whoever parks a message by the old one will still be told.
            self._changed.append(key_of(control_id))

    def caught_up(self, at: float) -> None:
        if self._register.forget(time.time()) or not self._ready.is_set():
            self.controls = self._register.in_force()
        self._known_at = at
        self._ready.set()

    def read_again(self) -> None:
        """Nothing to do: what is known of a control is replaced by newer events only."""

    def _offered(self, record: Record) -> str:
        """The control that the record changes; empty when it counts for nothing."""
        refused = f"more than {_SIZE_MAX} bytes" if record.size > _SIZE_MAX else ""
        event = None
        if not refused and record.value is not None:
            try:
                event = decode(record.value, record.headers)
            except ValueError as error:
                refused = str(error)
        if isinstance(event, ControlSet):
            refused = self._register.offer(event, time.time())
            if not refused:
                return event.control_id
        # A tombstone too: it is signed by nobody, so it takes nothing back.
        log.warning("control_refused", position=record.position, reason=refused or "not a control")
        return ""

    # On the loop's

    @property
    def age(self) -> float:
        return inf if self._known_at is None else elapsed() - self._known_at

    def wait_ready(self, timeout: float) -> bool:
        return self._ready.wait(timeout)

    def take(self, now: float) -> Changed | None:
        """What has changed since the last call, by an event or by time."""
        keys: list[str] = []
        while self._changed:
            keys.append(self._changed.popleft())
        if not keys and now < self._next_at:
            return None
        controls = self.controls
        self._next_at = controls.next_at(now)
        sources, self._sources = controls.of_sources != self._sources, controls.of_sources
        return Changed(tuple(keys), controls.reviewing(now), sources)

    def admit(self, command: MessageQueue, now: float) -> Verdict | None:
        """The verdict of the controls; None when none of them is about the message."""
        control = self.controls.of(command, now)
        if control is None:
            return None
        return verdict_of(control, command, now, self._worker, self._partitions())

    def source_until(self, source: str, site: str, now: float) -> float:
        """Until when operators keep a source from a site; 0: they do not."""
        return self.controls.source_until(source, site, now)

    def watching(self, command: MessageQueue, now: float) -> Control | None:
        """Who watches the session that carries this message."""
        return self.controls.watching(command, now)

    def gate(self, lane: str, now: float) -> Park | None:
        """What keeps every message of the lane."""
        control = self.controls.closing(lane, now)
        return None if control is None else Park(key_of(control.control_id), control.until)

    def reviews(self, lane: str, now: float) -> bool:
        return self.controls.reviews(lane, now)


def verdict_of(control: Control, command: MessageQueue, now: float, worker: str, partitions: int) -> Verdict:
    """What a control that is about the message means for its attempt."""
    match control.action:
        case Action.PURGE if control.until <= now:
            reason = f"{control.control_id} {control.reason}"
            return Refuse(Result(Kind.CANCELLED, int(now * 1000), reason=reason, worker=worker))
        case Action.MOVE:
            return Move(to_pool(command, control.pool, control.set_at, partitions), at_once=True)
        case _:
            return Park(key_of(control.control_id), control.until)


def key_of(control_id: str) -> str:
    """Under which messages are parked for a control."""
    return f"control:{control_id}"
