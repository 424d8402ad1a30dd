"""Whether the broker lets a worker's death be noticed in time. Pure: its settings come in as it tells them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipeline.doctor.findings import Finding, error, ok, warning
from sinks.smtp.attempts import DOT_WITHIN
from topics.kafka import SESSION_TIMEOUT_MS


def examine(broker: str, protocol: str, settings: Mapping[str, str]) -> Iterator[Finding]:
    """`protocol`: of our groups. `settings`: of the broker; one that it does not tell is missing."""
    prefix = "group.consumer." if protocol == "consumer" else "group."
    least = f"{prefix}min.session.timeout.ms"
    for name in (least, f"{prefix}max.session.timeout.ms"):
        found = _number(settings.get(name))
        if found is None:
            yield warning("kafka", broker, f"it does not tell {name}", f"see that it allows {SESSION_TIMEOUT_MS} ms")
        elif (found > SESSION_TIMEOUT_MS) == (name == least) and found != SESSION_TIMEOUT_MS:
            word = "at most" if name == least else "at least"
            said = f"{name} is {found}, and our session time-out {SESSION_TIMEOUT_MS}"
            yield error("kafka", broker, said, f"set it to {word} {SESSION_TIMEOUT_MS}")
        else:
            yield ok("kafka", broker, f"{name} is {found}")
    if protocol != "consumer":
        return
    # KIP-848: the time-out is the broker's, unless the group has one of its own.
    name = f"{prefix}session.timeout.ms"
    used = _number(settings.get(name))
    if used is None:
        return
    if used <= DOT_WITHIN * 1000:
        said = f"{name} is {used}: a stopped worker that wakes could still end a message that another one has"
        yield error("kafka", broker, said, f"set it to {SESSION_TIMEOUT_MS}")
    elif used > SESSION_TIMEOUT_MS:
        said = f"{name} is {used}: the messages of a worker that died wait so long for the next one"
        yield warning("kafka", broker, said, f"set it to {SESSION_TIMEOUT_MS}")
    else:
        yield ok("kafka", broker, f"{name} is {used}")


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
