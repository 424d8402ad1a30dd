"""Facts about the running of the system itself: tallies that steer, audit findings, records that nobody could read."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Base64Bytes, Field

from schemas.envelope import Event, Metadata


class TallyCounted(Event):
    """`tally.counted` on `mail.tallies`: a worker's outcomes in one second, by one subject. For steering, not for the
    ledger.
    """

    type: Literal["tally.counted"] = "tally.counted"
    worker: str
    subject_kind: Literal["source", "campaign", "tenant"]
    subject_name: str
    provider: str = ""
    seconds: float = 1.0
    counts: dict[str, int]  # delivered, deferred, bounced, held, unknown; and bounce classes as class:NAME

    @property
    def key(self) -> str:
        return f"{self.subject_kind}/{self.subject_name}"


class AllowanceDrawn(Event):
    """`allowance.drawn` on `mail.allowances`: a worker draws so many messages of what somebody may send.

    That is a tenant, a source or a campaign. The topic has one partition, and its order decides: what is drawn beyond a
    day's cap is not given, a stretch of a rate begins where the one before it ends, and every reader sees that alike.
    """

    type: Literal["allowance.drawn"] = "allowance.drawn"
    selector: Annotated[str, Field(max_length=300)] = ""  # `source:NAME`, `campaign:TENANT/NAME`; empty: the tenant's
    # Less than one would give back what others have used.
    day: Annotated[int, Field(ge=0)] = 0  # days since 1970-01-01, UTC; 0: of the rate, from `occurred_at` on
    messages: Annotated[int, Field(ge=1, le=1_000_000)]
    run: str  # of the worker: another after a restart, which does not know what the former has used

    @property
    def whose(self) -> str:
        """The selector of the limit that it is drawn from."""
        return self.selector or f"tenant:{self.tenant}"

    @property
    def key(self) -> str:
        return self.event_id


class AuditFound(Event):
    """`audit.found` on `mail.audits`: a finding on DNS, authentication, blocklists, certificates or reports."""

    type: Literal["audit.found"] = "audit.found"
    asset: str
    check: str
    result: Literal["pass", "warn", "fail", "unknown"]
    detail: str = ""
    attributes: Metadata = {}

    @property
    def key(self) -> str:
        return self.asset


class RecordDeadLettered(Event):
    """`record.deadlettered` on `mail.deadletters`: where it stood, why it could not be used, and its first 64 KiB."""

    type: Literal["record.deadlettered"] = "record.deadlettered"
    topic: str
    partition: int
    offset: int
    group: str
    reason: str  # redacted, one line
    record_key: Base64Bytes = b""
    record_value: Base64Bytes = b""
    record_headers: dict[str, str] = {}
    record_size: int
    sha256: str

    @property
    def key(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"
