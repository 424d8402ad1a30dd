"""`mailriver send`: one mail from the command line, the way an upstream app sends it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from pydantic import ValidationError

from pipeline.cli.output import Failure, JsonOption, print_json
from pipeline.cli.session import kafka, loaded
from schemas import ids
from schemas.address import AddressError, parse, parse_mailbox
from schemas.attachments import AttachmentError, require_allowed
from schemas.claims import CHECKED_IN_ABOVE, ClaimError
from schemas.rules.raw_mail import RawMailError, read_raw
from schemas.sends import SendRequested
from topics.claims import ClaimsAway
from topics.publisher import Publisher
from topics.registry import SENDS_URGENT

_PATIENCE_MS = 15_000  # a person waits; a worker's two minutes would look like a hang


def register(app: typer.Typer) -> None:
    app.command()(send)


def send(
    recipient: Annotated[str, typer.Argument(help="Whom to send to.")],
    sender: Annotated[str | None, typer.Option("--from", help='Such as "News <news@brand.test>".')] = None,
    subject: Annotated[str | None, typer.Option(help="The subject.")] = None,
    text: Annotated[str, typer.Option(help="The text.")] = "",
    html: Annotated[str | None, typer.Option(help="The HTML.")] = None,
    attach: Annotated[list[Path] | None, typer.Option(help="A file to attach; may be given several times.")] = None,
    raw: Annotated[Path | None, typer.Option(help="A file with a complete message, in place of all these.")] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key: the same key is mailed once.")] = None,
    tenant: Annotated[str, typer.Option(help="Who sends.")] = "default",
    json: JsonOption = False,
) -> None:
    """Publish one send to Kafka and say under which id its story can be read (`mailriver message ID`)."""
    key = key or f"cli-{uuid.uuid4()}"
    fields = {"recipient": recipient, "from": sender, "subject": subject, "tenant": tenant, "text": text or None}
    value = {name: content for name, content in {**fields, "html": html}.items() if content is not None}
    value |= _files(attach or [], raw)
    _check(value)
    with kafka() as cluster, Publisher(cluster, "cli", settings={"message.timeout.ms": _PATIENCE_MS}) as publisher:
        publisher.send(SENDS_URGENT, key.encode(), orjson.dumps(value))
        publisher.flush()
    message_id = ids.message_id(tenant, key)
    if json:
        print_json({"message_id": message_id, "idempotency_key": key})
    else:
        typer.echo(f"{message_id}  (key {key})")


def _files(attach: list[Path], raw: Path | None) -> dict[str, Any]:
    """The fields that hold files; what is too large for a record goes by claim."""
    if not attach and raw is None:
        return {}
    from pipeline import checkin, wiring

    claims = wiring.claims(loaded())
    try:
        if raw is not None:
            data = raw.read_bytes()
            read_raw(data)
            fields = checkin.raw(data, claims)
        else:
            fields = {}
        if attach:
            each = CHECKED_IN_ABOVE // len(attach)
            fields["attachments"] = [checkin.attachment(path, claims, each) for path in attach]
    except OSError as error:
        raise Failure(f"{error.filename}: {error.strerror}", status=2) from None
    except RawMailError as error:
        raise Failure(f"{raw}: {error}", status=2) from None
    except ClaimError as error:
        raise Failure(str(error), status=2) from None
    except ClaimsAway as error:
        raise Failure(str(error)) from None
    return fields


def _check(value: Mapping[str, Any]) -> None:
    """Refuse here what `plan` would refuse later, where nobody looks."""
    try:
        asked = SendRequested.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise Failure(f"{'.'.join(map(str, first['loc'])) or 'send'}: {first['msg']}", status=2) from None
    for name, text, read in (("recipient", asked.recipient, parse), ("from", asked.from_, parse_mailbox)):
        try:
            if text is not None:
                read(text)
        except AddressError as error:
            raise Failure(f"{name}: {error}", status=2) from None
    try:
        require_allowed(asked.attachments, has_html=asked.html is not None)
    except AttachmentError as error:
        raise Failure(str(error), status=2) from None
