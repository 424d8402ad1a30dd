"""Limits of tenants, sources and campaigns, which span all owners, in a running one: it draws on `mail.allowances`, and
hears who else does.

Fed on the reader's thread; asked, and told what was heard, on the event loop's. What a draw gives is decided in
allowances.py (a day's cap) and paces.py (a rate).
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from datetime import UTC, datetime
from threading import Event
from typing import Final

import structlog

from schemas.codec import Undecodable, decode
from schemas.lanes import MessageQueue
from schemas.operations import AllowanceDrawn
from sinks.smtp.allowances import Allowances, Draw
from sinks.smtp.commands import GO, Rest, Verdict
from sinks.smtp.paces import Paces
from sinks.smtp.shapes import Shapes
from topics.errors import Later
from topics.publisher import Publisher
from topics.record import Record
from topics.registry import ALLOWANCES, Topic

_MOMENT_S: Final = 1.0

log = structlog.get_logger(__name__)


class Heard:
    """The draws of all owners, each once and in the order of the log; a view that keeps nothing."""

    def __init__(self) -> None:
        self.topics: tuple[Topic, ...] = (ALLOWANCES,)
        self._draws: deque[Draw] = deque()
        self._next = 0
        self._ready = Event()

    def feed(self, record: Record) -> None:
        if record.offset < self._next:
            return  # the topic is read again from its beginning
        self._next = record.offset + 1
        try:
            event = decode(record.value, record.headers)
        except Undecodable:
            log.warning("draw_unreadable", position=record.position)
            return
        if isinstance(event, AllowanceDrawn):
            self._draws.append(Draw(event.whose, event.day, event.messages, event.run, event.occurred_at.timestamp()))

    def caught_up(self, at: float) -> None:
        self._ready.set()

    def read_again(self) -> None:
        """Nothing to do: what was heard is not heard twice."""

    def wait_ready(self, timeout: float) -> bool:
        return self._ready.wait(timeout)

    def take(self) -> list[Draw]:
        found = []
        while self._draws:
            found.append(self._draws.popleft())
        return found


class Sharing:
    def __init__(self, shapes: Shapes, publisher: Publisher, heard: Heard, worker: str) -> None:
        self._shapes = shapes
        self._publisher = publisher
        self._heard = heard
        self._run = f"{worker}/{uuid.uuid4().hex[:12]}"
        self._drawn = 0
        self._allowances = Allowances(self._run, shapes.daily)
        self._paces = Paces(self._run, shapes.pace)

    def admit(self, command: MessageQueue, now: float) -> Verdict:
        """What the limits of its tenant and campaign say; its source is not known yet."""
        if not self._shapes.spans:
            return GO
        self._listen(now)
        if until := self._until(f"tenant:{command.tenant}", now):
            return Rest(until)
        campaign = campaign_of(command)
        if campaign and (until := self._until(campaign, now)):
            return Rest(until, campaign)
        return GO

    def source_until(self, source: str, now: float) -> float:
        """Until when nothing more may leave from the source; 0: it may."""
        if not self.limits(source):
            return 0.0
        self._listen(now)
        return self._until(f"source:{source}", now)

    def spent(self, source: str, now: float) -> bool:
        """Whether no connection is to be opened from it now: for a moment, one would wait."""
        return self.source_until(source, now) > now + _MOMENT_S

    def limits(self, source: str) -> bool:
        """Whether the source has a limit at all."""
        return f"source:{source}" in self._shapes.spans

    def began(self, command: MessageQueue, source: str, now: float) -> None:
        if not self._shapes.spans:
            return
        for selector in (f"tenant:{command.tenant}", campaign_of(command), f"source:{source}"):
            if selector in self._shapes.spans:
                self._allowances.began(selector, now)
                self._paces.began(selector, now)

    def _until(self, selector: str, now: float) -> float:
        """Until when it has to wait; 0: one more may start."""
        if selector not in self._shapes.spans:
            return 0.0
        until = 0.0
        for answer in (self._allowances.ask(selector, now), self._paces.ask(selector, now)):
            if answer.draw is not None:
                self._draw(answer.draw)
            until = max(until, answer.until)
        return until

    def _listen(self, now: float) -> None:
        for draw in self._heard.take():
            if draw.day:
                self._allowances.heard(draw)
            else:
                self._paces.heard(draw, now)

    def _draw(self, draw: Draw) -> None:
        self._drawn += 1
        kind, _, name = draw.selector.partition(":")
        event = AllowanceDrawn.from_cause(
            f"{self._run}/{self._drawn}",
            occurred_at=datetime.fromtimestamp(draw.at or time.time(), UTC),
            tenant="default" if kind == "source" else name.partition("/")[0],
            selector=draw.selector,
            day=draw.day,
            messages=draw.messages,
            run=draw.run,
        )
        try:
            self._publisher.publish(event)
        except Later:  # its queue has been full for a minute; the draw is made again
            log.warning("draw_untold", selector=draw.selector)


def campaign_of(command: MessageQueue) -> str:
    """The selector of its campaign; empty when it is of none."""
    return f"campaign:{command.tenant}/{command.campaign_id}" if command.campaign_id is not None else ""
