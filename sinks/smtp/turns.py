"""Whose message of a site goes next: tenants in turn, by deficit round robin. Pure; part of the queue owner's core.

Shreedhar and Varghese, "Efficient fair queuing using deficit round robin", 1995. A turn is worth `_QUANTUM` for each
unit of the tenant's weight, a message costs one and another for each 64 KiB; no message costs more than a quantum, so
finding the next one takes a look at each tenant at most twice. Within a tenant: by priority, then in order of arrival;
what has a low one may wait for as long as its tenant has other mail. A tenant alone has every turn. What has to wait
for a reason of its own, as a campaign above its rate, is set apart: it has turns of its own from then on, and its
tenant's other mail passes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain, zip_longest
from math import inf
from typing import TYPE_CHECKING, Final

from sinks.smtp.state import Phase

if TYPE_CHECKING:
    from sinks.smtp.queue import Entry

_QUANTUM: Final = 8
_COST_BYTES: Final = 64 * 1024
_RANKS: Final = (1, 0, 2, 1)  # by a priority's number in states: which goes first


class _Tenant:
    """`entries` are those of the highest priority that waits, the others are `behind`, by rank. `key`: the tenant's
    number, or the name under which a part of its mail is set apart.
    """

    __slots__ = ("behind", "credit", "entries", "key", "rank", "rests_until", "worth")

    def __init__(self, key: int | str, worth: int, rank: int) -> None:
        self.key = key
        self.rests_until = 0.0
        self.worth = worth
        self.credit = worth
        self.rank = rank
        self.entries: deque[Entry] = deque()
        self.behind: dict[int, deque[Entry]] = {}

    def of(self, rank: int) -> deque[Entry]:
        """Where to put an entry of this rank."""
        if rank > self.rank:
            return self.behind.setdefault(rank, deque())
        if rank < self.rank:
            self.behind[self.rank] = self.entries
            self.rank, self.entries = rank, deque()
        return self.entries

    def next(self) -> bool:
        """`entries` are empty: those that come after them. False when there are none."""
        if not self.behind:
            return False
        self.rank = min(self.behind)
        self.entries = self.behind.pop(self.rank)
        return True

    def __iter__(self) -> Iterator[Entry]:
        return chain(self.entries, *(self.behind[rank] for rank in sorted(self.behind)))


class Turns:
    """Messages that may go now, of one site and urgency."""

    __slots__ = ("_length", "_ring", "_tenants", "_weight", "lacking")

    def __init__(self, weight: Callable[[int], int]) -> None:
        """`weight` of a tenant, by its number in states: at least 1."""
        self._weight = weight
        self._tenants: dict[int | str, _Tenant] = {}
        self._ring: deque[_Tenant] = deque()  # the one whose turn it is comes first
        self._length = 0
        self.lacking = False  # somebody was passed over whose body is not here

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Entry]:
        """About in the order in which they will go: one of each tenant, then the next of each."""
        for row in zip_longest(*self._ring):
            yield from (entry for entry in row if entry is not None)

    def push(self, entry: Entry) -> None:
        self._of(entry).append(entry)
        self._length += 1

    def push_front(self, entry: Entry) -> None:
        self._of(entry).appendleft(entry)
        self._length += 1

    def empty(self) -> list[Entry]:
        """Take all of them, each tenant's in order."""
        found = [entry for tenant in self._ring for entry in tenant]
        self._ring.clear()
        self._tenants.clear()
        self._length = 0
        return found

    def _of(self, entry: Entry) -> deque[Entry]:
        number, rank = entry.turn >> 2, _RANKS[entry.turn & 3]
        return self._row(number, number, rank).of(rank)

    def _row(self, key: int | str, number: int, rank: int) -> _Tenant:
        row = self._tenants.get(key)
        if row is None:
            row = self._tenants[key] = _Tenant(key, _QUANTUM * self._weight(number), rank)
            self._ring.append(row)
        return row

    def head(self, now: float) -> Entry | None:
        """The message whose turn it is; None when none has its body here: a body on its way holds nobody else up, nor
        does a tenant that rests.
        """
        ring = self._ring
        for _ in range(2 * len(ring)):
            tenant = ring[0]
            if tenant.rests_until > now:
                ring.rotate(-1)
                continue
            entry = tenant.entries[0]
            if entry.phase is not Phase.QUEUED:
                return entry  # it has ended as it waited: it only has to go
            if entry.body is not None:
                if _cost(entry) <= tenant.credit:
                    return entry
                tenant.credit += tenant.worth
            else:
                self.lacking = True
            ring.rotate(-1)
        return None

    def rest(self, until: float, apart: str = "") -> None:
        """The tenant of `head()` may not go on before. With `apart` only the message itself, and what has been set
        apart under this name.
        """
        row = self._ring[0]
        if apart and row.key != apart:
            entry = self._shift()
            number, rank = entry.turn >> 2, _RANKS[entry.turn & 3]
            row = self._row(apart, number, rank)
            row.of(rank).append(entry)
        row.rests_until = until

    def wake(self) -> None:
        """Nobody rests any longer: why they did may have changed."""
        for row in self._ring:
            row.rests_until = 0.0

    def rested_at(self, now: float) -> float:
        """When the first of those that rest may go on."""
        return min((tenant.rests_until for tenant in self._ring if tenant.rests_until > now), default=inf)

    def pop(self) -> None:
        """Take `head()` away."""
        tenant = self._ring[0]
        entry = self._shift()
        self._length -= 1
        if entry.phase is Phase.QUEUED:
            tenant.credit -= _cost(entry)

    def _shift(self) -> Entry:
        tenant = self._ring[0]
        entry = tenant.entries.popleft()
        if not tenant.entries and not tenant.next():
            # What it has saved is lost: else whoever comes seldom could send it all at once.
            self._ring.popleft()
            del self._tenants[tenant.key]
        return entry


def _cost(entry: Entry) -> int:
    assert entry.body is not None
    return min(_QUANTUM, 1 + entry.body.size // _COST_BYTES)
