"""What waits, as the history has it: counts for `mailriver queue`, by any selector, and how old they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from clickhouse_connect.driver.client import Client

from pipeline.cli.history import asked, history
from pipeline.cli.output import Failure
from schemas.rules.selector import Selector

COLUMNS = {
    "provider": "provider", "site": "site", "domain": "recipient_domain", "pool": "pool", "source": "source",
    "tenant": "tenant", "campaign": "campaign_id", "stream": "stream", "class": "class",
}  # fmt: skip
_ROWS = 100
_COUNT = "SELECT count() FROM v_queue WHERE {where}"
_LIST = """
SELECT {keys}, count() AS waiting, countIf(attempts = 0) AS untried, countIf(deferrals > 0) AS deferred,
    dateDiff('second', min(accepted_at), now64(6)) AS oldest_s
FROM v_queue WHERE {where} GROUP BY {names} ORDER BY waiting DESC, {names} LIMIT {rows}
"""
_TOP = """
SELECT {names}, q.waiting AS waiting, q.oldest_s AS oldest_s, r.tried AS attempts_5m,
    if(r.tried = 0, NULL, round(r.put_off / r.tried, 3)) AS deferral_rate, r.delivered_5m AS delivered_5m
FROM (
    SELECT {keys}, count() AS waiting, dateDiff('second', min(accepted_at), now64(6)) AS oldest_s
    FROM v_queue GROUP BY {names}
) AS q
FULL OUTER JOIN (
    SELECT {keys}, count() AS tried, countIf(outcome = 'deferred') AS put_off,
        countIf(outcome = 'delivered') AS delivered_5m
    FROM v_attempts WHERE occurred_at > now64(6) - INTERVAL 5 MINUTE AND outcome != 'held' GROUP BY {names}
) AS r USING ({names})
ORDER BY waiting DESC, attempts_5m DESC, {names} LIMIT {rows}
"""
_NEWEST = "SELECT max(recorded_at) FROM v_attempts WHERE occurred_at > now64(6) - INTERVAL 1 HOUR"

Answer = tuple[tuple[str, ...], list[tuple[Any, ...]]]


@dataclass(frozen=True, slots=True)
class Counted:
    messages: int
    age: float | None
    """Seconds since the newest attempt that the history knows of; None when there was none within the hour."""

    def __str__(self) -> str:
        return f"{self.messages:,} messages{said_of(self.age)}"


def said_of(age: float | None) -> str:
    if age is None:
        return " (the history knows of no attempt within the hour)"
    return f" (the history's newest attempt is {age:.0f} s old)"


def count(client: Client, chosen: Selector) -> Counted:
    where, parameters = _where(chosen)
    rows = asked(client, _COUNT.format(where=where), parameters)[1]
    return Counted(int(rows[0][0]), age(client))


def counted_if_possible(chosen: Selector) -> Counted | str:
    """The count, or why there is none: a control must be possible when the history is away."""
    try:
        with history() as client:
            return count(client, chosen)
    except Failure as failure:
        return str(failure)


def listed(client: Client, chosen: Selector, by: Sequence[str]) -> Answer:
    where, parameters = _where(chosen)
    return asked(client, _LIST.format(where=where, rows=_ROWS, **_grouping(by)), parameters)


def top(client: Client, by: Sequence[str]) -> Answer:
    return asked(client, _TOP.format(rows=_ROWS, **_grouping(by)), {})


def age(client: Client) -> float | None:
    newest = asked(client, _NEWEST, {})[1][0][0]
    if not isinstance(newest, datetime) or newest.year < 2000:
        return None
    return max(0.0, (datetime.now(UTC) - newest.replace(tzinfo=UTC)).total_seconds())


def _grouping(by: Sequence[str]) -> dict[str, str]:
    for name in by:
        if name not in COLUMNS:
            raise Failure(f"--by {name[:32]!r}: one of {', '.join(COLUMNS)}", status=2)
    names = dict.fromkeys(by)
    return {"names": ", ".join(names), "keys": ", ".join(f"{COLUMNS[name]} AS {name}" for name in names)}


def _where(chosen: Selector) -> tuple[str, dict[str, Any]]:
    conditions = [f"{COLUMNS[name]} = {{{name}:String}}" for name, _ in chosen.terms]
    parameters: dict[str, Any] = dict(chosen.terms)
    if chosen.source:
        # What was tried from it once may go from another source of its pool next time, and what was not tried from it.
        conditions.append("pool IN {pools:Array(String)}")
        parameters["pools"] = sorted(chosen.pools)
    if chosen.before is not None:
        conditions.append("accepted_at < {before:DateTime64(6, 'UTC')}")
        parameters["before"] = chosen.before
    return " AND ".join(conditions) or "true", parameters
