"""Judge opens and clicks: human, prefetch, proxy, scanner or unknown.

Pure: the state is what the message's earlier visits looked like, time is the events' own. The raw event stays as it is;
the verdict is a fact of its own with rule and version, so that history can be judged again with better rules. Nothing
is ever suppressed for it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from schemas.engagement import ClickJudged, MessageClicked, MessageOpened, OpenJudged, Verdict
from schemas.envelope import Event, MailEvent

VERSION = 1

BURST = timedelta(seconds=5)  # several links within it: nobody reads that fast
BURST_LINKS = 3
MAX_VISITS = 32  # per message; more adds nothing to what is known

_PROXIES = ("googleimageproxy", "yahoomailproxy", "outlookimageproxy")
_PREFETCH = ("applemailprivacy", "mailprivacyproxy")
_SCANNERS = (
    "barracuda",
    "proofpoint",
    "mimecast",
    "safelinks",
    "symantec",
    "scanner",
    "curl/",
    "python-",
    "go-http-client",
)


@dataclass(frozen=True, slots=True)
class Visit:
    """A click that was seen: when, which link, by which method."""

    at: datetime
    link: int
    method: str


@dataclass(frozen=True, slots=True)
class Visits:
    """What is remembered of one message."""

    clicks: tuple[Visit, ...] = ()


Engagement = MessageOpened | MessageClicked
Judged = OpenJudged | ClickJudged


def decide(visits: Visits, event: Engagement) -> tuple[Visits, Judged]:
    """The message's new visits, and the verdict on this one. A repeat gives the same id; the later verdict holds."""
    match event:
        case MessageOpened():
            verdict, rule = _opened(event)
            judged: Judged = OpenJudged.from_cause(
                event.event_id, occurred_at=event.occurred_at, open_id=event.event_id, **_verdict(event, verdict, rule)
            )
            return visits, judged
        case MessageClicked():
            verdict, rule = _clicked(visits, event)
            judged = ClickJudged.from_cause(
                event.event_id,
                occurred_at=event.occurred_at,
                click_id=event.event_id,
                link=event.link,
                **_verdict(event, verdict, rule),
            )
            visit = Visit(event.occurred_at, event.link, event.method)
            known = visits.clicks if visit in visits.clicks else (*visits.clicks, visit)
            return replace(visits, clicks=known[-MAX_VISITS:]), judged


def _opened(event: MessageOpened) -> tuple[Verdict, str]:
    agent = event.user_agent.lower().replace(" ", "")
    if any(name in agent for name in _PREFETCH) or agent == "mozilla/5.0":
        # Apple's privacy proxy announces nothing but this: it loads every image of every mail right after delivery.
        return "prefetch", "privacy-proxy"
    if any(name in agent for name in _PROXIES):
        return "proxy", "image-proxy"  # fetched when a person opens, but once for all
    if event.method == "HEAD" or any(name in agent for name in _SCANNERS):
        return "scanner", "scanner-agent"
    return ("human", "plain-agent") if agent else ("unknown", "no-agent")


def _clicked(visits: Visits, event: MessageClicked) -> tuple[Verdict, str]:
    agent = event.user_agent.lower().replace(" ", "")
    if event.method == "HEAD" or any(name in agent for name in _SCANNERS):
        return "scanner", "scanner-agent"
    near = {visit.link for visit in visits.clicks if abs(event.occurred_at - visit.at) <= BURST} | {event.link}
    if len(near) >= BURST_LINKS:
        return "scanner", "all-links-at-once"
    if any(visit.method == "HEAD" and abs(event.occurred_at - visit.at) <= BURST for visit in visits.clicks):
        return "scanner", "after-a-head"
    return ("human", "single-click") if agent else ("unknown", "no-agent")


def _verdict(event: Engagement, verdict: Verdict, rule: str) -> dict[str, object]:
    shared = {name: getattr(event, name) for name in _SHARED}
    return {**shared, "verdict": verdict, "rule": rule, "classifier_version": VERSION}


_SHARED = (*(MailEvent.model_fields.keys() - Event.model_fields.keys()), "tenant")
