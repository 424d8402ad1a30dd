"""Bring a broker's topics in line with the registry: say what differs (`plan`), change what may be changed (`apply`).

`apply` creates topics and alters settings. It never deletes, never changes a number of partitions or replicas, and
alters no setting where that would destroy records (a shorter retention, another clean-up): those are shown, and left to
people. Settings that the registry does not name are the operator's. Printing is left to `pipeline.cli.topics`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import structlog
from confluent_kafka import KafkaError, KafkaException

# The package exports these without saying so to type checkers.
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ClusterMetadata,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from topics.errors import Later, mapped
from topics.kafka import Cluster
from topics.registry import TOPICS, Topic

_TIMEOUT_S = 15.0
_LOOK_AGAIN_S = 0.1

log = structlog.get_logger(__name__)


class Profile(StrEnum):
    """Whose numbers of partitions: the embedded stack's or production's."""

    EMBEDDED = "embedded"
    PRODUCTION = "production"


class Kind(StrEnum):
    CREATE = "create"
    SETTING = "setting"
    PARTITIONS = "partitions"
    REPLICATION = "replication"


@dataclass(frozen=True, slots=True)
class Found:
    """A topic as the broker has it."""

    partitions: int
    replicas: int
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference between registry and broker."""

    topic: str  # as in the registry
    kind: Kind
    setting: str = ""  # the name, for Kind.SETTING
    found: str = ""
    wanted: str = ""
    obstacle: str = ""  # why `apply` leaves it alone; empty: it changes it


def replication(brokers: int) -> tuple[int, int]:
    """Replicas and min.insync.replicas: one of three brokers may be away, and all is still written twice."""
    return (3, 2) if brokers >= 3 else (max(brokers, 1), 1)


def partitions(topic: Topic, profile: Profile) -> int:
    return topic.embedded if profile is Profile.EMBEDDED else topic.production


def compare(topics: Sequence[Topic], found: Mapping[str, Found], brokers: int, profile: Profile) -> list[Change]:
    """The differences, in the registry's order. Pure; `found` has the registry's names."""
    changes: list[Change] = []
    replicas, in_sync = replication(brokers)
    for topic in topics:
        count = partitions(topic, profile)
        present = found.get(topic.name)
        if present is None:
            changes.append(Change(topic.name, Kind.CREATE, wanted=f"{count} partitions, {replicas} replicas"))
            continue
        if present.partitions != count:
            obstacle = "keys would move to other partitions; a lane gets a new generation instead"
            changes.append(Change(topic.name, Kind.PARTITIONS, "", str(present.partitions), str(count), obstacle))
        if present.replicas != replicas:
            obstacle = "moves data between brokers: use kafka-reassign-partitions"
            changes.append(Change(topic.name, Kind.REPLICATION, "", str(present.replicas), str(replicas), obstacle))
        # Asking for more copies than there are would stop all writes.
        wanted = {**topic.config(), "min.insync.replicas": str(min(in_sync, present.replicas))}
        for name, value in wanted.items():
            old = present.settings.get(name, "")
            if old != value:
                changes.append(Change(topic.name, Kind.SETTING, name, old, value, _destroys(name, old, value)))
    return changes


def partition_count(cluster: Cluster, topic: Topic) -> int:
    """How many partitions the topic has on the broker. Raises `Later` when it does not answer, or has no such topic."""
    client = cluster.admin("topics")
    found = _metadata(client).topics.get(cluster.topic(topic))
    if found is None:
        raise Later(f"there is no topic {topic.name}: run `mailriver topics apply`")
    return len(found.partitions)


def broker_settings(cluster: Cluster) -> dict[int, dict[str, str]]:
    """Of each broker, by its number. Raises `Later` when one does not answer, or may not tell us."""
    client = cluster.admin("topics")
    found = {}
    for number in _metadata(client).brokers:
        # Each of its own: librdkafka sends the question to the broker that it is about.
        resource = ConfigResource(ResourceType.BROKER, str(number))
        try:
            entries = client.describe_configs([resource], request_timeout=_TIMEOUT_S)[resource].result()
        except KafkaException as error:
            raise Later(str(mapped(error))) from None
        found[number] = {name: entry.value for name, entry in entries.items() if entry.value is not None}
    return found


def plan(cluster: Cluster, profile: Profile, topics: Sequence[Topic] = TOPICS) -> list[Change]:
    """What differs between the registry and the broker. Raises `Later` when the broker does not answer."""
    client = cluster.admin("topics")
    metadata = _metadata(client)
    return compare(topics, _look(client, cluster, metadata, topics), len(metadata.brokers), profile)


def apply(cluster: Cluster, profile: Profile, topics: Sequence[Topic] = TOPICS) -> list[Change]:
    """Make the changes of `plan` that have no obstacle, wait until every client can see them, and return them.

    Repeatable, also by two at a time. Raises `Later` when the broker does not answer, `Never` when it refuses.
    """
    client = cluster.admin("topics")
    metadata = _metadata(client)
    brokers = len(metadata.brokers)
    changes = compare(topics, _look(client, cluster, metadata, topics), brokers, profile)
    todo = [change for change in changes if not change.obstacle]
    by_name = {topic.name: topic for topic in topics}
    create = [by_name[change.topic] for change in todo if change.kind is Kind.CREATE]
    _create(client, cluster, create, brokers, profile)
    _alter(client, cluster, [change for change in todo if change.kind is Kind.SETTING])
    _wait_visible(client, cluster, todo, profile, topics)
    log.info("topics_applied", created=len(create), altered=len(todo) - len(create), left=len(changes) - len(todo))
    return todo


def _destroys(name: str, old: str, new: str) -> str:
    """Why this change of a setting would destroy records; empty when it would not."""
    if name == "cleanup.policy" and old:
        return "changes which records are kept: alter it by hand"
    if name == "retention.ms" and _longer(old, new):
        return "would delete records that are kept now: alter it by hand"
    if name in ("min.compaction.lag.ms", "delete.retention.ms") and _longer(old, new):
        return "would compact records that are kept now: alter it by hand"
    return ""


def _longer(old: str, new: str) -> bool:
    """Times in ms; -1 is for ever."""
    if not old or new == "-1":
        return False
    return old == "-1" or int(old) > int(new)


def _look(
    client: AdminClient, cluster: Cluster, metadata: ClusterMetadata, topics: Sequence[Topic]
) -> dict[str, Found]:
    present = [topic for topic in topics if cluster.topic(topic) in metadata.topics]
    resources = {topic.name: ConfigResource(ResourceType.TOPIC, cluster.topic(topic)) for topic in present}
    if not resources:
        return {}
    answers = client.describe_configs(list(resources.values()), request_timeout=_TIMEOUT_S)
    found = {}
    for name, resource in resources.items():
        try:
            entries: dict[str, ConfigEntry] = answers[resource].result()
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                continue  # made a moment ago, and not yet known to the broker that was asked
            raise mapped(error) from None
        held = metadata.topics[cluster.topic(name)].partitions
        found[name] = Found(
            len(held),
            min((len(partition.replicas) for partition in held.values()), default=0),
            {entry.name: entry.value or "" for entry in entries.values()},
        )
    return found


def _create(client: AdminClient, cluster: Cluster, topics: list[Topic], brokers: int, profile: Profile) -> None:
    if not topics:
        return
    replicas, in_sync = replication(brokers)
    new = [
        NewTopic(
            cluster.topic(topic),
            num_partitions=partitions(topic, profile),
            replication_factor=replicas,
            config={**topic.config(), "min.insync.replicas": str(in_sync)},
        )
        for topic in topics
    ]
    for future in client.create_topics(new, request_timeout=_TIMEOUT_S).values():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # somebody else was faster
                raise mapped(error) from None


def _alter(client: AdminClient, cluster: Cluster, changes: list[Change]) -> None:
    resources: dict[str, ConfigResource] = {}
    for change in changes:
        resource = resources.setdefault(change.topic, ConfigResource(ResourceType.TOPIC, cluster.topic(change.topic)))
        resource.add_incremental_config(
            ConfigEntry(change.setting, change.wanted, incremental_operation=AlterConfigOpType.SET)
        )
    if resources:
        for future in client.incremental_alter_configs(list(resources.values()), request_timeout=_TIMEOUT_S).values():
            _result(future)


def _wait_visible(
    client: AdminClient, cluster: Cluster, done: Sequence[Change], profile: Profile, topics: Sequence[Topic]
) -> None:
    """Until the brokers show what was done, and lead what was created: before, a first subscribe would stumble."""
    deadline = time.monotonic() + _TIMEOUT_S
    created = [cluster.topic(change.topic) for change in done if change.kind is Kind.CREATE]
    while True:
        metadata = _metadata(client)
        left = compare(topics, _look(client, cluster, metadata, topics), len(metadata.brokers), profile)
        if not set(done) & set(left) and all(_is_led(metadata, name) for name in created):
            return
        if time.monotonic() > deadline:
            raise Later("what was applied did not become visible")
        time.sleep(_LOOK_AGAIN_S)


def _is_led(metadata: ClusterMetadata, name: str) -> bool:
    topic = metadata.topics.get(name)
    return topic is not None and all(partition.leader >= 0 for partition in topic.partitions.values())


def _metadata(client: AdminClient) -> ClusterMetadata:
    try:
        return client.list_topics(timeout=_TIMEOUT_S)
    except KafkaException as error:
        raise mapped(error) from None


def _result(future: Future[Any]) -> Any:
    try:
        return future.result()
    except KafkaException as error:
        raise mapped(error) from None
