"""`mailriver sql`, `message`: questions to the history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

import typer
from clickhouse_connect.driver.client import Client

from pipeline.cli.history import asked, history
from pipeline.cli.output import Failure, JsonOption, print_fields, print_json, print_rows
from schemas import ids

MESSAGE = "SELECT * FROM v_messages WHERE message_id = {id:String}"
TIMELINE = (
    "SELECT occurred_at, type, detail FROM v_message_timeline WHERE message_id = {id:String} ORDER BY occurred_at, type"
)


def register(app: typer.Typer) -> None:
    app.command()(message)
    app.command()(sql)


def sql(
    query: Annotated[str, typer.Argument(help="A SELECT over the views, such as v_messages.")],
    json: JsonOption = False,
) -> None:
    """Ask ClickHouse, as the read-only user. SHOW TABLES lists the views."""
    with history() as client:
        columns, rows = asked(client, query, {})
    print_rows(columns, rows, as_json=json)


def message(
    name: Annotated[str, typer.Argument(help="A message_id, or the idempotency key of a send.", metavar="ID")],
    tenant: Annotated[str, typer.Option(help="Whose key it is.")] = "default",
    json: JsonOption = False,
) -> None:
    """A message's story: what it is, and all that happened to it."""
    with history() as client:
        state = _found(client, (name, ids.message_id(tenant, name)))
        if state is None:
            raise Failure(
                f"no message {name} is known to tenant {tenant}; a send shows here a second or two after it was "
                "accepted, and one that was refused in v_rejected and v_deadletters (`mailriver sql`)"
            )
        columns, timeline = asked(client, TIMELINE, {"id": state["message_id"]})
    if json:
        print_json({"message": state, "timeline": [dict(zip(columns, row, strict=True)) for row in timeline]})
        return
    print_fields({key: value for key, value in state.items() if value not in ("", None, [], {}, False)})
    typer.echo()
    print_rows(("at", "after", "event", "detail"), list(_story(timeline)), as_json=False)


def _story(timeline: Sequence[Sequence[Any]]) -> Iterator[tuple[str, str, str, str]]:
    """Each step with the time since the first: what a reader wants to know is how long things took."""
    for occurred_at, kind, detail in timeline:
        at: datetime = occurred_at
        seconds = (at - timeline[0][0]).total_seconds()
        yield at.strftime("%F %T.%f")[:-3], f"+{seconds:,.3f} s", kind, detail


def _found(client: Client, message_ids: Sequence[str]) -> Mapping[str, Any] | None:
    for message_id in message_ids:
        columns, rows = asked(client, MESSAGE, {"id": message_id})
        if rows:
            return dict(zip(columns, rows[0], strict=True))
    return None
