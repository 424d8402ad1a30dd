"""One declaration per topic: what it holds, its key, its size, how long it is kept, who writes and who reads.

Names here are without the prefix; `topics.kafka.Cluster` adds it. Partition counts are those of the embedded stack
and of production; a topic is never widened in place (a lane's new generation fills while the old drains). The embedded
stack has few, since librdkafka sends a request for each partition: with half of them its broker has half to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from schemas.families import EVENTS, SEND

DAY_MS = 86_400_000
MAX_RECORD = 4 * 1024 * 1024  # bytes; larger is refused to the producer
MAX_READ = 1024 * 1024  # bytes; larger is dead-lettered by its reader


class Cleanup(StrEnum):
    DELETE = "delete"
    COMPACT = "compact"


@dataclass(frozen=True, slots=True)
class Topic:
    name: str
    key: str  # what the record key is, in words
    types: tuple[str, ...]  # event types; empty for state that only its owner reads
    embedded: int  # partitions
    production: int
    keep_ms: int  # -1: for ever
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    cleanup: Cleanup = Cleanup.DELETE
    compaction_lag_ms: int = 0  # records younger than this are not compacted
    max_compaction_lag_ms: int = 0  # 0: the broker's default
    broker_time: bool = False  # the broker stamps the records: an upstream app's clock is not trusted

    def config(self) -> dict[str, str]:
        """The topic-level settings that `topics plan` compares and `apply` sets."""
        settings = {"cleanup.policy": str(self.cleanup), "max.message.bytes": str(MAX_RECORD)}
        if self.broker_time:
            settings["message.timestamp.type"] = "LogAppendTime"
        if self.cleanup is Cleanup.DELETE:
            settings["retention.ms"] = str(self.keep_ms)
        else:
            settings["min.compaction.lag.ms"] = str(self.compaction_lag_ms)
            settings["delete.retention.ms"] = str(DAY_MS)
            if self.max_compaction_lag_ms:
                settings["max.compaction.lag.ms"] = str(self.max_compaction_lag_ms)
        return settings


def _types(*prefixes: str) -> tuple[str, ...]:
    return tuple(name for name in EVENTS if name.startswith(prefixes))


_FACTS_MS = 400 * DAY_MS
_STATE_LAG = 30 * DAY_MS  # compaction destroys history: not before ClickHouse has surely read it
_LANE_MS = 4 * DAY_MS  # longest expiry and a day
SINK = "clickhouse"


def _fact(
    name: str, key: str, types: tuple[str, ...], writers: tuple[str, ...], *readers: str, embedded: int = 2
) -> Topic:
    return Topic(name, key, types, embedded, 12, _FACTS_MS, writers, (*readers, SINK))


def _state(name: str, key: str, kind: str, writers: tuple[str, ...], *readers: str, ordered: bool = False) -> Topic:
    # Controls and shaping have one partition, so that they have an order.
    return Topic(
        name, key, (kind,), 1, 1 if ordered else 12, -1, writers, (*readers, SINK),
        cleanup=Cleanup.COMPACT, compaction_lag_ms=_STATE_LAG,
    )  # fmt: skip


def _derived(name: str, key: str, role: str) -> Topic:
    # What a role remembers of each key: as many partitions as the facts that it folds.
    return Topic(name, key, (), 2, 12, -1, (role,), (role,), cleanup=Cleanup.COMPACT)


@dataclass(frozen=True, slots=True)
class Lanes:
    """The topics of one generation of lanes: what waits, by urgency, and the state of it, partition by partition.

    A topic is never widened in place, since keys would move: another number of partitions is another generation.
    """

    group: str
    ordinary: Topic
    urgent: Topic
    state: Topic

    @property
    def inputs(self) -> tuple[Topic, Topic]:
        return self.ordinary, self.urgent

    @property
    def topics(self) -> tuple[Topic, ...]:
        return self.ordinary, self.urgent, self.state


def lanes(generation: int = 1, partitions: int | None = None) -> Lanes:
    """`partitions`: other than the usual 2 in the embedded stack and 12 in production."""
    group = "main" if generation == 1 else f"main-{generation}"
    counts = (2, 12) if partitions is None else (partitions, partitions)

    def lane(name: str) -> Topic:
        return Topic(name, "pool/site#shard", ("message.queue",), *counts, _LANE_MS, ("plan", "smtp"), ("smtp",))

    state = Topic(
        f"mail.queue.{group}", "message_id, in its lane's partition", (), *counts, -1, ("smtp",), ("smtp",),
        cleanup=Cleanup.COMPACT,
    )  # fmt: skip
    return Lanes(group, lane(f"mail.lanes.{group}"), lane(f"mail.lanes.{group}.urgent"), state)


SENDS = Topic("mail.sends", "idempotency key", (SEND,), 2, 12, 7 * DAY_MS, ("upstream",), ("plan",), broker_time=True)
SENDS_URGENT = Topic(
    "mail.sends.urgent", "idempotency key", (SEND,), 2, 12, 7 * DAY_MS, ("upstream",), ("plan",), broker_time=True
)
LANES, LANES_URGENT, QUEUE = lanes().topics
INBOUND = Topic(
    "mail.inbound", "sha256 of the mail", ("inbound.received",), 2, 12, 7 * DAY_MS, ("inbound",), ("classify",)
)
RECIPIENTS = Topic(
    "mail.recipients", "recipient_id", ("recipient.seen",), 1, 12, -1, ("plan",), (),
    cleanup=Cleanup.COMPACT, max_compaction_lag_ms=DAY_MS,
)  # fmt: skip
MESSAGES = _fact(
    "mail.messages",
    "message_id",
    tuple(kind for kind in _types("message.") if kind not in ("message.queue", "message.opened", "message.clicked")),
    ("plan", "smtp"),
    embedded=1,
)
ATTEMPTS = _fact("mail.attempts", "message_id", _types("attempt."), ("smtp",), embedded=1)
TALLIES = Topic(
    "mail.tallies", "kind/name", ("tally.counted",), 1, 12, 30 * DAY_MS, ("smtp",), ("score", "shape", SINK)
)
ALLOWANCES = Topic("mail.allowances", "event_id", ("allowance.drawn",), 1, 1, 3 * DAY_MS, ("smtp",), ("smtp",))
BOUNCES = _fact(
    "mail.bounces", "recipient_id", ("bounce.received", "inbound.set_aside"), ("smtp", "classify"), "suppress"
)
COMPLAINTS = _fact("mail.complaints", "recipient_id", ("complaint.received",), ("classify",), "suppress")
UNSUBSCRIBES = _fact("mail.unsubscribes", "recipient_id", ("recipient.unsubscribed",), ("tracking", "classify"))
OPENS = _fact("mail.opens", "recipient_id", ("message.opened", "open.judged"), ("tracking", "engage"), "engage")
CLICKS = _fact("mail.clicks", "recipient_id", ("message.clicked", "click.judged"), ("tracking", "engage"), "engage")
CONVERSIONS = _fact("mail.conversions", "recipient_id", ("conversion.recorded",), ("tracking",))
REPLIES = _fact("mail.replies", "recipient_id", ("reply.received",), ("classify",))
SUPPRESS_STATE = _derived("mail.suppress.state", "tenant/recipient_id", "suppress")
ENGAGE_STATE = _derived("mail.engage.state", "message_id, in its recipient's partition", "engage")
SUPPRESSIONS = _state(
    "mail.suppressions", "tenant/scope/recipient_id", "suppression.set", ("tracking", "suppress", "cli"), "smtp"
)
CAMPAIGNS = _state("mail.campaigns", "tenant/campaign_id", "campaign.set", ("cli",), "plan", "smtp")
SHAPING = _state("mail.shaping", "selector/action", "shaping.set", ("shape", "smtp"), "smtp", ordered=True)
CONTROLS = _state("mail.controls", "control_id", "control.set", ("cli",), "smtp", ordered=True)
SITES = _state("mail.sites", "domain", "site.learned", ("smtp",), "plan")
SUBSCRIBERS = _state("mail.subscribers", "tenant/recipient_id", "subscriber.set", ("cli",), "plan")
AUDITS = _fact("mail.audits", "asset", ("audit.found",), ("monitors", "smtp"), embedded=1)
TRACES = Topic("mail.traces", "control_id", ("session.traced",), 1, 1, 3_600_000, ("smtp",), ("cli",))
DEADLETTERS = Topic(
    "mail.deadletters", "key of the original", ("record.deadlettered",), 1, 1, 7 * DAY_MS,
    ("plan", "smtp", "classify", "suppress", "engage", SINK), ("cli", SINK),
)  # fmt: skip

TOPICS: tuple[Topic, ...] = (
    *(SENDS, SENDS_URGENT, LANES, LANES_URGENT, QUEUE, INBOUND, RECIPIENTS, MESSAGES, ATTEMPTS, TALLIES, ALLOWANCES),
    *(BOUNCES, COMPLAINTS, UNSUBSCRIBES, OPENS, CLICKS, CONVERSIONS, REPLIES, SUPPRESS_STATE, ENGAGE_STATE),
    *(SUPPRESSIONS, CAMPAIGNS, SHAPING, CONTROLS, SITES, SUBSCRIBERS, AUDITS, TRACES, DEADLETTERS),
)

BY_NAME: dict[str, Topic] = {topic.name: topic for topic in TOPICS}
BY_TYPE: dict[str, Topic] = {
    kind: topic for topic in TOPICS for kind in topic.types if topic not in (SENDS_URGENT, LANES_URGENT)
}
"""The topic on which an event of a type is written; sends and lanes have an urgent twin that the writer chooses."""
