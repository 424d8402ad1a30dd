"""Who may send what: a tenant of the installation, as its configuration states it."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.envelope import Name, Stream
from schemas.rules.windows import Window

OnDoubt = Literal["resend", "give_up"]
"""What to do when the answer to the final dot was lost (RFC 1047): a second copy, or perhaps none."""


class StreamPolicy(BaseModel):
    """How mail of one stream is treated; times in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pool: Name = "default"
    expires_after_s: Annotated[int, Field(ge=60, le=7 * 86_400)] = 3 * 86_400
    on_doubt: OnDoubt = "give_up"
    window: Window | None = None
    """When its mail may be attempted; a campaign may have its own."""


_USUAL: Final = StreamPolicy()


class Tenant(BaseModel):
    """A sender with its own domains. A From outside `sending_domains` is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name = "default"
    sending_domains: tuple[str, ...]
    return_path_domain: str  # MAIL FROM is a signed VERP address here; its MX is our inbound listener
    tracking_url: str  # base of open, click and unsubscribe links, without a trailing slash
    weight: Annotated[int, Field(ge=1, le=100)] = 1
    """Of its turns at a destination where mail of other tenants waits too."""
    duplicate_window_s: Annotated[int, Field(ge=3_600, le=7 * 86_400)] = 86_400
    streams: dict[Stream, StreamPolicy] = {}

    def policy(self, stream: Stream) -> StreamPolicy:
        return self.streams.get(stream, _USUAL)
