"""A connection by the core's number: what it is for, and how far it has come."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from schemas.lanes import MessageQueue
from sinks.smtp.dialogue import Envelope
from sinks.smtp.places import Way
from sinks.smtp.session import Session
from sinks.smtp.shapes import Manner
from sinks.smtp.sts_policies import NO_POLICY, StsView

_ANY: Final = Manner()  # until the site is known


class Link:
    __slots__ = (
        *("command", "envelope", "manner", "number", "opening", "order", "session", "started", "sts", "used", "way"),
    )

    def __init__(self, number: int, command: MessageQueue) -> None:
        self.number = number
        self.command = command
        self.manner = _ANY
        self.opening: asyncio.Task[None] | None = None  # or the look at the policy of another domain
        self.sts: tuple[str, StsView] = ("", NO_POLICY)  # the domain whose policy it was found to satisfy, and that
        self.session: Session | None = None
        self.way: Way | None = None  # once its route is known
        self.envelope: Envelope | None = None
        self.order = 0
        self.started = time.time()
        self.used = 0  # messages started on it
