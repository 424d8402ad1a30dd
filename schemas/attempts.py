"""One try to hand a message to a next hop, on `mail.attempts`. Its id is that of (message_id, attempt number)."""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime

from schemas.envelope import MailEvent


class AttemptMade(MailEvent):
    """Base of the five outcomes. Timings are milliseconds; zero where the attempt did not get that far."""

    attempt: int
    started_at: AwareDatetime
    site: str = ""
    source: str = ""  # name of the source it left from; of one that has none, its address
    worker: str = ""
    mx_host: str = ""
    mx_ip: str = ""
    session_id: str = ""
    stage: str = (
        ""  # where it was decided: connect, banner, ehlo, starttls, handshake, auth, mail, rcpt, data, body, dot
    )
    connect_ms: float = 0.0  # opening of the session this attempt used, counted on its first message
    transfer_ms: float = 0.0  # MAIL written to the final reply
    tls_version: str = ""
    tls_cipher: str = ""
    tls_verified: bool = False  # the certificate is the MX host's, by trusted roots or by DANE
    tls_policy: str = ""  # what asked for it: dane, sts, sts-testing, or the configured mode (opportunistic, ...)
    tls_failure: str = ""  # what TLS could not do, by RFC 8460 section 4.3; beside a delivery in clear too
    reply_code: int = 0
    reply_enhanced: str = ""
    reply_text: str = ""  # redacted, at most 512 characters
    bounce_class: str = ""
    disposition: str = ""
    rule: str = ""
    classifier_version: int = 0


class AttemptDelivered(AttemptMade):
    type: Literal["attempt.delivered"] = "attempt.delivered"


class AttemptDeferred(AttemptMade):
    type: Literal["attempt.deferred"] = "attempt.deferred"
    next_at: AwareDatetime


class AttemptBounced(AttemptMade):
    type: Literal["attempt.bounced"] = "attempt.bounced"


class AttemptHeld(AttemptMade):
    """Not tried for a local cause (a suspension, no route yet); says nothing about the recipient."""

    type: Literal["attempt.held"] = "attempt.held"
    cause: str
    next_at: AwareDatetime


class AttemptUnknown(AttemptMade):
    """The final dot went out and no reply was read: the message may or may not have arrived (RFC 1047)."""

    type: Literal["attempt.unknown"] = "attempt.unknown"
    cause: str = ""
