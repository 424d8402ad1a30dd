"""Messages set aside until something outside changes: a suspension is lifted, a paused campaign goes on. Pure; part of
the queue owner's core.

Nothing is written of a parked message, and nobody looks at it again before its key is released or its time is over. By
key and site, in order of arrival. Who is parked, and why, is the
verdict of `Rules`; that a parked message expires, or is moved, the core's, who finds it by its phase.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from sinks.smtp.cache import Cache
from sinks.smtp.commands import Park
from sinks.smtp.queue import Entry, Hold, Partition, Site
from sinks.smtp.state import Phase


class _Group:
    __slots__ = ("sites", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.sites: dict[Site, tuple[deque[Entry], deque[Entry]]] = {}  # by urgency, each in order


class Parking:
    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._groups: dict[str, _Group] = {}

    def __len__(self) -> int:
        """Places: of those, some are of messages that have ended or moved since."""
        return sum(len(each) for group in self._groups.values() for queues in group.sites.values() for each in queues)

    def put(self, entry: Entry, park: Park) -> None:
        """Set aside a queued message that is in no queue."""
        self._cache.free(entry)
        self._of(entry.site, park)[entry.urgent].append(entry)
        entry.site.parked += 1

    def put_all(self, site: Site, park: Park) -> None:
        """Set aside all that is ready on a site."""
        if not site.waiting:
            return
        for urgent, turns in enumerate((site.ready, site.ready_urgent)):
            waiting = [entry for entry in turns.empty() if entry.phase is Phase.QUEUED]
            for entry in waiting:
                self._cache.free(entry)
            self._of(site, park)[urgent].extend(waiting)
            site.parked += len(waiting)

    def release(self, keys: Iterable[str]) -> list[Site]:
        """Put back what is parked under these keys, before what has come since. Returns the sites concerned."""
        found: dict[Site, None] = {}
        for key in keys:
            group = self._groups.pop(key, None)
            if group is None:
                continue
            for site, (ordinary, urgent) in group.sites.items():
                if site.partition.hold is Hold.GONE:
                    continue
                site.parked -= len(ordinary) + len(urgent)
                for turns, entries in ((site.ready, ordinary), (site.ready_urgent, urgent)):
                    for entry in reversed(entries):
                        turns.push_front(entry)
                found[site] = None
        return list(found)

    def due(self, now: float) -> list[str]:
        """Keys whose time is over."""
        return [key for key, group in self._groups.items() if group.until <= now]

    def forget(self, partition: Partition) -> None:
        for key, group in list(self._groups.items()):
            for site in [site for site in group.sites if site.partition is partition]:
                del group.sites[site]
            if not group.sites:
                del self._groups[key]

    def _of(self, site: Site, park: Park) -> tuple[deque[Entry], deque[Entry]]:
        group = self._groups.get(park.key)
        if group is None:
            group = self._groups[park.key] = _Group(park.until)
        group.until = park.until
        return group.sites.setdefault(site, (deque(), deque()))
