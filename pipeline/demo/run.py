"""One run of the demo on a started stack: publish, watch, wait for the world to calm down, judge.

Decides when the run is over: every accepted message has its end, and the people of the simulated internet have done
what they were going to do. What is printed about it is `pipeline.cli.demo`'s.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline import secrets, wiring
from pipeline.demo.audience import people
from pipeline.demo.figures import Example, Figures, ProviderRow, Summary
from pipeline.demo.mailing import Mailing
from pipeline.demo.verdict import Verdict, compare
from pipeline.embedded.stack import TENANT, Stack
from pipeline.simulator.witness import Witness
from topics.publisher import Publisher

RECEIPTS_PER_RECIPIENT = 0.1
_LOOK = 0.5  # seconds between two questions about the progress
_STALLED = 180.0  # seconds without any new end after which the run is judged as it is
_CALM = 30.0  # seconds at most for the feedback that is still on its way


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the run is, in messages. `pending`: visits and reports that simulated people still have in mind."""

    published: int
    accepted: int
    ended: int
    total: int
    pending: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    name: str
    summary: Summary
    verdict: Verdict
    providers: list[ProviderRow]
    funnel: dict[str, object]
    example: Example | None

    def as_json(self) -> dict[str, Any]:
        statuses = self.summary.statuses
        ends = ("delivered", "bounced", "suppressed", "expired", "failed", "cancelled", "unknown")
        return {
            "accepted": self.summary.accepted,
            **{end: statuses.get(end, 0) for end in ends},
            "late_bounced": self.summary.late_bounced,
            "lost": len(self.verdict.lost),
            "duplicates": len(self.verdict.duplicates),
            "phantom": len(self.verdict.phantom),
            "seconds": round(self.summary.seconds, 3),
            "messages_per_second": round(self.summary.messages_per_second, 1),
        }


def run(stack: Stack, recipients: int, show: Callable[[Progress], None]) -> Result:
    """Publish a campaign to `recipients` people and a tenth as many receipts; `show` is told how far it is.

    Raises Later, Never or Broken when Kafka does not take the sends, ClickHouseError when nobody can be asked.
    """
    settings = stack.settings
    mailing = Mailing(
        name=f"demo-{datetime.now(UTC):%Y%m%d-%H%M%S}",
        tenant=TENANT,
        recipient_secret=secrets.recipient_secret(settings.secrets_folder),
        people=people(recipients),
        receipts=round(recipients * RECEIPTS_PER_RECIPIENT),
    )
    figures = Figures(wiring.clickhouse_reader(settings), mailing.name)
    witness = Witness(Path(stack.simulator["witness"]))
    before = len(witness.load())
    sent = _Sent()
    with Publisher(wiring.cluster(settings), "demo") as publisher, ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(mailing.publish, publisher, sent.add)
        try:
            latest = _watch(figures, mailing.total, sent, publishing, show)
        finally:
            sent.ended = True
    wait_for_calm(stack, figures, lambda pending: show(replace(latest, pending=pending)))
    seen = [entry.mailriver_id for entry in witness.load()[before:]]
    return Result(
        name=mailing.name,
        summary=figures.summary(),
        verdict=compare(mailing.total, figures.by_message(), seen),
        providers=figures.providers(),
        funnel=figures.funnel(),
        example=figures.example(),
    )


class _Sent:
    """Counts what is published; ends the publishing when nobody watches it any more (Ctrl-C)."""

    def __init__(self) -> None:
        self.count = 0
        self.ended = False

    def add(self) -> None:
        if self.ended:
            raise InterruptedError("nobody watches")
        self.count += 1


def _watch(
    figures: Figures, total: int, sent: _Sent, publishing: Future[None], show: Callable[[Progress], None]
) -> Progress:
    """Return when every message has its end, or when nothing has moved for long; raises what publishing raised."""
    newest, moved_at = -1, time.monotonic()
    while True:
        if publishing.done():
            publishing.result()
        statuses = figures.statuses()
        accepted = sum(statuses.values())
        ended = accepted - statuses.get("in_flight", 0)
        now = Progress(sent.count, accepted, ended, total)
        show(now)
        if ended >= total:
            return now
        if accepted + ended > newest:
            newest, moved_at = accepted + ended, time.monotonic()
        elif time.monotonic() - moved_at > _STALLED:
            return now
        time.sleep(_LOOK)


def wait_for_calm(stack: Stack, figures: Figures, show: Callable[[int], None] = lambda _: None) -> None:
    """Until the simulated people have nothing left to do and what they did is in ClickHouse, or `_CALM` seconds."""
    deadline = time.monotonic() + _CALM
    earlier: object = None
    while time.monotonic() < deadline:
        with urllib.request.urlopen(f"{stack.simulator['http']}/api/counts", timeout=10) as answer:  # noqa: S310
            pending = json.load(answer)["pending"]
        show(pending)
        now = figures.funnel()
        if not pending and now == earlier:
            return
        earlier = now
        time.sleep(2 * _LOOK)
