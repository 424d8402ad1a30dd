"""Carry messages over one open connection: bytes, time-outs and write pressure around the pure dialogue.

Works on any asyncio transport, in clear or TLS, asyncio's loop or uvloop, once `transport.set_protocol` has handed it
over. No task per message: everything happens in the loop's own callbacks, and the owner hears by callback.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import cast

from sinks.smtp.dialogue import Dialogue, Envelope, Features, Step
from sinks.smtp.outcome import Cause, Outcome, Stage

_CHUNK = 256 * 1024  # of a body handed to the transport at a time, once it has asked for a pause
_QUIT_S = 5.0

OnOutcome = Callable[[Outcome], None]
OnReady = Callable[[], None]
Tap = Callable[[str, bytes], None]
"""Hears what is sent (`>`) and received (`<`), as it is, and what is not shown (`*`): the body."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """RFC 5321 section 4.5.3.2, in seconds: for a whole reply, or for a block of the body to move."""

    connect: float = 30.0
    banner: float = 300.0
    ehlo: float = 300.0
    starttls: float = 120.0  # the reply and the handshake, each
    mail: float = 300.0
    rcpt: float = 300.0
    data: float = 120.0
    block: float = 180.0
    dot: float = 600.0
    opening: float = 600.0  # all of the opening
    transaction: float = 1800.0  # all of a transaction: a byte a second is progress, but not for ever

    def of(self, stage: Stage) -> float:
        match stage:
            case Stage.RCPT:
                return self.rcpt
            case Stage.DATA:
                return self.data
            case Stage.BODY:
                return self.block
            case Stage.DOT:
                return self.dot
        return self.mail


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """How the session was opened, for the attempt's facts."""

    mx_host: str
    peer_ip: str
    peer_port: int
    source_ip: str  # ours, as we see it: behind a proxy it is not what the peer sees
    features: Features = field(default_factory=Features)
    source: str = ""  # its name
    tls_version: str = ""  # empty: in clear
    tls_cipher: str = ""
    tls_verified: bool = False  # the certificate is the MX host's: by the roots we trust, or by DANE
    tls_policy: str = ""  # which rule asked for it: see `tls.Demand`
    tls_failure: str = ""  # what the host could not do that is better, as RFC 8460 names it; remembered or found now
    opened_at: float = 0.0  # Unix seconds
    connect_ms: float = 0.0


class Session(asyncio.Protocol):
    """`on_closed`, if set, is called once when the connection has ended, after the outcome of a transaction on it.
    `tap`, if set, hears the dialogue.
    """

    def __init__(self, info: SessionInfo, timeouts: Timeouts) -> None:
        self.info = info
        self.messages_sent = 0
        self.on_closed: Callable[[Session], None] | None = None
        self.tap: Tap | None = None
        self._timeouts = timeouts
        self._dialogue = Dialogue(info.features)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._quitting = False
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = inf
        self._limit = inf  # of the whole transaction
        self._timed: Stage | None = None  # the stage that the deadline is for
        self._envelope: Envelope | None = None
        self._rest: memoryview | bytes = b""  # of the body, not yet with the transport
        self._on_outcome: OnOutcome | None = None
        self._on_ready: OnReady | None = None

    @property
    def usable(self) -> bool:
        """Whether `send` may be called now."""
        limit = self.info.features.mail_max
        return (
            self._transport is not None
            and self._envelope is None
            and not self._quitting
            and not self._transport.is_closing()
            and self._dialogue.is_idle
            and (limit <= 0 or self.messages_sent < limit)
        )

    def send(
        self, envelope: Envelope, wire: bytes | memoryview, *, on_outcome: OnOutcome, on_ready: OnReady | None = None
    ) -> None:
        """Start a transaction. `wire` is the message as it goes after DATA: dot-stuffed (lines.py), ending in CRLF,
        without the dot.

        `on_ready` is called when everything but the dot is written, `on_outcome` once, when the transaction is over;
        neither from within this call. RuntimeError when the session is not usable.
        """
        if not self.usable:
            raise RuntimeError("the session is not usable")
        step = self._dialogue.begin(envelope)
        self.messages_sent += 1
        self._envelope, self._rest = envelope, wire
        self._on_outcome, self._on_ready = on_outcome, on_ready
        self._limit = self._loop.time() + self._timeouts.transaction
        self._timed = None
        if step.outcome is not None:
            self._loop.call_soon(self._perform, step)
        else:
            self._perform(step)

    def release_dot(self, envelope: Envelope) -> bool:
        """The attempt is in the journal: write the dot, now or when 354 has come.

        `envelope` is the very object given to `send`: a release that comes after its transaction is over must not
        release the next one. False when it was so.
        """
        if envelope is not self._envelope:
            return False
        self._perform(self._dialogue.release_dot())
        return True

    def abort(self, envelope: Envelope) -> bool:
        """Give the transaction up before its dot; its outcome is Broken. False when it is too late."""
        if envelope is not self._envelope or self._dialogue.stage is Stage.DOT:
            return False
        self._cut(self._dialogue.abort())
        return True

    def drop(self) -> None:
        """Cut the connection at once. A transaction under way ends Broken, or InDoubt when its dot was written."""
        self._cut(self._dialogue.lost(Cause.ABORTED))

    def quit(self) -> None:
        """Take leave, whatever comes back (RFC 5321 section 4.1.1.10). With a transaction under way: `drop`."""
        if self._transport is None or self._transport.is_closing():
            return
        if not self._dialogue.is_idle:
            self.drop()
            return
        self._quitting = True
        if self.tap is not None:
            self.tap(">", b"QUIT\r\n")
        self._transport.write(b"QUIT\r\n")
        self._limit = inf
        self._arm(_QUIT_S)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by class

    def data_received(self, data: bytes) -> None:
        if self.tap is not None:
            self.tap("<", data)
        if self._quitting:
            self._disconnect()
            return
        self._perform(self._dialogue.receive(data))

    def eof_received(self) -> bool:
        self._perform(self._dialogue.lost(Cause.LOST))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._disarm()
        self._perform(self._dialogue.lost(Cause.LOST))
        if self._timer is not None:
            self._timer.cancel()
        if (on_closed := self.on_closed) is not None:
            self.on_closed = None
            on_closed(self)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._dialogue.stage is Stage.BODY:
            self._write_body()

    # What the dialogue says

    def _perform(self, step: Step) -> None:
        if step.write and self._transport is not None:
            if self.tap is not None:
                self.tap(">", step.write)
            self._transport.write(step.write)
        if step.body:
            if self.tap is not None:
                self.tap("*", b"body of %d octets" % len(self._rest))
            self._write_body()
            return
        if step.close:
            self._disconnect()
        if step.outcome is not None:
            self._finish(step.outcome)
        elif step.ready:
            self._arm(inf)  # the next move is the owner's; the whole transaction's limit holds
            if self._on_ready is not None:
                self._on_ready()
        elif self._envelope is not None and (stage := self._dialogue.stage) is not self._timed:
            # Only when the stage moves: a byte of a reply buys no time for the rest of it.
            self._timed = stage
            self._arm(self._timeouts.of(stage))

    def _write_body(self) -> None:
        transport = self._transport
        if transport is None or self._envelope is None:
            return
        while self._rest and not self._paused:
            if len(self._rest) <= _CHUNK:
                transport.write(self._rest)
                self._rest = b""
            else:
                view = memoryview(self._rest)
                transport.write(view[:_CHUNK])
                self._rest = view[_CHUNK:]
        if self._paused:
            # Also when all is handed over: the dot waits until the body is on its way, so that a connection lost before
            # leaves no doubt.
            self._arm(self._timeouts.block)
        else:
            self._perform(self._dialogue.body_written())

    def _finish(self, outcome: Outcome) -> None:
        report = self._on_outcome
        self._envelope, self._on_outcome, self._on_ready, self._rest = None, None, None, b""
        self._disarm()
        if report is not None:
            report(outcome)  # last: it may send the next message from within

    def _cut(self, step: Step) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._perform(step)

    def _disconnect(self) -> None:
        if self._transport is None:
            return
        if self._rest or self._paused:
            self._transport.abort()  # close would wait for a body that nobody reads
        else:
            self._transport.close()

    # Time: one timer per session, moved seldom. A deadline only ever moves the number that the timer looks at.

    def _arm(self, seconds: float) -> None:
        self._deadline = min(self._loop.time() + seconds, self._limit)
        if self._deadline < inf and (self._timer is None or self._timer.when() > self._deadline):
            if self._timer is not None:
                self._timer.cancel()
            self._timer = self._loop.call_at(self._deadline, self._tick)

    def _disarm(self) -> None:
        self._deadline = self._limit = inf

    def _tick(self) -> None:
        self._timer = None
        if self._deadline == inf:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._tick)
            return
        self._cut(self._dialogue.lost(Cause.TIMEOUT))
