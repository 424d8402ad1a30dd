"""Whether an open session leads to where a message belongs now. Pure, but for what is learnt in the meantime.

A session is opened for one message, and carries others of its lane. In between a domain's MX records may change, and
mail that waits in the lane of its former site must not go out on a session that was opened to it: the host may have
stopped taking mail for the domain, and its refusal would look like the recipient's. Moving such mail is sites.py's,
when a connection is opened for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from schemas.lanes import MessageQueue
from sinks.smtp.relays import Relay, Relays
from sinks.smtp.routing import Route
from sinks.smtp.sites import Learned


@dataclass(frozen=True, slots=True)
class Way:
    """Where a session leads, and what was known of the domain before its route was asked for."""

    domain: str
    known: str | None
    route: Route

    @property
    def relayed(self) -> bool:
        return self.route.relay is not None


class Places:
    def __init__(self, relays: Relays, learned: Callable[[str], Learned | None]) -> None:
        """`learned`: the site of a domain as `mail.sites` has it."""
        self._relays = relays
        self._learned = learned

    def relay(self, command: MessageQueue) -> Relay | None:
        return self._relays.of(command.recipient_domain, command.pool)

    def known(self, command: MessageQueue) -> str | None:
        """The site that the message belongs to, as far as that is known without asking."""
        if (relay := self.relay(command)) is not None:
            return relay.site
        learned = self._learned(command.recipient_domain)
        return learned[0] if learned is not None else None

    def leads(self, way: Way, command: MessageQueue) -> bool:
        """Asked for every message."""
        known = self.known(command)
        if known == way.route.site:
            return True
        if command.recipient_domain == way.domain:
            return known == way.known  # the route was asked for later than that was learnt
        # Of a domain that nothing is known of yet, its lane is what connecting has taught: unless it is a relay's,
        # which says nothing about domains.
        return known is None and command.site == way.route.site and not way.relayed
