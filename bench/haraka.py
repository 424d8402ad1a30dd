"""Haraka as a peer: its DKIM plugin signs with RSA-2048, its own queue delivers, one process for each core.

Installed by npm into the user's cache folder on first use. A plugin of ours of a few lines lets loopback send and leads
all mail to the sink; its log holds warnings only.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.accounting import cpu_seconds, family
from bench.internet import Internet, Missing
from bench.peers import PeerOutcome, fed, find, require, wait_listening
from bench.workload import SENDING_DOMAIN
from pipeline import places
from pipeline.embedded.ports import free_ports
from pipeline.embedded.process import Child, launch
from sinks.smtp.dkim import Algorithm, create_key_file

VERSION = "3.3.4"
# What its MIME parser asks for is newer than what every mirror has.
_PACKAGES = {
    "private": True,
    "dependencies": {"Haraka": VERSION, "haraka-plugin-dkim": "1.3.1"},
    "overrides": {"encoding-japanese": "2.4.0", "libqp": "2.1.1"},
}
_NPM = ("npm", "install", "--omit=dev", "--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund")
_NEEDED = (("node", "nodejs"), ("npm", "npm"), ("smtp-source", "postfix"))
_INSTALL_S = 600.0
_PLUGIN = """exports.register = function () {
  this.register_hook('connect', 'let_in')
  this.register_hook('get_mx', 'sink')
}
exports.let_in = (next, connection) => { connection.relaying = true; next() }
exports.sink = (next) => next(OK, { exchange: '127.0.0.1', port: %d })
"""


class Haraka:
    def __init__(self, folder: Path, world: Internet) -> None:
        require(_NEEDED)
        self._folder = folder
        self._world = world
        (self._port,) = free_ports(1)
        self._child: Child | None = None

    def start(self) -> None:
        modules = installed() / "node_modules"
        shutil.copytree(modules / "Haraka" / "config", self._folder / "config")
        for path in (f"config/dkim/{SENDING_DOMAIN}", "plugins", "queue"):
            (self._folder / path).mkdir(parents=True)
        for path, text in self._files().items():
            (self._folder / path).write_text(text)
        create_key_file(self._folder / "config" / "dkim" / SENDING_DOMAIN / "private", "r1", Algorithm.RSA)
        (self._folder / "node_modules").symlink_to(modules)
        argv = [find("node"), str(modules / "Haraka" / "bin" / "haraka"), "-c", str(self._folder)]
        self._child = launch("haraka", argv, log=self._folder / "haraka.log")
        wait_listening(self._port, self._child)

    def stop(self) -> None:
        if self._child is not None:
            self._child.stop(10)

    def run(self, messages: int) -> PeerOutcome:
        return fed(self._folder, self._port, messages, self._world, self._cpu)

    def _cpu(self) -> float:
        return sum(map(cpu_seconds, family(self._child.pid))) if self._child is not None else 0.0

    def _files(self) -> dict[str, str]:
        signing = f"[sign]\nenabled=true\nselector=r1\ndomain={SENDING_DOMAIN}\n"
        return {
            "config/smtp.ini": f"listen=127.0.0.1:{self._port}\nnodes=cpus\n",
            "config/me": f"mta.{SENDING_DOMAIN}\n",
            "config/log.ini": "[main]\nlevel=WARN\n",
            "config/outbound.ini": "local_mx_ok=true\n",
            "config/plugins": "lead\ndkim\n",
            "config/dkim.ini": f"{signing}[canon]\nbody=relaxed\n[verify]\nenabled=false\n",
            f"config/dkim/{SENDING_DOMAIN}/selector": "r1\n",
            "plugins/lead.js": _PLUGIN % self._world.sink_port,
        }


def installed() -> Path:
    """The folder with its `node_modules`. Raises Missing."""
    folder = places.cache() / f"haraka-{VERSION}"
    if (folder / "node_modules" / "Haraka").exists():
        return folder
    draft = folder.with_name(f"{folder.name}.new")
    draft.mkdir(parents=True, exist_ok=True)
    (draft / "package.json").write_text(json.dumps(_PACKAGES))
    try:
        done = subprocess.run(_NPM, cwd=draft, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        raise Missing(f"Haraka cannot be installed: npm had no end in {_INSTALL_S:.0f} s") from None
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "npm error" in line), "npm says no more")
        raise Missing(f"Haraka cannot be installed by npm into {draft}: {reason}")
    draft.rename(folder)
    return folder


@contextmanager
def haraka(folder: Path, world: Internet) -> Iterator[Haraka]:
    peer = Haraka(folder, world)
    try:
        peer.start()
        yield peer
    finally:
        peer.stop()
