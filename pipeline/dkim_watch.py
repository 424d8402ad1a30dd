"""Let a running worker sign with the keys that are in the folder now: a rotation needs no restart.

A folder that cannot be used changes nothing: what signed goes on signing, and the log says which file is to be mended.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from pipeline.settings import SettingsError
from sinks.smtp.dkim import Signer

_LOOK_S: Final = 5.0

Signers = dict[str, Signer | None]

_log = structlog.get_logger(__name__)


class KeyWatch:
    """Keeps `signers` what `load` says; `folder` is that of all secrets."""

    def __init__(self, folder: Path, load: Callable[[], Signers]) -> None:
        self._folder = folder / "dkim"
        self._load = load
        self._seen = self._listing()  # before they are read: what changes meanwhile is read again
        self.signers = load()

    def start(self) -> None:
        threading.Thread(target=self._run, name="dkim-keys", daemon=True).start()

    def look(self) -> None:
        """Read the keys again if a file has changed."""
        listing = self._listing()
        if listing == self._seen:
            return
        self._seen = listing
        try:
            fresh = self._load()
        except SettingsError as error:
            _log.warning("dkim_keys_refused", error=str(error))
            return
        # Nobody who composes now finds a domain missing: names are replaced, then those that are gone removed.
        self.signers.update(fresh)
        for name in self.signers.keys() - fresh.keys():
            del self.signers[name]
        _log.info("dkim_keys_read", domains=len(fresh))

    def _run(self) -> None:
        pause = threading.Event()
        while not pause.wait(_LOOK_S):
            self.look()

    def _listing(self) -> frozenset[tuple[str, int, int]]:
        found = set()
        for path in self._folder.rglob("*.pem"):
            try:
                status = path.stat()
            except FileNotFoundError:  # renamed since it was listed: seen at the next look
                continue
            found.add((str(path), status.st_mtime_ns, status.st_mode))
        return frozenset(found)
