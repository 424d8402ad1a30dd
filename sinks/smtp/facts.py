"""What the queue owner tells the world of a message: pure, from the lane's command and the state's result alone.

So a new owner that finds facts owed writes the same ones, with the same ids. Attempts are named by their number, ends
by their message. Which results are owed, and when they are acknowledged, is core.py's.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from schemas import attempts, messages
from schemas.envelope import MailEvent
from schemas.feedback import BounceReceived
from schemas.lanes import MessageQueue
from sinks.smtp.state import Kind, Phase, Result, State

_ATTEMPTS: Final[dict[Kind, type[attempts.AttemptMade]]] = {
    Kind.DELIVERED: attempts.AttemptDelivered,
    Kind.DEFERRED: attempts.AttemptDeferred,
    Kind.EXPIRED: attempts.AttemptDeferred,  # the deferral after which no time was left
    Kind.BOUNCED: attempts.AttemptBounced,
    Kind.UNKNOWN: attempts.AttemptUnknown,
}
_ENDS: Final[dict[Kind, type[messages.MessageEnded]]] = {
    Kind.DELIVERED: messages.MessageDelivered,
    Kind.BOUNCED: messages.MessageBounced,
    Kind.UNKNOWN: messages.MessageUnknown,
    Kind.EXPIRED: messages.MessageExpired,
    Kind.SUPPRESSED: messages.MessageSuppressed,
    Kind.CANCELLED: messages.MessageCancelled,
    Kind.FAILED: messages.MessageFailed,
}


def owed(command: MessageQueue, state: State) -> tuple[MailEvent, ...]:
    """The facts of `state.result`, in the order in which they happened."""
    result = state.result
    if result is None:
        return ()
    found: list[MailEvent] = []
    common = _common(command)
    if result.kind is Kind.HELD:
        found.append(_held(command, state, result, common))
    elif result.started_at:
        found.append(_attempt(command, state, result, common))
    if state.phase is Phase.ENDED:
        found.append(_end(command, state, result, common))
        if result.kind is Kind.BOUNCED:
            found.append(_bounce(command, result, common))
    return tuple(found)


def repeat(command: MessageQueue, position: str, now: float) -> MailEvent:
    """A send that was accepted before is on a lane again. `position` is topic:partition:offset."""
    return messages.MessageDuplicate.from_checked(
        position, occurred_at=datetime.fromtimestamp(now, UTC), position=position, **_common(command)
    )


def _common(command: MessageQueue) -> dict[str, Any]:
    return {
        "tenant": command.tenant,
        "stream": command.stream,
        "campaign_id": command.campaign_id,
        "message_id": command.message_id,
        "recipient_id": command.recipient_id,
        "subject_ref": command.subject_ref,
        "recipient_domain": command.recipient_domain,
        "provider": command.provider,
        "pool": command.pool,
        "tags": command.tags,
        "metadata": command.metadata,
    }


def _attempt(command: MessageQueue, state: State, result: Result, common: dict[str, Any]) -> MailEvent:
    fields: dict[str, Any] = {
        **common,
        "attempt": state.attempts,
        "started_at": _time(result.started_at),
        "site": command.site,
        "source": result.source,
        "worker": result.worker,
        "mx_host": result.mx_host,
        "mx_ip": result.mx_ip,
        "session_id": result.session_id,
        "stage": result.stage,
        "connect_ms": round(result.connect_ms, 1),
        "transfer_ms": round(result.transfer_ms, 1),
        "tls_version": result.tls_version,
        "tls_cipher": result.tls_cipher,
        "tls_verified": result.tls_verified,
        "tls_policy": result.tls_policy,
        "tls_failure": result.tls_failure,
        "reply_code": result.code,
        "reply_enhanced": result.enhanced,
        "reply_text": result.text,
        "bounce_class": result.bounce_class,
        "disposition": result.disposition,
        "rule": result.rule,
        "classifier_version": result.classifier_version,
    }
    match result.kind:
        case Kind.DEFERRED:
            fields["next_at"] = _time(state.next_at)
        case Kind.EXPIRED:
            fields["next_at"] = _time(state.expires_at * 1000)
        case Kind.UNKNOWN:
            fields["cause"] = result.reason
    model = _ATTEMPTS[result.kind]
    return model.from_checked(f"{command.message_id}/{state.attempts}", occurred_at=_time(result.at), **fields)


def _held(command: MessageQueue, state: State, result: Result, common: dict[str, Any]) -> MailEvent:
    # The attempt that did not start: several holds before it are one fact.
    number = state.attempts + 1
    return attempts.AttemptHeld.from_checked(
        f"{command.message_id}/{number}",
        occurred_at=_time(result.at),
        attempt=number,
        started_at=_time(result.at),
        site=command.site,
        worker=result.worker,
        cause=result.reason,
        next_at=_time(state.next_at),
        **common,
    )


def _end(command: MessageQueue, state: State, result: Result, common: dict[str, Any]) -> MailEvent:
    fields: dict[str, Any] = {
        **common,
        "attempts": state.attempts,
        "accepted_at": command.accepted_at,
        "bounce_class": result.bounce_class,
        "disposition": result.disposition,
        "reply_code": result.code,
        "reply_enhanced": result.enhanced,
        "reply_text": result.text,
    }
    match result.kind:
        case Kind.SUPPRESSED:
            fields["suppression"] = result.reason
        case Kind.CANCELLED:
            fields["cancelled_by"] = result.reason
        case Kind.FAILED:
            fields["reason"] = result.reason
    return _ENDS[result.kind].from_checked(command.message_id, occurred_at=_time(result.at), **fields)


def _bounce(command: MessageQueue, result: Result, common: dict[str, Any]) -> MailEvent:
    # For those who watch bounces only: they need not read a topic with a record per message.
    return BounceReceived.from_checked(
        f"{command.message_id}/in_session",
        occurred_at=_time(result.at),
        phase="in_session",
        bounce_class=result.bounce_class,
        disposition=result.disposition,
        reply_code=result.code,
        reply_enhanced=result.enhanced,
        diagnostic=result.text,
        reporting_mta=result.mx_host,
        rule=result.rule,
        classifier_version=result.classifier_version,
        **common,
    )


def _time(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
