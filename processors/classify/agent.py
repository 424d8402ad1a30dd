"""Wire `classify` to its topics: `mail.inbound` in; one fact per mail out, then the offset.

Order of a batch: all of it is decoded and read before anything is written. The messages that it names are looked up in
one question. What can be decided is published; what names a message that is not known yet is waited for, since
ClickHouse is a second or two behind the facts. A crash in between repeats all of it: facts with the same ids.

A token that verifies always names a message of ours, but an old one is not found for ever, and strangers do collect old
return paths. So the wait is bounded, it holds up only the batches behind and not the neighbours, and a message that was
waited for in vain is not waited for again.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from processors.classify.core import decide, read, said_by_token
from processors.classify.findings import Aside, Finding, MessageRef
from schemas.codec import Undecodable, decode
from schemas.envelope import Event
from schemas.feedback import InboundReceived
from schemas.tokens import Keyring
from topics import loop
from topics.kafka import Cluster
from topics.loop import Later, Never
from topics.publisher import BatchPublisher
from topics.record import Record
from topics.registry import INBOUND

__all__ = ["ClassifyConfig", "MessageRef", "Resolve", "run"]

GROUP = "classify"
BATCH = 50  # mails of up to 512 KiB
PATIENCE_S = 120.0
"""How old a mail must be before "not known" is believed."""
LEAST_PATIENCE_S = 10.0
"""How long an older one is waited for: after a pause of the whole system it is ClickHouse that is behind."""
_REMEMBERED = 10_000  # messages waited for in vain

Resolve = Callable[[Collection[str]], Mapping[str, MessageRef]]
"""What is known of messages, by message_id; unknown ones are left out. Called from the loop's thread. Raises `Later`
when it cannot be told: when ClickHouse does not answer, or is known to be minutes behind."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ClassifyConfig:
    cluster: Cluster
    keyring: Keyring
    resolve: Resolve
    recipient_secret: bytes
    """As `plan` has it: a report is compared with the recipient that the message went to."""


class _Read(NamedTuple):
    record: Record
    mail: InboundReceived
    finding: Finding

    @property
    def message_id(self) -> str | None:
        return None if isinstance(self.finding, Aside) else self.finding.message_id


def run(config: ClassifyConfig, stop: threading.Event, ready: Callable[[], None]) -> None:
    with BatchPublisher(config.cluster, GROUP) as publisher:
        handle = Classifier(config, publisher).handle
        loop.run(config.cluster, GROUP, (INBOUND,), handle, stop, publisher=publisher, ready=ready, batch=BATCH)


class Classifier:
    """Handles batches of the loop, on its thread."""

    def __init__(
        self,
        config: ClassifyConfig,
        publisher: BatchPublisher,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._publisher = publisher
        self._clock = clock
        self._monotonic = monotonic
        self._told: set[str] = set()  # positions of a batch that is repeated whose facts are acked
        self._waiting_since: dict[str, float] = {}  # by position
        self._in_vain: OrderedDict[str, None] = OrderedDict()  # message_ids

    def handle(self, records: Sequence[Record]) -> None:
        mails = [self._read(record) for record in records if record.position not in self._told]
        named = {mail.message_id for mail in mails if mail.message_id is not None}
        known = self._config.resolve(named) if named else {}
        facts: list[tuple[Record, Event]] = []
        waiting = 0
        for one in mails:
            ref = known.get(one.message_id or "") or said_by_token(one.finding)
            if ref is None and one.message_id is not None and self._may_come(one.message_id, one):
                waiting += 1
                continue
            facts.append((one.record, decide(one.mail, one.finding, ref, self._config.recipient_secret)))
        for _record, fact in facts:
            self._publisher.publish(fact)
        if waiting:
            self._publisher.flush()
            self._told |= {record.position for record, _fact in facts}
            raise Later(f"{waiting} mails name messages that are not known yet")
        self._told.clear()
        self._waiting_since.clear()

    def _read(self, record: Record) -> _Read:
        try:
            mail = decode(record.value, record.headers)
        except Undecodable as error:
            raise Never(str(error), record) from None
        if not isinstance(mail, InboundReceived):
            raise Never(f"{mail.type} is not read here", record)
        return _Read(record, mail, self._understood(record, mail))

    def _understood(self, record: Record, mail: InboundReceived) -> Finding:
        try:
            return read(mail, self._config.keyring)
        except Exception as error:
            # `read` raises nothing that we know of. Were somebody to find a mail that makes it, he would stop all
            # others behind it. The error's text may quote the mail: only its kind is logged.
            log.error("mail_not_read", position=record.position, error=type(error).__name__)
            return Aside("a mail that our reader failed on")

    def _may_come(self, message_id: str, one: _Read) -> bool:
        """Whether to wait for a message that is not known."""
        if message_id in self._in_vain:
            return False
        now = self._monotonic()
        waited = now - self._waiting_since.setdefault(one.record.position, now)
        age = (self._clock() - one.mail.occurred_at).total_seconds()
        # Both: the other host's clock may be wrong.
        if waited < LEAST_PATIENCE_S or (age < PATIENCE_S and waited < PATIENCE_S):
            return True
        log.warning("message_not_known", position=one.record.position, message_id=message_id)
        self._in_vain[message_id] = None
        if len(self._in_vain) > _REMEMBERED:
            self._in_vain.popitem(last=False)
        return False
