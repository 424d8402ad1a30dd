"""Replies that set rules off, and overrides that hold: between the shaping, the queue owner's core and `mail.shaping`.

An override of ours holds here at once, and is published with the rule and the replies that fired it; one of another
owner comes from the view. Decisions are automation.py's and overrides.py's; this carries them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import structlog

from schemas.codec import decode
from schemas.lanes import MessageQueue
from schemas.rules.bounces import Disposition
from schemas.rules.reply_rules import Reply, Verdict
from schemas.state import ShapingSet
from sinks.smtp import commands
from sinks.smtp.automation import Automation, Fired, Traffic
from sinks.smtp.config import SmtpConfig
from sinks.smtp.core import Owner
from sinks.smtp.overrides import Action, Override, Overrides
from sinks.smtp.policy import Limits, Shape
from sinks.smtp.shapes import Shapes, site_of
from sinks.smtp.sharing import Sharing
from sinks.smtp.state import Kind, Result
from topics.errors import Later
from topics.publisher import Publisher
from topics.record import Record

Admit = Callable[[MessageQueue, float], commands.Verdict]

_SPREAD_S: Final = 300.0  # at most, over which the mail of a sender comes back whose suspension is over
_PARTS: Final = 16  # in which it does

log = structlog.get_logger(__name__)


class Steering:
    """`owner`: the core, which asks this one and is told by it."""

    def __init__(
        self,
        config: SmtpConfig,
        shapes: Shapes,
        publisher: Publisher,
        sharing: Sharing,
        owner: Callable[[], Owner],
        kept: Callable[[str, str, float], float] = lambda source, site, now: 0.0,
    ) -> None:
        """`kept`: until when operators keep a source from a site."""
        self._sharing = sharing
        self._shapes = shapes
        self._publisher = publisher
        self._owner = owner
        self._kept = kept
        self._worker = config.instance
        self._overrides = Overrides(config.retry_scale)
        self._automation = Automation(shapes.rules_at, self._overrides, scale=config.retry_scale)
        self._named = {name: [each for each in pool.sources if each.name] for name, pool in config.pools.items()}
        self._source = ""  # where the system chooses the address: that of the last session

    # What the core asks

    def shape(self, lane: str, limits: Limits, now: float) -> Shape:
        shape = self._overrides.shape(lane, limits, now)
        shape = replace(shape, limits=self._shapes.dealt(lane, shape.limits))
        # While one of the pool's sources may serve the site, the others are passed over, and nothing waits.
        names, site = self._sources(lane), site_of(lane)
        suspended = [self._suspended(name, site, now) for name in names]
        if until := min(suspended):
            return Shape(shape.limits, max(shape.suspended_until, until), min(shape.again_at, until))
        if any(suspended) or any(map(self._sharing.limits, names)):
            return replace(shape, again_at=min([shape.again_at, *filter(None, suspended)]), bounded=True)
        return shape

    def _sources(self, lane: str) -> list[str]:
        """By name, those that may serve the lane; of a pool without names, what was used last."""
        site = site_of(lane)
        named = [each.name for each in self._named.get(lane.partition("/")[0], ()) if site not in each.not_for]
        return named or [self._source]

    def source_until(self, lane: str, source: str, now: float) -> float:
        """Until when nothing may leave from the source to the lane's site; 0: it may now."""
        return self._suspended(source, site_of(lane), now) or self._sharing.source_until(source, now)

    def sources_until(self, lane: str, now: float) -> float:
        """The same of all that may serve it: until the first may."""
        return min(self.source_until(lane, name, now) for name in self._sources(lane))

    def suspends(self, source: str, site: str, now: float) -> bool:
        """Whether nothing may leave from the source to the site."""
        return self._suspended(source, site, now) > 0

    def _suspended(self, source: str, site: str, now: float) -> float:
        """Until when it is, by a reply or an operator; 0: it is not."""
        return max(self._overrides.source_until(source, site, now), self._kept(source, site, now))

    def admits(self, before: Admit) -> Admit:
        """Whether an attempt may start: what `before` says, then overrides of senders, then limits of tenants."""

        def admit(command: MessageQueue, now: float) -> commands.Verdict:
            verdict = before(command, now)
            if verdict is commands.GO:
                verdict = self._admit(command, now)
            return self._sharing.admit(command, now) if verdict is commands.GO else verdict

        return admit

    def stands(self, before: Admit) -> Callable[[MessageQueue, str, float], bool]:
        """Whether an attempt that has started may go on: the same without limits, which have counted it."""

        def stands(command: MessageQueue, source: str, now: float) -> bool:
            return (
                before(command, now) is commands.GO
                and self._admit(command, now) is commands.GO
                and not self.suspends(source, command.site, now)
            )

        return stands

    def _admit(self, command: MessageQueue, now: float) -> commands.Verdict:
        found = self._overrides.of_sender(command.tenant, command.campaign_id, command.site, now)
        if found is None:
            return commands.GO
        # Not all at once: what waits for it comes back part by part.
        part = int(command.message_id[-1], 16)
        spread = min(_SPREAD_S, (found.until - found.since) / 10) * part / _PARTS
        return commands.Park(_key(found.selector, part), found.until + spread)

    # What happens

    def judge(self, command: MessageQueue, result: Result, now: float) -> Result:
        """What becomes of the message after all. Overrides that the reply brings about hold when this returns."""
        if result.source:
            self._source = result.source
        if result.code < 400:
            return result
        traffic = Traffic(command.pool, command.site, command.tenant, command.campaign_id, result.source)
        reply = Reply(result.code, result.enhanced, result.text)
        found = self._automation.judge(reply, traffic, self._shapes.limits(command.key), now)
        for fired in found.fired:
            self._overrides.put(fired.override, now)
            self._publish(fired, command.tenant)
        if found.fired:
            self._owner().reshape(now)
        if found.rule is not None and found.verdict is not None:
            result = _decided(result, found.verdict, found.rule.id)
        return result

    def hear(self, override: Override, now: float) -> None:
        """An override of any owner, this one's too, as `mail.shaping` has it."""
        if self._overrides.put(override, now):
            self._owner().reshape(now)
            if override.action is Action.LIFT:
                self._owner().unpark([_key(override.selector, part) for part in range(_PARTS)], now)

    def in_force(self, now: float) -> list[Override]:
        return self._overrides.in_force(now)

    def _publish(self, fired: Fired, tenant: str) -> None:
        override = fired.override
        log.warning("shaping_override", selector=override.selector, action=override.action, rule=override.rule)
        event = ShapingSet.from_cause(
            f"{self._worker}/{override.selector}/{override.action}/{override.since}",
            occurred_at=datetime.fromtimestamp(override.since, UTC),
            tenant=tenant if override.selector.startswith(("tenant:", "campaign:")) else "default",
            selector=override.selector,
            action=override.action.value,
            value=override.value,
            until=datetime.fromtimestamp(override.until, UTC),
            rule=fired.rule.id,
            rule_version=fired.rule.version,
            evidence=fired.evidence,
        )
        try:
            self._publisher.publish(event)
        except Later:  # its queue has been full for a minute; here it holds, and the next reply says it again
            log.error("shaping_override_untold", selector=override.selector)


def override_of(record: Record) -> Override | None:
    """For the view of `mail.shaping`."""
    event = decode(record.value, record.headers)
    if not isinstance(event, ShapingSet):
        return None
    until = event.until.timestamp() if event.until is not None else event.occurred_at.timestamp()
    return Override(event.selector, Action(event.action), event.value, event.occurred_at.timestamp(), until, event.rule)


def _key(selector: str, part: int) -> str:
    """Under which a part of a suspended sender's mail is parked."""
    return f"override:{selector}#{part}"


def _decided(result: Result, verdict: Verdict, rule: str) -> Result:
    """A rule knows better than the reply's code."""
    match verdict, result.kind:
        case Verdict.DEFER, Kind.BOUNCED:
            return result._replace(kind=Kind.DEFERRED, disposition=Disposition.TRANSIENT, rule=rule)
        case Verdict.BOUNCE, Kind.DEFERRED:
            return result._replace(kind=Kind.BOUNCED, rule=rule)
    return result
