"""Forget claims that nobody needs any more, beside a role's work: those of messages that have expired a day ago."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Final

import structlog

from topics.claims import Claims, ClaimsAway

_EVERY_S: Final = 3_600.0

_log = structlog.get_logger(__name__)


class ClaimsCleaner:
    def __init__(self, claims: Claims) -> None:
        self._claims = claims

    def start(self) -> None:
        threading.Thread(target=self._run, name="claims", daemon=True).start()

    def clean(self) -> None:
        try:
            removed = self._claims.clean(datetime.now(UTC))
        except ClaimsAway as error:
            _log.warning("claims_away", error=str(error))
        else:
            _log.info("claims_cleaned", removed=removed)

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(_EVERY_S):
            self.clean()
