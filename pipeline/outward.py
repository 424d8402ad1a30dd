"""The settings of what mail leaves from and through: `[sources.NAME]`, `[pools.NAME]`."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

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


def check_names(
    pools: Mapping[str, PoolSettings], sources: Mapping[str, SourceSettings], tenants: Mapping[str, Tenant]
) -> None:
    """Raises ValueError where one names another that is not there."""
    for pool, settings in pools.items():
        for name in settings.sources:
            if name not in sources:
                raise ValueError(f"pools.{pool}.sources names {name}, and there is no [sources.{name}]")
    for tenant in tenants.values():
        for stream in Stream:
            if (pool := tenant.policy(stream).pool) not in pools:
                raise ValueError(f"tenants.{tenant.name}: {stream} names the pool {pool}, and there is no such pool")
