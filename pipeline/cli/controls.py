"""The operators' controls for commands: those in force, read from Kafka, and a new one signed and written."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline import wiring
from pipeline.cli.output import Failure
from pipeline.cli.session import configured, kafka, loaded
from schemas.codec import decode
from schemas.rules.controls import Control
from schemas.rules.register import Register
from schemas.signing import signed
from schemas.state import ControlSet
from topics.errors import Later
from topics.kafka import Cluster
from topics.publisher import Publisher
from topics.record import Record
from topics.registry import CONTROLS
from topics.view import View

_PATIENCE_S = 15.0


class Desk:
    """What operators have said, and a place to say more."""

    def __init__(self, cluster: Cluster) -> None:
        settings = loaded()
        if not any((settings.secrets_folder / "tokens").glob("*.key")):
            # Made anew here, a key would be one that no worker knows, and the control count for nothing.
            raise Failure(
                f"no keys in {settings.secrets_folder / 'tokens'}: controls are signed with the installation's; "
                "run this where its workers have theirs, or copy that folder here"
            )
        with configured():
            self._keyring = wiring.keyring(settings)
        self.cluster = cluster
        self._register = Register(self._keyring, {name: pool.sources for name, pool in settings.pools.items()})

    @property
    def in_force(self) -> list[Control]:
        """As they are now. Raises Later when Kafka does not answer."""
        view: View[str] = View(self.cluster, CONTROLS, self._fold, name="cli")
        try:
            if not view.wait_ready(_PATIENCE_S):
                raise Later(f"{CONTROLS.name} could not be read")
        finally:
            view.close()
        return list(self._register.in_force().all)

    def publish(self, event: ControlSet) -> None:
        """Sign and write it; returns when Kafka has it."""
        settings = {"message.timeout.ms": int(_PATIENCE_S * 1000)}
        with Publisher(self.cluster, "cli", settings=settings) as publisher:
            publisher.publish(signed(event, self._keyring))
            publisher.flush()

    def _fold(self, record: Record) -> str | None:
        event = decode(record.value, record.headers)
        if isinstance(event, ControlSet):
            self._register.offer(event, time.time())
        return None


@contextmanager
def desk() -> Iterator[Desk]:
    with kafka() as cluster:
        yield Desk(cluster)
