"""Bodies of messages in memory: those being sent, and as many of the waiting as there is room for. Pure; part of the
core.

The lane keeps every body. What is dropped here is asked for again, a few dozen of a site at a time, shortly before its
turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final

from sinks.smtp.commands import Bodies, Command, Fetch, Wanted
from sinks.smtp.queue import Entry, Hold, LaneRecord, Partition, Site
from sinks.smtp.state import Phase

_AHEAD: Final = 32  # entries of a site looked at
_RESTORED: Final = 500  # bodies of a Fetch after a restore
_OVERHEAD: Final = 2_048  # bytes of a decoded command beyond its text


@dataclass(frozen=True, slots=True)
class _Ask:
    partition: Partition
    site: Site | None
    entries: tuple[Entry, ...]


class Cache:
    def __init__(self, limit: int, out: list[Command]) -> None:
        """`limit` in bytes."""
        self._limit = limit
        self._out = out
        self._used = 0
        self._ticket = 0
        self._asked: dict[int, _Ask] = {}

    @property
    def full(self) -> bool:
        return self._used >= self._limit

    @property
    def used(self) -> int:
        return self._used

    def hold(self, entry: Entry, record: LaneRecord) -> None:
        if entry.body is None:
            self._used += record.size + _OVERHEAD
            entry.body = record

    def free(self, entry: Entry) -> None:
        if entry.body is not None:
            self._used -= entry.body.size + _OVERHEAD
            entry.body = None

    def want(self, site: Site) -> None:
        """Ask for the bodies of the site's next messages, unless that is done already."""
        site.ready.lacking = site.ready_urgent.lacking = False
        if site.fetching:
            return
        # At least one, however full: else a full cache of other sites would starve this one.
        room = 1 if self.full else _AHEAD
        ahead = chain(islice(site.ready_urgent, _AHEAD), islice(site.ready, _AHEAD))
        missing = [entry for entry in ahead if entry.body is None and entry.phase is Phase.QUEUED]
        if missing:
            site.fetching = True
            self._ask(_Ask(site.partition, site, tuple(missing[:room])))

    def restore(self, partition: Partition, entries: Sequence[Entry]) -> None:
        """Ask for the bodies of messages whose facts are owed."""
        ordered = sorted(entries, key=lambda entry: (entry.urgent, entry.offset))
        for at in range(0, len(ordered), _RESTORED):
            self._ask(_Ask(partition, None, tuple(ordered[at : at + _RESTORED])))

    def look(self, partition: Partition, entries: Sequence[Entry]) -> int:
        """Ask for bodies to look at, and not to keep. Returns the ticket."""
        return self._ask(_Ask(partition, None, tuple(entries)))

    def answered(self, ticket: int, bodies: Bodies) -> tuple[Site | None, list[tuple[Entry, LaneRecord | None]]]:
        """The entries that still want their body, each with what was found; and the site that waited for them."""
        ask = self._asked.pop(ticket)
        if ask.site is not None:
            ask.site.fetching = False
        if ask.partition.hold is Hold.GONE:
            return None, []
        # Whose facts are owed is told of by its own question only, even if its site brought the body first.
        alive = [entry for entry in ask.entries if entry.phase <= Phase.ENDED]
        wanting = [entry for entry in alive if entry.body is None or ask.site is None]
        return ask.site, [(entry, bodies.get(entry.key)) for entry in wanting]

    def _ask(self, ask: _Ask) -> int:
        self._ticket += 1
        self._asked[self._ticket] = ask
        wanted = tuple(Wanted(entry.key, entry.urgent, entry.offset >> 1) for entry in ask.entries)
        self._out.append(Fetch(self._ticket, ask.partition.number, wanted))
        return self._ticket
