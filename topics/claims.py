"""Where claimed bytes are kept: a folder that all workers see, or whatever else keeps the interface.

Content-addressed: `HASH[:2]/HASH`. Bytes are in place, and on the disk, before the record that claims them is
published; whoever reads them checks them. The time of a file is the time until which it is kept, so that keeping longer
is one call, and cleaning needs no other record.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from schemas.claims import Claim, ClaimError, claim_of, verified


class ClaimsAway(Exception):
    """The place cannot be reached or written now; later it may. The text names no content."""


class Claims(Protocol):
    """Every method may raise ClaimsAway."""

    def put(self, data: bytes, until: datetime) -> Claim:
        """Keep these bytes at least until then. ClaimError when they are too many."""
        ...

    def keep(self, claim: Claim, until: datetime) -> None:
        """Keep them at least until then. ClaimError when they are gone."""
        ...

    def get(self, claim: Claim) -> bytes:
        """ClaimError when they are gone, or are not what was claimed."""
        ...

    def clean(self, now: datetime) -> int:
        """Forget what need not be kept; how many that were."""
        ...


class FolderClaims:
    """Files of a folder; with several hosts, of one that all of them mount."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, data: bytes, until: datetime) -> Claim:
        claim = claim_of(data)
        with self._locked(fcntl.LOCK_SH):
            if not self._prolonged(claim, until):
                self._write(self._path(claim), data, until)
        return claim

    def keep(self, claim: Claim, until: datetime) -> None:
        with self._locked(fcntl.LOCK_SH):
            if not self._prolonged(claim, until):
                raise _gone(claim)

    def get(self, claim: Claim) -> bytes:
        with _reachable():
            try:
                with self._path(claim).open("rb") as file:
                    data = file.read(claim.size + 1)
            except FileNotFoundError:
                raise _gone(claim) from None
        return verified(claim, data)

    def clean(self, now: datetime) -> int:
        removed = 0
        for path in self._files():
            # Alone, for one file at a time: whoever keeps it longer has done so before, or finds it gone and writes it.
            with self._locked(fcntl.LOCK_EX), suppress(FileNotFoundError):
                if path.stat().st_mtime < now.timestamp():
                    path.unlink()
                    removed += 1
        return removed

    def _files(self) -> list[Path]:
        with _reachable():
            if not self._folder.exists():
                return []
            return [path for shard in self._folder.iterdir() if shard.is_dir() for path in shard.iterdir()]

    def _prolonged(self, claim: Claim, until: datetime) -> bool:
        path = self._path(claim)
        try:
            status = path.stat()
            if status.st_size != claim.size:  # cut short by a full disk of somebody's: the writer mends it
                return False
            if status.st_mtime < until.timestamp():
                os.utime(path, (until.timestamp(), until.timestamp()))
        except FileNotFoundError:
            return False
        return True

    def _write(self, path: Path, data: bytes, until: datetime) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        scratch = path.with_name(f".{uuid4()}")  # cleaned too, when a death leaves it: its time is in the past
        try:
            with open(scratch, "xb", opener=_private) as file:
                file.write(data)
                file.flush()
                os.utime(scratch, (until.timestamp(), until.timestamp()))
                os.fsync(file.fileno())
            scratch.replace(path)
        finally:
            scratch.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # the name, too, before anyone is told of it
        finally:
            os.close(folder)

    def _path(self, claim: Claim) -> Path:
        return self._folder / claim.sha256[:2] / claim.sha256

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        with _reachable():
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with open(self._folder / "lock", "ab", opener=_private) as lock:
                fcntl.flock(lock, how)  # let go of by closing
                yield


@contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ClaimsAway(f"claims: {error.strerror or type(error).__name__}") from None


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


def _gone(claim: Claim) -> ClaimError:
    return ClaimError(f"claim {claim.sha256[:12]}: its bytes are gone")
