"""Facts about the running of the system itself: tallies that steer, audit findings, records that nobody could read."""

from __future__ import annotations

from typing import Literal

from pydantic import Base64Bytes

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
