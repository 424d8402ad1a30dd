"""`mailriver sql`, `message`: questions to the history."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from pipeline import wiring
from pipeline.cli.output import Failure, JsonOption, print_json, print_rows
from pipeline.cli.session import loaded
from schemas import ids

MESSAGE = "SELECT * FROM v_messages WHERE message_id = {id:String}"
TIMELINE = (
    "SELECT occurred_at, type, detail FROM v_message_timeline WHERE message_id = {id:String} ORDER BY occurred_at, type"
)


def register(app: typer.Typer) -> None:
    app.command()(sql)
    app.command()(message)


def sql(
    query: Annotated[str, typer.Argument(help="A SELECT over the views, such as v_messages.")],
    json: JsonOption = False,
) -> None:
    """Ask ClickHouse, as the read-only user."""
    columns, rows = _asked(_client(), query, {})
    print_rows(columns, rows, as_json=json)


def message(
    name: Annotated[str, typer.Argument(help="A message_id, or the idempotency key of a send.", metavar="ID")],
    tenant: Annotated[str, typer.Option(help="Whose key it is.")] = "default",
    json: JsonOption = False,
) -> None:
    """A message's story: what it is, and all that happened to it."""
    client = _client()
    for message_id in (name, ids.message_id(tenant, name)):
        columns, rows = _asked(client, MESSAGE, {"id": message_id})
        if rows:
            break
    else:
        raise Failure(f"no message {name} is known (a send is visible here a second or two after it was accepted)")
    state = dict(zip(columns, rows[0], strict=True))
    _, timeline = _asked(client, TIMELINE, {"id": message_id})
    steps = ("occurred_at", "type", "detail")
    if json:
        print_json({"message": state, "timeline": [dict(zip(steps, row, strict=True)) for row in timeline]})
        return
    print_rows(
        ("field", "value"), [(key, value) for key, value in state.items() if value not in ("", None)], as_json=False
    )
    print_rows(steps, timeline, as_json=False)


def _client() -> Client:
    settings = loaded()
    try:
        return wiring.clickhouse_reader(settings)
    except ClickHouseError as error:
        raise Failure(f"ClickHouse at {settings.clickhouse.url} does not answer: {_first_line(error)}") from None


def _asked(client: Client, query: str, parameters: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
    try:
        result = client.query(query, parameters=parameters)
    except ClickHouseError as error:
        raise Failure(_first_line(error)) from None
    return tuple(result.column_names), [tuple(row) for row in result.result_rows]


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
