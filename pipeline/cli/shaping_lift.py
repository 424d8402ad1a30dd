"""`mailriver shaping lift`: ends the overrides of a selector, which replies have set off, before their time."""

from __future__ import annotations

import getpass
import time
from datetime import UTC, datetime
from typing import Annotated

import typer
from pydantic import ValidationError

from pipeline.cli import shaping_live
from pipeline.cli.output import Failure, JsonOption, print_json
from pipeline.cli.session import kafka, loaded
from schemas.state import ShapingSet
from sinks.smtp.overrides import Action, Override
from topics.publisher import Publisher

_PATIENCE_S = 15.0


def lift(
    selector: Annotated[str, typer.Argument(help="As `shaping show` has it, such as site:POOL/SITE or tenant:NAME.")],
    reason: Annotated[str, typer.Option(help="Why. It stays in the history.")],
    json: JsonOption = False,
) -> None:
    """End the overrides of a selector at once, and what is left of their recovery."""
    settings = loaded()
    with kafka() as cluster:
        known = shaping_live.in_force(cluster, settings)
        lifted = [override for override in known if override.selector == selector]
        if not lifted:
            others = ", ".join(sorted({override.selector for override in known})) or "nothing"
            raise Failure(f"no override of {selector} is in force; in force is: {others}")
        event = _event(selector, lifted, reason, time.time())
        with Publisher(cluster, "cli", settings={"message.timeout.ms": int(_PATIENCE_S * 1000)}) as publisher:
            publisher.publish(event)
            publisher.flush()
    if json:
        print_json({"selector": selector, "lifted": [override.action.value for override in lifted]})
    else:
        typer.echo(f"lifted of {selector}: {', '.join(override.action for override in lifted)}")


def _event(selector: str, lifted: list[Override], reason: str, now: float) -> ShapingSet:
    # Not before what it ends, whatever the clock here says: workers go by these times.
    at = max(now, *(override.since for override in lifted))
    kind, _, name = selector.partition(":")
    sender = name.partition(">")[0].partition("/")[0] if kind in ("tenant", "campaign") else "default"
    by = getpass.getuser()
    try:
        return ShapingSet.from_cause(
            f"{by}/{selector}/{Action.LIFT}/{at}",
            occurred_at=datetime.fromtimestamp(at, UTC),
            tenant=sender,
            selector=selector,
            action=Action.LIFT.value,
            reason=reason,
            by=by,
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise Failure(f"{first['loc'][0]}: {first['msg']}", status=2) from None
