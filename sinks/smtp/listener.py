"""What `Connections` tells of sessions, taken to the core: with the clock, with what replies set off, counted.

On the event loop. Each call ends with `after`: what the core says to it is carried out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from schemas.lanes import MessageQueue
from sinks.smtp.clock import boottime
from sinks.smtp.core import Owner
from sinks.smtp.reporting import Tallies
from sinks.smtp.routing import Route
from sinks.smtp.sites import Sites, lane_for, placed
from sinks.smtp.state import Result
from sinks.smtp.steering import Steering


class Listener:
    def __init__(
        self,
        owner: Owner,
        steering: Steering,
        tallies: Tallies,
        sites: Sites,
        shard: Callable[[str, str], int],
        partitions: Callable[[], int],
        after: Callable[[], None],
    ) -> None:
        """`shard` of a site and message; `partitions`: how many the lanes have to which mail moves."""
        self._owner = owner
        self._steering = steering
        self._tallies = tallies
        self._sites = sites
        self._shard = shard
        self._partitions = partitions
        self._after = after

    def opened(self, session: int, source: str) -> None:
        self._owner.opened(session, time.time(), source)
        self._after()

    def open_failed(self, session: int, command: MessageQueue, result: Result, *, rest: bool) -> None:
        result = self._steering.judge(command, result, time.time())
        self._tallies.count(command, result)
        self._owner.open_failed(session, result, time.time(), rest=rest)
        self._after()

    def misplaced(self, session: int, command: MessageQueue, route: Route) -> bool:
        domain = command.recipient_domain
        self._sites.learn(domain, route)
        if placed(command, route, self._shard) is command:
            return False
        to = lane_for(domain, route, self._shard, self._partitions())
        gone = self._owner.reroute(session, to, time.time())
        self._after()
        return gone

    def composed(self, sessions: Sequence[int]) -> None:
        self._owner.composed(sessions, time.time())
        self._after()

    def still(self, session: int) -> bool:
        if self._owner.still(session, time.time()):
            return True
        self._after()
        return False

    def ready(self, session: int) -> None:
        self._owner.ready(session, boottime())
        self._after()

    def outcome(self, session: int, command: MessageQueue, result: Result, *, keep: bool, rest: bool) -> None:
        result = self._steering.judge(command, result, time.time())
        self._tallies.count(command, result)
        self._owner.outcome(session, result, time.time(), keep=keep, rest=rest)
        self._after()

    def late(self, session: int) -> None:
        self._owner.late(session)
        self._after()

    def closed(self, session: int) -> None:
        self._owner.closed(session, time.time())
        self._after()
