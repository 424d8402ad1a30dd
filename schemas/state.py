"""Present state per key, on compacted topics: each record carries the whole state, and the newest one holds."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from schemas.attachments import ATTACHMENTS_MAX, Attachment
from schemas.envelope import Event, Label, Metadata, Name, Priority, Stream, Tags
from schemas.rules.windows import Window


class SuppressionReason(StrEnum):
    HARD_BOUNCE = "hard_bounce"
    SOFT_BOUNCES = "soft_bounces"
    COMPLAINT = "complaint"
    UNSUBSCRIBE = "unsubscribe"
    MANUAL = "manual"
    IMPORT = "import"


class SuppressionSet(Event):
    """`suppression.set` on `mail.suppressions`: whether a recipient may get mail of a stream ("*": of any).

    `active=False` lifts it, as a record and not a tombstone, so that the history has the lifting too.
    """

    type: Literal["suppression.set"] = "suppression.set"
    recipient_id: str
    scope: Stream | Literal["*"] = "*"
    active: bool = True
    reason: SuppressionReason
    message_id: str = ""
    until: AwareDatetime | None = None
    note: Label = ""

    @property
    def key(self) -> str:
        return f"{self.tenant}/{self.scope}/{self.recipient_id}"


class CampaignStatus(StrEnum):
    DRAFT = "draft"
    RUNNING = "running"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    FINISHED = "finished"


class CampaignSet(Event):
    """`campaign.set` on `mail.campaigns`: content, sender and defaults of a campaign. The content of a running one is
    fixed.
    """

    type: Literal["campaign.set"] = "campaign.set"
    campaign_id: Name
    name: str = ""
    status: CampaignStatus = CampaignStatus.RUNNING
    stream: Stream = Stream.MARKETING
    pool: Name = "default"
    from_: Annotated[str, Field(max_length=512)]
    reply_to: str | None = None
    subject_template: str
    text: str | None = None
    html: str | None = None
    mjml: str | None = None  # what `html` was compiled from, when the campaign was published
    inline_css: bool = False  # whether its style sheets were put into `style` attributes then
    attachments: Annotated[tuple[Attachment, ...], Field(max_length=ATTACHMENTS_MAX)] = ()
    tags: Tags = ()
    metadata: Metadata = {}
    expires_after_s: int = 3 * 86_400
    window: Window | None = None  # when its mail may be attempted; None: as its stream's
    priority: Priority | None = None  # of sends that say none of their own

    @property
    def key(self) -> str:
        return f"{self.tenant}/{self.campaign_id}"


class ShapingSet(Event):
    """`shaping.set` on `mail.shaping`: an override of a site's or source's limits, with the rule and replies that fired
    it.
    """

    type: Literal["shaping.set"] = "shaping.set"
    selector: str  # site:POOL/SITE, source:NAME>SITE, tenant:NAME>SITE, campaign:TENANT/NAME>SITE: docs/shaping.md
    action: Literal["suspend", "limit_rate", "limit_connections", "lift"]
    value: float = 0.0
    until: AwareDatetime | None = None
    rule: str = ""
    rule_version: int = 0
    evidence: tuple[str, ...] = ()
    reason: Label = ""  # of a lift: what the operator said
    by: Label = ""  # and who that was

    @property
    def key(self) -> str:
        return f"{self.selector}/{self.action}"


class ControlSet(Event):
    """`control.set` on `mail.controls`: an operator's command about the messages that a selector names.

    Terms of a selector: see `schemas.rules.selector`. `until` is when a suspension or a move is over, and when the
    grace of a purge is. `resume`, `unpurge`, `unmove` and `untrace` take the control of the same `control_id` back.
    """

    type: Literal["control.set"] = "control.set"
    control_id: Annotated[str, Field(min_length=1, max_length=64)]
    action: Literal["suspend", "resume", "purge", "unpurge", "move", "unmove", "trace", "untrace"]
    selector: Annotated[dict[str, str], Field(max_length=16)]
    reason: Label
    by: Label = ""
    until: AwareDatetime | None = None
    arguments: Annotated[dict[str, Any], Field(max_length=16)] = {}
    signature: Annotated[str, Field(max_length=128)] = ""  # see `schemas.signing`

    @property
    def key(self) -> str:
        return self.control_id


class FormerSite(BaseModel):
    """A site that a domain had, and when it was seen to have another."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    site: str
    until: AwareDatetime


class SiteLearned(Event):
    """`site.learned` on `mail.sites`: who takes mail for a domain, as its MX records say.

    `former`: the sites before, oldest first. Whether a send is a repeat is known where the message went, so within the
    duplicate window it passes there first.
    """

    type: Literal["site.learned"] = "site.learned"
    domain: str
    site: str
    provider: str
    mx_hosts: tuple[str, ...] = ()
    former: Annotated[tuple[FormerSite, ...], Field(max_length=8)] = ()

    @property
    def key(self) -> str:
        return self.domain


class RecipientSeen(Event):
    """`recipient.seen` on `mail.recipients`: the one long-lived place of an address. A tombstone erases it."""

    type: Literal["recipient.seen"] = "recipient.seen"
    recipient_id: str
    address: str

    @property
    def key(self) -> str:
        return self.recipient_id


class SubscriberSet(Event):
    """`subscriber.set` on `mail.subscribers`: preferences of a person, for campaigns and the preference page."""

    type: Literal["subscriber.set"] = "subscriber.set"
    recipient_id: str
    subject_ref: Label | None = None
    streams: dict[Stream, bool] = {}
    attributes: Metadata = {}

    @property
    def key(self) -> str:
        return f"{self.tenant}/{self.recipient_id}"
