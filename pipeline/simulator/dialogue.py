"""The server's side of an SMTP dialogue, without a socket: bytes in, steps out.

Decides what is good SMTP; strict on purpose, so that a sender's mistake shows here and not at a real provider. What a
provider makes of a sender or a mailbox it asks its `Post`, and a message is given to that before its 250 is said.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum

from pipeline.simulator.behaviour import Cut, Then, Verdict
from pipeline.simulator.config import Extension, Provider
from pipeline.simulator.grammar import command_path, mailbox, message_fault, render, unstuffed
from pipeline.simulator.post import Post, Received

# RFC 5321 section 4.5.3.1.4: 512 octets, and what the extensions add to them (RFC 6531 section 3.4 and others).
_LONGEST_COMMAND = 2048
_PATIENCE = 20  # mistakes of a client until it is sent away


class Signal(Enum):
    """Something to do to the connection."""

    STARTTLS = "starttls"
    CLOSE = "close"
    DROP = "drop"


@dataclass(frozen=True, slots=True)
class Wait:
    """Let `seconds` pass, then call `resume`."""

    seconds: float


Step = bytes | Wait | Signal


@dataclass(slots=True)
class Dialogue:
    """One connection. `open` once, then `receive` bytes; both give steps to do in order."""

    provider: Provider
    host: str
    post: Post
    encrypted: bool = False
    _enhanced: bool = False
    _buffer: bytearray = field(default_factory=bytearray)
    _steps: list[Step] = field(default_factory=list)
    _greeted: bool = False
    _extended: bool = False
    _sender: str | None = None
    _utf8: bool = False
    _eight_bit: bool = False
    _recipients: list[tuple[str, str]] = field(default_factory=list)
    _cut: Cut = Cut.NEVER
    _slow: float = 0.0
    _in_data: bool = False
    _scanned: int = 0
    _too_big: bool = False
    _sent: int = 0
    _mistakes: int = 0
    _held: bool = False
    _over: bool = False

    def __post_init__(self) -> None:
        self._enhanced = Extension.ENHANCED in self.provider.extensions

    def open(self) -> list[Step]:
        """The greeting, or what stands for it."""
        verdict = self.post.connect()
        if verdict.accepted:
            self._say(f"220 {self.host} ESMTP")
        else:
            self._follow(verdict)
        return self._take()

    def receive(self, data: bytes) -> list[Step]:
        """What follows from these bytes. While a Wait is open they are only kept."""
        self._buffer += data
        if not self._held:
            self._work()
        return self._take()

    def resume(self) -> list[Step]:
        """Go on after a Wait."""
        self._held = False
        self._work()
        return self._take()

    def secured(self) -> None:
        """TLS is on. RFC 3207 section 4.2: forget what was said before, and what came in plain text after STARTTLS."""
        self._buffer.clear()
        self._greeted = self._extended = self._held = False
        self.encrypted = True
        self._reset()

    def _take(self) -> list[Step]:
        steps, self._steps = self._steps, []
        return steps

    def _work(self) -> None:
        while not self._held and not self._over:
            if self._in_data:
                if not self._read_data():
                    return
                continue
            end = self._buffer.find(b"\r\n", 0, _LONGEST_COMMAND)
            if end < 0:
                if len(self._buffer) >= _LONGEST_COMMAND:
                    self._say("500 5.5.6 Line too long")
                    self._end(Signal.CLOSE)
                return
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 2]
            self._command(line)

    def _say(self, text: str) -> None:
        self._steps.append(render(text, self._enhanced))

    def _mistake(self, text: str) -> None:
        self._mistakes += 1
        if self._mistakes > _PATIENCE:
            self._say("421 4.7.0 Too many errors")
            self._end(Signal.CLOSE)
        else:
            self._say(text)

    def _end(self, how: Signal) -> None:
        self._over = True
        self._buffer.clear()
        self._steps.append(how)

    def _follow(self, verdict: Verdict) -> None:
        if verdict.reply is not None:
            self._say(verdict.reply)
        match verdict.then:
            case Then.CLOSE:
                self._end(Signal.CLOSE)
            case Then.DROP:
                self._end(Signal.DROP)
            case Then.GO_ON:
                pass

    def _reset(self) -> None:
        self._sender = None
        self._recipients = []
        self._cut = Cut.NEVER
        self._slow = 0.0
        self._in_data = self._too_big = self._utf8 = self._eight_bit = False

    def _command(self, raw: bytes) -> None:
        # RFC 5321 section 2.3.8: CR and LF only ever together; section 4.1.1: no NUL in a command either.
        if b"\r" in raw or b"\n" in raw or b"\x00" in raw:
            return self._mistake("500 5.5.2 Bare CR or LF, or NUL, in a command")
        try:
            line = raw.decode("utf-8")
        except UnicodeDecodeError:
            return self._mistake("500 5.5.2 Not UTF-8")
        verb, _, rest = line.partition(" ")
        match verb.upper():
            case "EHLO" | "HELO" as verb:
                self._hello(verb == "EHLO", rest)
            case "MAIL":
                self._mail(rest)
            case "RCPT":
                self._rcpt(rest)
            case "DATA":
                self._data(rest)
            case "RSET":
                self._reset()
                self._say("250 2.0.0 OK")
            case "NOOP":
                self._say("250 2.0.0 OK")
            case "QUIT":
                self._say("221 2.0.0 Bye")
                self._end(Signal.CLOSE)
            case "STARTTLS":
                self._starttls(rest)
            case "VRFY":
                self._say("252 2.5.2 Cannot VRFY user, but will accept message and attempt delivery")
            case _:
                self._mistake("500 5.5.1 Command not recognised")

    def _hello(self, extended: bool, name: str) -> None:
        if not name.strip():
            return self._mistake("501 5.5.4 EHLO and HELO need the client's name")
        self._reset()
        self._greeted, self._extended = True, extended
        if not extended:
            return self._say(f"250 {self.host}")
        lines = [self.host]
        for extension in self.provider.extensions:
            size = f" {self.provider.limits.size}" if extension is Extension.SIZE else ""
            lines.append(f"{extension.value}{size}")
        if self.provider.starttls and not self.encrypted:
            lines.append("STARTTLS")
        self._say("250 " + "\n".join(lines))

    def _starttls(self, rest: str) -> None:
        if not self.provider.starttls or self.encrypted:
            return self._mistake("502 5.5.1 STARTTLS is not offered here")
        if rest:
            return self._mistake("501 5.5.4 STARTTLS takes no parameters")
        self._say("220 2.0.0 Ready to start TLS")
        self._held = True
        self._steps.append(Signal.STARTTLS)

    def _mail(self, rest: str) -> None:
        if not self._greeted:
            return self._mistake("503 5.5.1 EHLO first")
        if self._sender is not None:
            return self._mistake("503 5.5.1 A transaction is open: one MAIL at a time")
        parsed = command_path(rest, "FROM")
        if parsed is None:
            return self._mistake("501 5.5.4 Syntax: MAIL FROM:<address>")
        address, parameters = parsed
        if not self._accept_parameters(parameters):
            return None
        if address and not self._well_formed(address, "5.1.7"):
            return None
        verdict = self.post.mail_from(self._sent, self.encrypted)
        if not verdict.accepted:
            return self._follow(verdict)
        self._sender = address
        self._say("250 2.1.0 Sender OK")

    def _accept_parameters(self, parameters: Iterable[tuple[str, str]]) -> bool:
        # RFC 5321 section 4.1.1.11: a parameter that was not offered is refused with 555.
        offered = self.provider.extensions if self._extended else ()
        for name, value in parameters:
            match name:
                case "SIZE" if Extension.SIZE in offered and value.isdecimal() and len(value) <= 20:
                    if int(value) > self.provider.limits.size:
                        self._say("552 5.3.4 Message size exceeds fixed limit")
                        return False
                case "BODY" if Extension.EIGHT_BIT in offered and value.upper() in ("7BIT", "8BITMIME"):
                    self._eight_bit = value.upper() == "8BITMIME"
                case "SMTPUTF8" if Extension.SMTPUTF8 in offered and not value:
                    self._utf8 = True
                case _:
                    self._eight_bit = self._utf8 = False
                    self._mistake(f"555 5.5.4 Parameter {name} is not offered or has a wrong value")
                    return False
        return True

    def _well_formed(self, address: str, status: str) -> bool:
        found = mailbox(address)
        # RFC 5321 section 4.5.3.1: 64 octets of localpart, 255 of domain.
        if not found or len(found[0].encode()) > 64 or len(found[1].encode()) > 255:
            self._mistake(f"501 {status} Not an address")
            return False
        if not address.isascii() and not self._utf8:
            self._mistake("553 5.6.7 An address beyond ASCII needs SMTPUTF8")
            return False
        return True

    def _rcpt(self, rest: str) -> None:
        if self._sender is None:
            return self._mistake("503 5.5.1 MAIL first")
        parsed = command_path(rest, "TO")
        if parsed is None:
            return self._mistake("501 5.5.4 Syntax: RCPT TO:<address>")
        address, parameters = parsed
        if parameters:
            return self._mistake("555 5.5.4 No parameters are offered for RCPT")
        if address.lower() == "postmaster":  # RFC 5321 section 4.5.1
            address = f"{address}@{self.provider.domains[0]}"
        if not self._well_formed(address, "5.1.3"):
            return None
        if len(self._recipients) >= self.provider.limits.recipients:
            return self._say("452 4.5.3 Too many recipients")
        localpart, _, domain = address.rpartition("@")
        if not self.post.serves(domain.lower()):
            return self._mistake(f"554 5.7.1 <{address}>: Relay access denied")
        verdict = self.post.rcpt_to(self._sender, localpart, domain.lower())
        if not verdict.accepted:
            return self._follow(verdict)
        self._recipients.append((localpart, domain.lower()))
        self._slow = max(self._slow, verdict.slow)
        if self._cut is Cut.NEVER:
            self._cut = verdict.cut
        self._say("250 2.1.5 Recipient OK")

    def _data(self, rest: str) -> None:
        if rest:
            return self._mistake("501 5.5.4 DATA takes no parameters")
        if self._sender is None:
            return self._mistake("503 5.5.1 MAIL first")
        if not self._recipients:
            return self._mistake("554 5.5.1 No valid recipients")
        self._in_data = True
        # The CRLF of the DATA command itself may begin CRLF.CRLF (RFC 5321 section 4.1.1.4).
        self._buffer[0:0] = b"\r\n"
        self._scanned = 0
        self._say("354 End data with <CR><LF>.<CR><LF>")

    def _read_data(self) -> bool:
        """Look for the end of the message; whether it was found."""
        end = self._buffer.find(b"\r\n.\r\n", max(0, self._scanned - 4))
        if end < 0:
            self._scanned = len(self._buffer)
            if self._cut is Cut.AT_DATA and self._scanned > 2:
                self._end(Signal.DROP)
            elif self._scanned > self.provider.limits.size + 4:
                self._too_big = True
                del self._buffer[:-4]
                self._scanned = 4
            return False
        body = bytes(self._buffer[2 : end + 2])
        del self._buffer[: end + 5]
        self._in_data = False
        if self._cut is Cut.AT_DATA:
            self._end(Signal.DROP)
        else:
            self._finish(body)
        return True

    def _finish(self, body: bytes) -> None:
        assert self._sender is not None
        size = self.provider.limits.size
        fault = "552 5.3.4 Message size exceeds fixed limit" if self._too_big or len(body) > size else ""
        fault = fault or message_fault(body, eight_bit=self._eight_bit or self._utf8)
        if fault:
            self._reset()
            return self._mistake(fault)
        body = unstuffed(body)
        answered = self._cut is not Cut.AFTER_DOT
        mail = Received(self._sender, tuple(self._recipients), body, self.encrypted, answered)
        slow = self._slow
        self._reset()
        if slow:
            self._held = True
            self._steps.append(Wait(slow))
        try:
            name = self.post.keep(mail)
        except OSError:
            return self._say("452 4.3.1 The message could not be written down; try again later")
        self._sent += 1
        if answered:
            self._say(f"250 2.0.0 OK {name}")
        else:
            self._end(Signal.DROP)
        return None
