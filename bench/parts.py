"""mailriver complete, for a measurement: embedded Kafka, embedded ClickHouse and every role, each its own process.

As `pipeline.embedded.stack` runs it, but for the simulated internet, whose servers are there to be watched and not to
be fast: mail goes where `bench.internet` says.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import tomli_w

from bench.internet import Internet
from bench.workload import SENDING_DOMAIN
from pipeline import secrets, wiring
from pipeline.embedded.kafka import EmbeddedKafka, KafkaPlan, prepare
from pipeline.embedded.ports import free_ports
from pipeline.embedded.process import launch
from pipeline.roles import ROLES
from pipeline.settings import Settings, load
from pipeline.supervisor import Service, Supervisor
from sinks.smtp.dkim import Algorithm, create_key_file
from topics import admin
from topics.registry import LANES

ROOT = Path(__file__).resolve().parents[1]
_START_S = 180.0


class Signing(StrEnum):
    RSA = "rsa"
    ED25519 = "ed25519"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Size:
    workers: int = 1
    connections: int = (
        64  # to a site: the busiest gets a quarter of all mail, each message some 80 ms on its connection
    )
    sessions: int = 500  # of a worker, to all sites
    retry_scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Running:
    settings: Settings
    supervisor: Supervisor
    kafka: int  # the broker's process

    @property
    def pids(self) -> dict[str, int]:
        """By part, as they are now; the broker is `kafka`."""
        return {"kafka": self.kafka} | {name: self.supervisor.pid(name) for name in self.supervisor.restarts()}

    @property
    def recipient_secret(self) -> bytes:
        return secrets.recipient_secret(self.settings.secrets_folder)


@contextmanager
def running(data: Path, world: Internet, signing: Signing, size: Size = Size()) -> Iterator[Running]:
    """Everything started, on a fresh folder; stopped on the way out."""
    data.mkdir(parents=True)
    kafka = EmbeddedKafka(KafkaPlan(data / "kafka"), prepare(progress=True))
    supervisor = Supervisor()
    try:
        kafka.start()
        settings = _settings(data, world, kafka.bootstrap, size)
        _keys(settings, signing)
        supervisor.start([_clickhouse(settings)])
        supervisor.wait_ready(["clickhouse-server"], _START_S)
        admin.apply(wiring.cluster(settings), admin.Profile.EMBEDDED, wiring.topics(settings))
        workers = [_role(settings, "smtp", str(number)) for number in range(2, size.workers + 1)]
        services = [_role(settings, name) for name in ROLES] + workers
        supervisor.start(services)
        supervisor.wait_ready([service.name for service in services], _START_S)
        yield Running(settings, supervisor, kafka.pids[0])
    finally:
        supervisor.stop()
        kafka.stop()


def _settings(data: Path, world: Internet, bootstrap: str, size: Size) -> Settings:
    clickhouse, inbound, tracking = free_ports(3)
    shaping = data / "shaping.toml"
    shaping.write_text(tomli_w.dumps({"shipped": False, "default": {"connections": size.connections}}))
    content = {
        "data": str(data),
        "kafka": {"bootstrap": bootstrap},
        "clickhouse": {"url": f"http://127.0.0.1:{clickhouse}"},
        "lanes": {"partitions": max(LANES.embedded, size.workers)},  # or a worker would have none
        "delivery": {
            "mode": "sink",
            "port_map": str(world.port_map),
            "nameservers": [world.nameserver],
            "ehlo_name": f"mta.{SENDING_DOMAIN}",
            "shaping": str(shaping),
            "sessions": size.sessions,
            "retry_scale": size.retry_scale,
        },
        "inbound": {"listen": f"127.0.0.1:{inbound}"},
        "tracking": {"listen": f"127.0.0.1:{tracking}"},
        "tenants": {
            "default": {
                "sending_domains": [SENDING_DOMAIN],
                "return_path_domain": f"bounces.{SENDING_DOMAIN}",
                "tracking_url": f"http://click.{SENDING_DOMAIN}",
            }
        },
    }
    path = data / "bench.toml"
    path.write_text(tomli_w.dumps(content))
    return load(path)


def _keys(settings: Settings, signing: Signing) -> None:
    place = settings.secrets_folder / "dkim" / SENDING_DOMAIN
    place.mkdir(parents=True, mode=0o700)
    match signing:
        case Signing.RSA:
            create_key_file(place / "r1.pem", "r1", Algorithm.RSA)
        case Signing.ED25519:
            create_key_file(place / "e1.pem", "e1", Algorithm.ED25519)
        case Signing.NONE:
            pass


def _clickhouse(settings: Settings) -> Service:
    environment = os.environ | {
        "MAILRIVER_CLICKHOUSE__PASSWORD": secrets.password(settings.secrets_folder, "clickhouse"),
        "MAILRIVER_CLICKHOUSE__READER_PASSWORD": secrets.password(settings.secrets_folder, "reader"),
    }
    ready = settings.data / "run" / "clickhouse-server.ready"
    port = settings.clickhouse.url.rpartition(":")[2]
    module = ["pipeline.embedded.clickhouse", "--data", str(settings.data / "clickhouse"), "--port", port]
    return _service(settings, "clickhouse-server", [*module, "--ready-file", str(ready)], ready, environment)


def _role(settings: Settings, role: str, instance: str = "1") -> Service:
    name = role if instance == "1" else f"{role}-{instance}"
    ready = settings.data / "run" / f"{name}.ready"
    environment = os.environ | {
        "MAILRIVER_CONFIG": str(settings.data / "bench.toml"),
        "MAILRIVER_INSTANCE": instance,
    }
    module = ["pipeline", "run", role, "--ready-file", str(ready)]
    return _service(settings, name, module, ready, environment, ROLES[role].drain)


def _service(
    settings: Settings, name: str, module: list[str], ready: Path, environment: dict[str, str], drain: float = 15.0
) -> Service:
    log = settings.data / "logs" / f"{name}.log"
    argv = [sys.executable, "-m", *module]
    return Service(name, lambda: launch(name, argv, log=log, env=environment, cwd=ROOT), ready, drain)
