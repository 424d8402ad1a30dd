"""The whole of mailriver on this machine: broker, ClickHouse, simulated internet, every role.

Decides what runs, where it keeps its data and on which ports, and in which order it starts; what a role does with its
settings is the role's. The settings are written to `stack.toml` in the data folder, so that every child and every later
command reads the same file.

A Kafka that MAILRIVER_KAFKA names takes the place of the embedded one. Nothing else of the environment is a setting of
this stack: it delivers to its own simulated internet, and nowhere else.

DATA/  stack.toml  lock  ports.json  secrets/  kafka/  clickhouse/  claims/  simulator/  logs/  run/
"""

from __future__ import annotations

import json
import os
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import structlog
import tomli_w

from pipeline import dkim_keys, secrets, wiring
from pipeline.embedded.claim import claimed
from pipeline.embedded.kafka import EmbeddedKafka, KafkaPlan, KafkaStartFailed, prepare
from pipeline.embedded.ports import remembered_ports
from pipeline.embedded.process import Child, launch
from pipeline.places import STACK_FILE
from pipeline.roles import ROLES
from pipeline.settings import OTHER_VARIABLES, PREFIX, Settings, SettingsError, from_environment, load
from pipeline.supervisor import Service, Supervisor
from topics import admin

_log = structlog.get_logger(__name__)

TENANT = "default"
SENDING_DOMAIN = "brand.test"
RETURN_PATH_DOMAIN = "bounces.brand.test"
TRACKING_URL = "http://click.brand.test"
RETRY_SCALE = 0.01  # a deferral of five minutes passes in three seconds, so that a demo sees it

_START_LIMIT = 180.0  # seconds; a busy laptop may need half of it, and what ends is told sooner
_BROKER_LOOK = 0.5  # seconds between two looks whether a broker ended


@dataclass(frozen=True, slots=True)
class StackPlan:
    data: Path
    seed: int = 1
    brokers: Literal[1, 3] = 1
    progress: bool = True  # of the first download, on stderr


class Stack:
    """Everything that `mailriver up` runs, from `start` to `stop`."""

    def __init__(self, plan: StackPlan) -> None:
        self._plan = plan
        self._data = plan.data.absolute()
        self.supervisor = Supervisor()
        self._kafka: EmbeddedKafka | None = None
        self._keeper: threading.Thread | None = None
        self._stopping = threading.Event()
        self._held = ExitStack()
        self.settings = from_environment()

    def start(self, say: Callable[[str], None] = lambda _: None) -> None:
        """Start all and return when all works; `say` is told each step as it begins.

        Raises InUse, SettingsError, SecretError, KafkaUnavailable, KafkaStartFailed, ServiceFailed, and Later or Never
        for what a Kafka that is not ours answers.
        """
        _refuse_other_settings()
        self._held.enter_context(claimed(self._data))
        if not self.settings.kafka.bootstrap:
            say("Kafka and Java")
            distribution = prepare(self._plan.progress)
            self._kafka = EmbeddedKafka(KafkaPlan(self._data / "kafka", self._plan.brokers), distribution)
        say("broker, ClickHouse, simulated internet" if self._kafka else "ClickHouse, simulated internet")
        ports = remembered_ports(self._data / "ports.json", ("clickhouse", "inbound", "tracking", "dns", "page"))
        self.supervisor.start([self._clickhouse(ports["clickhouse"]), self._simulator(ports)])
        with ThreadPoolExecutor(1) as pool:
            broker = pool.submit(self._kafka.start) if self._kafka else None
            self.supervisor.wait_ready(["clickhouse-server", "simulator"], _START_LIMIT)
            if broker is not None:
                broker.result()
        if self._kafka is not None:
            self._keeper = threading.Thread(target=self._keep_brokers, name="brokers", daemon=True)
            self._keeper.start()
        self.settings = self._write_settings(ports)
        dkim_keys.make_first(self.settings.secrets_folder, SENDING_DOMAIN)
        say("topics")
        admin.apply(wiring.cluster(self.settings), admin.Profile.EMBEDDED, wiring.topics(self.settings))
        say(f"{len(ROLES)} roles")
        self.supervisor.start([self._role(name) for name in ROLES])
        self.supervisor.wait_ready(list(ROLES), _START_LIMIT)
        self._publish_dns()

    def stop(self) -> None:
        """End everything, the roles first. Safe to call after a failed start."""
        self._stopping.set()
        self.supervisor.stop()
        if self._keeper is not None:
            self._keeper.join()
        if self._kafka is not None:
            self._kafka.stop()
        self._held.close()

    def kill_broker(self) -> None:
        """kill -9 of the first broker; it is started again."""
        assert self._kafka is not None
        self._kafka.kill(0)

    @property
    def simulator(self) -> dict[str, Any]:
        """What the simulator says of itself: dns, http, portmap, witness, sample_domain, …"""
        content: dict[str, Any] = json.loads((self._data / "simulator" / "endpoints.json").read_text())
        return content

    def endpoints(self) -> dict[str, Any]:
        """Where everything is, for people and tests. Holds the analysts' password, not the writer's."""
        simulator = self.simulator
        return {
            "kafka": self.settings.kafka.bootstrap,
            "clickhouse": {
                "url": self.settings.clickhouse.url,
                "user": self.settings.clickhouse.reader,
                "password": wiring.reader_password(self.settings),
                "database": self.settings.clickhouse.database,
            },
            "inbound_smtp": self.settings.inbound.listen,
            "tracking": f"http://{self.settings.tracking.listen}",
            "witness": simulator["witness"],
            "mails": simulator["http"],
            "sample_domain": simulator["sample_domain"],
            "data": str(self._data),
        }

    def _write_settings(self, ports: dict[str, int]) -> Settings:
        simulator = self.simulator
        kafka = self.settings.kafka.model_dump(mode="json", exclude_defaults=True)
        content = {
            "data": str(self._data),
            "kafka": kafka | ({"bootstrap": self._kafka.bootstrap} if self._kafka else {}),
            "clickhouse": {"url": f"http://127.0.0.1:{ports['clickhouse']}"},
            "delivery": {
                "mode": "sink",
                "port_map": simulator["portmap"],
                "nameservers": [simulator["dns"]],
                "ehlo_name": f"mta.{SENDING_DOMAIN}",
                "shaping": str(self._write_shaping(simulator["mx_suffixes"])),
                "retry_scale": RETRY_SCALE,
            },
            "inbound": {"listen": f"127.0.0.1:{ports['inbound']}"},
            "claims": {"folder": str(self._data / "claims")},
            "tracking": {"listen": f"127.0.0.1:{ports['tracking']}"},
            "tenants": {
                TENANT: {
                    "sending_domains": [SENDING_DOMAIN],
                    "return_path_domain": RETURN_PATH_DOMAIN,
                    "tracking_url": TRACKING_URL,
                }
            },
        }
        path = self._data / STACK_FILE
        draft = path.with_suffix(".draft")
        draft.write_text("# Written by each start of the stack on this machine.\n" + tomli_w.dumps(content))
        draft.replace(path)
        return load(path)

    def _write_shaping(self, mx_suffixes: dict[str, list[str]]) -> Path:
        """The simulated providers, and no word about the real ones: what they would take is not what these take."""
        path = self._data / "shaping.toml"
        providers = {name: {"mx": suffixes} for name, suffixes in mx_suffixes.items()}
        path.write_text(tomli_w.dumps({"shipped": False, "provider": providers}))
        return path

    def _clickhouse(self, port: int) -> Service:
        folder = self._data / "secrets"
        environment = os.environ | {
            "MAILRIVER_CLICKHOUSE__PASSWORD": secrets.password(folder, "clickhouse"),
            "MAILRIVER_CLICKHOUSE__READER_PASSWORD": secrets.password(folder, "reader"),
        }
        ready = self._data / "run" / "clickhouse-server.ready"
        argv = ["pipeline.embedded.clickhouse", "--data", str(self._data / "clickhouse"), "--port", str(port)]
        return self._service("clickhouse-server", [*argv, "--ready-file", str(ready)], ready, environment)

    def _simulator(self, ports: dict[str, int]) -> Service:
        folder = self._data / "simulator"
        argv = ["pipeline.simulator", "--data", str(folder), "--seed", str(self._plan.seed)]
        argv += ["--inbound", f"127.0.0.1:{ports['inbound']}", "--tracking", f"127.0.0.1:{ports['tracking']}"]
        argv += ["--dns-port", str(ports["dns"]), "--http-port", str(ports["page"])]
        return self._service("simulator", argv, folder / "endpoints.json", dict(os.environ))

    def add_worker(self, instance: str) -> str:
        """Another process of the role `smtp`, ready when this returns; its service's name."""
        service = self._role("smtp", instance)
        self.supervisor.start([service])
        self.supervisor.wait_ready([service.name], _START_LIMIT)
        return service.name

    def _role(self, role: str, instance: str = "") -> Service:
        name = f"{role}-{instance}" if instance else role
        ready = self._data / "run" / f"{name}.ready"
        argv = ["pipeline", "run", role, "--ready-file", str(ready)]
        environment = os.environ | {"MAILRIVER_CONFIG": str(self._data / STACK_FILE)}
        if instance:
            environment["MAILRIVER_INSTANCE"] = instance
        return self._service(name, argv, ready, environment, drain=ROLES[role].drain)

    def _service(
        self, name: str, module: list[str], ready: Path, environment: dict[str, str], drain: float = 15.0
    ) -> Service:
        log = self._data / "logs" / f"{name}.log"

        def start() -> Child:
            return launch(name, [sys.executable, "-m", *module], log=log, env=environment)

        return Service(name, start, ready, drain)

    def _keep_brokers(self) -> None:
        """A broker that ended is started again."""
        assert self._kafka is not None
        while not self._stopping.wait(_BROKER_LOOK):
            for broker in self._kafka.ended():
                _log.warning("broker_ended", broker=broker)
                with suppress(KafkaStartFailed):  # logged where it is raised; the next look tries again
                    self._kafka.start_broker(broker)

    def _publish_dns(self) -> None:
        """Put our own records (DKIM keys, SPF, DMARC) into the simulated internet, as an operator would in real DNS."""
        for name, value in wiring.sender_records(self.settings).items():
            _post(f"{self.simulator['http']}/api/dns", {"name": name, "type": "TXT", "values": [value]})


@contextmanager
def running(plan: StackPlan, say: Callable[[str], None] = lambda _: None) -> Iterator[Stack]:
    """A started stack; stopped on the way out, also when its start failed."""
    stack = Stack(plan)
    try:
        stack.start(say)
        yield stack
    finally:
        stack.stop()


def _refuse_other_settings() -> None:
    kafka = f"{PREFIX}KAFKA"
    for name in os.environ:
        if name.startswith(PREFIX) and not name.startswith(kafka) and name not in OTHER_VARIABLES:
            raise SettingsError(
                f"environment: {name} is not for the stack on this machine, which sets it itself: unset it"
            )


def _post(url: str, content: dict[str, Any]) -> None:
    request = urllib.request.Request(  # noqa: S310  # the simulator's own page, on loopback
        url, json.dumps(content).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10):  # noqa: S310
        pass
