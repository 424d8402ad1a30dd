"""What one site may be asked to take, and what its replies set off: the shaping in force. Pure.

Ceilings come in layers: the general ones, then the provider's, then the site's; within each the shipped file, then the
operator's. The most particular word holds, and each knows the line that it stands on. Reading the files is
shaping_file.py's; what an override takes off a ceiling, the queue owner's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from schemas.rules.reply_rules import Place, ReplyRule

SENDERS: Final = ("tenant", "source", "campaign")  # whose limits hold at all sites together, over all owners
Tls = Literal["none", "opportunistic", "required", "verified"]
STAGES: Final = (
    "connect",
    "banner",
    "ehlo",
    "starttls",
    "mail",
    "rcpt",
    "data",
    "block",
    "dot",
    "opening",
    "transaction",
)


@dataclass(frozen=True, slots=True)
class Ceilings:
    """Of one pool at one site. A rate of 0 is none. `timeouts`: seconds by stage, where they are not the standard's."""

    connections: int = 10
    messages_per_connection: int = 100
    connection_rate: float = 0.0  # a second
    message_rate: float = 0.0  # a second
    idle: float = 60.0
    tls: Tls = "opportunistic"
    shards: int = 1  # lanes that share what is allowed, each with an owner of its own
    timeouts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Setting:
    """One value of a table, and where it stands."""

    value: Any
    place: Place


Table = Mapping[str, Setting]  # by the names of Ceilings; a time-out is `timeouts.STAGE`
BUILT_IN: Final = Place("built in", 0)


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose figures a table has, and of when."""

    source: str
    date: str


@dataclass(frozen=True, slots=True)
class Shaping:
    """`providers`: what all MX hosts of a provider's domains end in; its name is that of its site."""

    default: Table = field(default_factory=dict)
    by_provider: Mapping[str, Table] = field(default_factory=dict)
    by_site: Mapping[str, Table] = field(default_factory=dict)
    providers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    origins: Mapping[str, Origin] = field(default_factory=dict)  # of the providers' figures
    spanning: Mapping[str, Table] = field(default_factory=dict)  # by selector: `daily`, `message_rate`, to all sites
    rules: tuple[ReplyRule, ...] = ()
    version: int = 0  # of the operator's file, else of the shipped one

    def explain(self, site: str) -> dict[str, Setting]:
        """Every ceiling that holds for the site, and the line that it comes from."""
        found = {name: Setting(value, BUILT_IN) for name, value in _BUILT_IN.items()}
        for table in (self.default, self.by_provider.get(site, {}), self.by_site.get(site, {})):
            found.update(table)
        return found

    def at(self, site: str) -> Ceilings:
        found = self.explain(site)
        timeouts = {name[9:]: each.value for name, each in found.items() if name.startswith("timeouts.")}
        values = {name: found[name].value for name in _BUILT_IN}
        # Whole connections are dealt, and a shard with a single one would often idle while another has a queue.
        values["shards"] = max(1, min(values["shards"], values["connections"] // 2))
        return replace(Ceilings(timeouts=timeouts), **values)

    def rules_at(self, site: str) -> tuple[ReplyRule, ...]:
        """Those that may fire on a reply of the site."""
        return tuple(rule for rule in self.rules if not rule.providers or site in rule.providers)


_BUILT_IN: Final[dict[str, Any]] = {
    name: getattr(Ceilings(), name) for name in Ceilings.__dataclass_fields__ if name != "timeouts"
}
