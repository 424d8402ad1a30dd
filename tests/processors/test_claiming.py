"""What `plan` does with content that is large or claimed, and what it refuses of attachments and complete messages."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from processors.plan.agent import KnownViews, Planner
from processors.plan.claiming import Claiming
from processors.plan.core import Accepted, Decision, Rejected, Unreadable
from schemas import ids
from schemas.address import canonical, parse
from schemas.attachments import Attachment
from schemas.claims import CHECKED_IN_ABOVE, Claim, ClaimError, claim_of
from schemas.envelope import Event
from schemas.lanes import FromCampaign, Inline, MessageQueue
from schemas.messages import MessageRejected
from tests.processors.test_plan import NOW, RULES, SECRET, SMALLEST, KnownState, campaign, decided
from topics.claims import FolderClaims
from topics.errors import Later
from topics.publisher import Publisher
from topics.record import Record
from topics.registry import lanes

EXPIRES = datetime(2026, 11, 25, 12, 30, tzinfo=UTC)
FILE = {"filename": "a.pdf", "content_type": "application/pdf", "content": "QUJD"}
RAW = b"From: News <news@brand.test>\r\nSubject: Hello\r\n\r\nHi\r\n"


def base64(data: bytes) -> str:
    return b64encode(data).decode()


def raw(data: bytes, **fields: Any) -> dict[str, Any]:
    return {"recipient": "ann@example.test", "raw": base64(data), **fields}


def refusal(decision: Decision) -> str:
    assert isinstance(decision, Rejected), decision
    return f"{decision.fact.reason}: {decision.fact.detail}"


class TestDecision:
    def test_attachments_travel_with_the_content(self) -> None:
        made = decided(SMALLEST | {"attachments": [FILE]})
        assert isinstance(made, Accepted)
        (carried,) = made.queue.content.attachments
        assert carried.model_dump(exclude_none=True) == FILE | {"inline": False}
        assert made.claims == ()

    def test_a_complete_message_is_content(self) -> None:
        made = decided(raw(RAW))
        assert isinstance(made, Accepted)
        assert made.queue.content == Inline(from_="", subject="", raw=base64(RAW))

    def test_what_is_claimed_is_to_be_kept_the_campaigns_part_too(self) -> None:
        claims = [Claim(sha256=letter * 64, size=1) for letter in "ab"]
        files = [Attachment(filename="a.pdf", claim=claim) for claim in claims]
        spring = campaign().model_copy(update={"attachments": (files[0],), "html": "<p>Hi"})
        who = ids.recipient_id(SECRET, "default", canonical(parse("ann@example.test")))
        record = {
            "recipient": "ann@example.test",
            "campaign_id": "spring",
            "attachments": [{"filename": "b.pdf", "claim": claims[1].model_dump()}],
        }
        made = decided(record, known=KnownState(spring), key=f"spring/{who}".encode())
        assert isinstance(made, Accepted)
        assert set(made.claims) == set(claims)

    @pytest.mark.parametrize(
        ("record", "said"),
        [
            (SMALLEST | {"attachments": [FILE | {"filename": "a.exe"}]}, "attachment: attachment 0: .exe files"),
            (SMALLEST | {"attachments": [FILE | {"inline": True, "content_id": "x"}]}, "attachment: attachment 0: an"),
            (raw(RAW.replace(b"brand.test", b"other.test")), "from_not_owned: other.test"),
            (raw(RAW.replace(b"\r\nHi", b"\nHi")), "raw: line 3: a bare CR or LF"),
            (raw(b""), "raw: no From"),
            ({"recipient": "ann@example.test", "raw": "nonsense!"}, "raw: not base64"),
        ],
    )
    def test_what_is_refused_is_told_to_the_app(self, record: dict[str, Any], said: str) -> None:
        assert refusal(decided(record)).startswith(said)

    @pytest.mark.parametrize(
        "record",
        [
            raw(RAW, subject="x"),
            raw(RAW, **{"from": "news@brand.test"}),
            raw(RAW, attachments=[FILE]),
            raw(RAW, headers={"X-A": "b"}),
            raw(RAW, campaign_id="spring"),
            raw(RAW, raw_claim={"sha256": "a" * 64, "size": 1}),
            SMALLEST | {"attachments": [FILE] * 21},
            SMALLEST | {"attachments": [FILE | {"content": "nonsense!"}]},
        ],
    )
    def test_what_says_two_things_is_no_send(self, record: dict[str, Any]) -> None:
        assert isinstance(decided(record), Unreadable)

    def test_what_was_found_out_later_is_told_of_the_same_message(self) -> None:
        made = decided(SMALLEST | {"tags": ["a"]})
        assert isinstance(made, Accepted)
        fact = made.refused("claim", "its bytes are gone", "mail.sends:0:7").fact
        assert (fact.message_id, fact.tags, fact.idempotency_key) == (made.queue.message_id, ("a",), "order-1")
        assert fact.event_id != made.accepted.event_id
        assert fact.occurred_at == NOW


class TestCheckIn:
    def test_large_text_goes_by_claim_as_a_whole(self, tmp_path: Path) -> None:
        claims = FolderClaims(tmp_path)
        content = Inline(from_="news@brand.test", subject="Hello", html="x" * (CHECKED_IN_ABOVE + 1))
        stored = Claiming(claims).checked_in(content, EXPIRES)
        assert isinstance(stored, Inline)
        assert stored.claim is not None
        assert (stored.from_, stored.html) == ("", None)
        assert Inline.model_validate_json(claims.get(stored.claim)) == content

    def test_files_and_messages_go_by_claim_each(self, tmp_path: Path) -> None:
        claims = FolderClaims(tmp_path)
        claiming = Claiming(claims)
        file = Attachment(filename="a.pdf", content=base64(b"file"))
        for content in (
            Inline(from_="news@brand.test", subject="Hello", text="Hi", attachments=(file,)),
            FromCampaign(campaign_id="spring", variables={"a": 1}, attachments=(file,)),
        ):
            (stored,) = claiming.checked_in(content, EXPIRES).attachments
            assert stored == Attachment(filename="a.pdf", claim=claim_of(b"file"))
            assert claims.get(claim_of(b"file")) == b"file"
        stored_raw = claiming.checked_in(Inline(from_="", subject="", raw=base64(RAW)), EXPIRES)
        assert stored_raw == Inline(from_="", subject="", raw_claim=claim_of(RAW))

    def test_it_is_kept_until_a_day_after_the_message_has_expired(self, tmp_path: Path) -> None:
        claims = FolderClaims(tmp_path)
        Claiming(claims).checked_in(Inline(from_="", subject="", raw=base64(RAW)), EXPIRES)
        assert claims.clean(EXPIRES + timedelta(days=1)) == 0
        assert claims.clean(EXPIRES + timedelta(days=1, hours=1, seconds=1)) == 1

    def test_a_claim_is_prolonged_by_later_messages_and_once_an_hour(self, tmp_path: Path) -> None:
        claims = FolderClaims(tmp_path)
        claim = claims.put(b"file", NOW)
        claiming = Claiming(claims)
        path = tmp_path / claim.sha256[:2] / claim.sha256
        times = []
        for minutes in (0, 10, 45):
            claiming.keep([claim], EXPIRES + timedelta(minutes=minutes))
            times.append(path.stat().st_mtime)
        assert times[0] == times[1] < times[2]
        assert claims.clean(EXPIRES + timedelta(days=1, minutes=45)) == 0

    def test_what_nobody_has_kept_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ClaimError, match="gone"):
            Claiming(FolderClaims(tmp_path)).keep([claim_of(b"x")], EXPIRES)
        with pytest.raises(ClaimError, match="no folder for claims is configured"):
            Claiming(None).keep([claim_of(b"x")], EXPIRES)

    def test_without_a_folder_content_stays_where_it_is(self) -> None:
        content = Inline(from_="", subject="", raw=base64(RAW))
        assert Claiming(None).checked_in(content, EXPIRES) is content


class Written(Publisher):
    """What a planner publishes, and whether the claims of it were in place by then."""

    def __init__(self, claims: FolderClaims) -> None:
        self.events: list[Event] = []
        self._claims = claims

    def publish(self, event: Event, **_: Any) -> None:
        if isinstance(event, MessageQueue) and isinstance(event.content, Inline) and event.content.raw_claim:
            self._claims.get(event.content.raw_claim)
        self.events.append(event)


class Views(KnownState):
    def as_of(self, now: datetime) -> datetime:
        return now


class TestPlanner:
    @pytest.fixture
    def written(self, tmp_path: Path) -> Written:
        return Written(FolderClaims(tmp_path / "claims"))

    def plan(self, written: Written, claims: FolderClaims | None, value: dict[str, Any]) -> list[Event]:
        record = Record("mail.sends", 0, 7, b"order-1", json.dumps(value).encode(), [], int(NOW.timestamp() * 1000))
        planner = Planner(RULES, cast(KnownViews, Views()), written, lanes(), Claiming(claims))
        planner.handle([record])
        return written.events

    def test_a_large_record_becomes_a_small_command(self, written: Written, tmp_path: Path) -> None:
        large = RAW + b"x\r\n" * 100_000
        *_, queued = self.plan(written, FolderClaims(tmp_path / "claims"), raw(large))
        assert isinstance(queued, MessageQueue)
        assert len(queued.model_dump_json()) < 4_000
        assert queued.content == Inline(from_="", subject="", raw_claim=claim_of(large))

    def test_a_claim_that_nobody_keeps_is_a_rejection(self, written: Written, tmp_path: Path) -> None:
        record = {"recipient": "ann@example.test", "raw_claim": claim_of(RAW).model_dump()}
        (fact,) = self.plan(written, FolderClaims(tmp_path / "claims"), record)
        assert isinstance(fact, MessageRejected)
        assert (fact.reason, "gone" in fact.detail) == ("claim", True)

    def test_a_folder_that_is_away_is_waited_for(self, written: Written, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        record = {"recipient": "ann@example.test", "raw_claim": claim_of(RAW).model_dump()}
        with pytest.raises(Later, match="claims: "):
            self.plan(written, FolderClaims(tmp_path / "file"), record)
        assert written.events == []
