"""What a worker shows of a session while somebody watches: no address, no secret, no body."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schemas.envelope import Event

LINE_MAX = 600
LINES_MAX = 200

Line = Annotated[str, Field(max_length=LINE_MAX)]


class SessionTraced(Event):
    """`session.traced` on `mail.traces`: a piece of a dialogue, for whoever set the control of that id.

    A line begins with what it is: `>` sent, `<` received, `*` said about it.
    """

    type: Literal["session.traced"] = "session.traced"
    control_id: str
    worker: str
    session_id: str
    recipient_domain: str
    message_id: str = ""
    site: str = ""
    mx_host: str = ""
    mx_ip: str = ""
    lines: Annotated[tuple[Line, ...], Field(max_length=LINES_MAX)]

    @property
    def key(self) -> str:
        return self.control_id
