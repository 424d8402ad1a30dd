"""Where the mail of a run goes: one fast SMTP sink behind the names of many sites.

Debian's `smtp-sink` takes whatever comes and counts it (`-c`); where it shall speak TLS, be slow to answer or put mail
off, a sink of ours does it. A tiny name server gives every site MX hosts and an address of its own; a port map leads
all addresses to the sink.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import dns.message
import dns.rdatatype
import dns.rrset

from bench.sink import self_signed
from bench.workload import SITES
from pipeline.embedded.ports import free_ports, is_free
from pipeline.embedded.process import Child, launch

_FIRST = IPv4Address("198.18.0.0")  # RFC 2544: for benchmarks
_START_S = 20.0
_LOOK_S = 0.05
_SITE = re.compile(r"(?:^|\.)s(\d+)\.test\.?$")


class Missing(Exception):
    """What the measurement needs is not there, or does not work; the text says what, and what to do."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Of the sink. `delay`: seconds until an answer. `defer`: share of addresses put off once."""

    tls: bool = False
    delay: float = 0.0
    defer: float = 0.0


PLAIN = Behaviour()


@dataclass(frozen=True, slots=True)
class Internet:
    sink: Child
    sink_port: int
    nameserver: str
    port_map: Path
    behaviour: Behaviour = PLAIN

    def received(self) -> int:
        """Messages that the sink has answered 250 to, since it was started."""
        found = re.findall(rb"mesg=(\d+)", _tail(self.sink.log))
        return int(found[-1]) if found else 0


@contextmanager
def internet(folder: Path, behaviour: Behaviour = PLAIN, sites: int = SITES) -> Iterator[Internet]:
    folder.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    sink = start_sink(folder, port) if behaviour == PLAIN else _start_own(folder, port, behaviour)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    names, transport = asyncio.run_coroutine_threadsafe(_serve_names(), loop).result(10)
    port_map = folder / "ports.json"
    port_map.write_text(json.dumps({f"{_address(site)}:25": f"127.0.0.1:{port}" for site in range(1, sites + 1)}))
    try:
        yield Internet(sink, port, names, port_map, behaviour)
    finally:
        asyncio.run_coroutine_threadsafe(_closed(transport), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
        sink.stop(5)


def start_sink(folder: Path, port: int) -> Child:
    program = shutil.which("smtp-sink") or shutil.which("smtp-sink", path="/usr/sbin")
    if program is None:
        raise Missing("smtp-sink is not installed: apt-get install postfix")
    user = ["-u", "nobody"] if Path("/proc/self").owner() == "root" else []
    return launch(
        "smtp-sink", [program, "-c", "-m", "1000", *user, f"127.0.0.1:{port}", "1000"], log=folder / "sink.log"
    )


def _start_own(folder: Path, port: int, behaviour: Behaviour) -> Child:
    argv = [sys.executable, "-m", "bench.sink", f"127.0.0.1:{port}"]
    argv += ["--delay", str(behaviour.delay), "--defer", str(behaviour.defer)]
    if behaviour.tls:
        argv += ["--tls", str(self_signed(folder / "sink.pem"))]
    sink = launch("sink", argv, log=folder / "sink.log", cwd=Path(__file__).parents[1])
    deadline = time.monotonic() + _START_S
    while is_free(port):
        if time.monotonic() > deadline or sink.poll() is not None:
            raise Missing(f"the sink does not start: {sink.last_lines()}")
        time.sleep(_LOOK_S)
    return sink


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 400))
        return file.read()


def _address(site: int) -> str:
    return str(_FIRST + site)


class _NameServer(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        name, kind = query.question[0].name, dns.rdatatype.to_text(query.question[0].rdtype)
        answer = dns.message.make_response(query)
        if (site := _SITE.search(name.to_text())) is not None:
            number = int(site[1])
            if kind == "MX" and not name.to_text().startswith("mx."):
                answer.answer.append(dns.rrset.from_text(name, 3600, "IN", "MX", f"10 mx.s{number}.test."))
            elif kind == "A":
                answer.answer.append(dns.rrset.from_text(name, 3600, "IN", "A", _address(number)))
        self._transport.sendto(answer.to_wire(), addr)


async def _serve_names() -> tuple[str, asyncio.DatagramTransport]:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(_NameServer, local_addr=("127.0.0.1", 0))
    host, port = transport.get_extra_info("sockname")[:2]
    return f"{host}:{port}", transport


async def _closed(transport: asyncio.DatagramTransport) -> None:
    transport.close()
    await asyncio.sleep(0)  # the socket is let go in the loop's next turn
