"""The queue owner at work: core, journal, consumer, sessions and facts of one worker, on one event loop.

Everything that happens comes to the loop as a call: from the consumer's thread, the journal's, the publisher's, the
pressroom's, from sessions and from the clock. Each tells the core, carries out what the core says, and sees to it that
a transaction follows. The order of the consumer's events is kept, so a transaction that is taken has the group
metadata of the view it was taken from. Decisions are core.py's; this file has none but when to write and when to pause.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import structlog

from sinks.smtp import intake, journal
from sinks.smtp.alarms import Alarms
from sinks.smtp.assembly import connections, rules_of
from sinks.smtp.bodies import BodyReader
from sinks.smtp.commands import Bodies, Command, Drained, Fetch, Publish
from sinks.smtp.config import SmtpConfig
from sinks.smtp.core import Depth, Owner
from sinks.smtp.knowledge import Knowledge
from sinks.smtp.listener import Listener
from sinks.smtp.membership import Membership
from sinks.smtp.overrides import Override
from sinks.smtp.press import Printed, Setup
from sinks.smtp.pressroom import Pressroom
from sinks.smtp.reporting import Facts, Tallies
from sinks.smtp.shapes import Shapes
from sinks.smtp.sharing import Sharing
from sinks.smtp.sites import Sites
from sinks.smtp.steering import Steering
from sinks.smtp.tracing import Tracer
from topics import admin
from topics.errors import Broken
from topics.filling import Filling
from topics.publisher import BatchPublisher, Publisher

__all__ = ["Agent", "SmtpConfig"]

_ABORTED_S: Final = 0.2  # until the next one after an abort
_TICK_S: Final = 0.1
_TALLY_S: Final = 1.0
_FILL_LEAST_S: Final = 0.005  # a transaction; alone, a message should not wait for company
_FILL_MOST_S: Final = 0.05  # and its dot, which waits for it, no longer
_STUCK_S: Final = 2.0  # a transaction that takes longer: Kafka is away, and what starts now could not get its dot
_HUNG_S: Final = 45.0
_SHAPING_S: Final = 3.0  # between two looks at the shaping file
_VIEWS_S: Final = 60.0
_SPARE_S: Final = 15.0  # without a partition after this long, the worker is a spare one, and ready

log = structlog.get_logger(__name__)


class Agent:
    def __init__(self, config: SmtpConfig) -> None:
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._failure = ""
        self._failed = asyncio.Event()
        self._is_ready: Callable[[], None] | None = None
        self._partitions = 0
        self._knowledge = Knowledge(config, lambda: self._partitions, self._threadsafe(self._hear_override))
        self._publisher = Publisher(config.cluster, f"smtp/{config.instance}")
        self._fact_publisher = BatchPublisher(config.cluster, f"smtp/{config.instance}")
        self._facts = Facts(self._fact_publisher, self._threadsafe(self._on_acks), self._threadsafe(self._fail))
        self._tallies = Tallies(config.instance)
        sites = Sites(self._knowledge.site, self._publisher)
        named = {source.name for pool in config.pools.values() for source in pool.sources}
        self._shapes = Shapes(config.shaping, config.shaping_file, config.timeouts, named)
        sharing = Sharing(self._shapes, self._publisher, self._knowledge.draws, config.instance)
        self._steering = Steering(
            config, self._shapes, self._publisher, sharing, lambda: self._owner, self._knowledge.desk.source_until
        )
        rules = rules_of(config, self._knowledge, self._shapes, self._steering, sharing.began, lambda: self._partitions)
        self._owner = Owner(rules)
        self._owner.pause()  # until the views are fresh
        self._press = Pressroom(
            Setup(config.tenants, config.keyring, config.signers, config.claims),
            self._knowledge.campaign,
            self._on_printed,
            self._fail,
            config.presses,
        )
        tracer = Tracer(self._publisher, config.instance, self._knowledge.desk.watching, time.time)
        self._connections, self._router = connections(
            config,
            self._shapes,
            Listener(
                *(self._owner, self._steering, self._tallies, sites, self._shapes.shard),
                lambda: self._partitions,
                self._after,
            ),
            self._press,
            tracer,
            Alarms(self._publisher, config.instance).tell,
            lambda source, site: self._steering.suspends(source, site, time.time()),
            lambda source: sharing.spent(source, time.time()),
            self._knowledge.site,
        )
        lanes, group = config.lanes, f"smtp.{config.lanes.group}"
        self._target = config.successor or lanes
        topics = journal.Topics(lanes.state, lanes.inputs, self._target.inputs)
        self._journal = journal.Journal(
            config.cluster, topics, group, config.instance, self._threadsafe(self._on_report)
        )
        self._bodies = BodyReader(
            config.cluster,
            lanes.inputs,
            self._threadsafe(self._on_bodies),
            self._threadsafe(self._fail),
            instance=config.instance,
        )
        self._intake = intake.Intake(
            config.cluster, group, lanes.inputs, self._threadsafe(self._hear), self._publisher, instance=config.instance
        )
        self._membership = Membership(
            config.cluster, group, lanes.state, lanes.inputs, self._owner, self._intake.resume, self._after, self._fail
        )
        self._writing_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._filling = Filling(_FILL_LEAST_S, _FILL_MOST_S)
        self._obeying = False

    def _threadsafe(self, call: Callable[..., None]) -> Callable[..., None]:
        loop = self._loop

        def later(*arguments: Any) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(call, *arguments)

        return later

    # Life

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        self._is_ready = ready
        try:
            await self._start()
            self._loop.set_exception_handler(self._on_exception)
            ticking = self._loop.create_task(self._tick_for_ever())
            await _first(stop, self._failed)
            await self._leave()
            ticking.cancel()
        finally:
            await self._close()
        if self._failure:
            raise Broken(self._failure)

    async def _start(self) -> None:
        self._knowledge.start()
        self._partitions = await asyncio.to_thread(admin.partition_count, self._config.cluster, self._target.ordinary)
        await asyncio.to_thread(self._journal.open)
        if not await asyncio.to_thread(self._knowledge.wait_ready, _VIEWS_S):
            raise Broken("the views could not be read")
        await self._press.start()
        self._bodies.start()
        self._intake.start()
        self._loop.call_later(_SPARE_S, self._say_ready)

    async def _leave(self) -> None:
        """Hand the partitions over: the consumer's close revokes them, which drains them here."""
        if self._failure:
            self._membership.drop_all()
        await asyncio.to_thread(self._intake.close)

    async def _close(self) -> None:
        await self._membership.close()
        await self._connections.close()
        await self._press.close()
        parts = (self._journal, self._bodies, self._knowledge, self._facts, self._fact_publisher, self._publisher)
        for part in parts:
            await asyncio.to_thread(part.close)

    def _fail(self, reason: str) -> None:
        if not self._failure:
            log.error("queue_owner_ends", reason=reason)
            self._failure = reason
            self._failed.set()

    def _on_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A bug in a callback may have left the core half told. The log is right: let another process read it."""
        error = context.get("exception")
        if isinstance(error, (AssertionError, LookupError, TypeError, ValueError, AttributeError, RuntimeError)):
            log.error("callback_failed", exc_info=error)
            self._fail(f"a bug: {type(error).__name__}")
        else:
            loop.default_exception_handler(context)

    def _say_ready(self) -> None:
        if self._is_ready is not None and not self._failure:
            say, self._is_ready = self._is_ready, None
            say()

    @property
    def partitions(self) -> tuple[int, ...]:
        """Those that are owned and restored."""
        return self._owner.partitions

    @property
    def depth(self) -> Depth:
        return self._owner.depth

    @property
    def overrides(self) -> list[Override]:
        """Those in force, of any owner."""
        return self._steering.in_force(time.time())

    def _hear(self, event: intake.Event) -> None:
        self._membership.hear(event)
        self._after()
        if self._owner.partitions:
            self._say_ready()

    # The processes that compose

    def _on_printed(self, printed: Printed) -> None:
        self._connections.printed(printed)
        self._after()

    # The other threads

    def _on_acks(self) -> None:
        now = time.time()
        for ticket, ok in self._facts.settled():
            self._owner.acked(ticket, ok, now)
        self._after()

    def _on_bodies(self, ticket: int, found: Bodies) -> None:
        self._owner.bodies(ticket, found, time.time())
        self._after()

    def _hear_override(self, override: Override) -> None:
        self._steering.hear(override, time.time())
        self._after()

    def _on_report(self, report: journal.Report) -> None:
        if self._writing_since is not None:
            now = time.monotonic()
            self._filling.ended(now - self._writing_since, now)
            self._writing_since = None
        match report:
            case journal.Committed(number, began):
                self._owner.committed(number, began, time.time())
            case journal.Aborted(number, _):
                self._owner.aborted(number, time.time())
                self._timer = self._loop.call_later(_ABORTED_S, self._write)
            case journal.Ended(reason):
                self._fail(reason)
        self._after()

    # What the core says

    def _after(self) -> None:
        if self._obeying:
            return  # called from within: the loop below goes on with what came of it
        self._obeying = True
        try:
            while commands := self._owner.take():
                for command in commands:
                    self._obey(command)
        finally:
            self._obeying = False
        self._facts.send()
        if self._timer is None and self._writing_since is None and self._owner.unwritten:
            self._timer = self._loop.call_later(self._filling.wait(time.monotonic()), self._write)

    def _obey(self, command: Command) -> None:
        match command:
            case Publish():
                self._facts.publish(command)
            case Fetch():
                self._bodies.fetch(command)
            case Drained(number):
                self._membership.drained(number)
            case _:
                self._connections.obey(command)

    def _write(self) -> None:
        self._timer = None
        if self._writing_since is not None or self._failure:
            return
        transaction = self._owner.transaction(time.time())
        if transaction is not None:
            self._writing_since = time.monotonic()
            self._journal.write(transaction, self._membership.metadata)

    # The clock

    async def _tick_for_ever(self) -> None:
        tallied = looked = time.monotonic()
        paused = "views"  # as it was made
        while True:
            await asyncio.sleep(_TICK_S)
            now = time.time()
            if self._journal.hung > _HUNG_S:
                self._fail("the journal's client does not return")
            if cause := self._obstacle():
                self._owner.pause()
            else:
                self._owner.resume(now)
            if cause != paused:
                paused = cause
                log.warning("attempts_pause" if cause else "attempts_go_on", cause=cause)
            if time.monotonic() - looked >= _SHAPING_S:
                looked = time.monotonic()
                if self._shapes.look():
                    self._router.providers = self._shapes.providers
                    self._owner.reshape(now)
            self._knowledge.tell(self._owner, now)
            self._owner.tick(now)
            self._intake.want(self._owner.depth.messages < self._config.queue_limit and not self._facts.crowded)
            if (since := time.monotonic() - tallied) >= _TALLY_S:
                tallied += since
                self._tallies.publish(self._publisher, datetime.now(UTC), since)
            self._after()

    def _obstacle(self) -> str:
        """Why no attempt may start now; empty: one may."""
        if self._writing_since is not None and time.monotonic() - self._writing_since > _STUCK_S:
            return "journal"
        if self._facts.crowded:
            return "facts"
        return "" if self._knowledge.fresh else "views"


async def _first(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
