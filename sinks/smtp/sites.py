"""What connecting teaches about domains: which site takes their mail, and which lane that mail belongs to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from schemas import ids
from schemas.lanes import MessageQueue
from schemas.state import FormerSite, SiteLearned
from sinks.smtp.queue import Relaned
from sinks.smtp.routing import Route
from topics.publisher import Publisher

_TOLD: Final = 100_000
_FORMER: Final = 8
_LONGEST: Final = timedelta(days=7)  # a duplicate window; nobody asks for what was before


Learned = tuple[str, tuple[FormerSite, ...]]
"""The site of a domain, and those that it had."""


class Sites:
    def __init__(self, known: Callable[[str], Learned | None], publisher: Publisher) -> None:
        """`known`: the site of a domain, and those it had, as `mail.sites` has them."""
        self._known = known
        self._publisher = publisher
        self._told: dict[str, str] = {}  # what the view may not show yet

    def learn(self, domain: str, route: Route) -> None:
        """Publish it, unless that is known, or said already."""
        if route.relay is not None and route.relay.pools:
            return  # what holds for some pools says nothing about the domain
        known = self._known(domain)
        if (known is not None and known[0] == route.site) or self._told.get(domain) == route.site:
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
                former=former(known, now),
            )
        )


def former(known: Learned | None, now: datetime) -> tuple[FormerSite, ...]:
    """The sites that a domain had until now, as far as a repeat may still be known there. Oldest first."""
    if known is None:
        return ()
    site, before = known
    found = [*(each for each in before if each.until > now - _LONGEST), FormerSite(site=site, until=now)]
    # The oldest is the one that is asked: of a domain that changes all the time, those in between are left out.
    return (found[0], *found[1:][-(_FORMER - 1) :])


def placed(command: MessageQueue, route: Route, shard: Callable[[str, str], int]) -> MessageQueue:
    """The command as the lane has it to which it belongs: itself, where that is this one.

    Its site is corrected once: domains whose answers change would send it round. A relay is no answer, and always
    right. `shard` of a site and message.
    """
    site, provider, moved = command.site, command.provider, command.rerouted
    if site != route.site and (not moved or route.relay is not None):
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


def onward(command: MessageQueue, partitions: int) -> Relaned:
    """Where a message goes that came by a former site's lane and is not known there."""
    return to_lanes(command.model_copy(update={"via": ""}), partitions)


def to_lanes(command: MessageQueue, partitions: int) -> Relaned:
    """Where a message goes in lanes of so many partitions."""
    number = ids.lane_partition(command.pool, command.site, command.shard, partitions)
    return Relaned(number, False, command.key, command)
