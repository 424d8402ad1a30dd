"""`mailriver dkim`: keys that sign, from their making to their end, and the DNS records that belong to them.

Prints public keys only. The order of a rotation is that of RFC 6376 section 3.1: publish, then sign, and leave the old
record until no mail is out that needs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from typing import Annotated, Any

import typer

from pipeline import dkim_keys, wiring
from pipeline.cli.output import Failure, JsonOption, print_json
from pipeline.cli.session import configured, loaded
from pipeline.dkim_keys import KeyFile, KeysWait, State
from pipeline.dkim_records import Finding, compare, resolver, strings, zone_line
from pipeline.settings import Settings
from sinks.smtp.dkim import Algorithm, DkimError, txt_record

app = typer.Typer(no_args_is_help=True, help="DKIM keys: make, rotate, show what belongs into DNS.")

DomainArgument = Annotated[str, typer.Argument(help="One of a tenant's sending domains.")]
TenantOption = Annotated[str, typer.Option(help="Keys of this tenant alone, where several share the domain.")]
ActivateOption = Annotated[bool, typer.Option("--activate", help="Sign at once, whatever DNS shows.")]
AlgorithmOption = Annotated[
    list[Algorithm] | None, typer.Option("--algorithm", help="By default both; may be given twice.")
]

_MEANING = {
    State.SIGNING: "signs",
    State.WAITING: "waits: publish this, then `mailriver dkim rotate`",
    State.RETIRED: "retired",
}


def register(program: typer.Typer) -> None:
    program.add_typer(app, name="dkim")


@app.command()
def generate(
    domain: DomainArgument,
    tenant: TenantOption = "",
    algorithm: AlgorithmOption = None,
    activate: ActivateOption = False,
    json: JsonOption = False,
) -> None:
    """Make keys under new selectors and print their records. They sign after `rotate` (or `--activate`)."""
    settings = loaded()
    with _files():
        _generated(settings, domain, tenant, algorithm)
        if activate:
            dkim_keys.activate(_known(settings, domain, tenant), _today())
        _show(_known(settings, domain, tenant), None, json)


@app.command()
def rotate(
    domain: DomainArgument,
    tenant: TenantOption = "",
    algorithm: AlgorithmOption = None,
    activate: ActivateOption = False,
    json: JsonOption = False,
) -> None:
    """Make keys that wait; or, when DNS shows those that do, let them sign and retire the old ones."""
    settings = loaded()
    with _files():
        found: dict[str, Finding] | None = None
        waiting = [file for file in _known(settings, domain, tenant) if file.state is State.WAITING]
        if not waiting:
            waiting = _generated(settings, domain, tenant, algorithm)
        elif not activate:
            found = _findings(settings, waiting)
        shown = found is not None and set(found.values()) == {Finding.PUBLISHED}
        if activate or shown:
            dkim_keys.activate(_known(settings, domain, tenant), _today())
        _show(_known(settings, domain, tenant), found, json)
    if found is not None and not shown:
        raise Failure("DNS does not show what waits, so nothing changed: publish it, or say --activate")


@app.command(name="dns")
def dns_(
    domain: Annotated[str | None, typer.Argument(help="By default all sending domains.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Ask DNS, and fail where it shows something else.")] = False,
    json: JsonOption = False,
) -> None:
    """The TXT records of all keys, as lines of a zone file."""
    settings = loaded()
    with _files():
        files = _every(settings, domain)
        found = _findings(settings, files) if check else None
        _show(files, found, json)
    if not files:
        raise Failure("there is no key: `mailriver dkim generate DOMAIN` makes them")
    wrong = [file for file in files if found and found[file.record_name] is not Finding.PUBLISHED and not _aged(file)]
    if wrong:
        raise Failure(f"DNS does not show {len(wrong)} of {len(files)} records as they are here")


def _generated(settings: Settings, domain: str, tenant: str, algorithms: list[Algorithm] | None) -> list[KeyFile]:
    _require_ours(settings, domain, tenant)
    wanted = dict.fromkeys(algorithms or Algorithm)
    try:
        return dkim_keys.generate(settings.secrets_folder, domain, tenant, wanted, _today())
    except KeysWait:
        raise Failure(f"{domain} has keys that wait: finish with `mailriver dkim rotate {domain}`") from None


def _known(settings: Settings, domain: str, tenant: str) -> list[KeyFile]:
    _require_ours(settings, domain, tenant)
    return dkim_keys.key_files(settings.secrets_folder, domain, tenant)


def _every(settings: Settings, domain: str | None) -> list[KeyFile]:
    if domain is not None:
        _require_ours(settings, domain, "")
    owners: dict[str, list[str]] = {}
    for name, tenant in settings.tenants.items():
        for own in tenant.sending_domains:
            owners.setdefault(own, [""]).append(name)
    wanted = owners if domain is None else {domain: owners[domain]}
    return [
        file
        for own, tenants in wanted.items()
        for name in tenants
        for file in dkim_keys.key_files(settings.secrets_folder, own, name)
    ]


def _require_ours(settings: Settings, domain: str, tenant: str) -> None:
    owners = {name for name, each in settings.tenants.items() if domain in each.sending_domains}
    if not owners:
        raise Failure(f"no tenant has {domain} among its sending_domains", status=2)
    if tenant and tenant not in owners:
        raise Failure(f"{domain} is not a sending domain of a tenant {tenant}", status=2)


def _findings(settings: Settings, files: Sequence[KeyFile]) -> dict[str, Finding]:
    with configured():
        ask = resolver(wiring.nameservers(settings))
    return {file.record_name: compare(txt_record(file.key), ask(file.record_name)) for file in files}


def _show(files: Sequence[KeyFile], found: dict[str, Finding] | None, as_json: bool) -> None:
    if as_json:
        print_json([_fields(file, found) for file in files])
        return
    for file in files:
        notes = [f"{_MEANING[file.state]}{f' (tenant {file.tenant})' if file.tenant else ''}"]
        if file.publish_until:
            rest = "the record and the file may go" if _aged(file) else f"leave it until {file.publish_until}"
            notes.append(f"since {file.retired_on}, {rest}")
        if found is not None and file.record_name in found:
            notes.append(f"DNS: {found[file.record_name]}")
        typer.echo(f"; {', '.join(notes)}")
        typer.echo(zone_line(file.record_name, txt_record(file.key)))


def _fields(file: KeyFile, found: dict[str, Finding] | None) -> dict[str, Any]:
    value = txt_record(file.key)
    return {
        "domain": file.domain,
        "tenant": file.tenant or None,
        "selector": file.key.selector,
        "algorithm": file.key.algorithm,
        "state": file.state,
        "publish_until": file.publish_until,
        "name": file.record_name,
        "type": "TXT",
        "value": value,
        "strings": strings(value),
        "dns": found.get(file.record_name) if found is not None else None,
    }


def _aged(file: KeyFile) -> bool:
    return file.publish_until is not None and file.publish_until < _today()


def _today() -> date:
    return datetime.now(UTC).date()


@contextmanager
def _files() -> Iterator[None]:
    """What is wrong with a key file is a Failure that names it."""
    try:
        yield
    except (DkimError, OSError) as error:
        raise Failure(str(error), status=2) from None
