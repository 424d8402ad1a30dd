"""Bring the locked jars into the cache, and vouch for each by its sha256 at every start.

Decides what is missing or damaged and fetches only that, by jgo's resolver with the registries that jgo is
configured for. A jar is downloaded into a staging folder, verified, and renamed into place, so the cache never shows
half a jar (jgo itself writes in place and only warns on a wrong checksum). When nothing is missing, nothing touches
the network.
"""

from __future__ import annotations

import os
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import structlog
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from pipeline.embedded.kafka_lock import Lock, LockedJar, file_sha256

_log = structlog.get_logger(__name__)

_ATTEMPTS = 3
_PAUSE = 1.0  # seconds before the second attempt, doubled before the third
_PARALLEL = 4  # downloads at once: polite to a registry, and enough for small jars
_MODIFIED = 1_000_000_000  # a fixed modification time: Java's AOT cache stays valid when a jar is fetched again

Advance = Callable[[int], None]


class KafkaUnavailable(Exception):
    """The embedded Kafka cannot run here; the text says why and what to do."""

    def __init__(self, reason: str):
        super().__init__(
            f"The embedded Kafka is not available: {reason}\n"
            "Either let this machine reach the Maven registry once (later starts need no network),\n"
            "or use a broker that you have:     MAILRIVER_KAFKA=host:port\n"
            "or start one with Docker:          docker compose -f docker-compose.kafka.yml up"
        )
        self.reason = reason


class Fetch(Protocol):
    """Downloads one jar below `folder`, calls `advance` with counts of bytes, returns the jar's path.

    Raises OSError or RuntimeError.
    """

    def __call__(self, jar: LockedJar, folder: Path, advance: Advance) -> Path: ...


def fetch_by_jgo(jar: LockedJar, folder: Path, advance: Advance) -> Path:
    """The real `Fetch`. `folder` is jgo's whole repository: nothing is read from or left in the user's own."""
    from jgo.config import GlobalSettings
    from jgo.maven import MavenContext, PythonResolver

    @contextmanager
    def progress(_name: str, _size: int) -> Iterator[Advance]:
        yield advance

    _trust_the_system()
    # A company's mirror, if the user has told jgo about one; None means jgo's default.
    mirrors = GlobalSettings.load().repositories or None
    resolver = PythonResolver(progress_callback=progress)
    context = MavenContext(resolver=resolver, repo_cache=folder, remote_repos=mirrors)
    path = resolver.download(context.create_dependency(jar.coordinate).artifact)
    if path is None:
        raise RuntimeError(f"{jar.coordinate} was not downloaded")
    return path


def _trust_the_system() -> None:
    """Let jgo's HTTP client believe the certificates that this system does: a company's proxy may have its own."""
    paths = ssl.get_default_verify_paths()
    if store := paths.cafile or paths.capath:
        os.environ.setdefault("REQUESTS_CA_BUNDLE", store)


def bring_jars(
    lock: Lock, folder: Path, *, progress: bool, fetch: Fetch = fetch_by_jgo, pause: float = _PAUSE
) -> tuple[Path, ...]:
    """Verified paths in class path order; raises KafkaUnavailable when a jar is missing and cannot be fetched."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [jar for jar in lock.jars if not _intact(jar, folder / jar.filename)]
    if wanted:
        _log.info("kafka_jars_missing", missing=len(wanted), of=len(lock.jars))
        _fetch_all(wanted, folder, progress, fetch, pause)
    return tuple(folder / jar.filename for jar in lock.jars)


def _intact(jar: LockedJar, path: Path) -> bool:
    if not path.is_file() or path.stat().st_size != jar.size:
        return False
    return file_sha256(path) == jar.sha256


def _fetch_all(wanted: list[LockedJar], folder: Path, progress: bool, fetch: Fetch, pause: float) -> None:
    bar = Progress(
        TextColumn("Apache Kafka (once)"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not progress,
    )
    task = bar.add_task("jars", total=sum(jar.size for jar in wanted))
    with bar, ThreadPoolExecutor(_PARALLEL, thread_name_prefix="kafka-jars") as pool:
        results = [pool.submit(_fetch_one, jar, folder, lambda n: bar.advance(task, n), fetch, pause) for jar in wanted]
        try:
            for result in as_completed(results):
                result.result()
        except (OSError, RuntimeError) as error:
            pool.shutdown(cancel_futures=True)  # one jar less is no Kafka: do not go on for minutes
            _log.warning("kafka_jars_unavailable", error=type(error).__name__)
            raise KafkaUnavailable(f"its jars are not in the cache and cannot be fetched ({_brief(error)}).") from error


def _fetch_one(jar: LockedJar, folder: Path, advance: Advance, fetch: Fetch, pause: float) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        counted = 0

        def count(size: int) -> None:
            nonlocal counted
            counted += size
            advance(size)

        try:
            with tempfile.TemporaryDirectory(prefix=".staging-", dir=folder) as staging:
                path = fetch(jar, Path(staging), count)
                if not _intact(jar, path):
                    raise RuntimeError(f"{jar.filename} arrived with a wrong sha256")
                os.utime(path, (_MODIFIED, _MODIFIED))
                path.replace(folder / jar.filename)
            return
        except (OSError, RuntimeError) as error:
            advance(-counted)
            _log.warning("kafka_jar_failed", jar=jar.filename, attempt=attempt, error=type(error).__name__)
            if attempt == _ATTEMPTS:
                raise
            time.sleep(pause * 2 ** (attempt - 1))


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}"
