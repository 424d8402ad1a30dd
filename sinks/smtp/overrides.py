"""What overrides leave of a site's ceilings, and whom they keep waiting. Pure: the time comes in.

An override holds until its time, and then nothing jumps back: what it took returns in equal steps, a twentieth of the
ceiling a minute (additive increase; the decrease is the rule's). Every owner computes the same from the same record of
`mail.shaping`, so recovery needs no further events. Which replies bring an override about is automation.py's.

Whom it is about is its selector:

    site:POOL/SITE      what a pool sends to a site; site:SITE: what any pool sends there
    source:NAME>SITE    what leaves from a source address to a site; source:NAME: to any
    tenant:NAME>SITE, campaign:TENANT/NAME>SITE, and the same without a site
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from math import ceil, inf
from typing import Final

from sinks.smtp.policy import Limits, Shape

STEPS: Final = 20
STEP_S: Final = 60.0
FREE_RATE: Final = 100.0  # messages a second: what a site without a rate recovers to before its rate is free again


class Action(StrEnum):
    SUSPEND = "suspend"
    LIMIT_RATE = "limit_rate"
    LIMIT_CONNECTIONS = "limit_connections"
    LIFT = "lift"  # ends all others of its selector that came before it


@dataclass(frozen=True, slots=True)
class Override:
    """`value`: messages a second, or connections. Times are seconds since the epoch."""

    selector: str
    action: Action
    value: float
    since: float
    until: float
    rule: str = ""


class Overrides:
    """The newest of each selector and action. `scale` shortens recovery as it does retries."""

    def __init__(self, scale: float = 1.0) -> None:
        self._step_s = STEP_S * scale
        self._found: dict[str, dict[Action, Override]] = {}

    def put(self, override: Override, now: float) -> bool:
        """Take it in; False when a newer one is known, or this very one."""
        here = self._found.get(override.selector, {})
        known = here.get(override.action)
        if known is not None and known.since >= override.since:
            return False
        self._forget_old(now)
        self._found.setdefault(override.selector, {})[override.action] = override
        return True

    def find(self, selector: str, action: Action) -> Override | None:
        """The override that has not been lifted since."""
        here = self._found.get(selector)
        found = here.get(action) if here is not None else None
        lift = here.get(Action.LIFT) if here is not None else None
        return None if found is None or (lift is not None and lift.since >= found.since) else found

    def in_force(self, now: float) -> list[Override]:
        """Those that hold, or are being recovered from."""
        every = [self.find(selector, action) for selector, here in self._found.items() for action in here]
        return [each for each in every if each and each.action is not Action.LIFT and now < self._over_at(each)]

    def shape(self, lane: str, limits: Limits, now: float) -> Shape:
        """What is left of a lane's ceilings."""
        if not self._found:
            return Shape(limits)
        pool, _, rest = lane.partition("/")
        site = rest.rpartition("#")[0]
        shape = Shape(limits)
        for selector in (f"site:{pool}/{site}", f"site:{site}"):
            for action in Action:
                if (found := self.find(selector, action)) is not None:
                    shape = self._less(shape, limits, found, now)
        return shape

    def of_sender(self, tenant: str, campaign: str | None, site: str, now: float) -> Override | None:
        """The suspension for which mail of the tenant or campaign to the site waits."""
        if not self._found:
            return None
        whole = (f"tenant:{tenant}", f"campaign:{tenant}/{campaign}") if campaign is not None else (f"tenant:{tenant}",)
        for name in whole:
            found = self._suspension(name, site)
            if found is not None and found.until > now:
                return found
        return None

    def source_until(self, source: str, site: str, now: float) -> float:
        """Until when nothing leaves from the source to the site; 0 when it may."""
        found = self._suspension(f"source:{source}", site) if self._found else None
        return found.until if found is not None and found.until > now else 0.0

    def _suspension(self, name: str, site: str) -> Override | None:
        """The one that holds for longer: everywhere, or at the site."""
        found = (self.find(name, Action.SUSPEND), self.find(f"{name}>{site}", Action.SUSPEND))
        return max((each for each in found if each is not None), key=lambda each: each.until, default=None)

    def _less(self, shape: Shape, ceilings: Limits, override: Override, now: float) -> Shape:
        steps = 0 if now < override.until else 1 + int((now - override.until) / self._step_s)
        if steps >= STEPS:
            return shape
        next_at = override.until + steps * self._step_s
        again_at = min(shape.again_at, next_at)
        match override.action:
            case Action.SUSPEND if not steps:
                return Shape(shape.limits, max(shape.suspended_until, override.until), again_at)
            case Action.SUSPEND:
                limits = _rate(_connections(shape.limits, ceilings, 0.0, steps), ceilings, 0.0, steps)
            case Action.LIMIT_RATE:
                limits = _rate(shape.limits, ceilings, override.value, steps)
            case Action.LIMIT_CONNECTIONS:
                limits = _connections(shape.limits, ceilings, override.value, steps)
            case Action.LIFT:
                return shape
        return Shape(limits, shape.suspended_until, again_at)

    def _over_at(self, override: Override) -> float:
        return override.until + (STEPS - 1) * self._step_s

    def _forget_old(self, now: float) -> None:
        # A lift stays: what it ended might come again, from a topic that is read anew.
        for selector, here in list(self._found.items()):
            if Action.LIFT not in here and all(now >= self._over_at(each) for each in here.values()):
                del self._found[selector]


def _rate(limits: Limits, ceilings: Limits, value: float, steps: int) -> Limits:
    top = ceilings.messages_per_second or FREE_RATE
    allowed = value + top * steps / STEPS
    if allowed >= top and steps:
        return limits
    return replace(limits, messages_per_second=min(allowed, limits.messages_per_second or inf))


def _connections(limits: Limits, ceilings: Limits, value: float, steps: int) -> Limits:
    allowed = max(1, int(value + ceil(ceilings.connections * steps / STEPS)))
    return replace(limits, connections=min(allowed, limits.connections))
