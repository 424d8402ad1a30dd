"""The settings of what mail leaves from and through: `[sources.NAME]`, `[pools.NAME]`, `[routes.NAME]`."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from schemas.address import parse_domain
from schemas.envelope import Name, Stream
from schemas.tenant import Tenant

HostPort = Annotated[str, Field(pattern=r"^(\[[0-9a-fA-F:]+\]|[^\s:/]+):\d{1,5}$")]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceSettings(Section):
    """An address that mail leaves from. Without one: whichever the system chooses."""

    ipv4: IPv4Address | None = None
    ipv6: IPv6Address | None = None
    ehlo_name: str = ""
    """Empty: that of `[delivery]`."""
    weight: Annotated[int, Field(ge=1, le=1000)] = 1
    not_for: tuple[Name, ...] = ()
    """Mailbox providers that it does not serve."""
    proxy: HostPort | None = None
    """A SOCKS5 server (an address, no name) on the host that has the addresses."""

    @field_validator("proxy")
    @classmethod
    def _an_address(cls, value: str | None) -> str | None:
        if value is not None:
            ip_address(value.rpartition(":")[0].strip("[]"))
        return value


class PoolSettings(Section):
    sources: tuple[Name, ...] = ()
    """None: one without an address."""
    ip: Literal["ipv4", "ipv6", "prefer_ipv4", "prefer_ipv6"] = "prefer_ipv4"


def _host(value: str) -> str:
    """An address, or a name in A-labels."""
    try:
        return str(ip_address(value.strip("[]")))
    except ValueError:
        return parse_domain(value)


class RouteSettings(Section):
    """A host that takes mail in place of those that MX records name."""

    host: Annotated[str, AfterValidator(_host)]
    port: Annotated[int, Field(ge=1, le=65535)] = 25
    domains: tuple[Annotated[str, AfterValidator(parse_domain)], ...] = ()
    """Of recipients, each itself and not what is below it; none: all."""
    pools: tuple[Name, ...] = ()
    """None: all."""
    tls: Literal["", "none", "opportunistic", "required", "verified"] = ""
    """Empty: verified with a user name, else opportunistic."""
    username: Annotated[str, Field(max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")] | None = None
    password_file: Path | None = None

    @model_validator(mode="after")
    def _a_password_is_kept(self) -> Self:
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file belong together")
        if self.username and self.tls not in ("", "verified"):
            raise ValueError(f'a password is given to a verified host alone: tls = "verified", not "{self.tls}"')
        return self


def check_names(
    pools: Mapping[str, PoolSettings],
    sources: Mapping[str, SourceSettings],
    routes: Mapping[str, RouteSettings],
    tenants: Mapping[str, Tenant],
) -> None:
    """Raises ValueError where one names another that is not there."""
    for route, through in routes.items():
        for name in through.pools:
            if name not in pools:
                raise ValueError(f"routes.{route}.pools names {name}, and there is no such pool")
    for pool, settings in pools.items():
        for name in settings.sources:
            if name not in sources:
                raise ValueError(f"pools.{pool}.sources names {name}, and there is no [sources.{name}]")
    for tenant in tenants.values():
        for stream in Stream:
            if (pool := tenant.policy(stream).pool) not in pools:
                raise ValueError(f"tenants.{tenant.name}: {stream} names the pool {pool}, and there is no such pool")
