"""The demo's numbers, asked of ClickHouse through the same views that data teams use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from clickhouse_connect.driver.client import Client

OURS = "(campaign_id = {name:String} OR startsWith(idempotency_key, concat({name:String}, '/')))"
STATUSES = f"SELECT status, count() FROM v_messages WHERE {OURS} GROUP BY status"
BY_MESSAGE = f"SELECT message_id, status FROM v_messages WHERE {OURS}"
SUMMARY = f"""
SELECT countIf(late_bounce), min(accepted_at), max(ended_at)
FROM v_messages WHERE {OURS} AND status != 'suppressed'
"""
# A provider is known from the first attempt on; what was never attempted has its domain.
PROVIDERS = f"""
SELECT if(v_messages.provider != '', v_messages.provider, recipient_domain) AS provider, count() AS messages,
       countIf(status = 'delivered') AS delivered, countIf(status = 'bounced') AS bounced,
       countIf(late_bounce) AS late_bounced, countIf(status = 'suppressed') AS suppressed, avg(attempts) AS attempts,
       quantileIf(0.5)(dateDiff('millisecond', accepted_at, ended_at), status = 'delivered') / 1000 AS median_seconds
FROM v_messages WHERE {OURS} GROUP BY provider ORDER BY messages DESC, provider
"""
EXAMPLE = f"""
SELECT message_id, status, attempts FROM v_messages
WHERE {OURS} AND status = 'delivered' ORDER BY attempts DESC, message_id LIMIT 1
"""
FUNNEL = "SELECT * FROM v_campaign_funnel WHERE campaign_id = {name:String}"


@dataclass(frozen=True, slots=True)
class Summary:
    """What the campaign and its receipts came to. `seconds` runs from the first acceptance to the last end."""

    statuses: Mapping[str, int]
    late_bounced: int
    seconds: float

    @property
    def accepted(self) -> int:
        return sum(self.statuses.values())

    @property
    def ended(self) -> int:
        return self.accepted - self.statuses.get("in_flight", 0)

    @property
    def messages_per_second(self) -> float:
        return self.ended / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class ProviderRow:
    """What became of the messages to one mailbox provider; times in seconds from acceptance to delivery."""

    provider: str
    messages: int
    delivered: int
    bounced: int
    late_bounced: int
    suppressed: int
    attempts: float  # on average
    median_seconds: float | None  # None when nothing was delivered


@dataclass(frozen=True, slots=True)
class Example:
    """The message that took the most attempts."""

    message_id: str
    status: str
    attempts: int


class Figures:
    """Questions about one run, by its name."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._parameters = {"name": name}

    def statuses(self) -> dict[str, int]:
        return {str(status): int(str(count)) for status, count in self._rows(STATUSES)}

    def by_message(self) -> dict[str, str]:
        return {str(message_id): str(status) for message_id, status in self._rows(BY_MESSAGE)}

    def summary(self) -> Summary:
        late, first, last = self._rows(SUMMARY)[0]
        seconds = (last - first).total_seconds() if isinstance(last, datetime) and isinstance(first, datetime) else 0.0
        return Summary(self.statuses(), int(str(late)), max(seconds, 0.0))

    def providers(self) -> list[ProviderRow]:
        return [ProviderRow(*row) for row in self._client.query(PROVIDERS, parameters=self._parameters).result_rows]

    def example(self) -> Example | None:
        """None when nothing was delivered."""
        rows = self._client.query(EXAMPLE, parameters=self._parameters).result_rows
        return Example(*rows[0]) if rows else None

    def funnel(self) -> dict[str, object]:
        result = self._client.query(FUNNEL, parameters=self._parameters)
        return dict(zip(result.column_names, result.result_rows[0], strict=True)) if result.result_rows else {}

    def _rows(self, query: str) -> list[tuple[object, ...]]:
        return [tuple(row) for row in self._client.query(query, parameters=self._parameters).result_rows]
