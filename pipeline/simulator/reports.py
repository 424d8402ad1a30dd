"""The reports that providers send back by mail: bounces in several real shapes, and complaints. Pure: bytes out.

RFC 3464 (delivery status), RFC 6522 (multipart/report), RFC 5965 (feedback); and qmail's own form, which no RFC has.
Times and the report's own id come in as data.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import formatdate

from pipeline.simulator.config import DsnShape

_LARGEST_QUOTE = 64 * 1024  # bytes of the original that a report carries


@dataclass(frozen=True, slots=True)
class Subject:
    """What a report is about."""

    mail_from: str
    recipient: str
    raw: bytes
    arrived: float  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class Reporter:
    """Who reports, and when."""

    host: str
    name: str  # unique, for Message-ID and boundary
    now: float


@dataclass(frozen=True, slots=True)
class _Words:
    sender: str
    subject: str
    text: str


_WORDS = {
    DsnShape.POSTFIX: _Words(
        "MAILER-DAEMON@{host} (Mail Delivery System)",
        "Undelivered Mail Returned to Sender",
        "This is the mail system at host {host}.\r\n\r\n"
        "I'm sorry to have to inform you that your message could not\r\n"
        "be delivered to one or more recipients. It's attached below.\r\n\r\n"
        "<{recipient}>: {reason}\r\n",
    ),
    DsnShape.EXCHANGE: _Words(
        "Microsaft Outlane <postmaster@{host}>",
        "Undeliverable: {original}",
        "Delivery has failed to these recipients or groups:\r\n\r\n{recipient}\r\n"
        "Your message couldn't be delivered. The recipient's email address may be wrong.\r\n\r\n"
        "Diagnostic information for administrators:\r\n\r\nGenerating server: {host}\r\n\r\n"
        "{recipient}\r\nRemote Server returned '{reason}'\r\n",
    ),
    DsnShape.FRENCH: _Words(
        "Systeme de messagerie <MAILER-DAEMON@{host}>",
        "=?utf-8?Q?Message_non_remis=C2=A0=3A_retour_=C3=A0_l=27exp=C3=A9diteur?=",
        "Bonjour,\r\n\r\nvotre message n'a pas pu =C3=AAtre remis au destinataire suivant=C2=A0:\r\n\r\n"
        "<{recipient}>: {reason}\r\n",
    ),
    DsnShape.GERMAN: _Words(
        "Mail-Zustellsystem <mailer-daemon@{host}>",
        "Mail delivery failed: returning message to sender",
        "Diese Nachricht wurde automatisch erzeugt.\r\n\r\n"
        "Ihre E-Mail konnte folgendem Empf=C3=A4nger nicht zugestellt werden:\r\n\r\n"
        "<{recipient}>:\r\n    {reason}\r\n",
    ),
}

_REASONS = {
    "5.1.1": "550 5.1.1 User unknown",
    "5.1.2": "550 5.1.2 Bad destination system address",
    "5.2.1": "550 5.2.1 Mailbox disabled",
    "5.2.2": "552 5.2.2 Mailbox full",
    "5.7.1": "554 5.7.1 Message rejected as spam by content filter",
    "4.4.1": "451 4.4.1 No answer from host; delivery is still being tried",
}


def bounce(shape: DsnShape, status: str, about: Subject, by: Reporter) -> bytes:
    """An asynchronous bounce; a 4.x.x status makes it a report of delay."""
    reason = _REASONS.get(status, f"{'550' if status.startswith('5') else '451'} {status} Delivery failed")
    return _qmail(reason, about, by) if shape is DsnShape.QMAIL else _standard(shape, status, reason, about, by)


def _standard(shape: DsnShape, status: str, reason: str, about: Subject, by: Reporter) -> bytes:
    words = _WORDS[shape]
    values = {
        "host": by.host,
        "recipient": _printable(about.recipient),
        "reason": reason,
        "original": _printable(_original_subject(about.raw)),
    }
    boundary = f"sim-{by.name}"
    action = "failed" if status.startswith("5") else "delayed"
    head = _head(words.sender.format(**values), about.mail_from, words.subject.format(**values), by)
    body = (
        f'Content-Type: multipart/report; report-type=delivery-status;\r\n boundary="{boundary}"\r\n\r\n'
        "This is a MIME-encapsulated message.\r\n\r\n"
        f"--{boundary}\r\nContent-Description: Notification\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Transfer-Encoding: quoted-printable\r\n\r\n{words.text.format(**_quoted(values))}\r\n"
        # RFC 3464 section 2: a block for the message, an empty line, a block for the recipient.
        f"--{boundary}\r\nContent-Description: Delivery report\r\nContent-Type: message/delivery-status\r\n\r\n"
        f"Reporting-MTA: dns; {by.host}\r\nArrival-Date: {formatdate(about.arrived)}\r\n\r\n"
        f"Original-Recipient: rfc822;{values['recipient']}\r\nFinal-Recipient: rfc822; {values['recipient']}\r\n"
        f"Action: {action}\r\nStatus: {status}\r\nRemote-MTA: dns; store.{by.host}\r\n"
        f"Diagnostic-Code: smtp; {reason}\r\n\r\n"
        f"--{boundary}\r\nContent-Description: Undelivered Message Headers\r\n"
        "Content-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    )
    return head + body.encode("ascii", "replace") + _headers_of(about.raw) + f"\r\n--{boundary}--\r\n".encode()


def _qmail(reason: str, about: Subject, by: Reporter) -> bytes:
    """The form of qmail-send: a plain text that only custom describes."""
    text = (
        f"\r\nHi. This is the qmail-send program at {by.host}.\r\n"
        "I'm afraid I wasn't able to deliver your message to the following addresses.\r\n"
        "This is a permanent error; I've given up. Sorry it didn't work out.\r\n\r\n"
        f"<{_printable(about.recipient)}>:\r\n{by.host} failed after I sent the message.\r\n"
        f"Remote host said: {reason}\r\n\r\n"
        "--- Below this line is a copy of the message.\r\n\r\n"
        f"Return-Path: <{_printable(about.mail_from)}>\r\n"
    )
    head = _head(f"MAILER-DAEMON@{by.host}", about.mail_from, "failure notice", by)
    return head + text.encode("ascii", "replace") + _headers_of(about.raw)


def complaint(about: Subject, to: str, by: Reporter, *, redacts: bool) -> bytes:
    """A feedback report of an unwanted message (RFC 5965), as feedback loops send it."""
    boundary = f"sim-{by.name}"
    recipient = "redacted" if redacts else _printable(about.recipient)
    original = about.raw[:_LARGEST_QUOTE]
    if redacts:
        # RFC 6590: the part that names a person goes. Everywhere, as its localpart may be in a link.
        original = re.sub(re.escape(about.recipient.encode()), b"redacted@redacted.invalid", original, flags=re.I)
    head = _head(f"Feedback loop <fbl@{by.host}>", to, f"FW: {_printable(_original_subject(about.raw))}", by)
    body = (
        f'Content-Type: multipart/report; report-type=feedback-report;\r\n boundary="{boundary}"\r\n\r\n'
        f"--{boundary}\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
        "This is an email abuse report for an email message received from IP 127.0.0.1 on "
        f"{formatdate(about.arrived)}.\r\n\r\n"
        f"--{boundary}\r\nContent-Type: message/feedback-report\r\n\r\n"
        f"Feedback-Type: abuse\r\nUser-Agent: SimulatedFBL/1.0\r\nVersion: 1\r\n"
        f"Original-Mail-From: <{_printable(about.mail_from)}>\r\n"
        + ("" if redacts else f"Original-Rcpt-To: <{recipient}>\r\n")
        + f"Arrival-Date: {formatdate(about.arrived)}\r\nSource-IP: 127.0.0.1\r\nReporting-MTA: dns; {by.host}\r\n\r\n"
        f"--{boundary}\r\nContent-Type: message/rfc822\r\nContent-Disposition: inline\r\n\r\n"
    )
    return head + body.encode("ascii", "replace") + original + f"\r\n--{boundary}--\r\n".encode()


def _head(sender: str, to: str, subject: str, by: Reporter) -> bytes:
    # RFC 3834 section 5: Auto-Submitted keeps other machines from answering.
    return (
        f"Date: {formatdate(by.now)}\r\nFrom: {sender}\r\nTo: <{_printable(to)}>\r\nSubject: {subject}\r\n"
        f"Message-ID: <{by.name}@{by.host}>\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\n"
    ).encode("ascii", "replace")


def _headers_of(raw: bytes) -> bytes:
    end = raw.find(b"\r\n\r\n")
    return raw[: min(end + 2 if end >= 0 else len(raw), _LARGEST_QUOTE)]


def _original_subject(raw: bytes) -> str:
    found = re.search(rb"(?im)^subject:[ \t]*([^\r\n]*)", _headers_of(raw))
    return found[1].decode("ascii", "replace")[:200] if found else ""


def _quoted(values: dict[str, str]) -> dict[str, str]:
    """Values as quoted-printable text: only "=" needs care, they are printable ASCII by now."""
    return {name: value.replace("=", "=3D") for name, value in values.items()}


def _printable(text: str) -> str:
    """On one line and ASCII, whatever the message said: a report must not carry its header injection."""
    return re.sub(r"[^ -~]", "?", text)
