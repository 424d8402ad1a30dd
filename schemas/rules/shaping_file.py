"""Read shaping files: the shipped one, then the operator's over it.

What is wrong is said with file, line and reason. What the values mean is shaping.py's and reply_rules.py's.
"""

from __future__ import annotations

import datetime
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from schemas.envelope import Name
from schemas.rules import patterns, quantities, toml_lines
from schemas.rules.reply_rules import Amount, Place, ReplyRule, Scope, Verdict, reply_of
from schemas.rules.shaping import SENDERS, STAGES, Origin, Setting, Shaping, Table, Tls

SHIPPED: Final = Path(__file__).with_name("shaping.toml")
_SIZE_MAX: Final = 2 * 1024 * 1024
_SUFFIX: Final = re.compile(r"\.[a-z0-9-]+(\.[a-z0-9-]+)+")


class ShapingError(Exception):
    """A shaping file cannot be used. The text says where, what, and what to do."""

    def __init__(self, file: str, line: int, reason: str) -> None:
        super().__init__(f"{file}:{line}: {reason}")
        self.file, self.line, self.reason = file, line, reason


def _amount(value: object) -> Amount:
    portion = quantities.share(value)
    return Amount(quantities.per_second(value) if portion is None else portion, portion is not None)


def _count(value: object) -> Amount:
    portion = quantities.share(value)
    if portion is None and (not isinstance(value, int) or value < 1):
        raise ValueError('connections are a number of at least 1, or a share such as "50%"')
    return Amount(float(value) if isinstance(value, int) else 0.0) if portion is None else Amount(portion, True)


def _not_above_all(amount: Amount) -> Amount:
    if amount.value <= 0 or (amount.is_share and amount.value >= 1):
        raise ValueError("a reduced limit is above 0, or a share below 100%; to stop, say `suspend = true`")
    return amount


_NAME: Final[TypeAdapter[str]] = TypeAdapter(Name)


def _of_tenant(value: str) -> str:
    tenant, slash, campaign = value.partition("/")
    try:
        if not slash:
            raise ValueError
        return f"{_NAME.validate_python(tenant)}/{_NAME.validate_python(campaign)}"
    except ValueError:
        raise ValueError('a campaign is named with its tenant: [campaign."acme/spring-2026"]') from None


Seconds = Annotated[float, BeforeValidator(quantities.seconds), Field(ge=0.1, le=7 * 86_400)]
Rate = Annotated[float, BeforeValidator(quantities.per_second), Field(ge=0, le=100_000)]
Reduced = Annotated[Any, BeforeValidator(lambda value: _not_above_all(_amount(value)))]
Fewer = Annotated[Any, BeforeValidator(lambda value: _not_above_all(_count(value)))]
Reply = Annotated[str, Field(min_length=5, max_length=2_000)]
Id = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=48)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Ceilings(_Table):
    connections: Annotated[int, Field(ge=1, le=10_000)] = 10
    messages_per_connection: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    connection_rate: Rate = 0.0
    message_rate: Rate = 0.0
    idle: Seconds = 60.0
    tls: Tls = "opportunistic"
    shards: Annotated[int, Field(ge=1, le=64)] = 1
    timeouts: dict[str, Seconds] = {}
    source: Annotated[str, Field(max_length=300)] = ""
    date: datetime.date | None = None


class _Provider(_Ceilings):
    mx: Annotated[tuple[str, ...], Field(max_length=50)] = ()


class _Spanning(_Table):
    """Limits of a tenant, a source or a campaign, to all sites and over all owners."""

    daily: Annotated[int, Field(ge=0, le=1_000_000_000)] = 0
    message_rate: Rate = 0.0


class _Rule(_Table):
    id: Id
    off: bool = False
    providers: tuple[str, ...] = ()
    codes: tuple[Annotated[int, Field(ge=400, le=599)], ...] = ()
    enhanced: tuple[Annotated[str, Field(pattern=r"^[45]\.\d{1,3}\.\d{1,3}$")], ...] = ()
    text: str = ""
    verdict: Verdict | None = None
    suspend: bool = False
    rate: Reduced = None
    connections: Fewer = None
    hold: Annotated[float, BeforeValidator(quantities.seconds), Field(ge=1, le=7 * 86_400)] = 0.0
    scope: Scope = Scope.SITE
    everywhere: bool = False
    after: Annotated[int, Field(ge=1, le=1_000)] = 1
    within: Seconds = 3600.0
    must_match: Annotated[tuple[Reply, ...], Field(max_length=50)] = ()
    must_not_match: Annotated[tuple[Reply, ...], Field(max_length=50)] = ()


class _File(_Table):
    version: Annotated[int, Field(ge=0)] = 0
    shipped: bool = True
    default: _Ceilings = _Ceilings()
    provider: dict[Id, _Provider] = {}
    site: dict[Annotated[str, Field(min_length=1, max_length=253)], _Ceilings] = {}
    tenant: dict[Name, _Spanning] = {}
    source: dict[Name, _Spanning] = {}
    campaign: dict[Annotated[str, AfterValidator(_of_tenant)], _Spanning] = {}
    rule: tuple[_Rule, ...] = ()


def load(path: Path | None = None, sources: Collection[str] | None = None) -> Shaping:
    """The shipped file, and the operator's over it. `sources`: the only ones that may have limits. Raises
    ShapingError.
    """
    if path is None:
        return merged(Shaping(), _text(SHIPPED), "shaping.toml (shipped)")
    found = merged(load(), _text(path), str(path))
    for selector, table in found.spanning.items():
        kind, _, name = selector.partition(":")
        if kind == "source" and sources is not None and name not in sources:
            place = next((each.place for each in table.values()), Place(str(path), 1))
            # A slip in the name would leave a new address without its limit.
            raise ShapingError(place.file, place.line, f"{name}: no pool sends from a source of this name")
    return found


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
        if len(raw) > _SIZE_MAX:
            raise ShapingError(str(path), 1, f"larger than {_SIZE_MAX >> 20} MiB")
        return raw.decode()
    except OSError as error:
        raise ShapingError(str(path), 1, f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ShapingError(str(path), 1, "not UTF-8") from None


def merged(below: Shaping, text: str, name: str) -> Shaping:
    """The file `text` over what lies below it. Raises ShapingError."""
    reading = _Reading(text, name)
    given = reading.model
    if not given.shipped:
        below = Shaping()
    providers = dict(below.providers)
    origins = dict(below.origins)
    for provider, table in given.provider.items():
        providers[provider] = reading.suffixes(provider, table, providers)
        if table.source or provider not in origins:
            origins[provider] = Origin(table.source, str(table.date or ""))
    return Shaping(
        default=_over(below.default, reading.settings(given.default, "default")),
        by_provider=_over_all(below.by_provider, reading.tables("provider", given.provider)),
        by_site=_over_all(below.by_site, reading.tables("site", given.site)),
        providers=providers,
        origins=origins,
        spanning=_over_all(below.spanning, reading.spanning()),
        rules=reading.rules(below.rules, providers),
        version=given.version or below.version,
    )


def _over(below: Table, above: Table) -> Table:
    return {**below, **above}


def _over_all(below: Mapping[str, Table], above: Mapping[str, Table]) -> dict[str, Table]:
    return {name: _over(below.get(name, {}), above.get(name, {})) for name in (*below, *above)}


class _Reading:
    """One file: its model, and the line on which each part of it stands."""

    def __init__(self, text: str, name: str) -> None:
        self._name = name
        self._lines: dict[toml_lines.Path, int] = {}
        try:
            content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            found = re.search(r"\(at line (\d+)", str(error))
            line = int(found[1]) if found else max(1, text.count("\n"))
            raise self.error(line, f"not TOML: {str(error).partition(' (at')[0]}") from None
        self._lines = toml_lines.lines(text)
        try:
            self.model = _File.model_validate(content)
        except ValidationError as error:
            raise self._invalid(error) from None

    def error(self, at: int | toml_lines.Path, reason: str) -> ShapingError:
        return ShapingError(self._name, at if isinstance(at, int) else self.line(at), reason)

    def line(self, path: toml_lines.Path) -> int:
        return toml_lines.nearest(self._lines, path)

    def _place(self, *path: str | int) -> Place:
        return Place(self._name, self.line(path))

    def _invalid(self, error: ValidationError) -> ShapingError:
        first = error.errors(include_url=False, include_input=False)[0]
        path = tuple(part for part in first["loc"] if part != "[key]")
        reason = (
            "is not known here" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        )
        return self.error(path, f"{'.'.join(map(str, path))}: {reason}")

    def tables(self, kind: str, given: Mapping[str, _Ceilings]) -> dict[str, Table]:
        return {name: self.settings(table, kind, name) for name, table in given.items()}

    def settings(self, table: _Ceilings, *path: str) -> Table:
        return dict(self._settings(table, path))

    def _settings(self, table: _Ceilings, path: tuple[str, ...]) -> Iterator[tuple[str, Setting]]:
        for key in table.model_fields_set - {"mx", "source", "date", "timeouts"}:
            yield key, Setting(getattr(table, key), self._place(*path, key))
        for stage, value in table.timeouts.items():
            if stage not in STAGES:
                raise self.error((*path, "timeouts", stage), f"{stage}: no stage; there are {', '.join(STAGES)}")
            yield f"timeouts.{stage}", Setting(value, self._place(*path, "timeouts", stage))

    def spanning(self) -> dict[str, Table]:
        """By selector, as overrides have them."""
        return {
            f"{kind}:{name}": {
                key: Setting(getattr(table, key), self._place(kind, name, key)) for key in table.model_fields_set
            }
            for kind in SENDERS
            for name, table in getattr(self.model, kind).items()
        }

    def suffixes(self, name: str, table: _Provider, known: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
        at = ("provider", name, "mx")
        if not table.mx:
            if name not in known:
                raise self.error(("provider", name), f'{name}: say what its MX hosts end in: mx = [".mx.example.net"]')
            return known[name]
        for suffix in table.mx:
            if not _SUFFIX.fullmatch(suffix):
                raise self.error(at, f"{suffix}: begins with a dot, ends without one, in lower case: .mx.example.net")
            for other, theirs in known.items():
                if other != name and suffix in theirs:
                    raise self.error(at, f"{suffix}: is {other}'s already")
        return table.mx

    def rules(self, below: tuple[ReplyRule, ...], providers: Mapping[str, object]) -> tuple[ReplyRule, ...]:
        own: list[ReplyRule] = []
        off: set[str] = set()
        shipped = {rule.id for rule in below}
        for number, given in enumerate(self.model.rule):
            at = ("rule", number)
            if given.id in off:
                raise self.error((*at, "id"), f"{given.id}: there twice")
            off.add(given.id)
            if not given.off:
                own.append(self._rule(given, at, providers))
            elif given.id not in shipped:
                raise self.error((*at, "id"), f"{given.id}: no rule of the shipped file to turn off")
        return (*own, *(rule for rule in below if rule.id not in off))

    def _rule(self, given: _Rule, at: toml_lines.Path, providers: Mapping[str, object]) -> ReplyRule:
        if reason := _missing(given):
            raise self.error(at, f"{given.id}: {reason}")
        for provider in given.providers:
            if provider not in providers:
                raise self.error((*at, "providers"), f"{given.id}: {provider} is no provider")
        for key in ("must_match", "must_not_match"):
            for line in getattr(given, key):
                try:
                    reply_of(line)
                except ValueError as error:
                    raise self.error((*at, key), f"{given.id}: {line[:40]!r}: {error}") from None
        try:
            text = patterns.compiled(given.text) if given.text else None
        except ValueError as error:
            raise self.error((*at, "text"), f"{given.id}: {error}") from None
        return ReplyRule(
            given.id, self.model.version, self._place(*at), given.must_match, given.must_not_match,
            given.providers, given.codes, given.enhanced, text, given.verdict, given.suspend, given.rate,
            given.connections, given.hold, given.scope, given.everywhere, given.after, given.within,
        )  # fmt: skip


def _missing(given: _Rule) -> str:
    """What a rule lacks, or has too much of; empty for a whole one."""
    slows = given.rate is not None or given.connections is not None
    if not (given.codes or given.enhanced or given.text):
        return "say which replies it is about: codes, enhanced or text"
    if not given.must_match or not given.must_not_match:
        return "say replies that it must match, and some that it must not: must_match, must_not_match"
    if not (given.verdict or given.suspend or slows):
        return "say what follows: verdict, suspend, rate or connections"
    if given.suspend and slows:
        return "what is suspended has no rate and no connections"
    if (given.suspend or slows) != bool(given.hold):
        return 'suspend, rate and connections hold for a time, and nothing else does: hold = "30 min"'
    if slows and given.scope is not Scope.SITE:
        return f"a {given.scope} can be suspended; rate and connections are a site's"
    return ""
