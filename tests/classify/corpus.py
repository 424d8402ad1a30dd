"""Mails that come back, written after what real systems send; and what is known of the message that they are about."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path

from processors.classify.findings import MessageRef
from schemas import ids
from schemas.address import canonical, parse
from schemas.feedback import InboundReceived
from schemas.links import unsubscribe_url
from schemas.tokens import Keyring, Kind, Link, ReturnPath

FOLDER = Path(__file__).parent / "corpus"
NAMES = sorted(path.stem for path in FOLDER.glob("*.eml"))

KEYRING = Keyring({"a": b"k" * 32}, active="a")
SECRET = b"s" * 16
AT = datetime(2026, 11, 2, 9, 35, tzinfo=UTC)

RECIPIENT = "ann@example.test"
MESSAGE = ids.message_id("default", "order-77")
OTHER_MESSAGE = ids.message_id("default", "order-78")


def return_path(message_id: str = MESSAGE) -> str:
    return f"b+{KEYRING.seal(Kind.RETURN_PATH, ReturnPath(message_id))}@bounces.brand.test"


def ref(recipient: str = RECIPIENT, message_id: str = MESSAGE) -> MessageRef:
    address = parse(recipient)
    return MessageRef(
        message_id=message_id,
        recipient_id=ids.recipient_id(SECRET, "default", canonical(address)),
        recipient_domain=address.domain,
        tenant="default",
        stream="marketing",
        campaign_id="spring-2026",
        provider="orchard",
        pool="warm",
        subject_ref="customer-77",
        tags=("letter",),
        metadata={"region": "north"},
    )


def unsubscribe(message_id: str = MESSAGE) -> str:
    known = ref(message_id=message_id)
    link = Link(message_id, known.recipient_id, known.recipient_domain, "default", "marketing", "spring-2026")
    return unsubscribe_url("https://click.brand.test", KEYRING.seal(Kind.UNSUBSCRIBE, link))


def text(name: str, recipient: str = RECIPIENT) -> bytes:
    """The mail as it comes over the wire."""
    content = (FOLDER / f"{name}.eml").read_text("utf-8")
    for place, value in (
        ("@OTHER_RETURN_PATH@", return_path(OTHER_MESSAGE)),
        ("@RETURN_PATH@", return_path()),
        ("@RECIPIENT@", recipient),
        ("@UNSUBSCRIBE@", unsubscribe()),
    ):
        content = content.replace(place, value)
    return content.replace("\n", "\r\n").encode()


def inbound(raw: bytes, rcpt_to: str | None = None, mail_from: str = "") -> InboundReceived:
    rcpt_to = return_path() if rcpt_to is None else rcpt_to
    digest = hashlib.sha256(raw).hexdigest()
    return InboundReceived.from_cause(
        f"{digest}/{rcpt_to}",
        occurred_at=AT,
        mail_from=mail_from,
        rcpt_to=rcpt_to,
        peer_ip="192.0.2.1",
        sha256=digest,
        size=len(raw),
        raw=b64encode(raw[: 512 * 1024]),
    )
