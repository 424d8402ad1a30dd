"""Where a command finds its installation: the configuration named, else the stack that `mailriver up` runs on this
machine. Foreign errors become sentences here, once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline import places, settings
from pipeline.cli.output import Failure
from pipeline.secrets import SecretError
from pipeline.settings import Settings, SettingsError
from topics.errors import Broken, Later, Never
from topics.kafka import Cluster


def loaded() -> Settings:
    """The settings, or Failure with their error."""
    stack = places.data() / places.STACK_FILE
    with configured():
        return settings.load(settings.named_file() or (stack if stack.exists() else None))


@contextmanager
def configured() -> Iterator[None]:
    """What is wrong with the configuration is a Failure."""
    try:
        yield
    except (SettingsError, SecretError) as error:
        raise Failure(str(error), status=2) from None


@contextmanager
def kafka() -> Iterator[Cluster]:
    """The configured cluster; what it refuses, and its silence, are a Failure."""
    from pipeline import wiring

    used = loaded()
    try:
        with configured():
            cluster = wiring.cluster(used)
        yield cluster
    except (Later, Never, Broken) as error:
        raise kafka_failure(error, used.kafka.bootstrap) from None


def kafka_failure(error: Later | Never | Broken, bootstrap: str) -> Failure:
    """The sentence for what a Kafka client ran into."""
    if isinstance(error, Never):
        return Failure(f"Kafka at {bootstrap} refused: {error}")
    return Failure(
        f"Kafka at {bootstrap} does not answer ({error}): is it running? "
        "`mailriver up` starts one, MAILRIVER_KAFKA=host:port names another"
    )
