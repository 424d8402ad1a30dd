"""What the operator can set: one TOML file, overlaid by `MAILRIVER_*` variables; an unknown name is an error that
suggests one.

The file is `mailriver.toml` in the current folder, or the one that `MAILRIVER_CONFIG` names. A variable names a
setting by its path: `MAILRIVER_DELIVERY__MODE=live`. `MAILRIVER_KAFKA=host:port` is short for
`MAILRIVER_KAFKA__BOOTSTRAP`. Secrets are files in the secrets folder, made on first use.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, Field, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from pipeline import outward, places
from pipeline.outward import HostPort, PoolSettings, RouteSettings, Section, SourceSettings
from schemas.envelope import Name
from schemas.rules.windows import Window
from schemas.tenant import StreamPolicy, Tenant

PREFIX = "MAILRIVER_"
OTHER_VARIABLES = frozenset({"MAILRIVER_CONFIG", "MAILRIVER_CACHE", "MAILRIVER_DATA"})


class SettingsError(Exception):
    """The configuration cannot be used; the text says what, where and what to do."""


class KafkaSettings(Section):
    bootstrap: str = ""
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,64}$")] = ""
    group_protocol: Literal["consumer", "classic"] = "consumer"
    sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = ""
    username: str = ""
    password_file: Path | None = None
    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None


class ClickHouseSettings(Section):
    url: str = "http://127.0.0.1:8123"
    database: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")] = "mailriver"
    user: str = "mailriver"
    reader: str = "analyst"
    password: SecretStr | None = None
    """Of `user`; best given by a variable. When absent, the file `clickhouse.password` in the secrets folder."""
    reader_password: SecretStr | None = None


class DeliverySettings(Section):
    mode: Literal["sink", "live"] = "sink"
    """`sink` delivers only to addresses in the simulator's port map, whatever DNS says."""
    port_map: Path | None = None
    ehlo_name: str = "localhost"
    sessions: Annotated[int, Field(ge=1, le=20_000)] = 500
    """SMTP connections that one worker may have open, to all sites together."""
    large_mib: Annotated[int, Field(ge=1, le=65_536)] = 256
    """Of mail over 256 KiB each that one worker may be sending at a time."""
    shaping: Path | None = None
    """A shaping file over the shipped one: what each site may be asked to take, and what its replies set off."""
    nameservers: tuple[HostPort, ...] = ()
    dnssec: bool | None = None
    """Whether the name servers validate and their word is taken (DANE). When absent: if all of `nameservers` are on
    loopback.
    """
    retry_scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Multiplies the waits of the retry schedule; the embedded stack shortens them so that a deferral is seen to pass.
    """


class InboundSettings(Section):
    listen: HostPort = "127.0.0.1:2525"


class TrackingSettings(Section):
    listen: HostPort = "127.0.0.1:8080"


class ClaimSettings(Section):
    folder: Path | None = None
    """Where what is too large for a record is kept: one folder for every `plan` and `smtp`, on all hosts."""


class LaneSettings(Section):
    """Another number of partitions is another generation: its topics fill while those of the old one drain."""

    generation: Annotated[int, Field(ge=1, le=1_000)] = 1
    partitions: Annotated[int | None, Field(ge=1, le=1_000)] = None
    """Of this generation, when its topics are made; 12 when nothing is said (4 in the embedded stack)."""
    draining: tuple[int, ...] = ()
    """Older generations, each for as long as its duplicate window lasts: sends go through the oldest of them, where a
    repeat is recognised, and on from there.
    """

    @field_validator("draining")
    @classmethod
    def _in_order(cls, value: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        newest = info.data.get("generation", 1)
        if len(set(value)) != len(value) or any(not 1 <= each < newest for each in value):
            raise ValueError(f"older generations than {newest}, each once")
        return tuple(sorted(value))


class Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    data: Path = Field(default_factory=places.data)
    secrets: Path | None = None
    instance: Name = "1"
    """Name of this worker, stable over restarts: its transactional id is made of it."""
    kafka: KafkaSettings = KafkaSettings()
    clickhouse: ClickHouseSettings = ClickHouseSettings()
    delivery: DeliverySettings = DeliverySettings()
    lanes: LaneSettings = LaneSettings()
    inbound: InboundSettings = InboundSettings()
    tracking: TrackingSettings = TrackingSettings()
    claims: ClaimSettings = ClaimSettings()
    pools: dict[Name, PoolSettings] = {"default": PoolSettings()}
    """A list of names is short for pools without sources of their own."""
    sources: dict[Annotated[Name, Field(max_length=24)], SourceSettings] = {}
    routes: dict[Annotated[Name, Field(max_length=24)], RouteSettings] = {}
    """Hosts that take mail in place of those that MX records name; the narrowest that fits a message."""
    tenants: dict[Name, Tenant] = {}

    @field_validator("kafka", mode="before")
    @classmethod
    def _bare_bootstrap(cls, value: Any) -> Any:
        return {"bootstrap": value} if isinstance(value, str) else value

    @field_validator("pools", mode="before")
    @classmethod
    def _by_name_alone(cls, value: Any) -> Any:
        return {name: {} for name in value} if isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _names_that_are_there(self) -> Self:
        outward.check_names(self.pools, self.sources, self.routes, self.tenants)
        return self

    @field_validator("tenants", mode="before")
    @classmethod
    def _named_by_their_key(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            name: {"name": name, **tenant} if isinstance(tenant, dict) else tenant for name, tenant in value.items()
        }

    @property
    def secrets_folder(self) -> Path:
        return self.secrets or self.data / "secrets"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return _Environment(
            settings_cls
        ), init_settings  # a variable wins over the file, whose content is given to init


class _Environment(EnvSettingsSource):
    """Variables; one that is no JSON is the plain text it looks like. `MAILRIVER_KAFKA=host:port` says where, and
    leaves the rest of `[kafka]` (its TLS, its prefix) to the file and to other variables.
    """

    def decode_complex_value(self, field_name: str, field: Any, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return {"bootstrap": value} if field_name == "kafka" else value


def load(path: Path | None = None) -> Settings:
    """The settings of this process. Raises SettingsError."""
    path = path or named_file()
    content: dict[str, Any] = {}
    if path is not None:
        try:
            content = tomllib.loads(path.read_text())
        except OSError as error:
            raise SettingsError(f"{path}: cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"{path}: not TOML: {error}") from None
    return _checked(content, str(path) if path else "environment")


def from_environment() -> Settings:
    """What the variables alone say, whatever files there are. Raises SettingsError."""
    return _checked({}, "environment")


def _checked(content: dict[str, Any], where: str) -> Settings:
    _refuse_unknown_variables()
    try:
        return Settings(**content)
    except ValidationError as error:
        raise SettingsError("\n".join(f"{where}: {line}" for line in _explain(error))) from None


def named_file() -> Path | None:
    """The file that the environment or the current folder names."""
    if named := os.environ.get("MAILRIVER_CONFIG"):
        return Path(named)
    here = Path("mailriver.toml")
    return here if here.exists() else None


def _refuse_unknown_variables() -> None:
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | OTHER_VARIABLES
    for name in os.environ:
        if name.startswith(PREFIX) and name.split("__")[0] not in known:
            raise SettingsError(f"environment: {name} is not a setting{_suggest(name.split('__')[0], known)}")


def _suggest(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(sorted(known))}"


def _explain(error: ValidationError) -> list[str]:
    lines = []
    for item in error.errors(include_url=False, include_input=False):
        if not item["loc"]:
            lines.append(item["msg"].removeprefix("Value error, "))  # it names the settings itself
            continue
        *parents, last = (str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            fields = _fields_below(parents)
            lines.append(f"{'.'.join((*parents, last))} is not a setting{_suggest(last, fields)}")
        else:
            lines.append(f"{'.'.join((*parents, last))}: {item['msg']}")
    return lines


_TABLES: dict[str, type[BaseModel]] = {
    "tenants": Tenant,
    "streams": StreamPolicy,
    "window": Window,
    "pools": PoolSettings,
    "sources": SourceSettings,
    "routes": RouteSettings,
}


def _fields_below(parents: list[str]) -> set[str]:
    model: type[BaseModel] = Settings
    for part in parents:
        field = model.model_fields.get(part)
        if field is None:  # below [tenants.NAME]
            continue
        if part in _TABLES:
            model = _TABLES[part]
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            model = field.annotation
    return set(model.model_fields)
