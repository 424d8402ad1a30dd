"""What waits for its delivery window: a campaign's, else that of its tenant's stream.

Pure but for its memory. When a window is open is `schemas.rules.windows`' to say; it is asked once a minute, since it
opens and closes at full minutes and a million messages may wait for one. What waits is parked, so nothing is written of
it, and is let go over the first minutes in parts, so that not all of it starts in one second.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from schemas.envelope import Stream
from schemas.lanes import MessageQueue
from schemas.rules.windows import Window
from schemas.state import CampaignSet
from schemas.tenant import Tenant
from sinks.smtp.commands import Park

PARTS: Final = 16
PART_S: Final = 15.0  # between two of them: the last one goes after four minutes
_REMEMBERED: Final = 1_000  # windows


class Windows:
    def __init__(self, tenants: Mapping[str, Tenant]) -> None:
        self._of_stream: dict[tuple[str, Stream], Window] = {
            (name, stream): policy.window
            for name, tenant in tenants.items()
            for stream, policy in tenant.streams.items()
            if policy.window is not None
        }
        self._minute = 0
        self._opens: dict[Window, float] = {}  # as of that minute; 0: it is open

    def admit(self, command: MessageQueue, campaign: CampaignSet | None, now: float) -> Park | None:
        """None when the message has no window, or it is open."""
        window = campaign.window if campaign is not None else None
        if window is None:
            if not self._of_stream:
                return None
            window = self._of_stream.get((command.tenant, command.stream))
            if window is None:
                return None
        opens_at = self._next(window, now)
        if not opens_at:
            return None
        owner = campaign.key if campaign is not None else f"{command.tenant}/{command.stream}"
        part = int(command.message_id[-1], 16)
        return Park(_key(campaign is not None, owner, part), opens_at + part * PART_S)

    def _next(self, window: Window, now: float) -> float:
        minute = int(now // 60)
        if minute != self._minute or len(self._opens) >= _REMEMBERED:
            self._opens.clear()
            self._minute = minute
        found = self._opens.get(window)
        if found is None:
            opens_at = window.opens_at(now)
            found = self._opens[window] = opens_at if opens_at > now else 0.0
        return found


def keys_of(campaign: str) -> list[str]:
    """Under which mail of the campaign waits for a window: to be asked about again when the campaign is another."""
    return [_key(True, campaign, part) for part in range(PARTS)]


def _key(of_campaign: bool, owner: str, part: int) -> str:
    return f"window:{'campaign' if of_campaign else 'stream'}:{owner}#{part}"
