"""What keeps a message from being tried, and what is done with it: it ends, is parked, or goes to another lane.
Pure; part of the queue owner's core.

The verdict is that of `Rules.admit`. When to ask is dispatch.py's, and review.py's for messages whose turn is far.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from sinks.smtp.cache import Cache
from sinks.smtp.commands import Move, Park, Refuse, Rules, Verdict
from sinks.smtp.ledger import Ledger
from sinks.smtp.parking import Parking
from sinks.smtp.queue import Entry, Relaned
from sinks.smtp.state import Kind, Phase, Result


class Verdicts:
    def __init__(self, rules: Rules, ledger: Ledger, cache: Cache) -> None:
        self.parking = Parking(cache)
        self._rules = rules
        self._ledger = ledger
        self._cache = cache

    def of(self, entry: Entry, now: float) -> Verdict:
        """Whether the message may be tried now."""
        assert entry.body is not None
        if entry.expires_at <= now:
            return Refuse(Result(Kind.EXPIRED, int(now * 1000)))
        return self._rules.admit(entry.body.command, now)

    def apply(self, entry: Entry, verdict: Verdict, now: float) -> None:
        """Do with a waiting message, which is in no queue, what keeps it from being tried now."""
        match verdict:
            case Refuse(result):
                self._ledger.settle(entry, result, now)
            case Park():
                self.parking.put(entry, verdict)
            case Move(to, at_once):
                self.move(entry, to, at_once=at_once)

    def move(self, entry: Entry, to: Relaned, *, at_once: bool = False) -> None:
        position = f"{self._rules.lanes[entry.urgent]}:{entry.site.partition.number}:{entry.offset >> 1}"
        # Attempts are facts by number: counted anew, the next would have the id of the first.
        # And what was deferred waits there as long as it would have here.
        later = to.command.send_at
        if entry.next_at and not at_once:
            later = datetime.fromtimestamp(entry.next_at / 1000, UTC)
        more = {"attempts": entry.attempts, "moved_from": position, "send_at": later}
        self.pass_on(entry, replace(to, command=to.command.model_copy(update=more)))

    def pass_on(self, entry: Entry, to: Relaned) -> None:
        """Send it to another lane; here, a marker stays."""
        entry.phase = Phase.MOVED
        self._cache.free(entry)
        self._ledger.mark(entry)
        entry.site.partition.moved.append(replace(to, urgent=entry.urgent))
