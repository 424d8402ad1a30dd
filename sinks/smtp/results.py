"""What an outcome on the wire means for the message, and for the site: the core's `Result` and whether the site rests.

Pure. What a reply says is `schemas.rules.replies`'; what follows for the message is decided here:

accepted      delivered
5xx           bounced, whatever its disposition, except where the reply is about the moment and not about the mail
4xx, silence  deferred
in doubt      unknown (RFC 1047)
our own side  held, or failed where no later attempt can be any better
"""

from __future__ import annotations

from typing import Final, NamedTuple

from schemas.lanes import MessageQueue
from schemas.redact import redact
from schemas.rules.bounces import BounceClass
from schemas.rules.replies import CLASSIFIER_VERSION, classify, classify_silence
from sinks.smtp.outcome import Accepted, Broken, Cause, InDoubt, Outcome, Refused, Stage
from sinks.smtp.replies import Reply
from sinks.smtp.routing import Permanent, Temporary
from sinks.smtp.session import SessionInfo
from sinks.smtp.state import Kind, Result

_OF_THE_MOMENT: Final = frozenset(
    {
        BounceClass.RATE_LIMITED,
        BounceClass.TOO_MANY_CONNECTIONS,
        BounceClass.TOO_MANY_RECIPIENTS,
        BounceClass.GREYLISTED,
    }
)
_CROWDED: Final = frozenset({BounceClass.RATE_LIMITED, BounceClass.TOO_MANY_CONNECTIONS})
_OPENING: Final = frozenset(
    {Stage.CONNECT, Stage.BANNER, Stage.EHLO, Stage.STARTTLS, Stage.HANDSHAKE, Stage.AUTH}
)  # nothing here is about one message


class Attempt(NamedTuple):
    """Where and when it was made. Times in ms since the epoch."""

    worker: str
    session_id: str
    started_at: int
    at: int
    connect_ms: float = 0.0
    transfer_ms: float = 0.0
    info: SessionInfo | None = None
    mx_host: str = ""  # of the last endpoint that was tried, where no session came about
    mx_ip: str = ""
    source: str = ""
    tls_policy: str = ""
    tls_failure: str = ""  # RFC 8460 section 4.3


def result_of(outcome: Outcome, command: MessageQueue, attempt: Attempt) -> tuple[Result, bool]:
    """The result, and whether nothing new should go to the site for a while."""
    result, rest = _result_of(outcome, command, attempt)
    # What one domain's own policy asks for, and a host cannot prove, says nothing about the rest of the host's site.
    of_policy = isinstance(outcome, Broken) and outcome.cause is Cause.TLS
    if attempt.tls_policy == "sts" and (of_policy or _at_tls(outcome)):
        rest = False
    return result, rest


def _at_tls(outcome: Outcome) -> bool:
    return not isinstance(outcome, Accepted) and outcome.stage in (Stage.STARTTLS, Stage.HANDSHAKE)


def _result_of(outcome: Outcome, command: MessageQueue, attempt: Attempt) -> tuple[Result, bool]:
    match outcome:
        case Accepted(reply):
            return _result(Kind.DELIVERED, attempt, reply=reply, stage=Stage.DOT), False
        case Refused(reply, stage):
            return _refused(reply, stage, command, attempt)
        case InDoubt(cause, reply, stage):
            return _result(Kind.UNKNOWN, attempt, reply=reply, stage=stage, reason=cause), False
        case Broken(stage, cause, reply):
            return _broken(stage, cause, reply, attempt)


def _refused(reply: Reply, stage: Stage, command: MessageQueue, attempt: Attempt) -> tuple[Result, bool]:
    verdict = classify(reply.code, reply.enhanced, reply.text, stage=stage, provider=command.provider)
    # A 5xx greeting is about us or the host, and may be gone tomorrow: RFC 5321 section 3.1 asks for no verdict on
    # mail.
    bounces = reply.code >= 500 and stage not in _OPENING and verdict.bounce_class not in _OF_THE_MOMENT
    result = _result(
        Kind.BOUNCED if bounces else Kind.DEFERRED,
        attempt,
        reply=reply,
        stage=stage,
        bounce_class=verdict.bounce_class,
        disposition=verdict.disposition,
        rule=verdict.rule,
    )
    return result, reply.is_closing or stage in _OPENING or verdict.bounce_class in _CROWDED


def _broken(stage: Stage, cause: Cause, reply: Reply | None, attempt: Attempt) -> tuple[Result, bool]:
    if cause is Cause.FORBIDDEN:
        # No address of the domain is one that mail may go to; asking again would find the same.
        return Result(Kind.FAILED, attempt.at, reason="forbidden_address", worker=attempt.worker), False
    if cause is Cause.SOURCE:
        # Our own fault: the message has not been tried, and the site is not to blame.
        return Result(Kind.HELD, attempt.at, reason="source_address", worker=attempt.worker), True
    verdict = classify_silence(cause)
    result = _result(
        Kind.DEFERRED,
        attempt,
        reply=reply,
        stage=stage,
        bounce_class=verdict.bounce_class,
        disposition=verdict.disposition,
        rule=verdict.rule,
    )
    return result, stage in _OPENING


def _result(
    kind: Kind,
    attempt: Attempt,
    *,
    reply: Reply | None,
    stage: Stage,
    bounce_class: str = "",
    disposition: str = "",
    rule: str = "",
    reason: str = "",
) -> Result:
    info = attempt.info
    return Result(
        kind,
        attempt.at,
        attempt.started_at,
        code=reply.code if reply else 0,
        enhanced=reply.enhanced if reply else "",
        text=redact(reply.text) if reply else "",
        stage=stage,
        bounce_class=bounce_class,
        disposition=disposition,
        rule=rule,
        classifier_version=CLASSIFIER_VERSION if rule else 0,
        reason=reason,
        source=(info.source or info.source_ip) if info else attempt.source,
        worker=attempt.worker,
        session_id=attempt.session_id,
        mx_host=info.mx_host if info else attempt.mx_host,
        mx_ip=info.peer_ip if info else attempt.mx_ip,
        connect_ms=attempt.connect_ms,
        transfer_ms=attempt.transfer_ms,
        tls_version=info.tls_version if info else "",
        tls_cipher=info.tls_cipher if info else "",
        tls_verified=info.tls_verified if info else False,
        tls_policy=attempt.tls_policy,
        tls_failure=attempt.tls_failure,
    )


def unroutable(found: Permanent | Temporary, attempt: Attempt) -> Result:
    """There is nowhere to connect to: what the DNS said of the domain, or did not say."""
    match found:
        case Permanent(enhanced, reason):
            verdict = classify(0, enhanced, reason, stage=Stage.CONNECT)
        case Temporary(reason):
            enhanced, verdict = "", classify_silence("dns")
    return Result(
        Kind.BOUNCED if isinstance(found, Permanent) else Kind.DEFERRED,
        attempt.at,
        attempt.started_at,
        enhanced=enhanced,
        text=redact(reason),
        stage=Stage.CONNECT,
        bounce_class=verdict.bounce_class,
        disposition=verdict.disposition,
        rule=verdict.rule,
        classifier_version=CLASSIFIER_VERSION,
        worker=attempt.worker,
        session_id=attempt.session_id,
    )
