"""What a reply sets off: which rule of the shaping decides, what becomes of the message, and which override follows.

Pure: replies and times come in. Rules see what facts keep of a reply. What an override does is overrides.py's; that it
becomes an event, and holds here at once, is steering.py's.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from schemas.rules.reply_rules import Reply, ReplyRule, Scope, Verdict, first
from sinks.smtp.overrides import FREE_RATE, Action, Override, Overrides
from sinks.smtp.policy import Limits

_QUIET_S: Final = 30.0  # all connections to a site hear the same within a moment: that is one occasion, not ten
_WINDOWS_MAX: Final = 10_000
_EVIDENCE_MAX: Final = 5
_EVIDENCE_CHARS: Final = 200
_SLOWEST: Final = 1.0 / 60.0  # messages a second: by repeated halving it would never be heard of again


@dataclass(frozen=True, slots=True)
class Traffic:
    """Whose mail the reply was about."""

    pool: str
    site: str
    tenant: str
    campaign: str | None
    source: str


@dataclass(frozen=True, slots=True)
class Fired:
    override: Override
    rule: ReplyRule
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Judgement:
    """The rule that decided, if one did; what it says of the message; overrides that follow now."""

    rule: ReplyRule | None = None
    verdict: Verdict | None = None
    fired: tuple[Fired, ...] = ()


@dataclass(slots=True)
class _Window:
    replies: deque[tuple[float, str]]
    quiet_until: float = 0.0


class Automation:
    """`rules` at a site, in order. `scale` shortens what an override holds for, as it does retries."""

    def __init__(
        self, rules: Callable[[str], Sequence[ReplyRule]], overrides: Overrides, *, scale: float = 1.0
    ) -> None:
        self._rules = rules
        self._overrides = overrides
        self._scale = scale
        self._windows: OrderedDict[tuple[str, str], _Window] = OrderedDict()

    def judge(self, reply: Reply, traffic: Traffic, limits: Limits, now: float) -> Judgement:
        """`limits`: the ceilings of the lane, before overrides."""
        rule = first(self._rules(traffic.site), reply, traffic.site)
        if rule is None:
            return Judgement()
        selector = _selector(rule, traffic)
        if not rule.overrides or selector is None:
            return Judgement(rule, rule.verdict)
        evidence = self._enough(rule, selector, reply, now)
        if evidence is None:
            return Judgement(rule, rule.verdict)
        fired = tuple(
            Fired(override, rule, evidence) for override in self._follows(rule, selector, traffic, limits, now)
        )
        return Judgement(rule, rule.verdict, fired)

    def _enough(self, rule: ReplyRule, selector: str, reply: Reply, now: float) -> tuple[str, ...] | None:
        """The replies that set the rule off, if they are enough."""
        key = (rule.id, selector)
        window = self._windows.get(key)
        if window is None:
            if len(self._windows) >= _WINDOWS_MAX:
                self._windows.popitem(last=False)
            window = self._windows[key] = _Window(deque(maxlen=rule.after))
        self._windows.move_to_end(key)
        if now < window.quiet_until:
            return None
        if window.replies.maxlen != rule.after:
            window.replies = deque(window.replies, maxlen=rule.after)
        window.replies.append((now, " ".join(filter(None, (str(reply.code), reply.enhanced, reply.text)))))
        if len(window.replies) < rule.after or now - window.replies[0][0] > rule.within_s > 0:
            return None
        texts = [text[:_EVIDENCE_CHARS] for _, text in window.replies]
        window.replies.clear()
        window.quiet_until = now + _QUIET_S * self._scale
        return tuple(texts[-_EVIDENCE_MAX:])

    def _follows(
        self, rule: ReplyRule, selector: str, traffic: Traffic, ceilings: Limits, now: float
    ) -> list[Override]:
        lane = f"{traffic.pool}/{traffic.site}#0"
        limits = self._overrides.shape(lane, ceilings, now).limits
        wanted: list[tuple[Action, float]] = []
        if rule.suspend:
            wanted.append((Action.SUSPEND, 0.0))
        if rule.rate is not None:
            held = limits.messages_per_second or FREE_RATE
            rate = min(rule.rate.of(held), held)
            wanted.append((Action.LIMIT_RATE, max(_SLOWEST, rate) if rule.rate.is_share else rate))
        if rule.connections is not None:
            count = min(int(rule.connections.of(limits.connections)), limits.connections)
            wanted.append((Action.LIMIT_CONNECTIONS, float(max(1, count))))
        return [self._merged(selector, action, value, rule, now) for action, value in wanted]

    def _merged(self, selector: str, action: Action, value: float, rule: ReplyRule, now: float) -> Override:
        """A milder rule does not loosen what a stricter one has set, nor end it sooner."""
        until = round(now + rule.hold_s * self._scale, 3)
        held = self._overrides.find(selector, action)
        if held is not None and held.until > now:
            value, until = min(value, held.value), max(until, held.until)
        return Override(selector, action, value, round(now, 3), until, rule.id)


def _selector(rule: ReplyRule, traffic: Traffic) -> str | None:
    """Whom the rule's override is about; None when the message has no such thing."""
    match rule.scope:
        case Scope.SITE:
            return f"site:{traffic.site}" if rule.everywhere else f"site:{traffic.pool}/{traffic.site}"
        case Scope.SOURCE:
            name = f"source:{traffic.source}" if traffic.source else None
        case Scope.TENANT:
            name = f"tenant:{traffic.tenant}"
        case Scope.CAMPAIGN:
            name = f"campaign:{traffic.tenant}/{traffic.campaign}" if traffic.campaign else None
    return name if name is None or rule.everywhere else f"{name}>{traffic.site}"
