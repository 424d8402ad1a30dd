"""Decide what a received mail says, about which message of ours, and which fact follows.

Pure: the mail's own time, keys and what is known of the message come in as data; Kafka and the question to ClickHouse
are in agent.py. Every mail ends in exactly one fact. What cannot be tied to a message by a signed token, or does not
prove itself, is set aside for people to look at: nothing is lost, and nobody is suppressed.
"""

from __future__ import annotations

from processors.classify import arf, dsn, letters
from processors.classify.findings import Aside, Bounced, Complained, Failure, Finding, MessageRef, Replied
from processors.classify.mime import Mail, Unreadable, open_mail
from processors.classify.origin import of_return_path
from schemas import ids
from schemas.address import Address, canonical
from schemas.envelope import Event
from schemas.feedback import BounceReceived, ComplaintReceived, InboundReceived, InboundSetAside, ReplyReceived
from schemas.redact import redact
from schemas.rules.bounces import Disposition
from schemas.rules.replies import CLASSIFIER_VERSION, classify
from schemas.tokens import Keyring

COMPLAINT_ACCOUNTS = frozenset({"abuse", "fbl"})
"""Mail of ours that is sent back to these is complained of (RFC 2142 section 4)."""
_DIAGNOSTIC = 512  # characters

UNKNOWN = "no message of ours is known by that id"


def read(mail: InboundReceived, keyring: Keyring) -> Finding:
    """What the mail says. Raises nothing, whatever the mail."""
    try:
        opened = open_mail(mail.raw)
        own = of_return_path(mail.rcpt_to, keyring)
        if arf.is_feedback(opened):
            return arf.read_feedback(opened, own, keyring)
        if own is None:
            return _of_role_account(opened, mail.rcpt_to, keyring)
        if dsn.is_dsn(opened) and (found := dsn.read_dsn(opened, own)) is not None:
            return found
        if letters.looks_like_bounce(opened, mail.mail_from) or dsn.is_dsn(opened):
            failure = letters.read_notice(opened)
            return Bounced(own, (failure,)) if failure else Aside("a bounce without a failure that we can read")
        return Replied(own, letters.reply_kind(opened, mail.mail_from))
    except Unreadable as error:
        return Aside(str(error))


def decide(mail: InboundReceived, finding: Finding, ref: MessageRef | None, recipient_secret: bytes) -> Event:
    """The one fact that follows. `ref` is what is known of the message that the finding names."""
    match finding:
        case Aside(reason):
            return set_aside(mail, reason)
        case _ if ref is None:
            return set_aside(mail, UNKNOWN)
        case Bounced():
            return _bounce(mail, finding, ref, recipient_secret)
        case Complained(message_id, kind, reporter, user_agent):
            return ComplaintReceived.from_cause(
                f"{message_id}/{kind}",
                occurred_at=mail.occurred_at,
                kind=kind,
                reporter=reporter,
                user_agent=user_agent,
                **_common(ref),
            )
        case Replied(message_id, reply):
            return ReplyReceived.from_cause(
                f"{message_id}/{mail.sha256}", occurred_at=mail.occurred_at, kind=reply, **_common(ref)
            )


def said_by_token(finding: Finding) -> MessageRef | None:
    """What the finding itself knows of its message: an unsubscribe token carries nearly all of it."""
    if not isinstance(finding, Complained) or (link := finding.link) is None:
        return None
    return MessageRef(
        message_id=link.message_id,
        recipient_id=link.recipient_id,
        recipient_domain=link.recipient_domain,
        tenant=link.tenant,
        stream=link.stream,
        campaign_id=link.campaign_id,
    )


def set_aside(mail: InboundReceived, reason: str) -> InboundSetAside:
    return InboundSetAside.from_cause(mail.event_id, occurred_at=mail.occurred_at, sha256=mail.sha256, reason=reason)


def _of_role_account(opened: Mail, rcpt_to: str, keyring: Keyring) -> Finding:
    if dsn.is_dsn(opened):
        return Aside("a delivery report to an address that we did not sign")
    if rcpt_to.partition("@")[0].lower() in COMPLAINT_ACCOUNTS and (found := arf.read_returned(opened, keyring)):
        return found
    return Aside("a letter to a role account")


def _bounce(mail: InboundReceived, finding: Bounced, ref: MessageRef, recipient_secret: bytes) -> BounceReceived:
    failure, is_ours = _failure_of(ref, finding.failures, recipient_secret)
    verdict = classify(failure.code, failure.enhanced, failure.text, provider=ref.provider)
    disposition, rule = verdict.disposition, verdict.rule
    if not is_ours:
        # The mail was forwarded, or went to the members of a list: that one of them is gone says nothing of our
        # recipient.
        disposition, rule = Disposition.UNDETERMINED, f"{rule}/other_address"
    return BounceReceived.from_cause(
        # One late bounce per message, however many reports come.
        f"{finding.message_id}/async",
        occurred_at=mail.occurred_at,
        phase="async",
        bounce_class=verdict.bounce_class,
        disposition=disposition,
        reply_code=failure.code,
        reply_enhanced=failure.enhanced,
        diagnostic=redact(failure.text, limit=_DIAGNOSTIC, known=failure.addresses),
        reporting_mta=finding.reporting_mta,
        rule=rule,
        classifier_version=CLASSIFIER_VERSION,
        **_common(ref),
    )


def _failure_of(ref: MessageRef, failures: tuple[Failure, ...], secret: bytes) -> tuple[Failure, bool]:
    """The failure that is about our recipient, if one is; else the first one."""
    for failure in failures:
        if any(_is_recipient(address, ref, secret) for address in failure.addresses):
            return failure, True
    for failure in failures:
        if not failure.addresses:  # it names nobody: the signed return path does
            return failure, True
    return failures[0], False


def _is_recipient(address: Address, ref: MessageRef, secret: bytes) -> bool:
    if address.domain != ref.recipient_domain:
        return False
    return ids.recipient_id(secret, ref.tenant, canonical(address)) == ref.recipient_id


def _common(ref: MessageRef) -> dict[str, object]:
    return {
        "tenant": ref.tenant,
        "stream": ref.stream,
        "campaign_id": ref.campaign_id,
        "message_id": ref.message_id,
        "recipient_id": ref.recipient_id,
        "recipient_domain": ref.recipient_domain,
        "provider": ref.provider,
        "pool": ref.pool,
        "subject_ref": ref.subject_ref,
        "tags": ref.tags,
        "metadata": dict(ref.metadata),
    }
