"""What became of one transaction: where it stood, and whether the message may have been taken.

```
Accepted   the next hop answers for the message now
Refused    a 4xx or 5xx reply, at `stage`
Broken     no such reply, and the dot was not written: the message was not taken, trying again is safe
InDoubt    the dot was written and no reply to it came (RFC 1047): the message may have been taken
```
What a reply means (schemas/rules/replies.py) and what follows from it (the queue owner) is decided elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from sinks.smtp.replies import Reply


class Stage(StrEnum):
    """Where a session stands, in the order of its life."""

    CONNECT = "connect"
    BANNER = "banner"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    HANDSHAKE = "handshake"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    BODY = "body"  # 354 came, the dot is not written
    DOT = "dot"  # the dot is written


class Cause(StrEnum):
    """Why there is no reply to go by."""

    TIMEOUT = "timeout"
    LOST = "lost"  # the peer closed or reset the connection
    UNREACHABLE = "unreachable"  # it was never made
    PROTOCOL = "protocol"  # the peer said something that SMTP does not allow there
    TLS = "tls"  # no handshake, or a certificate that the policy does not take
    UNSUPPORTED = "unsupported"  # the peer does not offer an extension that the message needs
    FORBIDDEN = "forbidden"  # our own policy: an address that mail may not go to
    SOURCE = "source"  # our own side: the source address cannot be bound
    ABORTED = "aborted"  # our own wish


@dataclass(frozen=True, slots=True)
class Accepted:
    reply: Reply


@dataclass(frozen=True, slots=True)
class Refused:
    reply: Reply
    stage: Stage


@dataclass(frozen=True, slots=True)
class Broken:
    stage: Stage
    cause: Cause
    reply: Reply | None = None
    failure: str = field(default="", compare=False)  # of TLS: the result type of RFC 8460


@dataclass(frozen=True, slots=True)
class InDoubt:
    cause: Cause
    reply: Reply | None = None
    stage: Stage = Stage.DOT


Outcome = Accepted | Refused | Broken | InDoubt
OpeningFailure = Refused | Broken
