"""What holds for each lane: the shaping in force, remembered by site, and read again when its file changes.

A file that cannot be used is logged with its line, and the shaping in force stays.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, TypeVar

import structlog

from schemas import ids
from schemas.rules import shaping_file
from schemas.rules.reply_rules import ReplyRule
from schemas.rules.shaping import Ceilings, Shaping, Table
from sinks.smtp.policy import Limits
from sinks.smtp.routing import Providers
from sinks.smtp.session import Timeouts
from sinks.smtp.tls import TlsMode

T = TypeVar("T")

_REMEMBERED: Final = 100_000  # sites

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Manner:
    """How a site is spoken to."""

    tls: TlsMode = TlsMode.OPPORTUNISTIC
    timeouts: Timeouts = field(default_factory=Timeouts)


class Shapes:
    def __init__(
        self,
        shaping: Shaping,
        path: Path | None = None,
        timeouts: Timeouts | None = None,
        sources: Collection[str] | None = None,
    ) -> None:
        """`path`: the operator's file, which `shaping` was made of. `timeouts`: where that says nothing. `sources`:
        those that it may limit, by name.
        """
        self.shaping = shaping
        self.providers: Providers = {**shaping.providers}
        self._path = path
        self._sources = sources
        self._seen = _stamp(path)
        self._ceilings: dict[str, Ceilings] = {}
        self._timeouts = timeouts or Timeouts()
        self._limits: dict[str, Limits] = {}
        self._rules: dict[str, tuple[ReplyRule, ...]] = {}

    def at(self, site: str) -> Ceilings:
        return _remembered(self._ceilings, site, self.shaping.at)

    def limits(self, lane: str) -> Limits:
        return _remembered(self._limits, lane, lambda lane: _limits(self.at(site_of(lane))))

    def dealt(self, lane: str, limits: Limits) -> Limits:
        """What a lane has of its site's limits."""
        shards, shard = self.at(site_of(lane)).shards, lane.rpartition("#")[2]
        # A very long name, as any domain may have one, is cut where its shard would stand.
        return limits.dealt(int(shard) if shard.isdigit() else 0, shards) if shards > 1 else limits

    def shard(self, site: str, message_id: str) -> int:
        """Which of the site's shards a message belongs to."""
        return ids.shard(message_id, self.at(site).shards)

    @property
    def spans(self) -> Mapping[str, Table]:
        """Limits over all workers, by selector."""
        return self.shaping.spanning

    def daily(self, selector: str) -> int:
        """Messages a day, over all workers; 0: as many as there are."""
        found = self.spans.get(selector, {}).get("daily")
        return int(found.value) if found is not None else 0

    def pace(self, selector: str) -> float:
        """Messages a second, over all workers; 0: as fast as sites allow."""
        found = self.spans.get(selector, {}).get("message_rate")
        return float(found.value) if found is not None else 0.0

    def manner(self, site: str) -> Manner:
        """Asked once per connection."""
        ceilings = self.at(site)
        timeouts = replace(self._timeouts, **ceilings.timeouts) if ceilings.timeouts else self._timeouts
        return Manner(TlsMode(ceilings.tls), timeouts)

    def rules_at(self, site: str) -> tuple[ReplyRule, ...]:
        return _remembered(self._rules, site, self.shaping.rules_at)

    def look(self) -> bool:
        """Whether the file has changed, and holds now. Called every few seconds."""
        stamp = _stamp(self._path)
        if self._path is None or stamp == self._seen:
            return False
        self._seen = stamp
        try:
            shaping = shaping_file.load(self._path, self._sources)
        except shaping_file.ShapingError as error:
            log.error("shaping_refused", file=error.file, line=error.line, reason=error.reason)
            return False
        self.shaping = shaping
        self.providers = {**shaping.providers}
        self._ceilings, self._limits, self._rules = {}, {}, {}
        log.info("shaping_changed", file=str(self._path), version=shaping.version)
        return True


def _remembered(known: dict[str, T], key: str, make: Callable[[str], T]) -> T:
    found = known.get(key)
    if found is None:
        if len(known) >= _REMEMBERED:
            known.clear()
        found = known[key] = make(key)
    return found


def site_of(lane: str) -> str:
    """The site of `pool/site#shard`; a lane of a very long name has its site cut, and gets the general ceilings."""
    return lane.partition("/")[2].rpartition("#")[0]


def _limits(ceilings: Ceilings) -> Limits:
    return Limits(
        ceilings.connections,
        ceilings.messages_per_connection,
        ceilings.message_rate,
        ceilings.idle,
        ceilings.connection_rate,
    )


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    """What changes when the file does; None while it is not there, as in the moment of being replaced."""
    try:
        found = os.stat(path) if path is not None else None
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino) if found is not None else None
