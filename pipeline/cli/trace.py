"""`mailriver trace`: the SMTP dialogue with one domain or site, live, from every worker.

Set as a signed control that ends by itself; workers write what they hear to `mail.traces`, masked. Read from its end.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from confluent_kafka import TopicPartition

from pipeline.cli.controls import desk
from pipeline.cli.orders import Order, event_of
from pipeline.cli.output import Failure, JsonOption
from pipeline.cli.selection import chosen, span
from schemas.codec import Undecodable, decode
from schemas.rules.controls import TRACED_FOR
from schemas.tracing import SessionTraced
from topics.kafka import Cluster
from topics.record import record_of
from topics.registry import TRACES

_POLL_S = 0.2


def register(program: typer.Typer) -> None:
    program.command()(trace)


def trace(
    domain: Annotated[str, typer.Argument(help="A recipient domain, or a site such as google.")],
    lasting: Annotated[str, typer.Option("--for", help="How long, at most 1h.")] = "5m",
    json: JsonOption = False,
) -> None:
    """Show the SMTP dialogue with a domain as it happens: no address, no secret, no body. Ctrl-C ends it."""
    length = span(lasting)
    if length > TRACED_FOR:
        raise Failure("--for: at most an hour", status=2)
    wanted = chosen({"domain" if "." in domain else "site": domain})
    control_id, until = f"t-{uuid.uuid4().hex[:12]}", datetime.now(UTC) + length
    with desk() as known:
        pieces = _pieces(known.cluster, control_id, length)
        next(pieces)  # reads from here on
        known.publish(event_of(Order("trace", wanted, "watched from a command line", until), control_id))
        typer.echo(f"watching {wanted} until {until:%T} UTC; in effect on every worker within 2 s", err=True)
        try:
            for piece in pieces:
                if piece is not None:
                    _show(piece, as_json=json)
        except KeyboardInterrupt:
            pass
        finally:
            known.publish(event_of(Order("untrace", wanted, "no longer watched"), control_id))


def _show(piece: SessionTraced, *, as_json: bool) -> None:
    if as_json:
        typer.echo(piece.model_dump_json())
        return
    at = f"{piece.occurred_at:%T.%f}"[:-3]
    for line in piece.lines:
        # Replies come from strangers: no control character reaches the terminal.
        typer.echo(f"{at} {piece.worker}/{piece.session_id} " + "".join(c if c.isprintable() else "·" for c in line))


def _pieces(cluster: Cluster, control_id: str, length: timedelta) -> Iterator[SessionTraced | None]:
    """First nothing, once it has found the end of the topic; then what is written behind it, until the time is over."""
    consumer = cluster.consumer("trace", "trace", **{"group.protocol": "classic"})
    try:
        name = cluster.topic(TRACES)
        _, end = consumer.get_watermark_offsets(TopicPartition(name, 0), timeout=15)
        consumer.assign([TopicPartition(name, 0, end)])
        yield None
        over = time.monotonic() + length.total_seconds()
        while time.monotonic() < over:
            for message in consumer.consume(500, _POLL_S):
                if message.error() is not None:
                    continue
                record = record_of(message, cluster)
                try:
                    event = decode(record.value, record.headers)
                except Undecodable:
                    continue
                if isinstance(event, SessionTraced) and event.control_id == control_id:
                    yield event
    finally:
        consumer.close()
