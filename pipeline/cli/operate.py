"""`mailriver send`: one mail from the command line, the way an upstream app sends it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Annotated

import orjson
import typer
from pydantic import ValidationError

from pipeline.cli.output import Failure, JsonOption, print_json
from pipeline.cli.session import kafka
from schemas import ids
from schemas.address import AddressError, parse, parse_mailbox
from schemas.sends import SendRequested
from topics.publisher import Publisher
from topics.registry import SENDS_URGENT

_PATIENCE_MS = 15_000  # a person waits; a worker's two minutes would look like a hang


def register(app: typer.Typer) -> None:
    app.command()(send)


def send(
    recipient: Annotated[str, typer.Argument(help="Whom to send to.")],
    sender: Annotated[str, typer.Option("--from", help='Such as "News <news@brand.test>".')],
    subject: Annotated[str, typer.Option(help="The subject.")],
    text: Annotated[str, typer.Option(help="The text.")] = "",
    html: Annotated[str | None, typer.Option(help="The HTML.")] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key: the same key is mailed once.")] = None,
    tenant: Annotated[str, typer.Option(help="Who sends.")] = "default",
    json: JsonOption = False,
) -> None:
    """Publish one send to Kafka and say under which id its story can be read (`mailriver message ID`)."""
    key = key or f"cli-{uuid.uuid4()}"
    fields = {"recipient": recipient, "from": sender, "subject": subject, "tenant": tenant, "text": text or None}
    value = {name: content for name, content in {**fields, "html": html}.items() if content is not None}
    _check(value)
    with kafka() as cluster, Publisher(cluster, "cli", settings={"message.timeout.ms": _PATIENCE_MS}) as publisher:
        publisher.send(SENDS_URGENT, key.encode(), orjson.dumps(value))
        publisher.flush()
    message_id = ids.message_id(tenant, key)
    if json:
        print_json({"message_id": message_id, "idempotency_key": key})
    else:
        typer.echo(f"{message_id}  (key {key})")


def _check(value: Mapping[str, str]) -> None:
    """Refuse here what `plan` would refuse later, where nobody looks."""
    try:
        asked = SendRequested.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise Failure(f"{'.'.join(map(str, first['loc'])) or 'send'}: {first['msg']}", status=2) from None
    for name, text, read in (("recipient", asked.recipient, parse), ("from", asked.from_ or "", parse_mailbox)):
        try:
            read(text)
        except AddressError as error:
            raise Failure(f"{name}: {error}", status=2) from None
