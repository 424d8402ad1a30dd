"""How a mailbox provider answers: `decide(seed, provider, event) -> Verdict`.

Pure: the seed, the provider's habits and what was counted so far come in as data, so a run can be repeated. Counting
(attempts, connections, rates) is `memory`'s, the dialogue itself is `dialogue`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from pipeline.simulator.chance import draws
from pipeline.simulator.config import Provider
from pipeline.simulator.magic import Act, Magic, read

CLIENT_IP = "127.0.0.1"  # every sender has this address here


class Then(Enum):
    """What happens to the connection after the reply."""

    GO_ON = "go on"
    CLOSE = "close"
    DROP = "drop"  # cut without a word


class Cut(Enum):
    """Where the connection of an accepted recipient will break."""

    NEVER = "never"
    AT_DATA = "at data"  # the message is lost
    AFTER_DOT = "after the dot"  # the message is kept, the client never hears of it (RFC 1047)


@dataclass(frozen=True, slots=True)
class Connected:
    """A client has connected: as the `nth` at this provider, with `others` connections open besides."""

    host: str
    nth: int
    others: int


@dataclass(frozen=True, slots=True)
class MailFrom:
    """A transaction begins after `sent` messages on this connection."""

    host: str
    sent: int
    encrypted: bool


@dataclass(frozen=True, slots=True)
class RcptTo:
    """The `attempt`-th time (from 1) that this sender names this mailbox, `waited` seconds after the first."""

    host: str
    domain: str
    localpart: str
    attempt: int
    waited: float
    room: bool  # the rate limit has room


@dataclass(frozen=True, slots=True)
class Verdict:
    """An answer. `reply` None: the positive one that the dialogue knows, or silence when the connection is dropped."""

    reply: str | None = None
    then: Then = Then.GO_ON
    cut: Cut = Cut.NEVER
    slow: float = 0.0  # seconds that the reply to the message's end will take
    accepted: bool = True


WELCOME = Verdict()

# RFC 5248 section 2.4: the enhanced status that usually goes with a code.
_USUAL_STATUS = {"550": "5.1.1", "551": "5.1.6", "552": "5.2.2", "553": "5.1.3", "554": "5.7.1"}


def decide(seed: int, provider: Provider, event: Connected | MailFrom | RcptTo) -> Verdict:
    """The provider's answer to one event."""
    match event:
        case Connected(host, nth, others):
            if 0 < provider.limits.connections <= others:
                return _refuse(provider.texts.connections, host=host)
            if draws(seed, "connection", provider.name, str(nth))[0] < provider.odds.drop_banner:
                return Verdict(then=Then.DROP, accepted=False)
            return WELCOME
        case MailFrom(host, sent, encrypted):
            if provider.require_tls and not encrypted:
                # RFC 3207 section 4: what a server that demands TLS answers to MAIL.
                return _refuse("530 5.7.0 Must issue a STARTTLS command first", host=host)
            if 0 < provider.limits.messages_per_connection <= sent:
                return _refuse(provider.texts.messages, host=host)
            return WELCOME
        case RcptTo():
            magic = read(event.localpart)
            return _forced(provider, event, magic) if magic else _drawn(seed, provider, event)


def _forced(provider: Provider, event: RcptTo, magic: Magic) -> Verdict:
    again = event.attempt <= magic.times
    match magic.act:
        case Act.BOUNCE if "." in magic.argument:
            return _answer(f"550 {magic.argument} <{{address}}>: forced by its name", event)
        case Act.BOUNCE:
            status = _USUAL_STATUS.get(magic.argument, "5.0.0")
            return _answer(f"{magic.argument} {status} <{{address}}>: forced by its name", event)
        case Act.BLOCK:
            return _answer(provider.texts.block, event)
        case Act.FULL:
            status = "5.2.2" if magic.argument == "552" else "4.2.2"
            return _answer(f"{magic.argument} {status} <{{address}}>: mailbox full, forced by its name", event)
        case Act.DEFER if again:
            return _answer(f"{magic.argument} 4.3.0 <{{address}}>: not now, forced by its name", event)
        case Act.GREYLIST if event.attempt == 1 or event.waited < provider.greylist_seconds:
            return _answer(provider.texts.greylist, event)
        case Act.SLOW:
            return Verdict(slow=provider.slow_seconds)
        case Act.DROP if again and magic.argument == "rcpt":
            return Verdict(then=Then.DROP, accepted=False)
        case Act.DROP if again:
            return Verdict(cut=Cut.AT_DATA if magic.argument == "data" else Cut.AFTER_DOT)
        case _:
            return WELCOME


def _drawn(seed: int, provider: Provider, event: RcptTo) -> Verdict:
    odds, texts = provider.odds, provider.texts
    # A mailbox is what it is at every attempt; so its draw does not know the attempt.
    mailbox = event.localpart.lower()
    box, grey, *_ = draws(seed, "mailbox", event.domain, mailbox)
    if box < odds.unknown:
        return _answer(texts.unknown, event)
    if box < odds.unknown + odds.full and (texts.full.startswith("5") or event.attempt <= provider.full_attempts):
        return _answer(texts.full, event)
    if odds.unknown + odds.full <= box < odds.unknown + odds.full + odds.block:
        return _answer(texts.block, event)
    if grey < odds.greylist and (event.attempt == 1 or event.waited < provider.greylist_seconds):
        return _answer(texts.greylist, event)
    if not event.room:
        return _answer(texts.rate, event)
    chance = draws(seed, "attempt", event.domain, mailbox, str(event.attempt))[0]
    for share, verdict in (
        (odds.defer, None),
        (odds.slow, Verdict(slow=provider.slow_seconds)),
        (odds.drop_data, Verdict(cut=Cut.AT_DATA)),
        (odds.drop_dot, Verdict(cut=Cut.AFTER_DOT)),
    ):
        if chance < share:
            return verdict or _answer(texts.defer, event)
        chance -= share
    return WELCOME


def _answer(text: str, event: RcptTo) -> Verdict:
    return _refuse(text, host=event.host, domain=event.domain, address=f"{event.localpart}@{event.domain}")


def _refuse(text: str, **values: str) -> Verdict:
    for name, value in {"ip": CLIENT_IP, **values}.items():
        text = text.replace("{" + name + "}", value)
    # RFC 5321 section 3.8: 421 says that the channel is closing.
    return Verdict(text, Then.CLOSE if text.startswith("421") else Then.GO_ON, accepted=False)
