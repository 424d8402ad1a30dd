"""Which messages an operator means: a conjunction of equalities, such as `provider=google stream=marketing`.

Decides how a selector is written, what it matches, and what it says about a whole lane. Pure: an age is given as the
moment before which a message was accepted, so that a selector means the same tomorrow.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

from schemas.address import AddressError, parse_domain
from schemas.envelope import Stream
from schemas.lanes import MessageQueue

ATTRIBUTES: Final = {  # of a message, by term; the most telling first
    "campaign": "campaign_id",
    "domain": "recipient_domain",
    "site": "site",
    "tenant": "tenant",
    "provider": "provider",
    "pool": "pool",
    "stream": "stream",
}
SOURCE: Final = "source"
BEFORE: Final = "accepted_before"
ALL: Final = "all"  # every message; has to be said, and stands alone
TERMS: Final = (*ATTRIBUTES, SOURCE, BEFORE, ALL)
_OF_A_LANE: Final = frozenset(("pool", "site", "provider"))
_VALUE_MAX: Final = 255


class SelectorError(ValueError):
    """Not a selector; the text names the term."""


@dataclass(frozen=True, slots=True)
class Selector:
    """Make one by `parse`. `terms` are in the order of TERMS, `source` and `accepted_before` apart.

    Which source a message leaves from is decided when it is tried: until then it is of each source of its pool. So a
    selector with a source matches nothing before it is told (`within`) which pools have that one.
    """

    terms: tuple[tuple[str, str], ...]
    before: datetime | None = None
    source: str = ""
    pools: frozenset[str] = field(default=frozenset(), compare=False)  # that have the source
    _tests: tuple[tuple[str, str], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tests = tuple((ATTRIBUTES[name], value) for name, value in self.terms)
        object.__setattr__(self, "_tests", tests)

    def __str__(self) -> str:
        """The canonical text."""
        return " ".join(f"{name}={value}" for name, value in self.as_dict().items())

    def as_dict(self) -> dict[str, str]:
        """As events carry it."""
        found = dict(self.terms)
        if self.source:
            found[SOURCE] = self.source
        if self.before is not None:
            found[BEFORE] = self.before.isoformat()
        return found or {ALL: "yes"}

    @property
    def index(self) -> tuple[str, str] | None:
        """The attribute and value by which to look it up among many; None when every message must be compared."""
        return self._tests[0] if self._tests else None

    def within(self, pools: Mapping[str, Collection[str]]) -> Selector:
        """The same, where pools have these sources. Raises SelectorError for a source that is in none."""
        if not self.source:
            return self
        found = frozenset(name for name, sources in pools.items() if self.source in sources)
        if not found:
            raise SelectorError(f"{SOURCE}: no pool sends from {self.source}")
        return replace(self, pools=found)

    def matches(self, command: MessageQueue) -> bool:
        if self.source and command.pool not in self.pools:
            return False
        if self.before is not None and command.accepted_at >= self.before:
            return False
        return all(getattr(command, attribute) == value for attribute, value in self._tests)

    def covers(self, pool: str, site: str) -> bool:
        """Whether it means every message of a lane, whatever they are."""
        return self.before is None and not self.source and self._of_lane(pool, site)

    def keeps(self, source: str, site: str) -> bool:
        """Whether it means all that leaves from the source to a site."""
        return self.source == source and self._of_lane("", site)

    def _of_lane(self, pool: str, site: str) -> bool:
        return all(
            (name == "pool" and value == pool) or (name in ("site", "provider") and value == site)
            for name, value in self.terms
        )

    def may_concern(self, pool: str, site: str) -> bool:
        """Whether a message of the lane could match."""
        if self.source and pool not in self.pools:
            return False
        terms = dict(self.terms)
        return terms.get("pool", pool) == pool and terms.get("site", site) == site


def parse(given: Mapping[str, str]) -> Selector:
    """The selector of these terms. Raises SelectorError."""
    terms: dict[str, str] = {}
    before: datetime | None = None
    source = ""
    for name, value in given.items():
        if name not in TERMS:
            raise SelectorError(f"{name[:32]!r} is not a term of a selector; known: {', '.join(TERMS)}")
        if not value or len(value) > _VALUE_MAX or not value.isprintable():
            raise SelectorError(f"{name}: 1 to {_VALUE_MAX} printable characters")
        if name == BEFORE:
            before = _instant(value)
        elif name == SOURCE:
            source = value
        elif name != ALL:
            terms[name] = _value(name, value)
    if not given:
        raise SelectorError(f"no term: name at least one of {', '.join(TERMS)}")
    if ALL in given and len(given) > 1:
        raise SelectorError(f"{ALL} stands alone")
    return Selector(tuple((name, terms[name]) for name in ATTRIBUTES if name in terms), before, source)


def _value(name: str, value: str) -> str:
    match name:
        case "domain":
            try:
                return parse_domain(value)
            except AddressError as error:
                raise SelectorError(f"domain: {error}") from None
        case "stream":
            try:
                return Stream(value)
            except ValueError:
                raise SelectorError(f"stream: one of {', '.join(Stream)}") from None
        case "site" | "provider":
            return value.lower()
    return value


def _instant(value: str) -> datetime:
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        raise SelectorError(f"{BEFORE}: not a time as 2026-01-31T09:00:00+00:00") from None
    if found.tzinfo is None:
        raise SelectorError(f"{BEFORE}: a time without an offset to UTC")
    return found.astimezone(UTC)
