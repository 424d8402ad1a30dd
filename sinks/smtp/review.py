"""Looks at waiting messages before their turn, since a purge or a move is about those that were deferred for hours too.
Pure; part of the queue owner's core.

In the background: a batch of each partition a tick, whose bodies are read again from the lane, looked at and let go.
Only what ends or moves a message is acted on here; what merely keeps it is asked at its turn.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from sinks.smtp.cache import Cache
from sinks.smtp.commands import Bodies, Move, Refuse, Rules
from sinks.smtp.queue import Entry, Hold, Partition
from sinks.smtp.state import Phase
from sinks.smtp.verdicts import Verdicts

_BATCH: Final = 1_000


class Review:
    def __init__(self, rules: Rules, cache: Cache, verdicts: Verdicts) -> None:
        self._rules = rules
        self._cache = cache
        self._verdicts = verdicts
        self._left: dict[int, tuple[Partition, deque[Entry]]] = {}
        self._asked: dict[int, int] = {}  # partition by ticket

    def start(self, partition: Partition, now: float) -> None:
        """Look at all that waits here now, from the beginning."""
        lanes: dict[str, bool] = {}
        waiting: deque[Entry] = deque()
        for entry in partition.entries.values():
            lane = entry.site.lane
            if lane not in lanes:
                lanes[lane] = self._rules.reviews(lane, now)
            if lanes[lane] and entry.phase <= Phase.SENDING:
                waiting.append(entry)
        if waiting:
            self._left[partition.number] = (partition, waiting)

    def stop(self, partition: Partition) -> None:
        self._left.pop(partition.number, None)

    def tick(self, now: float) -> None:
        busy = set(self._asked.values())
        for number, (partition, waiting) in list(self._left.items()):
            if number in busy or partition.hold is not Hold.OWNED:
                continue
            batch = [waiting.popleft() for _ in range(min(_BATCH, len(waiting)))]
            missing: list[Entry] = []
            for entry in batch:
                if not _waits(entry):
                    if entry.phase <= Phase.SENDING:
                        waiting.append(entry)  # under way: it may come to wait again
                elif entry.body is None:
                    missing.append(entry)
                else:
                    self._judge(entry, now)
            if missing:
                missing.sort(key=lambda entry: entry.offset)
                self._asked[self._cache.look(partition, missing)] = number
            if not waiting:
                del self._left[number]

    def bodies(self, ticket: int, found: Bodies, now: float) -> bool:
        """The answer to a question of this room; False when it is another's."""
        if self._asked.pop(ticket, None) is None:
            return False
        for entry, record in self._cache.answered(ticket, found)[1]:
            if record is None or not _waits(entry) or entry.site.partition.hold is not Hold.OWNED:
                continue
            had_body = entry.body is not None
            self._cache.hold(entry, record)
            self._judge(entry, now)
            if not had_body and _waits(entry):
                self._cache.free(entry)
        return True

    def _judge(self, entry: Entry, now: float) -> None:
        assert entry.body is not None
        verdict = self._rules.admit(entry.body.command, now)
        if isinstance(verdict, Refuse | Move):
            self._verdicts.apply(entry, verdict, now)


def _waits(entry: Entry) -> bool:
    return entry.phase is Phase.QUEUED and entry.result is None and entry.session is None
