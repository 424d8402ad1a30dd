"""What a reply sets off: the rule, what it fits, what follows, and the replies that prove it.

A rule without replies that it must and must not match can be dead for years: it is refused. Rules see a reply as
facts keep it (redacted, cut), so that what they would have done can be asked of recorded history too. What an override
does to the traffic is the queue owner's. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from schemas.redact import redact
from schemas.rules.patterns import TEXT_MAX

_REPLY: Final = re.compile(r"([45]\d\d)[ -](?:([45]\.\d{1,3}\.\d{1,3})(?:\s+|$))?(.*)", re.DOTALL)


class Scope(StrEnum):
    """Whose traffic an override slows or stops: what this pool sends to the site, or what of one sender goes there."""

    SITE = "site"
    SOURCE = "source"
    TENANT = "tenant"
    CAMPAIGN = "campaign"


class Verdict(StrEnum):
    """What becomes of the message itself, where it is not what the reply's code says."""

    DEFER = "defer"
    BOUNCE = "bounce"


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a shaping file."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class Amount:
    """A limit in absolute terms, or as a share of the limit in force."""

    value: float
    is_share: bool = False

    def of(self, limit: float) -> float:
        return limit * self.value if self.is_share else self.value


@dataclass(frozen=True, slots=True)
class Reply:
    """A negative reply as facts have it."""

    code: int
    enhanced: str
    text: str


@dataclass(frozen=True, slots=True)
class ReplyRule:
    """Empty conditions hold for everything; at least one is there. `after` replies within `within_s` set it off."""

    id: str
    version: int
    place: Place
    must_match: tuple[str, ...]
    must_not_match: tuple[str, ...]
    providers: tuple[str, ...] = ()
    codes: tuple[int, ...] = ()
    enhanced: tuple[str, ...] = ()
    text: re.Pattern[str] | None = None
    verdict: Verdict | None = None
    suspend: bool = False
    rate: Amount | None = None  # messages a second
    connections: Amount | None = None
    hold_s: float = 0.0
    scope: Scope = Scope.SITE
    everywhere: bool = False  # at all sites (for Scope.SITE: from all pools)
    after: int = 1
    within_s: float = 0.0

    def fits(self, reply: Reply, provider: str) -> bool:
        return (
            (not self.providers or provider in self.providers)
            and (not self.codes or reply.code in self.codes)
            and (not self.enhanced or reply.enhanced in self.enhanced)
            and (self.text is None or self.text.search(reply.text, 0, TEXT_MAX) is not None)
        )

    @property
    def overrides(self) -> bool:
        return self.suspend or self.rate is not None or self.connections is not None


def first(rules: Sequence[ReplyRule], reply: Reply, provider: str) -> ReplyRule | None:
    """The rule that decides. Order counts: the operator's come before the shipped ones."""
    return next((rule for rule in rules if rule.fits(reply, provider)), None)


def reply_of(line: str) -> Reply:
    """`421 4.7.0 text`, as it comes from the wire, to what a rule sees. Raises ValueError."""
    found = _REPLY.fullmatch(line.strip())
    if found is None:
        raise ValueError("a reply is written as on the wire: 421 4.7.0 text")
    return Reply(int(found[1]), found[2] or "", redact(found[3], TEXT_MAX))


@dataclass(frozen=True, slots=True)
class Trial:
    """One reply tried on one rule. `hidden_by`: a rule before it, of the same file, takes the reply."""

    rule: ReplyRule
    reply: str
    wanted: bool
    fitted: bool
    hidden_by: str = ""

    @property
    def passed(self) -> bool:
        return self.fitted is self.wanted and not self.hidden_by


def trials(rules: Sequence[ReplyRule]) -> list[Trial]:
    """Every rule on its own replies, in the order in which the rules stand."""
    return [
        _trial(rules, rule, line, wanted)
        for rule in rules
        for lines, wanted in ((rule.must_match, True), (rule.must_not_match, False))
        for line in lines
    ]


def _trial(rules: Sequence[ReplyRule], rule: ReplyRule, line: str, wanted: bool) -> Trial:
    reply, provider = reply_of(line), rule.providers[0] if rule.providers else ""
    same_file = [each for each in rules if each.place.file == rule.place.file]
    decides = first(same_file, reply, provider)
    hidden = decides is not None and decides is not rule and wanted
    return Trial(rule, line, wanted, rule.fits(reply, provider), decides.id if hidden and decides else "")
