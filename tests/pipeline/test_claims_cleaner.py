"""The cleaner beside `plan`: what has had its time goes, and a folder that is away stops nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog

from pipeline.claims_cleaner import ClaimsCleaner
from schemas.claims import ClaimError
from topics.claims import FolderClaims


def test_what_has_had_its_time_goes_and_the_rest_stays(tmp_path: Path) -> None:
    claims = FolderClaims(tmp_path)
    now = datetime.now(UTC)
    old, kept = claims.put(b"old", now - timedelta(hours=1)), claims.put(b"kept", now + timedelta(hours=1))
    ClaimsCleaner(claims).clean()
    assert claims.get(kept) == b"kept"
    with pytest.raises(ClaimError):
        claims.get(old)


def test_a_folder_that_is_away_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with structlog.testing.capture_logs() as logs:
        ClaimsCleaner(FolderClaims(tmp_path / "file")).clean()
    assert [entry["event"] for entry in logs] == ["claims_away"]
