"""Wire `plan` to its topics: `mail.sends` in; recipients, acceptances and lane commands out, then the offset.

Order of a batch: the whole batch is decided before anything is written, so that a record for the dead letters does not
make its neighbours go out twice; what is claimed is in its place by then. Then the address is published, the
acceptance, and last the lane command; the loop waits for the acks of all, then commits. A crash in between repeats all
of it: facts with the same ids, and a command that the lane's owner drops as known.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from processors.plan.claiming import Claiming
from processors.plan.core import Accepted, Decision, Headers, Rejected, Rules, Send, Unreadable, Unready, decide
from schemas.claims import CHECKED_IN_ABOVE, ClaimError
from schemas.codec import decode
from schemas.rules.shaping import Shaping
from schemas.state import CampaignSet, FormerSite, SiteLearned
from schemas.tenant import Tenant
from topics import admin, loop
from topics.claims import Claims, ClaimsAway
from topics.kafka import Cluster
from topics.loop import Later, Never
from topics.publisher import BatchPublisher
from topics.record import Record
from topics.registry import CAMPAIGNS, SENDS, SENDS_URGENT, SITES, Lanes, lanes
from topics.view import View
from topics.view_reader import Reader

GROUP = "plan"
_REMEMBERED = 100_000  # recipients whose address was published lately
_SITES = 100_000  # sites whose number of shards is remembered


@dataclass(frozen=True, slots=True)
class PlanConfig:
    cluster: Cluster
    tenants: Mapping[str, Tenant]
    pools: frozenset[str]
    recipient_secret: bytes
    claims: Claims | None = None
    lanes: Lanes = field(default_factory=lanes)
    shaping: Shaping = field(default_factory=Shaping)


def run(config: PlanConfig, stop: threading.Event, ready: Callable[[], None]) -> None:
    partitions = admin.partition_count(config.cluster, config.lanes.ordinary)
    # A worker that has read a newer shaping file moves what lies in another shard than its own.
    shards = lru_cache(_SITES)(lambda site: config.shaping.at(site).shards)
    rules = Rules(config.tenants, config.pools, config.recipient_secret, partitions, shards)
    with closing(Reader(config.cluster, GROUP)) as reader, BatchPublisher(config.cluster, GROUP) as publisher:
        planner = Planner(rules, KnownViews(config.cluster, reader), publisher, config.lanes, Claiming(config.claims))
        loop.run(config.cluster, GROUP, (SENDS_URGENT, SENDS), planner.handle, stop, publisher=publisher, ready=ready)


class KnownViews:
    """What `plan` knows, from the views of two topics."""

    def __init__(self, cluster: Cluster, reader: Reader) -> None:
        self._campaigns = View(cluster, CAMPAIGNS, _campaign, reader=reader)
        self._sites = View(cluster, SITES, _site, reader=reader)
        reader.start()

    def campaign(self, tenant: str, campaign_id: str) -> CampaignSet | None:
        return self._campaigns.get(f"{tenant}/{campaign_id}")

    def site(self, domain: str) -> tuple[str, str]:
        found = self._sites.get(domain)
        return (domain, "") if found is None else found[:2]

    def former_site(self, domain: str, after: datetime) -> str:
        found = self._sites.get(domain)
        return "" if found is None else next((each.site for each in found[2] if each.until > after), "")

    def as_of(self, now: datetime) -> datetime:
        """Until when the campaigns are surely all known."""
        age = self._campaigns.age()
        return now - timedelta(seconds=age) if age < 86_400 else datetime.min.replace(tzinfo=UTC)


class Planner:
    """Handles batches of the loop, on its thread."""

    def __init__(
        self, rules: Rules, known: KnownViews, publisher: BatchPublisher, to: Lanes, claiming: Claiming
    ) -> None:
        self._rules = rules
        self._lanes = to
        self._claiming = claiming
        self._known = known
        self._publisher = publisher
        self._published: OrderedDict[str, str] = OrderedDict()

    def handle(self, records: Sequence[Record]) -> None:
        as_of = self._known.as_of(datetime.now(UTC))
        decisions = [self._decide(record, as_of) for record in records]
        for record, decision in zip(records, decisions, strict=True):
            match decision:
                case Accepted():
                    self._accept(decision, record.position)
                case Rejected(fact):
                    self._publisher.publish(fact)

    def _decide(self, record: Record, as_of: datetime) -> Decision:
        headers: Headers = [(name, value) for name, value in record.headers if value is not None]
        at = datetime.fromtimestamp(record.timestamp_ms / 1000, UTC)
        decision = decide(Send(record.key, record.value, headers, at, record.position), self._rules, self._known, as_of)
        match decision:
            case Unreadable(reason):
                raise Never(reason, record)
            case Unready(reason):
                raise Later(reason)
            case Accepted() if decision.claims or len(record.value or b"") > CHECKED_IN_ABOVE:
                return self._claimed(decision, record.position)
        return decision

    def _claimed(self, accepted: Accepted, position: str) -> Accepted | Rejected:
        queue = accepted.queue
        try:
            self._claiming.keep(accepted.claims, queue.expires_at)
            content = self._claiming.checked_in(queue.content, queue.expires_at)
        except ClaimError as error:
            return accepted.refused("claim", str(error), position)
        except ClaimsAway as error:
            raise Later(str(error)) from None
        return replace(accepted, queue=queue.model_copy(update={"content": content}))

    def _accept(self, accepted: Accepted, position: str) -> None:
        if not self._published_lately(accepted.queue.recipient_id, position):
            self._publisher.publish(accepted.recipient)
        self._publisher.publish(accepted.accepted)
        if accepted.scheduled is not None:
            self._publisher.publish(accepted.scheduled)
        lane = self._lanes.urgent if accepted.urgent else self._lanes.ordinary
        self._publisher.publish(accepted.queue, topic=lane, partition=accepted.partition)

    def _published_lately(self, recipient_id: str, position: str) -> bool:
        # The topic is compacted: publishing the same address for each of a person's mails would only feed the cleaner.
        # The record that published it is remembered: if that one comes again, its acks may not have come.
        by = self._published.setdefault(recipient_id, position)
        self._published.move_to_end(recipient_id)
        if len(self._published) > _REMEMBERED:
            self._published.popitem(last=False)
        return by != position


def _campaign(record: Record) -> CampaignSet | None:
    event = decode(record.value, record.headers)
    return event if isinstance(event, CampaignSet) else None


def _site(record: Record) -> tuple[str, str, tuple[FormerSite, ...]] | None:
    event = decode(record.value, record.headers)
    return (event.site, event.provider, event.former) if isinstance(event, SiteLearned) else None
