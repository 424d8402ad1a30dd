"""The jar cache: what is missing or damaged is fetched, nothing wrong gets in, a full cache needs no network."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.embedded.kafka_jars import Advance, KafkaUnavailable, bring_jars, fetch_by_jgo
from pipeline.embedded.kafka_lock import Lock, LockedJar
from pipeline.embedded.ports import free_ports

CONTENT = {"alpha": b"first jar", "beta": b"second jar" * 1000, "gamma": b"third"}


def locked(name: str, content: bytes) -> LockedJar:
    digest = hashlib.sha256(content).hexdigest()
    return LockedJar(coordinate=f"org.example:{name}:1.0", sha256=digest, size=len(content))


# A download that was cut off leaves a socket to the garbage collector, which says so in whatever test it comes by: jgo
# closes no response, and the little server's threads end when they like.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

LOCK = Lock(jars=tuple(locked(name, content) for name, content in CONTENT.items()))


class Registry:
    """A `Fetch` that serves CONTENT, at first `failures` times something else."""

    def __init__(self, failures: list[bytes | Exception] | None = None) -> None:
        self.failures = failures or []
        self.asked: list[str] = []

    def __call__(self, jar: LockedJar, folder: Path, advance: Advance) -> Path:
        self.asked.append(jar.filename)
        content: bytes | Exception = CONTENT[jar.coordinate.split(":")[1]]
        if self.failures:
            content = self.failures.pop(0)
        if isinstance(content, Exception):
            raise content
        path = folder / "downloaded.jar"
        path.write_bytes(content)
        advance(len(content))
        return path


def test_the_first_time_everything_is_fetched_the_second_time_nothing(tmp_path: Path) -> None:
    registry = Registry()
    jars = bring_jars(LOCK, tmp_path / "jars", progress=False, fetch=registry)
    assert [jar.name for jar in jars] == ["alpha-1.0.jar", "beta-1.0.jar", "gamma-1.0.jar"]
    assert [jar.read_bytes() for jar in jars] == list(CONTENT.values())
    assert sorted(path.name for path in (tmp_path / "jars").iterdir()) == sorted(jar.name for jar in jars)
    assert len(registry.asked) == 3

    assert bring_jars(LOCK, tmp_path / "jars", progress=False, fetch=registry) == jars
    assert len(registry.asked) == 3


@pytest.mark.parametrize("damage", [b"", b"second jar", b"SECOND jar" + b"second jar" * 999])
def test_a_damaged_jar_is_found_and_replaced(tmp_path: Path, damage: bytes) -> None:
    jars = bring_jars(LOCK, tmp_path, progress=False, fetch=Registry())
    times = jars[1].stat().st_mtime_ns
    jars[1].write_bytes(damage)
    registry = Registry()
    assert bring_jars(LOCK, tmp_path, progress=False, fetch=registry) == jars
    assert registry.asked == ["beta-1.0.jar"]
    assert jars[1].read_bytes() == CONTENT["beta"]
    assert jars[1].stat().st_mtime_ns == times  # else Java would not use its AOT cache any more


def test_what_arrives_wrong_is_fetched_again(tmp_path: Path) -> None:
    registry = Registry(failures=[b"not a jar", OSError("connection reset")])
    jars = bring_jars(LOCK, tmp_path, progress=True, fetch=registry, pause=0)
    assert [jar.read_bytes() for jar in jars] == list(CONTENT.values())
    assert len(registry.asked) == 5


def test_what_always_arrives_wrong_never_gets_in(tmp_path: Path) -> None:
    with pytest.raises(KafkaUnavailable, match="wrong sha256"):
        bring_jars(LOCK, tmp_path, progress=False, fetch=Registry(failures=[b"evil"] * 99), pause=0)
    assert list(tmp_path.iterdir()) == []


def test_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(KafkaUnavailable) as caught:
        bring_jars(LOCK, tmp_path, progress=False, fetch=Registry(failures=[OSError("no route")] * 99), pause=0)
    text = str(caught.value)
    assert "no route" in text
    assert "MAILRIVER_KAFKA=host:port" in text
    assert "docker compose -f docker-compose.kafka.yml up" in text


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A Maven repository on loopback, which jgo's configuration names, and an empty home."""
    root = tmp_path / "repository"
    for name, content in CONTENT.items():
        folder = root / "org" / "example" / name / "1.0"
        folder.mkdir(parents=True)
        (folder / f"{name}-1.0.jar").write_bytes(content)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            """Nothing: the test asserts on files."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(root))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        configure(tmp_path, monkeypatch, server.server_address[1])
        yield root
        server.shutdown()


def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    config = tmp_path / "jgo.conf"
    config.write_text(f"[repositories]\nmirror = http://127.0.0.1:{port}\n")
    monkeypatch.setenv("JGO_CONFIG_FILE", str(config))
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_jgo_fetches_from_the_mirror_it_is_configured_for_and_leaves_nothing_behind(
    tmp_path: Path, repository: Path
) -> None:
    jars = bring_jars(LOCK, tmp_path / "jars", progress=False, fetch=fetch_by_jgo)
    assert [jar.read_bytes() for jar in jars] == list(CONTENT.values())
    assert list((tmp_path / "home").iterdir()) == []
    assert len(list((tmp_path / "jars").iterdir())) == 3


def test_jgo_with_a_jar_that_was_replaced_in_the_registry(tmp_path: Path, repository: Path) -> None:
    (repository / "org" / "example" / "beta" / "1.0" / "beta-1.0.jar").write_bytes(b"another jar")
    with pytest.raises(KafkaUnavailable, match=r"beta-1\.0\.jar arrived with a wrong sha256"):
        bring_jars(LOCK, tmp_path / "jars", progress=False, fetch=fetch_by_jgo, pause=0)


def test_jgo_with_a_jar_that_the_registry_does_not_have(tmp_path: Path, repository: Path) -> None:
    (repository / "org" / "example" / "gamma" / "1.0" / "gamma-1.0.jar").unlink()
    with pytest.raises(KafkaUnavailable, match="gamma"):
        bring_jars(LOCK, tmp_path / "jars", progress=False, fetch=fetch_by_jgo, pause=0)


def test_jgo_with_no_registry_in_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (nobody,) = free_ports(1)
    configure(tmp_path, monkeypatch, nobody)
    with pytest.raises(KafkaUnavailable, match="MAILRIVER_KAFKA"):
        bring_jars(LOCK, tmp_path / "jars", progress=False, fetch=fetch_by_jgo, pause=0)
