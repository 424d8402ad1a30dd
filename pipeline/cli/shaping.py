"""`mailriver shaping`: which ceilings and rules hold for a domain, from which line; and whether rules do their work."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Annotated, Any

import typer

from pipeline import wiring
from pipeline.cli import shaping_live
from pipeline.cli.output import Failure, JsonOption, print_json, print_rows
from pipeline.cli.session import configured, loaded
from pipeline.cli.shaping_lift import lift
from pipeline.settings import Settings
from schemas.rules import shaping_file
from schemas.rules.quantities import rate_text, time_text
from schemas.rules.reply_rules import Amount, ReplyRule, Scope, Trial, trials
from schemas.rules.shaping import SENDERS, Setting, Shaping
from sinks.smtp.overrides import Action, Override

_LIMIT = ("about", "limit", "value", "from")
Row = tuple[str, ...]
_OVERRIDE = ("about", "override", "value", "until", "rule")

app = typer.Typer(no_args_is_help=True, help="Limits at mailbox providers, and what their replies set off.")
app.command()(lift)


def register(program: typer.Typer) -> None:
    program.add_typer(app, name="shaping")


@app.command()
def show(
    domain: Annotated[
        str, typer.Argument(help="A recipient's domain, a site, or tenant:NAME, source:NAME, campaign:TENANT/NAME.")
    ],
    dns: Annotated[bool, typer.Option("--dns", help="Ask DNS alone for the site, and Kafka nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Which ceilings and rules hold for a domain, from which file and line, and which overrides are in force."""
    settings = loaded()
    with configured():
        shaping = wiring.shaping(settings)
    limits = [
        (selector, key, _value(key, each), str(each.place))
        for selector, table in shaping.spanning.items()
        for key, each in table.items()
    ]
    if ":" in domain and domain.partition(":")[0] in SENDERS:
        said = [] if dns or not settings.kafka.bootstrap else shaping_live.senders(settings, domain)
        _show_sender(domain, [row for row in limits if row[0] == domain], [_row(each) for each in said], as_json=json)
        return
    learned, overrides = ("", []) if dns or not settings.kafka.bootstrap else shaping_live.ask(settings, domain)
    named = domain in shaping.providers or domain in shaping.by_site
    site = domain if named else learned or _resolved(settings, shaping, domain)
    force = [row for override in overrides if (row := _in_force(override, site)) is not None]
    ceilings = [(name, _value(name, each), str(each.place)) for name, each in shaping.explain(site).items()]
    rules = [(rule.id, _about(rule), _follows(rule), str(rule.place)) for rule in shaping.rules_at(site)]
    origin = shaping.origins.get(site)
    if json:
        print_json(
            {
                "domain": domain,
                "site": site,
                "source": origin.source if origin else "",
                "date": origin.date if origin else "",
                "ceilings": _named(("ceiling", "value", "from"), ceilings),
                "rules": _named(("rule", "reply", "sets off", "from"), rules),
                "limits": _named(_LIMIT, limits),
                "overrides": _named(_OVERRIDE, force),
            }
        )
        return
    typer.echo(f"{domain} is of the site {site}")
    if origin:
        typer.echo(f"its figures: {origin.source} ({origin.date})")
    print_rows(("ceiling", "value", "from"), ceilings, as_json=False)
    print_rows(("rule", "reply", "sets off", "from"), rules, as_json=False)
    _print_limits(limits, force)


def _show_sender(selector: str, limits: Sequence[Row], force: Sequence[Row], *, as_json: bool) -> None:
    """Of a tenant, a source or a campaign."""
    if as_json:
        print_json({"selector": selector, "limits": _named(_LIMIT, limits), "overrides": _named(_OVERRIDE, force)})
        return
    if not limits:
        typer.echo(f"{selector} has no limit of its own")
    _print_limits(limits, force)


def _print_limits(limits: Sequence[Row], force: Sequence[Row]) -> None:
    if limits:
        print_rows(_LIMIT, limits, as_json=False, title="to all sites together, over all workers")
    if force:
        print_rows(_OVERRIDE, force, as_json=False, title="overrides in force")


@app.command("test")
def try_rules(
    file: Annotated[Path | None, typer.Argument(help="By default the configured file, else the shipped one.")] = None,
    json: JsonOption = False,
) -> None:
    """Try every rule on the replies that it must and must not match. Exits 1 when one fails."""
    try:
        shaping = shaping_file.load(file or loaded().delivery.shaping)
    except shaping_file.ShapingError as error:
        raise Failure(str(error)) from None
    tried = trials(shaping.rules)
    failed = [trial for trial in tried if not trial.passed]
    columns = ("rule", "reply", "failure", "from")
    rows = [(trial.rule.id, trial.reply, _failure(trial), str(trial.rule.place)) for trial in failed]
    if json:
        print_json({"rules": len(shaping.rules), "replies": len(tried), "failed": _named(columns, rows)})
    else:
        if rows:
            print_rows(columns, rows, as_json=False)
        typer.echo(f"{len(shaping.rules)} rules, {len(tried)} replies, {len(failed)} failed")
    if failed:
        raise typer.Exit(1)


def _in_force(override: Override, site: str) -> Row | None:
    """A row, for an override that is about the site or about all."""
    kind, _, name = override.selector.partition(":")
    at = name.rpartition("/")[2] if kind == "site" else name.partition(">")[2]
    return _row(override) if at in ("", site) else None


def _row(override: Override) -> Row:
    match override.action:
        case Action.LIMIT_RATE:
            value = rate_text(override.value)
        case Action.LIMIT_CONNECTIONS:
            value = f"{override.value:.0f}"
        case _:
            value = ""
    until = datetime.fromtimestamp(override.until, UTC).isoformat(sep=" ", timespec="seconds")
    return override.selector, override.action, value, until, override.rule


def _resolved(settings: Settings, shaping: Shaping, domain: str) -> str:
    """By DNS, as the owner of its mail finds it."""
    from sinks.smtp.dns import Cache, Resolver, Router
    from sinks.smtp.routing import Permanent, Route, Temporary

    with configured():
        servers = wiring.nameservers(settings)
    router = Router(Cache(Resolver(servers), time.monotonic), Random(), providers=shaping.providers)
    match asyncio.run(router.route(domain.lower().encode("idna").decode())):
        case Route(site=site):
            return site
        case Permanent(reason=reason) | Temporary(reason=reason):
            raise Failure(f"{domain}: {reason}")


def _named(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _value(name: str, setting: Setting) -> str:
    if name.endswith("_rate"):
        return rate_text(setting.value)
    if name == "idle" or name.startswith("timeouts."):
        return time_text(setting.value)
    return str(setting.value)


def _about(rule: ReplyRule) -> str:
    conditions = ("/".join(map(str, rule.codes)), "/".join(rule.enhanced), rule.text.pattern if rule.text else "")
    return " ".join(condition for condition in conditions if condition)


def _follows(rule: ReplyRule) -> str:
    parts: list[str] = [str(rule.verdict)] if rule.verdict else []
    if rule.suspend:
        what = f"the {rule.scope} everywhere" if rule.everywhere else f"the {rule.scope}"
        parts.append(f"suspend {what}" + (" here" if rule.scope is not Scope.SITE and not rule.everywhere else ""))
    if rule.rate:
        parts.append(f"messages {_portion(rule.rate) or rate_text(rule.rate.value)}")
    if rule.connections:
        parts.append(f"connections {_portion(rule.connections) or f'{rule.connections.value:.0f}'}")
    text = ", ".join(parts) + (f" for {time_text(rule.hold_s)}" if rule.overrides else "")
    return text + (f" after {rule.after} within {time_text(rule.within_s)}" if rule.after > 1 else "")


def _portion(amount: Amount) -> str:
    return f"{amount.value:.0%}" if amount.is_share else ""


def _failure(trial: Trial) -> str:
    if trial.hidden_by:
        return f"{trial.hidden_by} before it takes the reply"
    return "does not match" if trial.wanted else "matches"
