"""What the demo prints at its end: numbers, mailbox providers, the witness' word, and where to look next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:  # these ask ClickHouse, whose client takes long to load
    from pipeline.demo.figures import ProviderRow
    from pipeline.demo.run import Result
    from pipeline.demo.verdict import Verdict

_SHOWN = 5  # message_ids of each kind of disagreement

_SENT = ("accepted", "delivered", "bounced", "suppressed", "expired", "failed", "cancelled", "unknown")
_ALWAYS = ("accepted", "delivered", "bounced", "suppressed", "late_bounced")
_FEEDBACK = ("opened", "opened_human", "clicked", "clicked_human", "unsubscribed", "complained")


def of(result: Result) -> list[RenderableType]:
    numbers = result.as_json()
    speed = f"{numbers['seconds']:,.1f} s, {numbers['messages_per_second']:,.0f} a second"
    title = f"\n{result.name}, as ClickHouse has it: {numbers['accepted']:,} messages in {speed}"
    return [title, "", _numbers(numbers, result.funnel), "", _providers(result.providers), "", _witness(result)]


def where_next(result: Result, endpoints: Mapping[str, Any], keep: bool) -> str:
    """Commands to type; the stack must run for them."""
    lines = ['  mailriver sql "SELECT provider, status, class, count() FROM v_messages GROUP BY ALL ORDER BY ALL"']
    if result.example is not None:
        lines.insert(0, f"  mailriver message {result.example.message_id}   ({result.example.attempts} attempts)")
    if keep:
        return "\n".join((f"\nThe mails: {endpoints['mails']}", "In another terminal:", *lines, "Ctrl-C ends it."))
    return "\n".join(("\nLook closer (`mailriver up` starts the same stack with this data):", *lines))


def _numbers(numbers: Mapping[str, Any], funnel: Mapping[str, object]) -> Table:
    table = _table()
    for heading, align in (("messages", "left"), ("", "right"), ("", "right"), ("campaign", "left"), ("", "right")):
        table.add_column(heading, justify="right" if align == "right" else "left")
    left = [(key, numbers[key]) for key in (*_SENT, "late_bounced") if numbers[key] or key in _ALWAYS]
    right = [(key, funnel[key]) for key in _FEEDBACK if key in funnel]
    for index in range(max(len(left), len(right))):
        name_left, count = left[index] if index < len(left) else ("", None)
        name_right, people = right[index] if index < len(right) else ("", None)
        share = f"{count / numbers['accepted']:.1%}" if count is not None and numbers["accepted"] else ""
        table.add_row(
            _words(name_left), "" if count is None else f"{count:,}", share,
            _words(name_right), "" if people is None else f"{people:,}",
        )  # fmt: skip
    return table


def _providers(rows: Sequence[ProviderRow]) -> Table:
    table = _table()
    table.add_column("provider")
    for column in ("messages", "delivered", "bounced", "late", "suppressed", "attempts", "median"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        counts = (row.messages, row.delivered, row.bounced, row.late_bounced, row.suppressed)
        median = "" if row.median_seconds is None else f"{row.median_seconds:,.1f} s"
        table.add_row(row.provider, *(f"{count:,}" for count in counts), f"{row.attempts:.2f}", median)
    return table


def _witness(result: Result) -> Text:
    verdict = result.verdict
    counts = f"{len(verdict.lost)} lost, {len(verdict.duplicates)} doubled, {len(verdict.phantom)} phantom"
    if verdict.clean:
        return Text(f"The witness, {verdict.seen:,} mails in its log, agrees: {counts}.", style="bold green")
    lines = [f"The witness, {verdict.seen:,} mails in its log, disagrees: {counts}.", *_disagreements(verdict)]
    return Text("\n".join(lines), style="bold red")


def _disagreements(verdict: Verdict) -> list[str]:
    kinds = {"lost": verdict.lost, "doubled": verdict.duplicates, "phantom": verdict.phantom}
    return [
        f"  {kind}: {', '.join(found[:_SHOWN])}{' …' if len(found) > _SHOWN else ''}"
        for kind, found in kinds.items()
        if found
    ]


def _table() -> Table:
    return Table(box=None, padding=(0, 1))


def _words(name: str) -> str:
    return {"opened_human": "by people", "clicked_human": "by people", "late_bounced": "late bounces"}.get(name, name)
