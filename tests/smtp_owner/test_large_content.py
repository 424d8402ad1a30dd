"""Mail whose content is kept beside Kafka, through a whole queue owner to a real SMTP server."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from schemas import ids
from schemas.attachments import Attachment
from schemas.lanes import Inline
from schemas.messages import MessageFailed
from tests.smtp_owner.internet import Internet
from tests.smtp_owner.stage import DOMAIN, Worker, command, config, facts, queue
from tests.waiting import wait_until
from topics.claims import FolderClaims
from topics.kafka import Cluster
from topics.publisher import Publisher
from topics.registry import MESSAGES

pytestmark = pytest.mark.stack

RAW = f"From: News <news@{DOMAIN}>\r\nSubject: Hello\r\n\r\n.Zoë\r\n".encode()


def test_what_is_claimed_is_delivered_and_what_is_gone_fails(
    cluster: Cluster, world: Internet, publisher: Publisher, tmp_path: Path
) -> None:
    claims = FolderClaims(tmp_path)
    later = datetime.now(UTC) + timedelta(days=1)
    small = Attachment(filename="a.txt", content=b64encode(b"here").decode())
    large = Attachment(filename="b.pdf", claim=claims.put(bytes(3_000_000), later))
    gone = claims.put(b"gone", datetime.now(UTC) - timedelta(days=1))
    contents = {
        "attached": Inline(from_=f"news@{DOMAIN}", subject="Hello", text="Hi", attachments=(small, large)),
        "raw": Inline(from_="", subject="", raw=b64encode(RAW).decode()),
        "claimed": Inline(from_="", subject="", raw_claim=claims.put(RAW, later)),
        "gone": Inline(from_="", subject="", raw_claim=gone),
    }
    claims.clean(datetime.now(UTC))
    with Worker(config(cluster, world, claims=claims)):
        queued = [command(name).model_copy(update={"content": content}) for name, content in contents.items()]
        queue(publisher, *queued)
        wait_until(lambda: len(facts(cluster, MESSAGES)) == 4, timeout=60, what="four ends")
    ended = {fact.subject: fact for fact in facts(cluster, MESSAGES)}
    failed = ended.pop(ids.message_id("default", "gone"))
    assert isinstance(failed, MessageFailed)
    assert "its bytes are gone" in failed.reason
    assert {fact.type for fact in ended.values()} == {"message.delivered"}
    assert world.received == {ids.message_id("default", name): 1 for name in contents if name != "gone"}
