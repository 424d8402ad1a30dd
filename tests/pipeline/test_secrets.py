from __future__ import annotations

import stat
from pathlib import Path

import pytest

from pipeline import secrets
from pipeline.secrets import SecretError


def test_a_secret_is_made_once_and_kept(tmp_path: Path) -> None:
    first = secrets.recipient_secret(tmp_path)
    assert secrets.recipient_secret(tmp_path) == first
    assert stat.S_IMODE((tmp_path / "recipient.key").stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [tmp_path / "recipient.key"]


def test_secrets_differ(tmp_path: Path) -> None:
    assert secrets.password(tmp_path, "clickhouse") != secrets.password(tmp_path, "reader")


def test_every_token_key_is_read(tmp_path: Path) -> None:
    assert list(secrets.token_keys(tmp_path)) == ["a"]
    (tmp_path / "tokens" / "b.key").touch(mode=0o600)
    (tmp_path / "tokens" / "b.key").write_bytes(b"x" * 32)
    assert list(secrets.token_keys(tmp_path)) == ["a", "b"]


def test_a_secret_that_others_read_is_refused(tmp_path: Path) -> None:
    secrets.recipient_secret(tmp_path)
    (tmp_path / "recipient.key").chmod(0o644)
    with pytest.raises(SecretError, match=r"recipient\.key: others may read this secret: chmod 600"):
        secrets.recipient_secret(tmp_path)


def test_a_short_secret_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipient.key"
    path.touch(mode=0o600)
    path.write_bytes(b"short")
    with pytest.raises(SecretError, match="at least 16 bytes; this one has 5"):
        secrets.recipient_secret(tmp_path)
