"""rspamd as a judge: its rules as Debian ships them, its name server ours, and nobody else asked."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pipeline.embedded.ports import free_ports, is_free
from pipeline.embedded.process import launch
from pipeline.simulator.dns import NameServer
from pipeline.simulator.names import Zone
from tests.peers import unpacked
from tests.peers.mta import place
from tests.waiting import wait_until

_USER = "_rspamd"
_CONFIGURATION = """.include "$CONFDIR/common.conf"
options {{
  .include "$CONFDIR/options.inc"
  .include(priority=1,duplicate=merge) "$LOCAL_CONFDIR/local.d/options.inc"
}}
logging {{ type = "console"; level = "warning"; }}
worker "normal" {{ bind_socket = "127.0.0.1:{port}"; count = 1; }}
"""
# What would ask the internet.
_OFF = ("fuzzy_check", "rbl", "asn", "phishing", "mid", "mime_types", "spf_whitelist", "dkim_whitelist")


class Judge:
    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/checkv2"

    def symbols(self, message: bytes, **said: str) -> Mapping[str, Mapping[str, Any]]:
        """What it found in a message; `said`: of the session, such as ip, helo and from_."""
        headers = {name.strip("_"): value for name, value in said.items()}
        request = urllib.request.Request(self._url, message, headers)
        with urllib.request.urlopen(request, timeout=30) as reply:
            return dict(json.load(reply)["symbols"])


@contextmanager
def rspamd(zone: Zone) -> Iterator[Judge]:
    with place() as found, _name_server(zone) as names:
        folder = found.folder
        unpacked.require("rspamd", "/usr/bin/rspamd", folder, (_USER,))
        local, data = folder / "local.d", folder / "data"
        for each in (local, data):
            each.mkdir()
        shutil.chown(data, unpacked.FIRST_ID, unpacked.FIRST_ID)
        for module in _OFF:
            (local / f"{module}.conf").write_text("enabled = false;\n")
        (local / "options.inc").write_text(f'dns {{ nameserver = ["127.0.0.1:{names}"]; }}\nlocal_addrs = [];\n')
        configuration = folder / "rspamd.conf"
        configuration.write_text(_CONFIGURATION.format(port=found.port))
        argv = ["rspamd", "-f", "-u", _USER, "-g", _USER, "-c", str(configuration)]
        argv += [
            f"--var={name}={path}" for name, path in (("DBDIR", data), ("RUNDIR", data), ("LOCAL_CONFDIR", folder))
        ]
        child = launch("rspamd", unpacked.command(folder, argv), log=folder / "rspamd.log")
        try:
            wait_until(lambda: child.poll() is not None or not is_free(found.port), timeout=60, what="rspamd to listen")
            assert child.poll() is None, child.last_lines()
            yield Judge(found.port)
        finally:
            child.stop(10)


@contextmanager
def _name_server(zone: Zone) -> Iterator[int]:
    """Its port. In a thread of its own."""
    loop, server = asyncio.new_event_loop(), NameServer(zone)
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    (port,) = free_ports(1)
    asyncio.run_coroutine_threadsafe(server.start("127.0.0.1", port), loop).result(10)
    try:
        yield port
    finally:
        asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
