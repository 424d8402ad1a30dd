"""A message on its connection, from the moment it is given to it until its attempt is over, or was none. Pure; part of
the queue owner's core.

It takes room where mail is composed (orders.py) and for its size (room.py), and gives it back; its dot waits for a
fresh commit. Which message it is, and whether it may go still, is dispatch.py's to say; what an outcome means, the
ledger's.
"""

from __future__ import annotations

from typing import Final

from sinks.smtp.commands import Command, Dot, Rules, Start
from sinks.smtp.ledger import Ledger
from sinks.smtp.orders import Orders
from sinks.smtp.queue import Entry, Session, Stage
from sinks.smtp.room import Room
from sinks.smtp.state import Phase

DOT_WITHIN: Final = 10.0  # seconds of CLOCK_BOOTTIME from the commit; less than the group's session time-out


class Attempts:
    def __init__(self, rules: Rules, out: list[Command], ledger: Ledger) -> None:
        self.orders = Orders(rules.orders)
        self.room = Room(rules.large_bytes)
        self._rules = rules
        self._out = out
        self._ledger = ledger

    def assign(self, session: Session, entry: Entry, size: int, now: float) -> None:
        """Give the message, of so many bytes, to a connection that is idle or being opened."""
        site = session.site
        session.room = self.room.take(size, site.lane)
        entry.phase = Phase.SENDING
        entry.attempts += 1
        entry.next_at = int(now * 1000)  # while it is sending: when the attempt began
        entry.session = session
        session.entry = entry
        session.committed = None
        self._ledger.mark(entry)
        if (rate := site.limits.messages_per_second) > 0:
            site.tat = max(site.tat, now) + 1.0 / rate
        if session.stage is Stage.IDLE:
            self.start(session, entry, now)

    def start(self, session: Session, entry: Entry, now: float) -> None:
        assert entry.body is not None
        self._rules.began(entry.body.command, session.source, now)
        session.stage = Stage.TRANSFER
        session.order = self.orders.take(entry.urgent)
        session.sent += 1
        self._out.append(Start(session.number, entry.attempts, entry.body))

    def composed(self, session: Session) -> None:
        self.orders.give(session.order)
        session.order = 0

    def release(self, session: Session, boot: float) -> None:
        """Let the dot go if its commit is known and fresh; ask for a fresh commit if it is old."""
        if session.stage is not Stage.READY or session.committed is None:
            return
        if boot - session.committed > DOT_WITHIN:
            self.renew(session)
        else:
            session.stage = Stage.DOT
            self._out.append(Dot(session.number, session.committed + DOT_WITHIN))

    def renew(self, session: Session) -> None:
        """The commit is too old: another owner may have been named since. A new commit tells."""
        assert session.entry is not None
        session.stage = Stage.READY
        session.committed = None
        self._ledger.mark(session.entry)

    def abandon(self, session: Session, now: float) -> None:
        """The attempt ends before its dot: it did not happen."""
        entry = session.entry
        assert entry is not None
        self.over(session)
        entry.session = None
        entry.phase = Phase.QUEUED
        entry.attempts -= 1
        entry.next_at = int(now * 1000)
        self._ledger.mark(entry)
        entry.site.push_front(entry)

    def over(self, session: Session) -> None:
        """The connection has no message any more."""
        session.entry = None
        session.committed = None
        self.room.give(session.room)
        session.room = 0
        self.composed(session)
