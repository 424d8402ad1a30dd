"""From a lane's command to the bytes on the wire, read back by the standard library."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from schemas.envelope import Stream
from schemas.lanes import Inline, MessageQueue
from schemas.state import CampaignSet
from schemas.tenant import Tenant
from schemas.tokens import Keyring
from sinks.smtp.compose import Composed, Composer, Composition
from sinks.smtp.dkim import Key, Signer

DOMAIN = "brand.test"
NOW = datetime(2026, 11, 22, 2, 5, 25, tzinfo=UTC)
TENANT = Tenant(
    sending_domains=(DOMAIN,), return_path_domain="b.brand.test", tracking_url="https://t.brand.test"
)  # fmt: skip
MESSAGE_ID = "0f2b8a52-5c1e-5d2f-8a0b-6a1f3b1c9d11"
INLINE = Inline(from_="News <news@brand.test>", subject="Hello", text="Good morning.\n", html="<p>Good morning.</p>\n")


def command(content: Any = INLINE, stream: Stream = Stream.TRANSACTIONAL, **fields: Any) -> MessageQueue:
    return MessageQueue.from_cause(
        MESSAGE_ID,
        occurred_at=NOW,
        **{
            "tenant": "default",
            "stream": stream,
            "message_id": MESSAGE_ID,
            "recipient_id": "kq3v7m2xw5c4d6e7f2a3b4c5d6",
            "recipient_domain": "example.test",
            "recipient": "ann@example.test",
            "idempotency_key": "k",
            "site": "example.test",
            "content": content,
            "accepted_at": NOW,
            "expires_at": NOW + timedelta(days=1),
            **fields,
        },
    )


def composer(
    signers: dict[str, Signer | None] | None = None, campaign: CampaignSet | None = None, **options: Any
) -> Composer:
    return Composer(
        {"default": TENANT, "a:b": TENANT.model_copy(update={"name": "a:b"})},
        Keyring({"a": b"k" * 32}, "a"),
        signers or {DOMAIN: None},
        lambda key: campaign,
        **options,
    )


def read(composed: Composition) -> EmailMessage:
    """What arrives: the dots unstuffed."""
    assert isinstance(composed, Composed), composed
    message = (b"\r\n" + composed.wire).replace(b"\r\n.", b"\r\n")[2:]
    found = message_from_bytes(message, policy=policy.SMTP)
    assert isinstance(found, EmailMessage)
    assert not [defect for part in found.walk() for defect in part.defects]
    return found


@pytest.mark.parametrize(
    ("campaign_id", "tenant", "stream", "feedback"),
    [
        ("spring", "default", Stream.MARKETING, "spring:default:marketing:brand.test"),
        (None, "default", Stream.NEWSLETTER, ":default:newsletter:brand.test"),
        ("spring:2", "a:b", Stream.ONBOARDING, "spring-2:a-b:onboarding:brand.test"),
    ],
)
def test_bulk_says_whose_and_which_it_is(campaign_id: str | None, tenant: str, stream: Stream, feedback: str) -> None:
    mail = read(composer().compose(command(stream=stream, campaign_id=campaign_id, tenant=tenant)))
    assert mail["Feedback-ID"] == feedback
    assert mail["List-ID"] == f"<{stream}.brand.test>"
    assert mail["List-Unsubscribe"].startswith("<https://t.brand.test/u/")
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


def test_a_mail_of_a_persons_own_has_none_of_it() -> None:
    mail = read(composer().compose(command()))
    assert not {"feedback-id", "list-id", "list-unsubscribe", "list-unsubscribe-post"} & {k.lower() for k in mail}


@pytest.mark.parametrize(
    ("domain", "sender"),
    [("x.co", "x.co-mail"), ("brand.test", "brand.test"), ("news.brand.example", "news.brand.exam")],
)
def test_the_sender_of_a_feedback_id_has_5_to_15_characters(domain: str, sender: str) -> None:
    composer = Composer(
        {"default": TENANT.model_copy(update={"sending_domains": (domain,)})},
        Keyring({"a": b"k" * 32}, "a"),
        {domain: None},
        lambda key: None,
    )
    content = INLINE.model_copy(update={"from_": f"news@{domain}"})
    assert read(composer.compose(command(content, Stream.MARKETING)))["Feedback-ID"].split(":")[-1] == sender


def test_a_message_that_is_sent_again_is_the_same_message() -> None:
    first, second = (read(composer().compose(command())) for _ in range(2))
    assert first["Message-ID"] == second["Message-ID"] == f"<{MESSAGE_ID}@brand.test>"
    assert first["Date"] == second["Date"]


def test_a_tenants_own_key_signs_and_the_domains_else() -> None:
    signers: dict[str, Signer | None] = {
        name: Signer([Key(selector, ed25519.Ed25519PrivateKey.generate())])
        for name, selector in ((DOMAIN, "shared"), (f"a:b/{DOMAIN}", "own"))
    }
    for tenant, selector in (("default", "shared"), ("a:b", "own")):
        mail = read(composer(signers).compose(command(tenant=tenant)))
        assert f"s={selector};" in mail["DKIM-Signature"]
