"""Dialogues shown to whoever watches (`mailriver trace`): taps on sessions, masked, within limits.

Decides what of a session may be seen: every command and reply, without addresses and secrets; of a body nothing but
that it went. Who may watch is the controls' (they are signed), what a session does its own. With nobody watching, it
costs a look at an empty tuple for each message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

import structlog

from schemas.address import Address, AddressError, parse
from schemas.lanes import MessageQueue
from schemas.redact import redact
from schemas.rules.controls import Control
from schemas.tracing import LINE_MAX, LINES_MAX, SessionTraced
from sinks.smtp.session import SessionInfo, Tap
from topics.errors import Later, Never
from topics.publisher import Publisher

PER_SECOND: Final = 100  # pieces of dialogue of a worker; a busy site has more
_PART_MAX: Final = 4_096  # bytes of a line that has not ended
_HIDDEN: Final = "<hidden>"

log = structlog.get_logger(__name__)


class Tracer:
    """On the event loop's thread."""

    def __init__(
        self,
        publisher: Publisher,
        worker: str,
        watched: Callable[[MessageQueue, float], Control | None],
        clock: Callable[[], float],
    ) -> None:
        """`watched`: who watches the messages of such a command; `clock` gives seconds since the epoch."""
        self._publisher = publisher
        self._worker = worker
        self._watched = watched
        self._clock = clock
        self._second = 0
        self._told = 0

    def tap(self, command: MessageQueue, session_id: str, info: SessionInfo | None) -> Tap | None:
        """What to give a session before it carries this message; None when nobody watches."""
        control = self._watched(command, self._clock())
        if control is None:
            return None
        known, rest = _known(command), b""

        def heard(direction: str, data: bytes) -> None:
            nonlocal rest
            if self._clock() >= control.until:
                return
            if direction == "<":
                # Whole lines only: of an address in two pieces the first would not look like one.
                whole, end, rest = (rest + data).rpartition(b"\n")
                data, rest = whole + end, rest[-_PART_MAX:]
            if lines := shown(direction, data, known):
                self._show(control, command, session_id, info, lines)

        return heard

    def note(self, command: MessageQueue, session_id: str, text: str, info: SessionInfo | None = None) -> None:
        """Show what is known of a session's opening."""
        control = self._watched(command, self._clock())
        if control is not None:
            self._show(control, command, session_id, info, shown("*", text.encode(), _known(command)))

    def _show(
        self, control: Control, command: MessageQueue, session_id: str, info: SessionInfo | None, lines: Sequence[str]
    ) -> None:
        now = self._clock()
        if int(now) != self._second:
            self._second, self._told = int(now), 0
        self._told += 1
        if self._told > PER_SECOND:
            return
        if self._told == PER_SECOND:
            lines = [*lines[: LINES_MAX - 1], "* more than can be shown: the rest of this second is left out"]
        event = SessionTraced.from_cause(
            f"{session_id}/{command.message_id}/{now}/{self._told}",
            occurred_at=datetime.fromtimestamp(now, UTC),
            tenant=command.tenant,
            control_id=control.control_id,
            worker=self._worker,
            session_id=session_id,
            recipient_domain=command.recipient_domain,
            message_id=command.message_id,
            site=command.site,
            mx_host=info.mx_host if info is not None else "",
            mx_ip=info.peer_ip if info is not None else "",
            lines=tuple(lines),
        )
        try:
            self._publisher.publish(event)
        except (Later, Never) as error:  # nobody's mail depends on it
            log.warning("trace_untold", reason=str(error))


def shown(direction: str, data: bytes, known: Sequence[Address] = ()) -> list[str]:
    """Lines of a dialogue as they may be seen."""
    text = data.decode("utf-8", "replace")
    return [f"{direction} {_masked(line, known)}" for line in text.splitlines()[:LINES_MAX]]


def _masked(line: str, known: Sequence[Address]) -> str:
    word, _, rest = line.partition(" ")
    # RFC 4954 section 4: what follows the mechanism, and a challenge (334), is a secret.
    if word.upper() == "AUTH":
        return f"AUTH {rest.partition(' ')[0][:20]} {_HIDDEN}"
    if word == "334":
        return f"334 {_HIDDEN}"
    return redact(line, LINE_MAX - 2, known)


def opening_of(info: SessionInfo) -> str:
    """How a session was opened, in a line."""
    offered = info.features
    names = [name for name in ("pipelining", "eight_bit", "smtputf8", "starttls") if getattr(offered, name)]
    tls = f"{info.tls_version} {info.tls_cipher} {'verified' if info.tls_verified else 'not verified'}"
    return (
        f"{info.mx_host} [{info.peer_ip}] from [{info.source_ip}] in {info.connect_ms:.0f} ms, "
        f"{tls if info.tls_version else 'in clear'}, offers {' '.join(names) or 'nothing'}, size {offered.size}"
    )


def _known(command: MessageQueue) -> tuple[Address, ...]:
    try:
        return (parse(command.recipient),)
    except AddressError:
        return ()
