"""The lock: which jars make up the embedded Kafka, each by coordinate, size and sha256. No address is written anywhere.

`kafka.lock.json` is committed beside this file. To move to another version, change `KAFKA` (and `LOGGING`, whose
version must be that of log4j-core in the new set), then

    python -m pipeline.embedded.kafka_lock

resolves the coordinates by jgo's resolver with its default registry, hashes what came and rewrites the file. Look at
the difference before you commit it: the hashes are trusted from then on.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

KAFKA = "org.apache.kafka:kafka_2.13:4.3.1"
# Kafka's own distribution carries it; its POM does not name it.
LOGGING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4"

LOCK_FILE = Path(__file__).with_name("kafka.lock.json")


class LockedJar(BaseModel):
    """One jar."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    coordinate: Annotated[str, Field(pattern=r"^[\w.-]+:[\w.-]+:[\w.-]+$")]  # group:artifact:version
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size: Annotated[int, Field(gt=0)]  # bytes

    @property
    def filename(self) -> str:
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


class Lock(BaseModel):
    """The whole set, in class path order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    jars: tuple[LockedJar, ...]

    @property
    def version(self) -> str:
        """Kafka's."""
        return self.jars[0].coordinate.split(":")[2]

    @property
    def digest(self) -> str:
        """Names this very set."""
        return hashlib.sha256("\n".join(jar.sha256 for jar in self.jars).encode()).hexdigest()


def read_lock(file: Path = LOCK_FILE) -> Lock:
    """Raises pydantic.ValidationError or OSError: a damaged installation."""
    return Lock.model_validate_json(file.read_bytes())


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def write_lock(file: Path = LOCK_FILE) -> Lock:
    """Resolve anew and replace `file`. Needs the registry."""
    from jgo.maven import MavenContext

    with tempfile.TemporaryDirectory() as folder:
        context = MavenContext(repo_cache=Path(folder))
        # Kafka is resolved alone: jgo takes the dependency management of every root for all of them, and log4j's parent
        # POM would then bring kafka-clients of another release. LOGGING needs nothing that is not in the set already.
        roots, rest = context.resolver.resolve([context.create_dependency(KAFKA)])
        found = [dependency.artifact for dependency in (*roots, *rest)]
        found.append(context.create_dependency(LOGGING).artifact)
        jars = []
        for artifact in found:
            path = artifact.resolve()
            coordinate = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
            jars.append(LockedJar(coordinate=coordinate, sha256=file_sha256(path), size=path.stat().st_size))
    lock = Lock(jars=(jars[0], *sorted(jars[1:], key=lambda jar: jar.coordinate)))
    file.write_text(json.dumps(lock.model_dump(mode="json"), indent=1) + "\n")
    return lock


if __name__ == "__main__":
    write_lock()
