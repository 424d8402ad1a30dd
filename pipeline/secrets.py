"""The secrets of an installation: one file each, readable by the owner only, made on first use in a folder made by us.

recipient.key   HMAC secret of recipient ids. Losing it cuts the history of every person in two: back it up.
tokens/NAME.key keys of the signed links and return paths; the last name in sorted order signs, all open.
clickhouse.password, reader.password
dkim/       private keys that sign mail: dkim_keys.py
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path


class SecretError(Exception):
    """A secret cannot be used; the text names the file and the mend, never the content."""


def recipient_secret(folder: Path) -> bytes:
    return _bytes(folder / "recipient.key")


def token_keys(folder: Path) -> dict[str, bytes]:
    """Every token key by name, in sorted order."""
    tokens = folder / "tokens"
    if not tokens.exists():
        _bytes(tokens / "a.key")
    return {path.stem: _bytes(path) for path in sorted(tokens.glob("*.key"))}


def password(folder: Path, name: str) -> str:
    return _bytes(folder / f"{name}.password").decode()


def handed_over(path: Path) -> str:
    """A password that somebody else chose, in a file that its owner alone may read. Raises SecretError and OSError."""
    try:
        content = path.read_text(encoding="utf-8").removesuffix("\n")
    except UnicodeDecodeError:
        raise SecretError(f"{path}: a password is UTF-8 text") from None
    _closed(path)
    if not content or not content.isprintable() or len(content) > 1024:
        raise SecretError(f"{path}: a password is one line of 1 to 1024 printable characters")
    return content


def _bytes(path: Path) -> bytes:
    """The content of a secret file, made with 32 random bytes in hexadecimal when it does not exist."""
    try:
        return _read(path)
    except FileNotFoundError:
        pass
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = secrets.token_hex(32).encode()
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with open(scratch, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(fresh)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(scratch, path)  # two roles may start at once: the first to link wins, and both read the same secret
    except FileExistsError:
        pass
    finally:
        scratch.unlink()
    return _read(path)


def _read(path: Path) -> bytes:
    content = path.read_bytes().strip()
    _closed(path)
    if len(content) < 16:
        raise SecretError(f"{path}: a secret has at least 16 bytes; this one has {len(content)}")
    return content


def _closed(path: Path) -> None:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise SecretError(f"{path}: others may read this secret: chmod 600 it")
