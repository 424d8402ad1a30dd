"""The folder of claims: what is put is there, unchanged, until its time."""

from __future__ import annotations

import os
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from schemas.claims import CLAIM_MAX, Claim, ClaimError, claim_of
from topics.claims import ClaimsAway, FolderClaims

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def test_what_is_put_is_got(tmp_path: Path) -> None:
    claims = FolderClaims(tmp_path / "claims")
    claim = claims.put(b"body", NOW)
    assert claim == claim_of(b"body")
    assert claims.get(claim) == b"body"
    path = tmp_path / "claims" / claim.sha256[:2] / claim.sha256
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == [claim.sha256]


def test_the_same_bytes_are_kept_once_and_for_the_longer_time(tmp_path: Path) -> None:
    claims = FolderClaims(tmp_path)
    claims.put(b"body", NOW + DAY)
    claim = claims.put(b"body", NOW)
    assert claims.clean(NOW + DAY / 2) == 0
    claims.keep(claim, NOW + 2 * DAY)
    assert claims.clean(NOW + 3 * DAY / 2) == 0
    assert claims.get(claim) == b"body"
    assert claims.clean(NOW + 3 * DAY) == 1
    with pytest.raises(ClaimError, match="gone"):
        claims.get(claim)
    with pytest.raises(ClaimError, match="gone"):
        claims.keep(claim, NOW)


@pytest.mark.parametrize("tampered", [b"", b"bodY", b"body and more"])
def test_what_was_changed_is_not_given_out(tmp_path: Path, tampered: bytes) -> None:
    claims = FolderClaims(tmp_path)
    claim = claims.put(b"body", NOW)
    (tmp_path / claim.sha256[:2] / claim.sha256).write_bytes(tampered)
    with pytest.raises(ClaimError) as raised:
        claims.get(claim)
    assert "bod" not in str(raised.value)


def test_a_file_cut_short_is_mended_by_who_puts_it_again(tmp_path: Path) -> None:
    claims = FolderClaims(tmp_path)
    claim = claims.put(b"body", NOW)
    (tmp_path / claim.sha256[:2] / claim.sha256).write_bytes(b"bo")
    claims.put(b"body", NOW)
    assert claims.get(claim) == b"body"


def test_a_claim_is_no_path() -> None:
    with pytest.raises(ValueError, match="pattern"):
        Claim(sha256="../" * 21 + "x", size=1)


def test_too_much_is_refused() -> None:
    with pytest.raises(ClaimError, match="at most"):
        claim_of(bytes(CLAIM_MAX + 1))


def test_what_a_dead_writer_left_is_cleaned(tmp_path: Path) -> None:
    claims = FolderClaims(tmp_path)
    claim = claims.put(b"body", NOW + DAY)
    (tmp_path / claim.sha256[:2] / ".unfinished").write_bytes(b"bo")
    os.utime(tmp_path / claim.sha256[:2] / ".unfinished", (0, 0))
    assert claims.clean(NOW) == 1
    assert claims.get(claim) == b"body"


def test_a_place_that_cannot_be_written_is_away(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    claims = FolderClaims(tmp_path / "file")
    with pytest.raises(ClaimsAway):
        claims.put(b"body", NOW)
    with pytest.raises(ClaimsAway):
        claims.get(claim_of(b"body"))


def test_putting_and_cleaning_at_once_loses_nothing(tmp_path: Path) -> None:
    claims = FolderClaims(tmp_path)
    stop = threading.Event()

    def clean() -> None:
        while not stop.is_set():
            claims.clean(NOW)

    cleaner = threading.Thread(target=clean)
    cleaner.start()
    try:
        for _ in range(200):
            claim = claims.put(b"body", NOW - DAY)  # old: a cleaner may take it at once
            claims.put(b"body", NOW + DAY)
            assert claims.get(claim) == b"body"
            claims_file = tmp_path / claim.sha256[:2] / claim.sha256
            os.utime(claims_file, (0, 0))
    finally:
        stop.set()
        cleaner.join()
