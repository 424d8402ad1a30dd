"""What the owner knows at the moment of an attempt: suppressions, campaigns, controls, and how fresh that is.

P3: no attempt to a suppressed address, and none at all while the suppressions, or the controls, may be older than two
seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from schemas.codec import decode
from schemas.lanes import FromCampaign, MessageQueue
from schemas.state import CampaignSet, CampaignStatus, SiteLearned, SuppressionSet
from sinks.smtp.commands import GO, Park, Refuse, Verdict
from sinks.smtp.config import SmtpConfig
from sinks.smtp.core import Owner
from sinks.smtp.desk import Desk
from sinks.smtp.overrides import Override
from sinks.smtp.sharing import Heard
from sinks.smtp.sites import Learned
from sinks.smtp.state import Kind, Result
from sinks.smtp.steering import override_of
from sinks.smtp.windows import Windows, keys_of
from topics.record import Record
from topics.registry import CAMPAIGNS, SHAPING, SITES, SUPPRESSIONS
from topics.view import View
from topics.view_reader import Reader

STALE_S: Final = 1.8  # the agent looks ten times a second


class Knowledge:
    def __init__(
        self,
        config: SmtpConfig,
        partitions: Callable[[], int],
        on_override: Callable[[Override], None] | None = None,
    ) -> None:
        """`partitions`: how many the lanes have. `on_override` hears of every record of `mail.shaping`, in the reading
        thread.
        """
        cluster, worker = config.cluster, config.instance
        self._worker = worker
        self._windows = Windows(config.tenants)
        self._campaigns_changed: deque[str] = deque()
        self._reader = Reader(cluster, f"smtp-{worker}", check_s=0.25)
        self._suppressions: View[tuple[str, float]] = View(cluster, SUPPRESSIONS, _suppression, reader=self._reader)
        self._campaigns: View[CampaignSet] = View(cluster, CAMPAIGNS, _campaign, reader=self._reader)
        self._sites: View[Learned] = View(cluster, SITES, _site, reader=self._reader)
        self._overrides: View[Override] = View(cluster, SHAPING, override_of, reader=self._reader)
        if on_override is not None:
            self._overrides.listen(lambda _, override: on_override(override) if override is not None else None)
        self._campaigns.listen(lambda key, campaign: self._campaigns_changed.append(key))
        pools = {name: {source.name for source in pool.sources} for name, pool in config.pools.items()}
        self.desk = Desk(config.keyring, pools or {"default": ()}, worker, partitions)
        self._reader.add(self.desk)
        self.draws = Heard()
        self._reader.add(self.draws)

    def start(self) -> None:
        self._reader.start()

    def wait_ready(self, timeout: float) -> bool:
        views = (self._suppressions, self._campaigns, self._sites, self._overrides, self.desk, self.draws)
        return all(view.wait_ready(timeout) for view in views)

    def close(self) -> None:
        self._reader.close()

    @property
    def fresh(self) -> bool:
        return self._suppressions.age() < STALE_S and self.desk.age < STALE_S

    def tell(self, owner: Owner, now: float) -> None:
        """What has changed since the last call of what keeps messages parked, moves or ends them."""
        changed = self.desk.take(now)
        keys = list(changed.keys) if changed is not None else []
        while self._campaigns_changed:
            campaign = self._campaigns_changed.popleft()
            keys += [_campaign_key(campaign), *keys_of(campaign)]
        owner.unpark(keys, now)
        if changed is not None and changed.sources:
            owner.reshape(now)
        if changed is not None and changed.review:
            owner.review(now)

    def campaign(self, key: str) -> CampaignSet | None:
        return self._campaigns.get(key)

    def site(self, domain: str) -> Learned | None:
        return self._sites.get(domain)

    def admit(self, command: MessageQueue, now: float) -> Verdict:
        """Whether an attempt may start now."""
        for scope in ("*", command.stream):
            found = self._suppressions.get(f"{command.tenant}/{scope}/{command.recipient_id}")
            if found is not None and found[1] > now:
                return Refuse(self._end(Kind.SUPPRESSED, found[0], now))
        campaign = None
        if command.campaign_id is not None:
            campaign = self._campaigns.get(f"{command.tenant}/{command.campaign_id}")
            if campaign is not None and campaign.status is CampaignStatus.CANCELLED:
                return Refuse(self._end(Kind.CANCELLED, "campaign", now))
            if campaign is not None and campaign.status is CampaignStatus.PAUSED:
                return Park(_campaign_key(campaign.key))
        said = self.desk.admit(command, now) if self.desk.controls else None
        if said is None and campaign is None and isinstance(command.content, FromCampaign):
            # `plan` knew the campaign when it accepted the message: our view is a moment behind.
            return Park(_campaign_key(f"{command.tenant}/{command.campaign_id}"))
        return said or self._windows.admit(command, campaign, now) or GO

    def _end(self, kind: Kind, reason: str, now: float) -> Result:
        return Result(kind, int(now * 1000), reason=reason, worker=self._worker)


def _campaign_key(key: str) -> str:
    return f"campaign:{key}"


def _suppression(record: Record) -> tuple[str, float] | None:
    """The reason, and until when; small, since there may be millions."""
    event = decode(record.value, record.headers)
    if not isinstance(event, SuppressionSet) or not event.active:
        return None
    return str(event.reason), event.until.timestamp() if event.until is not None else float("inf")


def _campaign(record: Record) -> CampaignSet | None:
    event = decode(record.value, record.headers)
    return event if isinstance(event, CampaignSet) else None


def _site(record: Record) -> Learned | None:
    event = decode(record.value, record.headers)
    return (event.site, event.former) if isinstance(event, SiteLearned) else None
