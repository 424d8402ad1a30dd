"""What the stack tests ask of a running stack: the witness, the views, the dead letters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline import wiring
from pipeline.embedded.stack import Stack
from pipeline.simulator.witness import Entry, Witness
from tests.waiting import wait_until

ENDED = "status != 'in_flight'"


class Questions:
    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._client = wiring.clickhouse_reader(stack.settings)

    def rows(self, query: str, **parameters: Any) -> list[dict[str, Any]]:
        result = self._client.query(query, parameters=parameters)
        return [dict(zip(result.column_names, row, strict=True)) for row in result.result_rows]

    def message(self, key: str) -> dict[str, Any]:
        """The message of an idempotency key, once it has ended."""
        query = f"SELECT * FROM v_messages WHERE idempotency_key = {{key:String}} AND {ENDED}"
        return wait_until(lambda: self.rows(query, key=key), timeout=60, what=f"the end of {key}")[0]

    def arrived(self, message_id: str) -> list[Entry]:
        """What the witness saw of a message."""
        witness = Witness(Path(self.stack.simulator["witness"]))
        return [entry for entry in witness.load() if entry.mailriver_id == message_id]

    def dead_letters(self, reason: str) -> list[dict[str, Any]]:
        query = "SELECT * FROM v_deadletters WHERE position(reason, {reason:String}) > 0"
        return wait_until(lambda: self.rows(query, reason=reason), timeout=60, what=f"a dead letter about {reason!r}")
