"""What connecting teaches about domains: which site takes their mail, and which lane that mail belongs to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from schemas import ids
from schemas.lanes import MessageQueue
from schemas.state import SiteLearned
from sinks.smtp.queue import Relaned
from sinks.smtp.routing import Route
from topics.publisher import Publisher

_TOLD: Final = 100_000


class Sites:
    def __init__(self, known: Callable[[str], str | None], publisher: Publisher) -> None:
        """`known`: the site of a domain as `mail.sites` has it."""
        self._known = known
        self._publisher = publisher
        self._told: dict[str, str] = {}  # what the view may not show yet

    def learn(self, domain: str, route: Route) -> None:
        """Publish it, unless that is known, or said already."""
        if self._known(domain) == route.site or self._told.get(domain) == route.site:
            return
        if len(self._told) > _TOLD:
            self._told.clear()  # by now the view has them
        self._told[domain] = route.site
        now = datetime.now(UTC)
        self._publisher.publish(
            SiteLearned.from_cause(
                f"{domain}/{route.site}/{now.isoformat()}",
                occurred_at=now,
                domain=domain,
                site=route.site,
                provider=route.provider,
                mx_hosts=route.mx_hosts,
            )
        )


def placed(command: MessageQueue, route: Route, shard: Callable[[str, str], int]) -> MessageQueue:
    """The command as the lane has it to which it belongs: itself, where that is this one.

    Its site is corrected once: domains whose answers change would send it round. `shard` of a site and message.
    """
    site, provider, moved = command.site, command.provider, command.rerouted
    if site != route.site and not moved:
        site, provider, moved = route.site, route.provider, True
    number = shard(site, command.message_id)
    if site == command.site and number == command.shard:
        return command
    return command.model_copy(update={"site": site, "provider": provider, "shard": number, "rerouted": moved})


def lane_for(
    domain: str, route: Route, shard: Callable[[str, str], int], partitions: int
) -> Callable[[MessageQueue], Relaned | None]:
    """Where a message goes, if it is of this domain and misplaced; else None."""

    def target(command: MessageQueue) -> Relaned | None:
        if command.recipient_domain != domain or (found := placed(command, route, shard)) is command:
            return None
        return to_lanes(found, partitions)

    return target


def to_pool(command: MessageQueue, pool: str, set_at: datetime, partitions: int) -> Relaned:
    """Where a message goes that a control, set at that time, moves to another pool."""
    return to_lanes(command.model_copy(update={"pool": pool, "moved_at": set_at}), partitions)


def to_lanes(command: MessageQueue, partitions: int) -> Relaned:
    """Where a message goes in lanes of so many partitions."""
    number = ids.lane_partition(command.pool, command.site, command.shard, partitions)
    return Relaned(number, False, command.key, command)
