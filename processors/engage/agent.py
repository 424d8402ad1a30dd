"""Wire `engage` to opens and clicks: the visits of each message, on Faust as `topics.derived` explains."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from processors.engage.core import Visit, Visits, decide
from schemas.engagement import MessageClicked, MessageOpened
from schemas.envelope import Event
from topics import derived
from topics.derived import Derived, State
from topics.kafka import Cluster
from topics.registry import CLICKS, ENGAGE_STATE, OPENS


@dataclass(frozen=True, slots=True)
class EngageConfig:
    cluster: Cluster


async def serve(config: EngageConfig, stop: asyncio.Event, ready: Callable[[], None]) -> None:
    view = Derived(
        name="engage",
        sources=(OPENS, CLICKS),
        states=ENGAGE_STATE,
        key=lambda event: event.subject,
        takes=(MessageOpened, MessageClicked),
        fold=_fold,
    )
    await derived.serve(config.cluster, view, stop, ready)


def _fold(state: State, event: Event) -> tuple[State, Sequence[Event]]:
    assert isinstance(event, MessageOpened | MessageClicked)
    known = tuple(Visit(datetime.fromisoformat(at), link, method) for at, link, method in state.get("clicks", ()))
    visits, judged = decide(Visits(known), event)
    return {"clicks": [(visit.at.isoformat(), visit.link, visit.method) for visit in visits.clicks]}, (judged,)
