"""Facts as the other roles write them: a small campaign's worth, the same for the same seed."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from schemas import attempts, engagement, feedback, ids, messages, operations, state
from schemas.codec import encode
from schemas.envelope import Event
from topics.record import Record
from topics.registry import BY_TYPE

PROVIDERS = {"gmx.test": "gmx", "mail.test": "google", "outlook.test": "microsoft", "small.test": ""}
FULL = "552 5.2.2 mailbox full"


def record(event: Event, offset: int = 0, partition: int = 0) -> Record:
    """The event as it comes from Kafka."""
    encoded = encode(event, source="test")
    headers: list[tuple[str, bytes | None]] = list(encoded.headers)
    topic = BY_TYPE[event.type].name
    return Record(
        topic, partition, offset, encoded.key, encoded.value, headers, int(event.occurred_at.timestamp() * 1000)
    )


def numbered(events: Iterable[Event]) -> list[Record]:
    """Records with the offsets that a topic of one partition would give them, in the order given."""
    ends: dict[str, int] = {}
    found = []
    for event in events:
        topic = BY_TYPE[event.type].name
        ends[topic] = ends.get(topic, -1) + 1
        found.append(record(event, ends[topic]))
    return found


@dataclass
class Story:
    """Writes the facts of messages, with `recorded_at` a little behind `occurred_at`."""

    start: datetime
    seed: int = 1
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.count = 0

    def tell(self, model: type[Event], cause: str, at: datetime, /, **fields: Any) -> Event:
        event = model.from_cause(cause, occurred_at=at, recorded_at=at + timedelta(milliseconds=5), **fields)
        self.events.append(event)
        return event

    def message(self, fate: str = "delivered", *, domain: str = "mail.test", **fields: Any) -> Message:
        """An accepted message and what became of it: an end's name, `deferred` first, or `in_flight`."""
        self.count += 1
        given = {"tenant": "default", "stream": "marketing", "campaign_id": "spring", **fields}
        key = f"{self.seed}/{self.count}"
        common = {
            **given,
            "message_id": ids.message_id(given["tenant"], key),
            "recipient_id": uuid.uuid5(uuid.NAMESPACE_OID, f"person {key}").hex,
            "recipient_domain": domain,
            "subject_ref": f"customer-{self.count}",
            "tags": ("letter",),
            "metadata": {"batch": "7"},
        }
        at = self.start + timedelta(seconds=self.count % 600)
        made = Message(self, common, at)
        self.tell(
            messages.MessageAccepted, made.id, at, **common, idempotency_key=key, expires_at=at + timedelta(days=3)
        )
        common["provider"] = PROVIDERS[domain]
        match fate:
            case "in_flight":
                pass
            case "delivered":
                made.attempt(attempts.AttemptDelivered, reply_code=250, reply_text="ok")
                made.end(messages.MessageDelivered, reply_code=250)
            case "deferred":
                made.attempt(
                    attempts.AttemptDeferred,
                    next_at=at + timedelta(minutes=5),
                    reply_code=451,
                    bounce_class="Greylisted",
                    disposition="transient",
                    reply_text="try again later",
                )
                made.attempt(attempts.AttemptDelivered, reply_code=250, reply_text="ok")
                made.end(messages.MessageDelivered, reply_code=250)
            case "bounced":
                verdict = {"bounce_class": "InvalidRecipient", "disposition": "permanent", "reply_code": 550}
                made.attempt(attempts.AttemptBounced, **verdict, reply_text="no such user")
                made.end(messages.MessageBounced, **verdict, reply_text="no such user")
                made.bounce("in_session")
            case "suppressed":
                made.end(messages.MessageSuppressed, suppression="unsubscribe")
            case "expired":
                made.end(messages.MessageExpired)
            case "failed":
                made.end(messages.MessageFailed, reason="template")
            case "cancelled":
                made.end(messages.MessageCancelled, cancelled_by="operator")
            case "unknown":
                made.attempt(attempts.AttemptUnknown, cause="connection lost")
                made.end(messages.MessageUnknown)
            case _:
                raise ValueError(fate)
        return made

    def campaign(self, size: int) -> Story:
        """Messages of all fates to all providers, with feedback, engagement, state and dead letters."""
        fates = ["delivered"] * 14 + ["deferred", "deferred", "bounced", "suppressed", "expired", "failed", "cancelled"]
        fates += ["unknown", "in_flight"]
        for _ in range(size):
            fate = self.random.choice(fates)
            one = self.message(fate, domain=self.random.choice(list(PROVIDERS)))
            if fate == "delivered":
                one.aftermath(self.random.random())
        self.tell(
            operations.RecordDeadLettered,
            f"plan/mail.sends:0:{self.seed}",
            self.start,
            topic="mail.sends",
            partition=0,
            offset=self.seed,
            group="plan",
            reason="not JSON",
            record_size=12,
            sha256="0" * 64,
            record_value=b"eA==",
        )
        self.tell(
            state.CampaignSet,
            "spring",
            self.start,
            campaign_id="spring",
            name="Spring",
            from_="News <news@brand.test>",
            subject_template="Hello",
            html="<p>Hello</p>",
        )
        self.tell(
            operations.TallyCounted,
            f"w1/{self.seed}",
            self.start,
            worker="w1",
            subject_kind="tenant",
            subject_name="default",
            counts={"delivered": 3},
        )
        return self


class Message:
    def __init__(self, story: Story, common: dict[str, Any], at: datetime) -> None:
        self.story = story
        self.common = common
        self.accepted_at = self.at = at
        self.attempts = 0

    @property
    def id(self) -> str:
        return str(self.common["message_id"])

    def later(self, seconds: float = 1.0) -> datetime:
        self.at += timedelta(seconds=seconds)
        return self.at

    def attempt(self, model: type[attempts.AttemptMade], **fields: Any) -> Event:
        self.attempts += 1
        started = self.later()
        return self.story.tell(
            model,
            f"{self.id}/{self.attempts}",
            started + timedelta(milliseconds=80),
            attempt=self.attempts,
            started_at=started,
            site="site",
            source="mta-1",
            mx_host="mx.provider.test",
            stage="dot",
            transfer_ms=42.5,
            **fields,
            **self.common,
        )

    def end(self, model: type[messages.MessageEnded], **fields: Any) -> Event:
        return self.story.tell(
            model,
            self.id,
            self.later(0.5),
            attempts=self.attempts,
            accepted_at=self.accepted_at,
            **fields,
            **self.common,
        )

    def bounce(self, phase: str = "async") -> Event:
        return self.story.tell(
            feedback.BounceReceived,
            f"{phase}/{self.id}",
            self.later(60),
            phase=phase,
            bounce_class="MailboxFull",
            disposition="transient",
            reply_code=552,
            diagnostic=FULL,
            reporting_mta="mx.provider.test",
            **self.common,
        )

    def opened(self, verdict: str = "human", version: int = 1) -> Event:
        found = self.story.tell(
            engagement.MessageOpened,
            f"open/{self.id}",
            self.later(90),
            user_agent="Mail/1",
            network="192.0.2.0/24",
            **self.common,
        )
        self.judge(found, verdict, version)
        return found

    def judge(self, opened: Event, verdict: str, version: int) -> Event:
        return self.story.tell(
            engagement.OpenJudged,
            f"{opened.event_id}/{version}",
            self.later(1),
            open_id=opened.event_id,
            verdict=verdict,
            rule="rule",
            classifier_version=version,
            **self.common,
        )

    def clicked(self, link: int = 1, verdict: str = "human") -> Event:
        found = self.story.tell(
            engagement.MessageClicked, f"click/{link}/{self.id}", self.later(9), link=link, **self.common
        )
        self.story.tell(
            engagement.ClickJudged,
            f"{found.event_id}/1",
            self.later(1),
            click_id=found.event_id,
            link=link,
            verdict=verdict,
            rule="rule",
            classifier_version=1,
            **self.common,
        )
        return found

    def suppress(self, at: datetime, *, active: bool = True, scope: str = "*", **fields: Any) -> Event:
        return self.story.tell(
            state.SuppressionSet,
            f"{self.id}/{at.isoformat()}/{active}",
            at,
            tenant=self.common["tenant"],
            recipient_id=self.common["recipient_id"],
            scope=scope,
            active=active,
            reason="manual",
            message_id=self.id,
            **fields,
        )

    def aftermath(self, chance: float) -> None:
        if chance < 0.1:
            self.bounce()
            self.suppress(self.later())
        elif chance < 0.2:
            self.story.tell(
                feedback.ComplaintReceived, f"arf/{self.id}", self.later(600), reporter="provider.test", **self.common
            )
        elif chance < 0.3:
            self.opened("proxy")
        elif chance < 0.6:
            self.opened()
            self.clicked()
        elif chance < 0.7:
            self.story.tell(
                feedback.RecipientUnsubscribed, f"u/{self.id}", self.later(300), via="one_click", **self.common
            )
            self.suppress(self.later(), scope="marketing")
        elif chance < 0.75:
            self.story.tell(
                feedback.ReplyReceived, f"reply/{self.id}", self.later(300), kind="auto_reply", **self.common
            )
        elif chance < 0.8:
            self.story.tell(
                engagement.ConversionRecorded,
                f"order/{self.id}",
                self.later(900),
                name="order",
                value=12.5,
                currency="EUR",
                **self.common,
            )


def by_topic(records: Sequence[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for one in records:
        found.setdefault(one.topic, []).append(one)
    return found
