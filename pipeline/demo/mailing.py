"""What the demo publishes: as an upstream app would, by its Kafka records alone.

A campaign's definition, one send per recipient, receipts on the urgent topic, and some suppressions that came before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson

from pipeline.demo.audience import Person
from schemas import ids
from schemas.address import canonical, parse
from schemas.state import CampaignSet, SuppressionReason, SuppressionSet
from topics.publisher import Publisher
from topics.registry import SENDS, SENDS_URGENT

SENDER = "Field Notes <letter@brand.test>"
SHOP = "Field Notes Shop <orders@brand.test>"
_FOLDER = Path(__file__).parent
_SUPPRESSED_EVERY = 200  # one in so many of the audience has unsubscribed before


@dataclass(frozen=True, slots=True)
class Mailing:
    """One run's mail. The name makes its campaign and its keys new, so that a second run is not a repeat."""

    name: str
    tenant: str
    recipient_secret: bytes
    people: Sequence[Person]
    receipts: int

    @property
    def total(self) -> int:
        return len(self.people) + self.receipts

    def publish(self, publisher: Publisher, on_sent: Callable[[], None]) -> None:
        """Publish everything and wait for the acks; `on_sent` is called for each send."""
        now = datetime.now(UTC)
        for person in self.people[::_SUPPRESSED_EVERY]:
            publisher.publish(self._suppression(person, now))
        publisher.publish(self._campaign(now))
        publisher.flush()  # the campaign is known before its first send
        for number in range(self.receipts):
            person = self.people[number * 7 % len(self.people)]
            key = f"{self.name}/receipt/{number}".encode()
            publisher.send(SENDS_URGENT, key, orjson.dumps(_receipt(person, number)))
            on_sent()
        for person in self.people:
            key = ids.campaign_key(self.name, self._recipient_id(person)).encode()
            publisher.send(SENDS, key, orjson.dumps(self._letter(person)))
            on_sent()
        publisher.flush()

    def _recipient_id(self, person: Person) -> str:
        return ids.recipient_id(self.recipient_secret, self.tenant, canonical(parse(person.email)))

    def _campaign(self, now: datetime) -> CampaignSet:
        return CampaignSet.from_cause(
            self.name,
            occurred_at=now,
            tenant=self.tenant,
            campaign_id=self.name,
            name="Field Notes, November",
            from_=SENDER,
            subject_template="Field Notes: three things for {{ first_name }}",
            html=(_FOLDER / "newsletter.html").read_text(encoding="utf-8"),
            text=(_FOLDER / "newsletter.txt").read_text(encoding="utf-8"),
            tags=("demo", "letter"),
        )

    def _letter(self, person: Person) -> dict[str, object]:
        return {
            "recipient": person.email,
            "tenant": self.tenant,
            "campaign_id": self.name,
            "variables": {
                "first_name": person.first_name,
                "city": person.city,
                "vip": person.last_name[0] in "AEIOU",
            },
        }

    def _suppression(self, person: Person, now: datetime) -> SuppressionSet:
        recipient_id = self._recipient_id(person)
        return SuppressionSet.from_cause(
            f"{self.name}/{recipient_id}",
            occurred_at=now,
            tenant=self.tenant,
            recipient_id=recipient_id,
            scope="marketing",
            reason=SuppressionReason.UNSUBSCRIBE,
            note="unsubscribed before the demo",
        )


def _receipt(person: Person, number: int) -> dict[str, object]:
    return {
        "recipient": person.email,
        "from": SHOP,
        "subject": f"Your receipt {number + 1:05d}",
        "text": f"Dear {person.first_name} {person.last_name},\n\nthank you for your order. Receipt {number + 1:05d}, "
        f"{12 + number % 40}.00 EUR, paid.\n\nField Notes Shop, {person.city}\n",
        "tags": ["demo", "receipt"],
    }
