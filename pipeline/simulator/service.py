"""The whole simulated internet in one event loop: builds every part, starts and stops them, writes the endpoints."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import structlog
from aiohttp import web

from pipeline.simulator.actor import Actor
from pipeline.simulator.addresses import Endpoint
from pipeline.simulator.certificates import Authority
from pipeline.simulator.config import Internet, Oddity, Provider
from pipeline.simulator.dns import NameServer
from pipeline.simulator.files import write_whole
from pipeline.simulator.names import RecordError, plan, port_map_key
from pipeline.simulator.page import application
from pipeline.simulator.ports import Ports
from pipeline.simulator.reception import Desk, Reception
from pipeline.simulator.smtp import SmtpListener
from pipeline.simulator.visits import Visitor
from pipeline.simulator.witness_log import WitnessLog

log = structlog.get_logger(__name__)

LOOPBACK = "127.0.0.1"
_MOST_PUBLISHED = 1000


@dataclass(frozen=True, slots=True)
class Arrangement:
    """What a run is told from outside. Ports 0: free ones, remembered."""

    data: Path
    seed: int
    internet: Internet
    inbound: Endpoint
    tracking: Endpoint
    dns_port: int = 0
    http_port: int = 0


class Simulator:
    """`start`, then `endpoints` is filled and written to DIR/endpoints.json; `stop` ends everything."""

    def __init__(self, arrangement: Arrangement) -> None:
        self.endpoints: dict[str, Any] = {}
        self._given = arrangement
        self._plan = plan(arrangement.internet)
        self._published: dict[str, list[str]] = {}
        self.listeners: list[SmtpListener] = []
        self.receptions: list[Reception] = []
        self._nameserver = NameServer(self._plan.zone)
        self._runner: web.AppRunner | None = None
        self._closed_port = socket.socket(socket.AF_INET, socket.SOCK_STREAM)

    async def start(self) -> None:
        """Start every part. Raises OSError when a port or a file cannot be had."""
        given, general = self._given, self._given.internet.general
        given.data.mkdir(parents=True, exist_ok=True)
        ready = given.data / "endpoints.json"
        ready.unlink(missing_ok=True)  # of an earlier run: its presence says "ready"
        ports = Ports(given.data / "ports.json")
        folder = given.data / "witness"
        self.witness = WitnessLog(
            folder, id_header=general.message_id_header, keep_bytes=general.keep_megabytes * 1_000_000
        )
        self.actor = Actor(given.seed, general, folder, given.inbound, Visitor(given.tracking), time.time)
        self._restore_published()

        dns_port = await ports.listen("dns", partial(self._nameserver.start, LOOPBACK), given.dns_port)
        port_map = await self._open_doors(ports)
        http_port = await self._open_page(ports)
        ports.save()

        map_file = given.data / "portmap.json"
        write_whole(map_file, orjson.dumps(port_map, option=orjson.OPT_INDENT_2))
        self.endpoints = {
            "dns": f"{LOOPBACK}:{dns_port}",
            "http": f"http://{LOOPBACK}:{http_port}",
            "portmap": str(map_file.absolute()),
            "witness": str(self.witness.path.absolute()),
            "ca": str((given.data / "ca.pem").absolute()),
            "sample_domain": general.sample_domain,
            "domains": given.internet.domains_by_provider(),
            "mx_suffixes": given.internet.mx_suffixes_by_provider(),
            "odd_domains": given.internet.odd_domains(),
        }
        write_whole(ready, orjson.dumps(self.endpoints, option=orjson.OPT_INDENT_2))
        log.info("simulator.ready", hosts=len(self.listeners), messages=self.witness.counts.total())

    async def stop(self) -> None:
        """Stop listening, forget what is ahead, close the witness."""
        await asyncio.gather(*(listener.stop() for listener in self.listeners))
        await self._nameserver.stop()
        if self._runner is not None:
            await self._runner.cleanup()
        await self.actor.stop()
        self._closed_port.close()
        self.witness.close()

    def publish(self, name: str, kind: str, values: Sequence[str]) -> None:
        """Put records into the simulated DNS, in place of the name's others of that type. Raises RecordError."""
        key = f"{kind} {name.lower().rstrip('.')}"
        if key not in self._published and len(self._published) >= _MOST_PUBLISHED:
            raise RecordError(f"{_MOST_PUBLISHED} names are published already: take some away, with an empty list")
        self._plan.zone.publish(name, kind, *values)
        self._published[key] = list(values)
        write_whole(self._given.data / "published.json", orjson.dumps(self._published, option=orjson.OPT_INDENT_2))

    def counts(self) -> dict[str, Any]:
        """Messages by provider, and what people have done."""
        by_provider = dict(self.witness.counts)
        return {
            "messages": sum(by_provider.values()),
            "providers": by_provider,
            "deeds": dict(self.actor.counts),
            "pending": self.actor.pending,
            "dns_questions": self._nameserver.questions,
        }

    def _restore_published(self) -> None:
        path = self._given.data / "published.json"
        if path.exists():
            for key, values in orjson.loads(path.read_bytes()).items():
                kind, _, name = key.partition(" ")
                self._plan.zone.publish(name, kind, *values)
                self._published[key] = values

    async def _open_doors(self, ports: Ports) -> dict[str, str]:
        """A listener for each host; the port map."""
        authority = Authority()
        authority.write(self._given.data / "ca.pem")
        port_map = {port_map_key(self._plan.inbound): str(self._given.inbound)}
        for provider in self._given.internet.provider:
            reception = self._reception(provider)
            self.receptions.append(reception)
            tls = authority.context(tuple(host.name for host in provider.hosts)) if provider.starttls else None
            for host in provider.hosts:
                listener = SmtpListener(
                    provider,
                    host.name,
                    partial(Desk, reception, host.name),
                    tls,
                    self._given.internet.general.idle_seconds,
                )
                port = await ports.listen(f"smtp {host.name}", partial(listener.start, LOOPBACK))
                self.listeners.append(listener)
                for address in self._plan.addresses[host.name]:
                    port_map[port_map_key(address)] = f"{LOOPBACK}:{port}"
        # Bound and never listening: whoever connects is refused, and nobody else can take the port.
        self._closed_port.bind((LOOPBACK, 0))
        port_map[port_map_key(self._plan.closed)] = f"{LOOPBACK}:{self._closed_port.getsockname()[1]}"
        return port_map

    def _reception(self, provider: Provider) -> Reception:
        given = self._given
        odd = (d.name for d in given.internet.domain if d.kind is Oddity.IMPLICIT_MX and d.provider == provider.name)
        domains = frozenset(provider.domains) | frozenset(odd)
        return Reception(given.seed, provider, domains, self.witness, self.actor.arrived, time.monotonic)

    async def _open_page(self, ports: Ports) -> int:
        self._runner = web.AppRunner(
            application(self.witness.path, self.counts, self.publish), access_log=None, handle_signals=False
        )
        await self._runner.setup()
        runner = self._runner

        async def start(port: int) -> None:
            await web.TCPSite(runner, LOOPBACK, port).start()

        return await ports.listen("http", start, self._given.http_port)
