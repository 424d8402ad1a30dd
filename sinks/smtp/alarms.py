"""Say that a source fails, or serves again: in the log, and as a fact on `mail.audits`."""

from __future__ import annotations

from datetime import UTC, datetime

import structlog

from schemas.operations import AuditFound
from sinks.smtp.sources import Alarm
from topics.errors import Later
from topics.publisher import Publisher

log = structlog.get_logger(__name__)


class Alarms:
    def __init__(self, publisher: Publisher, worker: str) -> None:
        self._publisher = publisher
        self._worker = worker

    def tell(self, alarm: Alarm) -> None:
        now = datetime.now(UTC)
        name = alarm.source or "default"
        if alarm.well:
            log.warning("source_serves_again", source=name)
        else:
            log.error("source_taken_out", source=name, reason=alarm.reason)
        fact = AuditFound.from_cause(
            f"source/{self._worker}/{name}/{now.isoformat()}",
            occurred_at=now,
            asset=f"source/{name}",
            check="source",
            result="pass" if alarm.well else "fail",
            detail=alarm.reason,
            attributes={"worker": self._worker},
        )
        try:
            self._publisher.publish(fact)
        except Later:
            log.error("alarm_not_published", source=name)  # its queue is full: the log has it
