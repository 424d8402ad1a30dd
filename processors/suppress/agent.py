"""Wire `suppress` to bounces and complaints: a history per recipient, on Faust as `topics.derived` explains."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from processors.suppress.core import History, Policy, decide
from schemas.envelope import Event
from schemas.feedback import BounceReceived, ComplaintReceived
from schemas.state import SuppressionReason
from topics import derived
from topics.derived import Derived, State
from topics.kafka import Cluster
from topics.registry import BOUNCES, COMPLAINTS, SUPPRESS_STATE


@dataclass(frozen=True, slots=True)
class SuppressConfig:
    cluster: Cluster
    policy: Policy


async def serve(config: SuppressConfig, stop: asyncio.Event, ready: Callable[[], None]) -> None:
    def fold(state: State, event: Event) -> tuple[State, Sequence[Event]]:
        assert isinstance(event, BounceReceived | ComplaintReceived)
        history, facts = decide(_history(state), event, config.policy)
        return {"soft": history.soft, "active": history.active}, facts

    view = Derived(
        name="suppress",
        sources=(BOUNCES, COMPLAINTS),
        states=SUPPRESS_STATE,
        key=lambda event: f"{event.tenant}/{event.key}",
        takes=(BounceReceived, ComplaintReceived),
        fold=fold,
    )
    await derived.serve(config.cluster, view, stop, ready)


def _history(state: State) -> History:
    active = state.get("active")
    return History(tuple(state.get("soft", ())), SuppressionReason(active) if active else None)
