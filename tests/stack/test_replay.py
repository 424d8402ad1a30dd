"""P5: ClickHouse equals the topics that it is fed from, and replaying them, twice, changes no view."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator
from contextlib import closing

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from pipeline import secrets, wiring
from pipeline.demo.audience import people
from pipeline.demo.figures import Figures
from pipeline.demo.mailing import Mailing
from pipeline.demo.run import wait_for_calm
from pipeline.embedded.stack import TENANT, Stack
from sinks.clickhouse.core import READ, table_of
from sinks.clickhouse.intake import GROUP
from tests.stack.questions import Questions
from tests.waiting import wait_until
from topics.publisher import Publisher
from topics.registry import Topic

pytestmark = pytest.mark.stack

SINK = "clickhouse"  # the service
LIMIT = 180.0
# Its rows are a question about the present: a message may become overdue while we look.
OF_THE_PRESENT = "v_overdue"


@pytest.fixture(scope="module")
def calm(stack: Stack) -> Stack:
    """A stack with some history in which nothing happens any more."""
    mailing = Mailing(
        name=f"replay-{uuid.uuid4().hex[:8]}",
        tenant=TENANT,
        recipient_secret=secrets.recipient_secret(stack.settings.secrets_folder),
        people=people(60),
        receipts=6,
    )
    figures = Figures(wiring.clickhouse_reader(stack.settings), mailing.name)
    with Publisher(wiring.cluster(stack.settings), "test") as publisher:
        mailing.publish(publisher, lambda: None)
    wait_until(lambda: figures.summary().ended == mailing.total, timeout=LIMIT, what="every message's end")
    wait_for_calm(stack, figures)
    Log(stack).caught_up()
    return stack


@pytest.fixture(scope="module")
def tables(calm: Stack) -> Iterator[Client]:
    """The writer's eyes: the tables themselves are private."""
    settings = calm.settings.clickhouse
    with closing(
        clickhouse_connect.get_client(
            dsn=settings.url,
            username=settings.user,
            password=wiring.clickhouse_password(calm.settings),
            database=settings.database,
        )
    ) as client:
        yield client


class Log:
    """The fact topics as Kafka has them, and how far the sink is."""

    def __init__(self, stack: Stack) -> None:
        self._cluster = wiring.cluster(stack.settings)
        self._admin = AdminClient(self._cluster.client_config("replay"))
        self._group = self._cluster.group(GROUP)

    def ends(self) -> dict[tuple[str, int], int]:
        """The offset after the last record of each partition."""
        with closing(self._consumer()) as consumer:
            topics = consumer.list_topics(timeout=30).topics
            places = [(self._cluster.topic(topic), number) for topic in READ
                      for number in topics[self._cluster.topic(topic)].partitions]  # fmt: skip
            return {(name, number): consumer.get_watermark_offsets(TopicPartition(name, number), timeout=30)[1]
                    for name, number in places}  # fmt: skip

    def caught_up(self) -> None:
        wait_until(lambda: self.behind() == {}, timeout=LIMIT, what="the sink to reach the end of every topic")

    def behind(self) -> dict[tuple[str, int], int]:
        """Records that the sink has not committed, by partition."""
        asked = [ConsumerGroupTopicPartitions(self._group)]
        (answer,) = self._admin.list_consumer_group_offsets(asked).values()
        done = {(at.topic, at.partition): max(at.offset, 0) for at in answer.result(30).topic_partitions}
        return {place: end - done.get(place, 0) for place, end in self.ends().items() if end > done.get(place, 0)}

    def rewind(self) -> None:
        """The group has no member now. What is committed becomes the beginning."""
        first = [TopicPartition(name, number, 0) for name, number in self.ends()]
        (answer,) = self._admin.alter_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(self._group, first)]
        ).values()
        answer.result(30)

    def event_ids(self, topic: Topic) -> dict[str, set[str]]:
        """By type: the ids of all events on the topic. A repeat has the id of the first."""
        found: dict[str, set[str]] = {}
        name = self._cluster.topic(topic)
        with closing(self._consumer()) as consumer:
            missing = {number: end for (at, number), end in self.ends().items() if at == name and end}
            consumer.assign([TopicPartition(name, number, 0) for number in missing])
            while missing:
                (message,) = consumer.consume(1, 30) or pytest.fail(f"{name}: no record for 30 s")
                error = message.error()
                if error is not None:
                    assert error.code() == KafkaError._PARTITION_EOF, error
                    missing.pop(message.partition() or 0, None)
                elif (value := message.value()) is not None:
                    event = json.loads(value)
                    found.setdefault(event["type"], set()).add(event["event_id"])
        return found

    def _consumer(self) -> Consumer:
        return self._cluster.consumer(f"replay-{uuid.uuid4().hex[:8]}", "replay", **{"enable.partition.eof": True})


def test_clickhouse_equals_the_topics(calm: Stack, tables: Client) -> None:
    log = Log(calm)
    total = 0
    for topic in READ:
        rows = tables.query(f"SELECT type, toString(event_id) FROM {table_of(topic.name)} FINAL").result_rows
        kept: dict[str, set[str]] = {}
        for kind, event_id in rows:
            kept.setdefault(kind, set()).add(event_id)
        told = log.event_ids(topic)
        assert kept == told, topic.name
        total += sum(map(len, told.values()))
    assert total > 200  # the mailing alone: accepted, attempt and end of each


def test_replaying_every_topic_twice_changes_no_view(calm: Stack, ask: Questions) -> None:
    log = Log(calm)
    before = views(ask)
    assert len(before["v_messages"]) >= 66
    for _ in range(2):
        with calm.supervisor.held(SINK):
            wait_until(lambda: rewound(log), timeout=LIMIT, what="the group to be without a member")
            assert log.behind() == {place: end for place, end in log.ends().items() if end}
        log.caught_up()
        after = views(ask)
        assert {name: digest(rows) for name, rows in after.items()} == {
            name: digest(rows) for name, rows in before.items()
        }


def rewound(log: Log) -> bool:
    """The broker refuses while it believes that the old member may come back."""
    try:
        log.rewind()
    except KafkaException:
        return False
    return True


def views(ask: Questions) -> dict[str, list[str]]:
    """Every view's whole content, in order."""
    names = [row["name"] for row in ask.rows("SHOW TABLES LIKE 'v_%'")]
    assert OF_THE_PRESENT in names
    return {
        name: sorted(json.dumps(row, default=str, sort_keys=True) for row in ask.rows(f"SELECT * FROM {name}"))
        for name in names
        if name != OF_THE_PRESENT
    }


def digest(rows: list[str]) -> str:
    return f"{len(rows)} rows, {hashlib.sha256(chr(10).join(rows).encode()).hexdigest()[:16]}"
