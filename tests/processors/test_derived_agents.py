"""suppress and engage on a real broker: facts come out, a killed process repeats nothing that counts twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from processors.engage.agent import EngageConfig
from processors.engage.agent import serve as serve_engage
from processors.suppress.agent import SuppressConfig
from processors.suppress.agent import serve as serve_suppress
from processors.suppress.core import Policy
from schemas.codec import decode
from schemas.engagement import ClickJudged, MessageClicked
from schemas.feedback import BounceReceived
from schemas.state import SuppressionSet
from tests.waiting import until_async
from topics import admin
from topics.kafka import Cluster
from topics.publisher import Publisher
from topics.record import Record
from topics.registry import CLICKS, SUPPRESSIONS
from topics.view import View

pytestmark = pytest.mark.stack

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture
def cluster(kafka: str, topic_prefix: str) -> Cluster:
    cluster = Cluster(kafka, prefix=topic_prefix)
    admin.apply(cluster, admin.Profile.EMBEDDED)
    return cluster


class Running:
    """A role in this event loop, from ready to stopped."""

    def __init__(self, serve: Callable[..., Any], config: object) -> None:
        self._stop = asyncio.Event()
        self._ready = asyncio.Event()
        self._task = asyncio.create_task(serve(config, self._stop, self._ready.set))

    async def __aenter__(self) -> Running:
        await until_async(lambda: self._ready.is_set() or self._task.done(), timeout=60, what="the role")
        if self._task.done():
            await self._task
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._stop.set()
        await self._task


def bounce(recipient: str, number: int) -> BounceReceived:
    return BounceReceived.from_cause(
        f"{recipient}/{number}",
        occurred_at=NOW + timedelta(days=number),
        phase="in_session",
        bounce_class="MailboxFull",
        disposition="transient",
        message_id=f"m-{recipient}-{number}",
        recipient_id=recipient,
        recipient_domain="example.test",
    )


async def test_bounces_of_several_days_suppress_once_over_a_restart(cluster: Cluster) -> None:
    found: Counter[str] = Counter()

    def fold(record: Record) -> str:
        event = decode(record.value, record.headers)
        assert isinstance(event, SuppressionSet)
        found[event.event_id] += 1
        return event.recipient_id

    view = View(cluster, SUPPRESSIONS, fold)
    config = SuppressConfig(cluster, Policy(soft_days=3))
    recipients = [f"r{number}" for number in range(20)]
    with Publisher(cluster, "test") as publisher:
        async with Running(serve_suppress, config):
            for recipient in recipients:
                for day in (0, 1):
                    await publisher.published(bounce(recipient, day))
            await publisher.published(bounce("marker", 0))
            for day in (1, 2):
                await publisher.published(bounce("marker", day))
            await until_async(lambda: len(view) >= 1, what="the marker's suppression")
        # The state is restored: the third day completes what the first process counted.
        async with Running(serve_suppress, config):
            for recipient in recipients:
                await publisher.published(bounce(recipient, 2))
            await until_async(lambda: len(view) == len(recipients) + 1, what="every recipient's suppression")
    assert set(found.values()) == {1}
    view.close()


async def test_clicks_are_judged_by_what_came_before(cluster: Cluster) -> None:
    verdicts: list[str] = []

    def fold(record: Record) -> None:
        event = decode(record.value, record.headers)
        if isinstance(event, ClickJudged):
            verdicts.append(event.verdict)

    view: View[None] = View(cluster, CLICKS, fold)
    with Publisher(cluster, "test") as publisher:
        async with Running(serve_engage, EngageConfig(cluster)):
            for link in range(3):
                click = MessageClicked.from_cause(
                    str(link),
                    occurred_at=NOW + timedelta(milliseconds=100 * link),
                    link=link,
                    user_agent="Mozilla/5.0 Firefox/140.0",
                    message_id="m",
                    recipient_id="r",
                    recipient_domain="example.test",
                )
                await publisher.published(click)
            await until_async(lambda: len(verdicts) == 3, what="three verdicts")
    assert verdicts == ["human", "human", "scanner"]
    view.close()
