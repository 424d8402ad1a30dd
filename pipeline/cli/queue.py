"""`mailriver queue`: what waits, and the operator's hand on it: suspend, resume, purge, move.

A control is a signed event on `mail.controls`, which every queue owner obeys within two seconds: one whose knowledge of
them is older starts no attempt at all. Counts come from the history, a second or two behind; controls need it not.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Annotated, Any

import typer

from pipeline.cli import waiting
from pipeline.cli.controls import desk
from pipeline.cli.history import history
from pipeline.cli.orders import Order, event_of
from pipeline.cli.output import Failure, JsonOption, print_json, print_rows, table, watch
from pipeline.cli.selection import For, Until, chosen, ending, selecting, sources_of_pools
from pipeline.cli.session import loaded
from schemas.rules.controls import Action, Control, ControlError, read
from schemas.rules.selector import parse
from schemas.state import ControlSet

app = typer.Typer(no_args_is_help=True, help="What waits: look at it, suspend, resume, purge and move it.")

_GRACE = timedelta(minutes=15)
_MOVING = timedelta(hours=1)
_ASKED_FROM = 1_000  # messages: more are not purged without a question
_TAKES_BACK = {Action.SUSPEND: "resume", Action.PURGE: "unpurge", Action.MOVE: "unmove", Action.TRACE: "untrace"}
_IN_EFFECT = "in effect on every worker within 2 s"

Selection = Mapping[str, str]
Reason = Annotated[str, typer.Option(help="Why. It stays in the history, and in the end of what is purged.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count the messages it would be about.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask, however many they are.")]
By = Annotated[list[str] | None, typer.Option("--by", help=f"One of {', '.join(waiting.COLUMNS)}; may be repeated.")]


def register(program: typer.Typer) -> None:
    program.add_typer(app, name="queue")


@app.command()
def top(
    by: By = None,
    every: Annotated[float, typer.Option(min=0.5, help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="One look.")] = False,
    json: JsonOption = False,
) -> None:
    """The fullest queues: depth, oldest message, and what the last five minutes brought. Ctrl-C ends it."""
    keys = by or ["provider", "pool"]
    with history() as client:
        if once or json:
            print_rows(*waiting.top(client, keys), as_json=json)
        else:
            watch(lambda: table(*waiting.top(client, keys)), every)


@app.command("list")
@selecting
def list_(selection: Selection, by: By = None, json: JsonOption = False) -> None:
    """What waits, all or a selection of it, counted by what you name."""
    wanted = chosen(selection) if selection else parse({"all": "yes"})
    with history() as client:
        columns, rows = waiting.listed(client, wanted, by or ["provider", "pool", "tenant", "campaign"])
        title = f"waiting{waiting.said_of(waiting.age(client))}"
    print_rows(columns, rows, as_json=json, title=title)


@app.command()
def controls(json: JsonOption = False) -> None:
    """The controls in force, as Kafka has them."""
    with desk() as known:
        found = known.in_force
    columns = ("id", "action", "selector", "to", "until", "reason", "since")
    print_rows(columns, [_row(control) for control in found], as_json=json)


@app.command()
@selecting
def suspend(
    selection: Selection,
    reason: Reason,
    lasting: For = None,
    until: Until = None,
    dry_run: DryRun = False,
    json: JsonOption = False,
) -> None:
    """Start no attempt of these messages, of waiting ones and those to come, until `resume` or the time given."""
    order = Order("suspend", chosen(selection), reason, ending(lasting, until))
    _carry_out(order, dry_run=dry_run, json=json)


@app.command()
@selecting
def purge(
    selection: Selection,
    reason: Reason,
    lasting: For = None,
    until: Until = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    json: JsonOption = False,
) -> None:
    """Throw these waiting messages away, after a grace (15 minutes) in which they wait and `resume ID` saves them."""
    order = Order("purge", chosen(selection, waiting=True), reason, ending(lasting, until, _GRACE))
    _carry_out(order, dry_run=dry_run, json=json, ask=not yes)


@app.command()
@selecting
def move(
    selection: Selection,
    reason: Reason,
    to: Annotated[str, typer.Option(help="The pool to move them to.")],
    lasting: For = None,
    until: Until = None,
    dry_run: DryRun = False,
    json: JsonOption = False,
) -> None:
    """Put these waiting messages into another pool, where they are tried at once. The way back is another move."""
    pools = loaded().pools
    if to not in pools:
        raise Failure(f"pool {to} is not configured; known: {', '.join(pools)}", status=2)
    wanted = chosen(selection, waiting=True)
    arguments: dict[str, Any] = {"pool": to}
    if wanted.source:
        arguments["pools"] = sorted(wanted.pools)  # for the history, which does not know whose sources are where
    order = Order("move", wanted, reason, ending(lasting, until, _MOVING), arguments)
    _carry_out(order, dry_run=dry_run, json=json)


@app.command()
@selecting
def resume(
    selection: Selection,
    reason: Reason,
    control_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Of a control, see `queue controls`.")
    ] = None,
    dry_run: DryRun = False,
    json: JsonOption = False,
) -> None:
    """Take a control back, by its id; or the suspensions of exactly this selection. A purge, in its grace."""
    if (control_id is None) == (not selection):
        raise Failure("name either the id of a control or a selection", status=2)
    wanted = chosen(selection) if selection else None
    with desk() as known:
        found = [
            each
            for each in known.in_force
            if each.control_id == control_id or (each.action is Action.SUSPEND and each.selector == wanted)
        ]
        if not found:
            raise Failure("no such control is in force; `mailriver queue controls` lists those that are")
        if any(each.action is Action.PURGE and each.until <= time.time() for each in found):
            raise Failure("the grace of this purge is over: its messages have ended")
        for control in found if not dry_run else ():
            order = Order(_TAKES_BACK[control.action], control.selector, reason)
            known.publish(event_of(order, control.control_id))
    print_rows(("id", "action", "selector"), [_row(each)[:3] for each in found], as_json=json)
    if not json:
        typer.echo("would be taken back" if dry_run else f"taken back; {_IN_EFFECT}")


def _carry_out(order: Order, *, dry_run: bool, json: bool, ask: bool = False) -> None:
    event = event_of(order, f"c-{uuid.uuid4().hex[:12]}")
    try:
        read(event, sources_of_pools())
    except ControlError as error:
        raise Failure(str(error), status=2) from None
    if dry_run:
        with history() as client:
            counted: waiting.Counted | str = waiting.count(client, order.selector)
    else:
        counted = waiting.counted_if_possible(order.selector)
        if ask and (isinstance(counted, str) or counted.messages > _ASKED_FROM):
            _confirm(f"{order}: {counted}. Go on?")
        with desk() as known:
            known.publish(event)
    if json:
        print_json(_told(order, event, counted, dry_run=dry_run))
        return
    typer.echo(f"{order}\nwaiting: {counted}")
    if not dry_run:
        typer.echo(f"set as {event.control_id}; {_IN_EFFECT}")


def _told(order: Order, event: ControlSet, counted: waiting.Counted | str, *, dry_run: bool) -> dict[str, Any]:
    known = counted if isinstance(counted, waiting.Counted) else None
    return {
        "id": None if dry_run else event.control_id,
        "action": order.action,
        "selector": event.selector,
        "until": event.until.isoformat() if event.until is not None else None,
        "messages": known.messages if known is not None else None,
        "history_age_s": known.age if known is not None else None,
    }


def _confirm(question: str) -> None:
    try:
        sure = typer.confirm(question)
    except typer.Abort:
        sure = False
    if not sure:
        raise Failure("nothing was done; --yes does not ask")


def _row(control: Control) -> Sequence[Any]:
    until = None if control.until == inf else datetime.fromtimestamp(control.until, UTC)
    action, chosen_by = control.action.name.lower(), str(control.selector)
    return control.control_id, action, chosen_by, control.pool, until, control.reason, control.set_at
