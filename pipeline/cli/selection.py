"""What an operator means, on the command line: options that become a selector, spans and moments of time."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from pipeline.cli.output import Failure
from pipeline.cli.session import loaded
from schemas.rules import selector
from schemas.rules.selector import Selector, SelectorError

_HELP = {
    "provider": "Mailbox provider by its MX hosts: google, yahoo, …",
    "site": "Hosts that share limits: a provider, an MX set, a domain.",
    "domain": "Domain of the recipients.",
    "pool": "Pool in which the messages wait.",
    "tenant": "Whose messages.",
    "campaign": "Campaign id.",
    "source": "What its pool may send from; suspended alone, or at a site or provider.",
    "stream": "transactional, marketing, onboarding or newsletter.",
    "older_than": "Accepted longer ago than 30m, 2h, 1d.",
}
_SPAN = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_LONGEST = timedelta(days=365)

For = Annotated[str | None, typer.Option("--for", help="How long: 30m, 2h, 1d.")]
Until = Annotated[
    str | None, typer.Option("--until", help="Until when: 2026-01-31T09:00, UTC unless it says otherwise.")
]


def selecting(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that select messages. It gets their terms as `selection`."""

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        terms = {name: given.pop(name) for name in _HELP}
        everything = given.pop("everything")
        command(selection=_terms(terms, everything=everything), **given)

    options = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[str | None, typer.Option(help=text)],
        )
        for name, text in _HELP.items()
    ]
    everything = Annotated[bool, typer.Option("--all", help="Every message.")]
    options.append(
        inspect.Parameter("everything", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=everything)
    )
    own = [
        each.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for each in inspect.signature(command, eval_str=True).parameters.values()
        if each.name != "selection"
    ]
    parameters = [*options, *own]
    # What typer reads.
    vars(with_options)["__signature__"] = inspect.Signature(parameters)
    with_options.__annotations__ = {each.name: each.annotation for each in parameters}
    return with_options


def _terms(given: Mapping[str, str | None], *, everything: bool) -> dict[str, str]:
    found = {name: value for name, value in given.items() if value is not None}
    if (older := found.pop("older_than", None)) is not None:
        found[selector.BEFORE] = (datetime.now(UTC) - span(older)).isoformat()
    if everything:
        found[selector.ALL] = "yes"
    return found


def chosen(selection: Mapping[str, str], *, waiting: bool = False) -> Selector:
    """The selector of these terms. `waiting`: of what waits by now only, not of what will be accepted."""
    try:
        found = selector.parse(selection)
        if waiting and found.before is None:
            named = {name: value for name, value in selection.items() if name != selector.ALL}
            found = selector.parse({**named, selector.BEFORE: datetime.now(UTC).isoformat()})
        found = found.within(sources_of_pools()) if found.source else found
    except SelectorError as error:
        raise Failure(str(error), status=2) from None
    return found


def sources_of_pools() -> dict[str, tuple[str, ...]]:
    """As they are configured here."""
    return {name: pool.sources for name, pool in loaded().pools.items()}


def span(text: str) -> timedelta:
    matched = _SPAN.fullmatch(text)
    if matched is None:
        raise Failure(f"{text[:32]!r} is not a span of time such as 30m, 2h or 1d", status=2)
    found = timedelta(**{_UNITS[matched[2]]: int(matched[1])})
    if not timedelta(0) < found <= _LONGEST:
        raise Failure(f"{text}: more than nothing, and at most a year", status=2)
    return found


def ending(lasting: str | None, until: str | None, default: timedelta | None = None) -> datetime | None:
    """The moment that `--for` or `--until` names; without either, `default` from now."""
    if lasting is not None and until is not None:
        raise Failure("--for and --until say the same: give one of them", status=2)
    now = datetime.now(UTC)
    if until is None:
        length = span(lasting) if lasting is not None else default
        return None if length is None else now + length
    try:
        found = datetime.fromisoformat(until)
    except ValueError:
        raise Failure(f"--until: {until[:32]!r} is not a time such as 2026-01-31T09:00", status=2) from None
    found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    if not now < found <= now + _LONGEST:
        raise Failure("--until: a time to come, within a year", status=2)
    return found
