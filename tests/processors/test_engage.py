"""Who opened and who clicked: a table over `decide`."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from processors.engage.core import MAX_VISITS, Visits, decide
from schemas.engagement import ClickJudged, MessageClicked, MessageOpened

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
COMMON = {"message_id": "m", "recipient_id": "r", "recipient_domain": "example.test", "campaign_id": "spring"}
PERSON = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) Firefox/140.0"


def opened(user_agent: str, method: str = "GET") -> MessageOpened:
    return MessageOpened.from_cause("o", occurred_at=NOW, user_agent=user_agent, method=method, **COMMON)


def clicked(link: int, after: float = 0, user_agent: str = PERSON, method: str = "GET") -> MessageClicked:
    at = NOW + timedelta(seconds=after)
    cause = f"{link}/{after}/{method}"
    return MessageClicked.from_cause(cause, occurred_at=at, link=link, user_agent=user_agent, method=method, **COMMON)


@pytest.mark.parametrize(
    ("event", "verdict"),
    [
        (opened(PERSON), "human"),
        (opened("Mozilla/5.0"), "prefetch"),
        (opened("Mozilla/5.0 (Windows NT 5.1) (via ggpht.com GoogleImageProxy)"), "proxy"),
        (opened(PERSON, "HEAD"), "scanner"),
        (opened("python-requests/2.32"), "scanner"),
        (opened(""), "unknown"),
    ],
)
def test_opens(event: MessageOpened, verdict: str) -> None:
    _, judged = decide(Visits(), event)
    assert judged.verdict == verdict
    assert (judged.campaign_id, judged.message_id) == ("spring", "m")


@pytest.mark.parametrize(
    ("clicks", "verdicts"),
    [
        ([clicked(0)], ["human"]),
        ([clicked(0), clicked(1, 60)], ["human", "human"]),
        ([clicked(0), clicked(1, 1), clicked(2, 2)], ["human", "human", "scanner"]),
        ([clicked(0, 0, method="HEAD"), clicked(0, 1)], ["scanner", "scanner"]),
        ([clicked(0, 0, method="HEAD"), clicked(0, 600)], ["scanner", "human"]),
        ([clicked(0, user_agent="Barracuda Sentinel")], ["scanner"]),
        ([clicked(0, user_agent="")], ["unknown"]),
    ],
)
def test_clicks(clicks: list[MessageClicked], verdicts: list[str]) -> None:
    visits, found = Visits(), []
    for click in clicks:
        visits, judged = decide(visits, click)
        assert isinstance(judged, ClickJudged)
        found.append(judged.verdict)
    assert found == verdicts


def test_a_redelivered_click_gives_the_same_fact_and_state() -> None:
    visits, first = decide(Visits(), clicked(0))
    again, second = decide(visits, clicked(0))
    assert (again, second) == (visits, first)


def test_a_scanner_in_a_loop_does_not_fill_the_state() -> None:
    visits = Visits()
    for number in range(10 * MAX_VISITS):
        visits, _ = decide(visits, clicked(0, number))
    assert len(visits.clicks) == MAX_VISITS
