"""Which message an id names, asked of ClickHouse: for feedback that knows a message_id and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from pipeline import wiring
from pipeline.settings import Settings
from processors.classify.findings import MessageRef
from topics.errors import Later

QUERY = """
SELECT message_id, recipient_id, recipient_domain, tenant, stream, campaign_id, provider, pool, subject_ref, tags,
    metadata
FROM v_messages WHERE message_id IN {ids:Array(String)}
"""


class ClickHouseResolver:
    """Call it with a batch of ids; those that are not (yet) known are missing in the answer. Raises Later."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client: Client | None = None

    def __call__(self, message_ids: Collection[str]) -> Mapping[str, MessageRef]:
        try:
            self._client = self._client or wiring.clickhouse_reader(self._settings)
            rows = self._client.query(QUERY, parameters={"ids": list(message_ids)}).result_rows
        except ClickHouseError as error:
            self._client = None  # a new one asks the server for its version again: it may be another by then
            raise Later(f"ClickHouse: {type(error).__name__}") from None
        return {str(row[0]): _ref(*row) for row in rows}


def _ref(
    message_id: str,
    recipient_id: str,
    recipient_domain: str,
    tenant: str,
    stream: str,
    campaign_id: str | None,
    provider: str,
    pool: str,
    subject_ref: str | None,
    tags: Collection[str],
    metadata: Mapping[str, str],
) -> MessageRef:
    return MessageRef(
        message_id=message_id,
        recipient_id=recipient_id,
        recipient_domain=recipient_domain,
        tenant=tenant,
        stream=stream,
        campaign_id=campaign_id or None,
        provider=provider,
        pool=pool,
        subject_ref=subject_ref or None,
        tags=tuple(tags),
        metadata=dict(metadata),
    )
