"""What an operator orders, as the event that says so."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from pipeline.cli.output import Failure
from schemas.rules.selector import Selector
from schemas.state import ControlSet


@dataclass(frozen=True, slots=True)
class Order:
    action: str
    selector: Selector
    reason: str
    until: datetime | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        until = f" until {self.until:%F %T} UTC" if self.until is not None else ""
        return f"{self.action} {self.selector}{until}"


def event_of(order: Order, control_id: str) -> ControlSet:
    now = datetime.now(UTC)
    try:
        return ControlSet.from_cause(
            f"{control_id}/{order.action}/{now.isoformat()}",
            occurred_at=now,
            control_id=control_id,
            action=order.action,
            selector=order.selector.as_dict(),
            reason=order.reason,
            by=getpass.getuser(),
            until=order.until,
            arguments=dict(order.arguments),
        )
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise Failure(f"{first['loc'][0]}: {first['msg']}", status=2) from None
