"""One SMTP session after its opening, as a pure state machine: replies in, bytes and outcomes out.

```
IDLE ──begin──> COMMANDS ──354──> BODY ──release_dot──> DOT ──reply──> IDLE
                   └─4xx, 5xx──> IDLE (RSET goes before the next MAIL)
any ──421, lost, nonsense, abort──> CLOSED
```
MAIL, RCPT and DATA go in one write where the peer offers PIPELINING (RFC 2920). The body may be written as soon as 354
has come; **the final dot is written only after `release_dot`**, since the owner's journal must hold the attempt first.
Sockets, time and the body's bytes are session.py's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NamedTuple

from sinks.smtp.outcome import Accepted, Broken, Cause, InDoubt, Outcome, Refused, Stage
from sinks.smtp.replies import Reply, ReplyError, ReplyReader

DOT = b".\r\n"
_UNSAFE = re.compile("[\x00-\x1f\x7f]")
_UNQUOTED_UNSAFE = re.compile("[ <>]")


@dataclass(frozen=True, slots=True)
class Features:
    """What the peer's EHLO offered."""

    pipelining: bool = False  # RFC 2920
    eight_bit: bool = False  # RFC 6152
    smtputf8: bool = False  # RFC 6531
    size: int | None = None  # RFC 1870; 0 or less: offered without a limit
    starttls: bool = False  # RFC 3207
    mail_max: int = 0  # RFC 9422: MAILMAX, transactions per session; 0: no limit


@dataclass(frozen=True, slots=True)
class Envelope:
    """Where one message goes. An empty sender is the null reverse-path; `size` is that of the message in octets."""

    sender: str
    recipient: str
    size: int = 0
    eight_bit: bool = False
    smtputf8: bool = field(init=False)

    def __post_init__(self) -> None:
        # Whoever parsed them: a line end here would be a command of somebody else's.
        for address in (self.sender, self.recipient):
            if _UNSAFE.search(address) or (not address.startswith('"') and _UNQUOTED_UNSAFE.search(address)):
                raise ValueError("an address that cannot be sent")
        if not self.recipient:
            raise ValueError("no recipient")
        object.__setattr__(self, "smtputf8", not (self.sender.isascii() and self.recipient.isascii()))


class Step(NamedTuple):
    """What to do now, in this order."""

    write: bytes = b""
    body: bool = False  # write the body, then call `body_written`
    ready: bool = False  # all but the dot is written
    close: bool = False
    outcome: Outcome | None = None


_NOTHING = Step()
_CLOSE = Step(close=True)


class _State(Enum):
    IDLE = auto()
    COMMANDS = auto()
    BODY = auto()
    DOT = auto()
    CLOSED = auto()


class Dialogue:
    def __init__(self, features: Features) -> None:
        self._features = features
        self._reader = ReplyReader()
        self._state = _State.IDLE
        self._awaited: list[Stage] = []  # replies on their way, CONNECT standing for that to RSET
        self._unsent: list[tuple[Stage, bytes]] = []
        self._refusal: Refused | None = None
        self._needs_rset = False
        self._written = False
        self._released = False

    @property
    def is_idle(self) -> bool:
        return self._state is _State.IDLE

    @property
    def stage(self) -> Stage:
        """The stage that a time-out or a lost connection would belong to now."""
        match self._state:
            case _State.COMMANDS if self._awaited and self._awaited[0] is not Stage.CONNECT:
                return self._awaited[0]
            case _State.BODY:
                return Stage.BODY
            case _State.DOT:
                return Stage.DOT
        return Stage.MAIL

    def begin(self, envelope: Envelope) -> Step:
        if self._state is not _State.IDLE:
            raise RuntimeError("a transaction is under way, or the session is over")
        features = self._features
        if (envelope.smtputf8 and not features.smtputf8) or (envelope.eight_bit and not features.eight_bit):
            return Step(outcome=Broken(Stage.MAIL, Cause.UNSUPPORTED))
        commands = [
            (Stage.MAIL, _mail(envelope, features)),
            (Stage.RCPT, b"RCPT TO:<%b>\r\n" % envelope.recipient.encode()),
            (Stage.DATA, b"DATA\r\n"),
        ]
        if self._needs_rset:
            commands.insert(0, (Stage.CONNECT, b"RSET\r\n"))
        self._needs_rset = self._written = self._released = False
        self._refusal = None
        self._state = _State.COMMANDS
        if features.pipelining:
            # RFC 2920 section 3.1: RSET, MAIL and RCPT may stand anywhere in a group, DATA last.
            self._awaited = [stage for stage, _ in commands]
            return Step(b"".join([line for _, line in commands]))
        self._unsent = commands
        return self._next_command()

    def receive(self, data: bytes) -> Step:
        step = _NOTHING
        try:
            for reply in self._reader.feed(data):
                if step.outcome is not None or self._state is _State.CLOSED:
                    return step._replace(close=self._close())  # more than was asked for: nothing after can be trusted
                if step.write:
                    return self.lost(Cause.PROTOCOL)  # the answer to a command that is not yet written
                step = self._on_reply(reply)
        except ReplyError:
            return step._replace(close=self._close()) if step.outcome is not None else self.lost(Cause.PROTOCOL)
        if step.outcome is not None and self._reader.pending:
            return step._replace(close=self._close())
        return step

    def body_written(self) -> Step:
        """The whole body is with the transport."""
        if self._state is not _State.BODY or self._written:
            return _NOTHING
        self._written = True
        return self._dot() if self._released else Step(ready=True)

    def release_dot(self) -> Step:
        """The owner's word that the attempt is in the journal. Without a transaction it does nothing."""
        if self._state not in (_State.COMMANDS, _State.BODY):
            return _NOTHING
        self._released = True
        return self._dot() if self._written else _NOTHING

    def abort(self) -> Step:
        """Give the transaction up if its dot is not written; the connection ends with it.

        DATA is under way in most states, and after 354 there is no other clean way (RFC 5321 section 4.1.1.4: all
        that follows is the message, until the dot).
        """
        if self._state is _State.DOT:
            return _NOTHING
        return self.lost(Cause.ABORTED)

    def lost(self, cause: Cause) -> Step:
        """The connection is gone, too slow or not to be trusted."""
        stage, state, refusal = self.stage, self._state, self._refusal
        self._close()
        match state:
            case _State.COMMANDS:
                return Step(close=True, outcome=refusal or Broken(stage, cause))
            case _State.BODY:
                return Step(close=True, outcome=Broken(stage, cause))
            case _State.DOT:
                return Step(close=True, outcome=InDoubt(cause))
        return _CLOSE

    def _on_reply(self, reply: Reply) -> Step:
        match self._state:
            case _State.COMMANDS:
                return self._on_command_reply(self._awaited.pop(0), reply)
            case _State.BODY if reply.is_negative:
                # Unasked, so the peer has given up on this message; where its reader stands nobody knows.
                return self._over(Refused(reply, Stage.BODY), close=True)
            case _State.BODY:
                return self._over(Broken(Stage.BODY, Cause.PROTOCOL, reply), close=True)
            case _State.DOT if reply.is_positive:
                # RFC 5321 section 6.1: with this reply the peer has taken the duty to deliver or report.
                return self._over(Accepted(reply))
            case _State.DOT if reply.is_negative:
                return self._over(Refused(reply, Stage.DOT), close=reply.is_closing)
            case _State.DOT:
                return self._over(InDoubt(Cause.PROTOCOL, reply), close=True)
        self._close()  # a reply to nothing, such as 421 to an idle session
        return _CLOSE

    def _on_command_reply(self, stage: Stage, reply: Reply) -> Step:
        if self._refusal is not None:
            # RFC 2920 section 3.1: the answers to what was piped behind a refused command. A 354 among them would have
            # us send a message that nobody is to get; a lone dot could deliver an empty one, closing never does.
            if reply.code == 354 or reply.is_closing:
                return self._over(self._refusal, close=True)
            return _NOTHING if self._awaited else self._over(self._refusal)
        if reply.is_negative and (stage is not Stage.CONNECT or reply.is_closing):
            self._needs_rset = True
            self._refusal = Refused(reply, Stage.MAIL if stage is Stage.CONNECT else stage)
            self._unsent = []
            if reply.is_closing or not self._awaited:
                return self._over(self._refusal, close=reply.is_closing)
            return _NOTHING
        if stage is Stage.DATA and reply.code == 354:
            self._state = _State.BODY
            return Step(body=True)
        # RFC 5321 section 4.2.1: the first digit decides; DATA alone has 354 as its only good reply.
        if stage is Stage.DATA or not reply.is_positive:
            return self._over(
                Broken(Stage.MAIL if stage is Stage.CONNECT else stage, Cause.PROTOCOL, reply), close=True
            )
        return self._next_command() if self._unsent else _NOTHING

    def _next_command(self) -> Step:
        stage, line = self._unsent.pop(0)
        self._awaited = [stage]
        return Step(line)

    def _dot(self) -> Step:
        if self._reader.pending:
            return self.lost(Cause.PROTOCOL)  # half a reply already: it cannot be the dot's
        self._state = _State.DOT
        return Step(DOT)

    def _over(self, outcome: Outcome, *, close: bool = False) -> Step:
        self._state = _State.IDLE
        return Step(close=close and self._close(), outcome=outcome)

    def _close(self) -> bool:
        self._state = _State.CLOSED
        return True


def _mail(envelope: Envelope, features: Features) -> bytes:
    line = f"MAIL FROM:<{envelope.sender}>"
    if features.size is not None and envelope.size:
        line += f" SIZE={envelope.size}"  # RFC 1870 section 6: the peer can refuse before we send it all
    if envelope.eight_bit:
        line += " BODY=8BITMIME"
    if envelope.smtputf8:
        line += " SMTPUTF8"
    return line.encode() + b"\r\n"
