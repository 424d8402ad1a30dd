"""What the simulated internet looks like, read from TOML: providers, their domains and habits, and the odd domains.

Decides what a valid file is and says what is wrong with another one: which file, which place, what to do. What the
values lead to is decided elsewhere: `behaviour` (replies), `people` (what follows), `names` (DNS).
"""

from __future__ import annotations

import re
import tomllib
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

SHIPPED = "internet.toml"

_HOST_NAME = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*\.test")
# RFC 5321 section 4.2: a reply is a code and text. RFC 3463: the enhanced status agrees with the code's first digit.
_REPLY = re.compile(r"([45])\d\d (?:([245])\.\d{1,3}\.\d{1,3} )?\S[^\r]*", re.DOTALL)


class ConfigError(Exception):
    """The internet file cannot be used; the message says what, where and what to do."""


def _host_name(value: str) -> str:
    if not _HOST_NAME.fullmatch(value):
        raise ValueError("must be a lower-case host name that ends in .test, so that it can never be a real one")
    return value


def _reply_text(value: str) -> str:
    found = _REPLY.fullmatch(value)
    if not found or not value.isascii():
        raise ValueError("must be ASCII: a 4xx or 5xx code, then an enhanced status if wanted, then text")
    if found[2] and found[1] != found[2]:
        raise ValueError("the enhanced status must begin with the code's first digit")
    return value


HostName = Annotated[str, AfterValidator(_host_name)]
ReplyText = Annotated[str, AfterValidator(_reply_text)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Seconds = Annotated[float, Field(ge=0.0, le=3600.0)]


class Table(BaseModel):
    """A table of the file: unknown keys are refused, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=False)


class Extension(StrEnum):
    """An ESMTP keyword that a provider can advertise (STARTTLS has its own switch)."""

    PIPELINING = "PIPELINING"  # RFC 2920
    SIZE = "SIZE"  # RFC 1870
    EIGHT_BIT = "8BITMIME"  # RFC 6152
    SMTPUTF8 = "SMTPUTF8"  # RFC 6531
    ENHANCED = "ENHANCEDSTATUSCODES"  # RFC 2034


class DsnShape(StrEnum):
    """The looks of a provider's asynchronous bounce."""

    POSTFIX = "postfix"
    EXCHANGE = "exchange"
    FRENCH = "french"
    GERMAN = "german"
    QMAIL = "qmail"  # plain text that no RFC describes


class ComplaintsTo(StrEnum):
    """Where a provider's feedback loop sends a report."""

    RETURN_PATH = "return-path"
    ABUSE = "abuse"  # abuse@ the From domain
    NOBODY = "nobody"  # as large providers that report only totals


class Host(Table):
    name: HostName
    preference: int = Field(default=10, ge=0, le=65535)


class Limits(Table):
    """What a provider allows one sender. 0 means no limit."""

    connections: int = Field(default=0, ge=0)
    messages_per_connection: int = Field(default=0, ge=0)
    messages_per_second: float = Field(default=0.0, ge=0.0)
    burst: int = Field(default=50, ge=1)
    recipients: int = Field(default=100, ge=1, le=1000)
    size: int = Field(default=26_214_400, ge=1024, le=104_857_600)


class Odds(Table):
    """Shares of mailboxes (unknown, full, block) and of attempts (the rest) that go another way than "accepted"."""

    unknown: Share = 0.0
    full: Share = 0.0
    block: Share = 0.0
    greylist: Share = 0.0
    defer: Share = 0.0
    slow: Share = 0.0
    drop_banner: Share = 0.0
    drop_data: Share = 0.0
    drop_dot: Share = 0.0

    @model_validator(mode="after")
    def _leave_room(self) -> Self:
        if self.unknown + self.full + self.block > 1:
            raise ValueError("unknown + full + block are shares of the same mailboxes: together at most 1")
        if self.defer + self.slow + self.drop_data + self.drop_dot > 1:
            raise ValueError("defer + slow + drop_data + drop_dot are shares of the same attempts: together at most 1")
        return self


class Texts(Table):
    """Reply texts, "\\n" between lines; {address}, {domain}, {host} and {ip} are filled in."""

    unknown: ReplyText = "550 5.1.1 <{address}>: Recipient address rejected: User unknown in local recipient table"
    full: ReplyText = "452 4.2.2 <{address}>: mailbox is full"
    block: ReplyText = "554 5.7.1 Service unavailable; Client host [{ip}] blocked using bl.sim.test"
    greylist: ReplyText = "450 4.2.0 <{address}>: Recipient address rejected: Greylisted, please try again later"
    defer: ReplyText = "451 4.3.0 <{address}>: Temporary lookup failure"
    rate: ReplyText = "450 4.7.1 <{address}>: Recipient address rejected: rate limit exceeded, slow down"
    connections: ReplyText = "421 4.7.0 {host} Error: too many connections from {ip}"
    messages: ReplyText = "421 4.7.0 {host} Error: too many messages in this connection"


class People(Table):
    """What the people and machines behind the mailboxes do with a message that was accepted: shares of messages."""

    opens: Share = 0.0
    clicks: Share = 0.0  # of those who open
    unsubscribes: Share = 0.0
    complaints: Share = 0.0
    late_bounces: Share = 0.0
    prefetch: Share = 0.0  # a privacy proxy loads all images right after delivery
    scans: Share = 0.0  # a gateway follows all links within a second
    image_proxy: bool = False  # opens come through the provider's own image proxy
    dsn: DsnShape = DsnShape.POSTFIX
    complaints_to: ComplaintsTo = ComplaintsTo.RETURN_PATH
    redacts: bool = False  # addresses are blacked out in complaint reports


class Provider(Table):
    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")
    like: str = Field(default="", max_length=200)
    domains: tuple[HostName, ...] = Field(min_length=1)
    hosts: tuple[Host, ...] = Field(min_length=1, max_length=200)
    starttls: bool = True
    require_tls: bool = False
    ipv6: bool = False
    extensions: tuple[Extension, ...] = tuple(Extension)
    greylist_seconds: Seconds = 2.0
    slow_seconds: Seconds = 2.0
    full_attempts: int = Field(default=1, ge=1)  # a 4xx "full" holds for this many attempts; a 5xx one for ever
    limits: Limits = Limits()
    odds: Odds = Odds()
    texts: Texts = Texts()
    people: People = People()

    @model_validator(mode="after")
    def _offer_what_is_required(self) -> Self:
        if self.require_tls and not self.starttls:
            raise ValueError("require_tls needs starttls = true")
        return self


class Oddity(StrEnum):
    """What is special about a domain that is no provider's."""

    NULL_MX = "null-mx"  # RFC 7505
    IMPLICIT_MX = "implicit-mx"  # RFC 5321 section 5.1: no MX, so the address itself
    NXDOMAIN = "nxdomain"
    SERVFAIL = "servfail"
    TIMEOUT = "timeout"  # its name servers never answer
    UNREACHABLE = "unreachable"  # an MX whose address refuses connections
    SENDER = "sender"  # mail for it goes to the inbound listener of the sending side


class OddDomain(Table):
    name: HostName
    kind: Oddity
    provider: str | None = None  # implicit-mx only: whose host answers

    @model_validator(mode="after")
    def _name_a_provider_when_needed(self) -> Self:
        if (self.kind is Oddity.IMPLICIT_MX) != (self.provider is not None):
            raise ValueError("`provider` belongs to an implicit-mx domain, and only to it")
        return self


class General(Table):
    sample_domain: HostName
    message_id_header: str = Field(default="X-Mailriver-ID", pattern=r"^[A-Za-z][A-Za-z0-9-]{0,60}$")
    time_scale: float = Field(default=1.0, gt=0.0, le=100_000.0)
    idle_seconds: Seconds = 120.0
    keep_megabytes: int = Field(default=512, ge=16, le=1_000_000)


class Internet(Table):
    """The whole file."""

    general: General
    provider: tuple[Provider, ...] = Field(max_length=200)
    domain: tuple[OddDomain, ...] = ()

    @model_validator(mode="after")
    def _agree(self) -> Self:
        seen: set[str] = set()
        names = [*(p.name for p in self.provider)]
        names += [h.name for p in self.provider for h in p.hosts]
        names += [d for p in self.provider for d in p.domains]
        names += [d.name for d in self.domain]
        for name in names:
            if name in seen:
                raise ValueError(f"{name!r} is declared twice: every provider, host and domain has one place")
            seen.add(name)
        providers = {p.name for p in self.provider}
        for odd in self.domain:
            if odd.provider is not None and odd.provider not in providers:
                raise ValueError(f"domain {odd.name!r} names the provider {odd.provider!r}, which is not declared")
        sample = self.provider_of(self.general.sample_domain)
        if sample is None:
            raise ValueError(f"general.sample_domain {self.general.sample_domain!r} is no provider's domain")
        if any(sample.odds.model_dump().values()):
            raise ValueError(f"general.sample_domain must always accept, but provider {sample.name!r} has odds")
        return self

    def provider_of(self, domain: str) -> Provider | None:
        """The provider whose mailboxes are in `domain` (lower case), the implicit-mx ones included."""
        for provider in self.provider:
            if domain in provider.domains:
                return provider
        for odd in self.domain:
            if odd.name == domain and odd.provider is not None:
                return next(p for p in self.provider if p.name == odd.provider)
        return None

    def domains_by_provider(self) -> dict[str, list[str]]:
        """Domains with mailboxes, by provider."""
        return {p.name: list(p.domains) for p in self.provider}

    def mx_suffixes_by_provider(self) -> dict[str, list[str]]:
        """What each provider's MX hosts end in: how a sender may know them."""
        return {p.name: sorted({"." + ".".join(host.name.split(".")[-2:]) for host in p.hosts}) for p in self.provider}

    def odd_domains(self) -> dict[str, list[str]]:
        """The special domains, by kind."""
        found: dict[str, list[str]] = {}
        for odd in self.domain:
            found.setdefault(odd.kind.value, []).append(odd.name)
        return found


def load(path: Path | None = None) -> Internet:
    """Read an internet file; without a path, the shipped one. Raises ConfigError."""
    where = str(path) if path else f"the shipped {SHIPPED}"
    try:
        text = path.read_text("utf-8") if path else resources.files(__package__).joinpath(SHIPPED).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: cannot be read: {error}. Give --internet a readable UTF-8 TOML file.") from error
    return parse(text, where)


def parse(text: str, where: str) -> Internet:
    """Read the text of an internet file; `where` names it in errors. Raises ConfigError."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where}: not valid TOML: {error}. Correct that place.") from error
    try:
        return Internet.model_validate(tables)
    except ValidationError as error:
        lines = [f"  {_place(e['loc'], tables)}: {_complaint(e)}" for e in error.errors(include_url=False)]
        raise ConfigError(
            f"{where}: {len(lines)} value(s) cannot be used:\n"
            + "\n".join(lines)
            + "\nCorrect them; docs/simulator.md describes every key."
        ) from error


def _complaint(error: Any) -> str:
    match error["type"]:
        case "extra_forbidden":
            return "no such key: remove it or correct its spelling"
        case "missing":
            return "is missing: add it"
        case "value_error":
            return str(error["ctx"]["error"])
        case _:
            return f"{error['msg']} (given: {error['input']!r:.80})"


def _place(path: tuple[int | str, ...], tables: dict[str, Any]) -> str:
    """`provider "gomail", limits.connections` instead of `provider.0.limits.connections`."""
    match path:
        case ():
            return "the file as a whole"
        case ("provider" | "domain" as kind, int(index), *rest):
            entry = tables[kind][index]
            name = entry.get("name") if isinstance(entry, dict) else None
            first = f'{kind} "{name}"' if name else f"{kind} number {index + 1}"
            return f"{first}, {'.'.join(map(str, rest))}" if rest else first
        case _:
            return ".".join(map(str, path))
