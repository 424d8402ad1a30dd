"""From a lane's command to the bytes on the wire, read back by the standard library."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from schemas.attachments import Attachment
from schemas.claims import claim_of
from schemas.envelope import Stream
from schemas.lanes import FromCampaign, Inline, MessageQueue
from schemas.state import CampaignSet
from schemas.tenant import Tenant
from schemas.tokens import Keyring
from sinks.smtp.compose import Composed, Composer, Composition, Missing, Unsendable, finished
from sinks.smtp.dkim import Key, Signer
from tests.smtp_wire.verifiers import dkimpy_verdicts, unstuffed
from topics.claims import FolderClaims

DOMAIN = "brand.test"
NOW = datetime(2026, 11, 22, 2, 5, 25, tzinfo=UTC)
TENANT = Tenant(
    sending_domains=(DOMAIN,), return_path_domain="b.brand.test", tracking_url="https://t.brand.test"
)  # fmt: skip
MESSAGE_ID = "0f2b8a52-5c1e-5d2f-8a0b-6a1f3b1c9d11"
INLINE = Inline(from_="News <news@brand.test>", subject="Hello", text="Good morning.\n", html="<p>Good morning.</p>\n")
CAMPAIGN = CampaignSet.from_cause(
    "spring",
    occurred_at=NOW,
    campaign_id="spring",
    from_="News <news@brand.test>",
    subject_template="Hi {{ name }}",
    html="<p>Hi {{ name }} <img src='cid:logo'></p>",
)


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


def compose(composer: Composer, command: MessageQueue) -> Composition:
    [composed] = finished([composer.draft(command)])
    return composed


def read(composed: Composition) -> EmailMessage:
    assert isinstance(composed, Composed), composed
    found = message_from_bytes(unstuffed(composed.wire), policy=policy.SMTP)
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
    mail = read(compose(composer(), command(stream=stream, campaign_id=campaign_id, tenant=tenant)))
    assert mail["Feedback-ID"] == feedback
    assert mail["List-ID"] == f"<{stream}.brand.test>"
    assert mail["List-Unsubscribe"].startswith("<https://t.brand.test/u/")
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


def test_a_mail_of_a_persons_own_has_none_of_it() -> None:
    mail = read(compose(composer(), command()))
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
    assert read(compose(composer, command(content, Stream.MARKETING)))["Feedback-ID"].split(":")[-1] == sender


def test_a_message_that_is_sent_again_is_the_same_message() -> None:
    first, second = (read(compose(composer(), command())) for _ in range(2))
    assert first["Message-ID"] == second["Message-ID"] == f"<{MESSAGE_ID}@brand.test>"
    assert first["Date"] == second["Date"]


def test_a_tenants_own_key_signs_and_the_domains_else() -> None:
    signers: dict[str, Signer | None] = {
        name: Signer([Key(selector, ed25519.Ed25519PrivateKey.generate())])
        for name, selector in ((DOMAIN, "shared"), (f"a:b/{DOMAIN}", "own"))
    }
    for tenant, selector in (("default", "shared"), ("a:b", "own")):
        mail = read(compose(composer(signers), command(tenant=tenant)))
        assert f"s={selector};" in mail["DKIM-Signature"]


def attachment(data: bytes = b"%PDF", **fields: Any) -> Attachment:
    given = {"filename": "a.pdf", "content_type": "application/pdf", "content": b64encode(data).decode(), **fields}
    return Attachment.model_validate(given)


LOGO = attachment(b"\x89PNG", filename="logo.png", content_type="image/png", inline=True, content_id="logo")


class TestAttachments:
    def test_a_mail_carries_its_files(self) -> None:
        mail = read(compose(composer(), command(INLINE.model_copy(update={"attachments": (attachment(), LOGO)}))))
        assert mail.get_content_type() == "multipart/mixed"
        assert [part.get_content() for part in mail.iter_attachments()] == [b"%PDF"]
        html = mail.get_body(("html",))
        assert html is not None
        assert "Good morning" in html.get_content()
        images = [part for part in mail.walk() if part.get_content_type() == "image/png"]
        assert [(part["Content-ID"], part.get_content()) for part in images] == [("<logo>", b"\x89PNG")]

    def test_it_is_signed_as_it_is(self) -> None:
        keys = (Key("e1", ed25519.Ed25519PrivateKey.generate()),)
        content = INLINE.model_copy(update={"attachments": (attachment(b"x" * 5000), LOGO)})
        composed = compose(composer({DOMAIN: Signer(keys)}), command(content))
        assert isinstance(composed, Composed)
        arrived = (b"\r\n" + composed.wire).replace(b"\r\n.", b"\r\n")[2:]
        assert dkimpy_verdicts(arrived, keys, DOMAIN) == [True]

    def test_a_text_with_a_file_keeps_its_text(self) -> None:
        content = INLINE.model_copy(update={"html": None, "attachments": (attachment(),)})
        mail = read(compose(composer(), command(content)))
        assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "application/pdf"]

    def test_a_campaigns_and_a_persons_own_go_together(self) -> None:
        campaign = CAMPAIGN.model_copy(update={"attachments": (LOGO, attachment(filename="terms.pdf"))})
        own = FromCampaign(campaign_id="spring", variables={"name": "Ann"}, attachments=(attachment(b"ticket"),))
        mail = read(compose(composer(campaign=campaign), command(own, Stream.MARKETING, campaign_id="spring")))
        assert mail["Subject"] == "Hi Ann"
        files = [(part.get_filename(), part.get_content()) for part in mail.iter_attachments()]
        assert files == [("terms.pdf", b"%PDF"), ("a.pdf", b"ticket")]

    def test_a_campaign_whose_files_are_refused_ends_its_messages_alone(self) -> None:
        campaign = CAMPAIGN.model_copy(update={"attachments": (attachment(filename="a.exe"),)})
        composed = compose(composer(campaign=campaign), command(FromCampaign(campaign_id="spring"), Stream.MARKETING))
        assert isinstance(composed, Unsendable)
        assert ".exe files are refused" in composed.reason


RAW = (
    b"Received: from app.brand.test by x; Sun, 22 Nov 2026 02:00:00 +0000\r\nReturn-Path: <x@y.test>\r\n"
    b"From: =?utf-8?q?Zo=C3=AB?= <news@brand.test>\r\nTo: all@example.test\r\nBcc: secret@example.test\r\n"
    b"Subject: Hello\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"List-Unsubscribe: <mailto:x@y.test>\r\nX-Mailriver-ID: forged\r\n\r\n.Zo\xc3\xab  \r\n\r\n.\r\n"
)


def raw(data: bytes) -> Inline:
    return Inline(from_="", subject="", raw=b64encode(data).decode())


class TestRaw:
    def test_it_goes_out_as_it_is_but_for_what_only_we_can_say(self) -> None:
        composed = compose(composer(), command(raw(RAW)))
        mail = read(composed)
        assert isinstance(composed, Composed)
        assert composed.envelope.eight_bit
        assert composed.envelope.recipient == "ann@example.test"
        assert composed.envelope.sender.endswith("@b.brand.test")
        assert mail.keys() == [
            *("X-Mailriver-ID", "Message-ID", "Date"),
            *("Received", "From", "To", "Subject", "MIME-Version", "Content-Type", "List-Unsubscribe"),
        ]
        assert mail["X-Mailriver-ID"] == MESSAGE_ID
        assert mail["List-Unsubscribe"] == "<mailto:x@y.test>"
        assert composed.wire.endswith(b"\r\n\r\n..Zo\xc3\xab  \r\n\r\n..\r\n")

    def test_its_own_id_and_date_stay(self) -> None:
        mail = read(
            compose(
                composer(), command(raw(b"Message-ID: <1@app.test>\r\nDate: Sun, 22 Nov 2026 02:00:00 +0000\r\n" + RAW))
            )
        )
        assert mail.get_all("Message-ID") == ["<1@app.test>"]
        assert len(mail.get_all("Date", [])) == 1

    @pytest.mark.parametrize("listed", [b"", b"List-ID: <own.brand.test>\r\n"])
    def test_bulk_is_unsubscribed_from_here(self, listed: bytes) -> None:
        mail = read(compose(composer(), command(raw(listed + b"Feedback-ID: x\r\n" + RAW), Stream.MARKETING)))
        assert [value.startswith("<https://t.brand.test/u/") for value in mail.get_all("List-Unsubscribe", [])] == [
            True
        ]
        assert mail.get_all("List-Unsubscribe-Post") == ["List-Unsubscribe=One-Click"]
        assert mail.get_all("Feedback-ID") == [":default:marketing:brand.test"]
        assert mail.get_all("List-ID") == ["<own.brand.test>" if listed else "<marketing.brand.test>"]

    def test_both_signatures_verify(self) -> None:
        keys = (Key("e1", ed25519.Ed25519PrivateKey.generate()),)
        composed = compose(composer({DOMAIN: Signer(keys)}), command(raw(RAW)))
        assert isinstance(composed, Composed)
        arrived = (b"\r\n" + composed.wire).replace(b"\r\n.", b"\r\n")[2:]
        assert dkimpy_verdicts(arrived, keys, DOMAIN) == [True]

    @pytest.mark.parametrize(
        ("data", "said"),
        [
            (RAW.replace(b"news@brand.test", b"news@other.test"), "not of a domain of the tenant"),
            (RAW.replace(b"From: ", b"X-From: "), "no From"),
            (RAW.replace(b"\r\n.\r\n", b"\n.\r\n"), "a bare CR or LF"),
        ],
    )
    def test_what_is_not_sent(self, data: bytes, said: str) -> None:
        composed = compose(composer(), command(raw(data)))
        assert isinstance(composed, Unsendable)
        assert said in composed.reason


class TestClaims:
    def test_content_attachments_and_messages_by_claim_arrive(self, tmp_path: Path) -> None:
        claims = FolderClaims(tmp_path)
        file = attachment(content=None, claim=claims.put(b"file", NOW))
        whole = INLINE.model_copy(update={"attachments": (file,)})
        by_claim = Inline(from_="", subject="", claim=claims.put(whole.model_dump_json().encode(), NOW))
        mail = read(compose(composer(claims=claims), command(by_claim)))
        assert mail["Subject"] == "Hello"
        assert [part.get_content() for part in mail.iter_attachments()] == [b"file"]
        mail = read(
            compose(composer(claims=claims), command(Inline(from_="", subject="", raw_claim=claims.put(RAW, NOW))))
        )
        assert mail["To"] == "all@example.test"

    def test_what_is_gone_ends_the_message_and_what_is_away_holds_it(self, tmp_path: Path) -> None:
        content = Inline(from_="", subject="", raw_claim=claim_of(b"nobody kept this"))
        (tmp_path / "file").write_text("")
        assert isinstance(compose(composer(claims=FolderClaims(tmp_path)), command(content)), Unsendable)
        assert compose(composer(claims=FolderClaims(tmp_path / "file")), command(content)) == Missing("claims_away")
        assert compose(composer(), command(content)) == Missing("claims_away")

    def test_what_was_changed_is_not_sent(self, tmp_path: Path) -> None:
        claims = FolderClaims(tmp_path)
        claim = claims.put(RAW, NOW)
        (tmp_path / claim.sha256[:2] / claim.sha256).write_bytes(RAW.replace(b"Hello", b"Howdy"))
        composed = compose(composer(claims=claims), command(Inline(from_="", subject="", raw_claim=claim)))
        assert isinstance(composed, Unsendable)
        assert "not what was claimed" in composed.reason

    @pytest.mark.parametrize("data", [b"{}", b"nonsense", b'{"from_":"","subject":""}'])
    def test_a_claim_that_is_no_content_ends_its_message(self, tmp_path: Path, data: bytes) -> None:
        claims = FolderClaims(tmp_path)
        content = Inline(from_="", subject="", claim=claims.put(data, NOW))
        assert isinstance(compose(composer(claims=claims), command(content)), Unsendable)


class TestCampaignsThatCannotBeCompiled:
    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"html": "a\n{{ b | nothing }}"}, "html, line 2: "),
            ({"html": None}, "neither html nor text"),
            ({"html": None, "text": "Hi", "mjml": "<mjml>"}, "mjml: published without"),
            ({"from_": "nobody"}, ""),
        ],
    )
    def test_its_messages_end_and_say_why_and_others_go_on(self, fields: dict[str, Any], said: str) -> None:
        broken = CAMPAIGN.model_copy(update=fields)
        whole = CAMPAIGN.model_copy(update={"event_id": "another", "campaign_id": "autumn"})
        campaigns = {"default/spring": broken, "default/autumn": whole}
        composer = Composer({"default": TENANT}, Keyring({"a": b"k" * 32}, "a"), {DOMAIN: None}, campaigns.get)
        for _ in range(2):  # the second time from memory
            ended = compose(composer, command(FromCampaign(campaign_id="spring"), Stream.MARKETING))
            assert isinstance(ended, Unsendable)
            assert said in ended.reason
            read(compose(composer, command(FromCampaign(campaign_id="autumn"), Stream.MARKETING)))
