"""Fold low-rate facts into a state per key and derive new facts from it, on Faust.

Decides the order that makes this right at least once: the facts of an event are acked first, then the state is kept
with the event's position, then Faust commits the offset. A crash in between repeats the event: before the state, the
same facts go out again with the same ids; after it, the position in the state says that nothing is left to do. (Faust's
`exactly_once` commits before it flushes and loses counts; without the position, at-least-once counts twice.)

What is folded and what follows is the caller's `fold`. Not for topics with a record per message: about 2,000 events a
second and process.
"""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import faust
import structlog

from schemas.codec import Undecodable, decode
from schemas.envelope import Event
from topics import admin
from topics.deadletters import DeadLetters
from topics.errors import Broken, Later
from topics.kafka import Cluster
from topics.publisher import Publisher
from topics.record import Record
from topics.registry import Topic

SESSION_S = 8.0  # Faust's 60 s would leave a killed process's partitions alone for more than a minute
_HEARTBEAT_S = 2.0
_POSITION = "at"  # in the state: the offset after the last event of each topic partition that was folded in
_RETRY_S = 1.0
_READY_LOOK_S = 0.1

State = Mapping[str, Any]
Fold = Callable[[State, Event], tuple[State, Sequence[Event]]]
"""(state of the event's key, event) -> (new state, facts). States are JSON-ready; {} where there is none. Pure."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Derived:
    """One derived view: `sources` and `states` have equally many partitions and the same keys."""

    name: str  # of the role, the group and the CloudEvents source
    sources: tuple[Topic, ...]
    states: Topic
    key: Callable[[Event], str]
    takes: tuple[type[Event], ...]  # other events of the sources are passed over
    fold: Fold


async def serve(cluster: Cluster, derived: Derived, stop: asyncio.Event, ready: Callable[[], None]) -> None:
    """Run until `stop` is set."""
    with tempfile.TemporaryDirectory(prefix="mailriver-") as folder:
        await _serve(cluster, derived, stop, ready, folder)


async def _serve(
    cluster: Cluster, derived: Derived, stop: asyncio.Event, ready: Callable[[], None], folder: str
) -> None:
    publisher = Publisher(cluster, derived.name)
    app = _app(cluster, derived, folder)
    work = _Work(derived, publisher, DeadLetters(publisher, derived.name), stop)
    partitions = await asyncio.to_thread(admin.partition_count, cluster, derived.states)
    # Keys are bytes on both sides: what Faust restores must equal what it looks up.
    changelog = app.topic(cluster.topic(derived.states), key_type=bytes, key_serializer="raw", value_serializer="json")
    table = app.Table(derived.name, key_type=bytes, partitions=partitions, changelog_topic=changelog)
    names = [cluster.topic(topic) for topic in derived.sources]
    source = app.topic(*names, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

    @app.agent(source, concurrency=1, name=derived.name)
    async def agent(stream: Any) -> None:
        async for event in stream.events():
            await work.handle(_record(event.message, cluster), table)

    try:
        await app.start()
        while not (stop.is_set() or app.crashed or _works(app)):  # noqa: ASYNC110  # Faust tells nobody when it has recovered
            await asyncio.sleep(_READY_LOOK_S)
        ready()
        await app.wait(stop.wait())  # ends when the app crashes, too
        if app.crash_reason is not None:
            raise Broken(f"Faust ended: {type(app.crash_reason).__name__}") from app.crash_reason
    finally:
        await app.stop()
        await asyncio.to_thread(publisher.close)


class _Work:
    """What is done with one event, in the order that the module's docstring explains."""

    def __init__(self, derived: Derived, publisher: Publisher, deadletters: DeadLetters, stop: asyncio.Event) -> None:
        self._derived = derived
        self._publisher = publisher
        self._deadletters = deadletters
        self._stop = stop

    async def handle(self, record: Record, table: Any) -> None:
        try:
            event = decode(record.value, record.headers)
        except Undecodable as error:
            self._deadletters.put(record, str(error))
            self._publisher.flush()  # rare, and short: it may block the event loop
            return
        self._deadletters.passed(1)
        if not isinstance(event, self._derived.takes):
            return
        key = self._derived.key(event).encode()
        kept: State = table.get(key) or {}
        positions: dict[str, int] = dict(kept.get(_POSITION, {}))
        place = f"{record.topic}:{record.partition}"
        if record.offset < positions.get(place, 0):
            return  # folded in before a crash or a rebalance
        state, facts = self._derived.fold({name: kept[name] for name in kept if name != _POSITION}, event)
        for fact in facts:
            await self._insist(fact)
        positions[place] = record.offset + 1
        table[key] = {**state, _POSITION: positions}

    async def _insist(self, fact: Event) -> None:
        while True:
            try:
                return await self._publisher.published(fact)
            except Later as later:
                log.warning("later", role=self._derived.name, reason=str(later), wait_s=_RETRY_S)
                if self._stop.is_set():
                    raise
                await asyncio.sleep(_RETRY_S)


def _app(cluster: Cluster, derived: Derived, folder: str) -> faust.App:
    return faust.App(
        cluster.group(derived.name),
        broker=[f"kafka://{server}" for server in cluster.bootstrap.split(",")],
        broker_credentials=_credentials(cluster),
        broker_session_timeout=SESSION_S,
        broker_heartbeat_interval=_HEARTBEAT_S,
        store="memory://",
        processing_guarantee="at_least_once",
        topic_allow_declare=False,  # ours are in the registry, made by `topics apply`
        topic_disable_leader=True,
        web_enabled=False,
        datadir=folder,  # it makes one, though the store is in memory: by default in the current folder
        autodiscover=False,
    )


def _works(app: faust.App) -> bool:
    """It has partitions, and what it kept about them is restored."""
    return not app.rebalancing and not app.in_recovery and bool(app.consumer.assignment())


def _credentials(cluster: Cluster) -> faust.SSLCredentials | faust.SASLCredentials | None:
    security = cluster.security
    if security is None:
        return None
    context = None
    if security.tls:
        context = ssl.create_default_context(cafile=security.ca)
        if security.cert:
            context.load_cert_chain(security.cert, security.key)
    if not security.sasl_mechanism:
        return faust.SSLCredentials(context)
    return faust.SASLCredentials(
        username=security.username,
        password=security.password(),
        ssl_context=context,
        mechanism=security.sasl_mechanism,
    )


def _record(message: Any, cluster: Cluster) -> Record:
    headers = message.headers.items() if isinstance(message.headers, dict) else message.headers or ()
    timestamp = int((message.timestamp or 0) * 1000)
    topic = cluster.bare(message.topic)
    return Record(topic, message.partition, message.offset, message.key, message.value, list(headers), timestamp)
