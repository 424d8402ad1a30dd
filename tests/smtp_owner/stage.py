"""A broker's topics, a running queue owner, and what came of it: shared by the tests with real services."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]  # exported without saying so

from schemas import ids
from schemas.codec import decode
from schemas.envelope import Event, Stream
from schemas.lanes import Inline, MessageQueue
from schemas.tenant import StreamPolicy, Tenant
from schemas.tokens import Keyring
from sinks.smtp.agent import Agent, SmtpConfig
from sinks.smtp.reach import SinkReach
from sinks.smtp.session import Timeouts
from sinks.smtp.sources import Pool, Source
from sinks.smtp.state import State
from sinks.smtp.state import decode as decode_state
from tests.smtp_owner.internet import Internet
from tests.waiting import wait_until
from topics.kafka import Cluster
from topics.publisher import Publisher
from topics.record import record_of
from topics.registry import (
    ALLOWANCES,
    ATTEMPTS,
    AUDITS,
    BOUNCES,
    CAMPAIGNS,
    CONTROLS,
    DEADLETTERS,
    LANES,
    LANES_URGENT,
    MESSAGES,
    QUEUE,
    SHAPING,
    SITES,
    SUPPRESSIONS,
    TALLIES,
    TRACES,
    Topic,
)

TOPICS = (
    *(ALLOWANCES, LANES, LANES_URGENT, QUEUE, MESSAGES, ATTEMPTS, BOUNCES, TALLIES),
    *(SITES, SUPPRESSIONS, CAMPAIGNS, CONTROLS, SHAPING, TRACES, DEADLETTERS, AUDITS),
)
KEYRING = Keyring({"a": b"k" * 32}, "a")
DOMAIN = "brand.test"


def create_topics(cluster: Cluster, topics: Sequence[Topic] = TOPICS, *, lanes: int = 2) -> None:
    new = []
    for topic in topics:
        count = lanes if topic in (LANES, LANES_URGENT, QUEUE) else topic.embedded
        new.append(NewTopic(cluster.topic(topic), count, 1, config=topic.config()))
    client = cluster.admin("tests")  # kept: its end would cut the requests off
    for future in client.create_topics(new).values():
        future.result()


def config(cluster: Cluster, world: Internet, **changes: Any) -> SmtpConfig:
    tenant = Tenant(
        sending_domains=(DOMAIN,),
        return_path_domain=f"bounces.{DOMAIN}",
        tracking_url="https://t.brand.test",
        streams={stream: StreamPolicy(on_doubt="give_up") for stream in Stream},
    )
    base = SmtpConfig(
        cluster=cluster,
        tenants={"default": tenant},
        keyring=KEYRING,
        signers={DOMAIN: None},
        reach=SinkReach(world.ports),
        nameservers=(world.dns,),
        source=Source("mta.brand.test"),
        timeouts=Timeouts(connect=5, banner=5, ehlo=5, mail=5, rcpt=5, data=5, block=5, dot=30),
        retry_scale=0.01,
    )
    return replace(base, **changes)


def pools(*addresses: str) -> dict[str, Pool]:
    """The default pool with a source for each address, called by it; without any, no pool."""
    sources = tuple(Source(f"mta{n}.brand.test", address, ipv4=address) for n, address in enumerate(addresses))
    return {"default": Pool(sources)} if sources else {}


def command(name: str, *, domain: str = "a.test", site: str = "", **fields: Any) -> MessageQueue:
    """`site`: the domain itself unless given, as while nobody knows it."""
    now = datetime.now(UTC)
    message_id = ids.message_id("default", name)
    return MessageQueue.from_cause(
        message_id,
        occurred_at=now,
        message_id=message_id,
        recipient_id=name.ljust(26, "x")[:26],
        recipient_domain=domain,
        recipient=f"{name}@{domain}",
        idempotency_key=name,
        site=site or domain,
        content=Inline(from_=f"News <news@{DOMAIN}>", subject=f"Hello {name}", text="Hello\n", html="<p>Hello</p>"),
        accepted_at=now,
        expires_at=now + timedelta(days=1),
        **fields,
    )


def queue(publisher: Publisher, *commands: MessageQueue, lanes: int = 2, urgent: bool = False) -> None:
    """As `plan` does."""
    for each in commands:
        number = ids.lane_partition(each.pool, each.site, each.shard, lanes)
        publisher.publish(each, topic=LANES_URGENT if urgent else LANES, partition=number)
    publisher.flush(30)


class Worker:
    """A queue owner in a thread with its own event loop, as its process would run it."""

    def __init__(self, config: SmtpConfig) -> None:
        self.config = config
        self.ready = threading.Event()
        self.error: BaseException | None = None
        self.agent: Agent | None = None
        self._stop: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> Worker:
        self._thread.start()
        wait_until(lambda: self.ready.is_set() or self.error, timeout=60, what="the owner to be ready")
        if self.error is not None:
            raise self.error
        return self

    def __enter__(self) -> Worker:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()
        if self.error is not None:
            raise self.error

    def stop(self) -> None:
        self._stop()
        self._thread.join(90)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            self.error = error

    async def _serve(self) -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()

        def ask() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(stop.set)

        self._stop = ask
        self.agent = Agent(self.config)
        await self.agent.run(stop, self.ready.set)


def reader(cluster: Cluster, **settings: Any) -> Consumer:
    return cluster.consumer("look", "look", **{"enable.partition.eof": True, "group.protocol": "classic", **settings})


def read(cluster: Cluster, topic: Topic, isolation: str = "read_committed") -> list[Any]:
    """All records of a topic as it is now, as `Record`s."""
    consumer = reader(cluster, **{"isolation.level": isolation})
    try:
        partitions = consumer.list_topics(cluster.topic(topic), timeout=10).topics[cluster.topic(topic)].partitions
        consumer.assign([TopicPartition(cluster.topic(topic), number, OFFSET_BEGINNING) for number in partitions])
        left, found = set(partitions), []
        while left:
            for message in consumer.consume(500, 0.2):
                error = message.error()
                if error is None:
                    found.append(record_of(message, cluster))
                elif error.code() == KafkaError._PARTITION_EOF:
                    left.discard(message.partition() or 0)
        return found
    finally:
        consumer.close()


def facts(cluster: Cluster, *topics: Topic) -> list[Event]:
    """Distinct facts, in order per partition."""
    found = [decode(record.value, record.headers) for topic in topics for record in read(cluster, topic)]
    return list({event.event_id: event for event in found}.values())


def ends(cluster: Cluster) -> list[str]:
    return [event.type for event in facts(cluster, MESSAGES) if event.type != "message.duplicate"]


def states(cluster: Cluster, topic: Topic = QUEUE) -> dict[bytes, State]:
    found: dict[bytes, State] = {}
    for record in read(cluster, topic):
        if record.value is None:
            found.pop(record.key, None)
        else:
            found[record.key] = decode_state(record.value)
    return found


def names(prefix: str, count: int) -> Sequence[str]:
    return [f"{prefix}{number}" for number in range(count)]
