"""`mailriver clean`: list what mailriver keeps on this machine, then remove it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from pipeline import places
from pipeline.cli.output import Failure
from pipeline.embedded.claim import LOCK_FILE, InUse, claimed

# What we make there. Anything else in the folder is somebody else's: MAILRIVER_DATA may have named a home.
_DATA = (
    *(places.STACK_FILE, "ports.json", "secrets", "kafka", "clickhouse", "claims", "simulator", "logs", "run"),
    LOCK_FILE,
)
_CACHE = ("kafka-*",)


def register(app: typer.Typer) -> None:
    app.command()(clean)


def clean(
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
) -> None:
    """List, then remove the data of this machine's stack, its secrets, and the downloaded files."""
    data, cache = places.data(), places.cache()
    if not data.is_dir():
        _remove(_ours(cache, _CACHE), [cache], yes)
        return
    try:
        with claimed(data):
            _remove([*_ours(data, _DATA), *_ours(cache, _CACHE)], [data, cache], yes)
    except InUse as error:
        raise Failure(str(error)) from None


def _ours(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    return [path for pattern in patterns for path in sorted(folder.glob(pattern))]


def _remove(found: list[Path], folders: list[Path], yes: bool) -> None:
    if all(path.name == LOCK_FILE for path in found):
        typer.echo("nothing to remove")
        return
    for path in found:
        typer.echo(f"{_size(path) / 1e6:9.1f} MB  {path}")
    if not yes and not typer.confirm("Remove all of it? Sent mail's history and the secrets are gone then"):
        raise typer.Exit(1)
    for path in found:
        try:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        except OSError as error:
            raise Failure(f"{path}: not removed: {error.strerror}") from None
    for folder in folders:
        if left := sorted(path.name for path in _entries(folder)):
            typer.echo(f"kept {folder}: {', '.join(left[:5])} {'is' if len(left) == 1 else 'are'} not mailriver's")
        elif folder.is_dir() and not folder.is_symlink():
            folder.rmdir()


def _entries(folder: Path) -> Iterator[Path]:
    return folder.iterdir() if folder.is_dir() else iter(())


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else (path,)
    return sum(file.lstat().st_size for file in files if not file.is_dir())
