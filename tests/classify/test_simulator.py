"""The reports that the simulated providers send are understood."""

from __future__ import annotations

import pytest

from pipeline.simulator.config import DsnShape
from pipeline.simulator.reports import Reporter, Subject, bounce, complaint
from processors.classify.core import decide, read
from schemas.feedback import BounceReceived, ComplaintReceived, InboundSetAside
from tests.classify.corpus import KEYRING, MESSAGE, RECIPIENT, SECRET, inbound, ref, return_path, unsubscribe

ORIGINAL = f"From: News <news@brand.test>\r\nList-Unsubscribe: <{unsubscribe()}>\r\nSubject: Hi\r\n\r\nHello".encode()
ABOUT = Subject(return_path(), RECIPIENT, ORIGINAL, 1_793_600_000)
BY = Reporter("mx.example.test", "r1", 1_793_600_060)
CLASSES = {
    "5.1.1": "InvalidRecipient",
    "5.1.2": "BadDomain",
    "5.2.1": "InactiveMailbox",
    "5.2.2": "MailboxFull",
    "5.7.1": "SpamContent",
}


@pytest.mark.parametrize("shape", DsnShape)
@pytest.mark.parametrize("status", CLASSES)
def test_bounces(shape: DsnShape, status: str) -> None:
    mail = inbound(bounce(shape, status, ABOUT, BY))
    event = decide(mail, read(mail, KEYRING), ref(), SECRET)
    assert isinstance(event, BounceReceived)
    assert (event.message_id, event.bounce_class, event.reply_enhanced) == (MESSAGE, CLASSES[status], status)
    assert "other_address" not in event.rule


@pytest.mark.parametrize("shape", DsnShape)
def test_delays_are_no_bounces(shape: DsnShape) -> None:
    mail = inbound(bounce(shape, "4.4.1", ABOUT, BY))
    assert isinstance(decide(mail, read(mail, KEYRING), ref(), SECRET), InboundSetAside)


@pytest.mark.parametrize("redacts", [False, True])
@pytest.mark.parametrize("to", ["fbl@brand.test", return_path()])
def test_complaints(redacts: bool, to: str) -> None:
    mail = inbound(complaint(ABOUT, to, BY, redacts=redacts), to, "fbl@mx.example.test")
    event = decide(mail, read(mail, KEYRING), ref(), SECRET)
    assert isinstance(event, ComplaintReceived)
    assert (event.message_id, event.kind, event.reporter) == (MESSAGE, "abuse", "mx.example.test")
