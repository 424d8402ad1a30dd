"""Postfix as a peer, signing by opendkim or unsigned, as in Debian: an instance of its own, in a folder of ours."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import workload
from bench.accounting import cpu_seconds
from bench.internet import Internet, Missing
from bench.peers import PeerOutcome, fed, find, require, wait_listening
from pipeline.embedded.ports import free_ports
from pipeline.embedded.process import Child, launch
from sinks.smtp.dkim import Algorithm, create_key_file

_NEEDED = (("postfix", "postfix"), ("smtp-source", "postfix"), ("opendkim", "opendkim"))

INSTANCE = """compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
maillog_file = {folder}/mail.log
maillog_file_prefixes = {folder}
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
mydestination =
alias_maps =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
disable_dns_lookups = yes
"""
"""What every instance of ours has, in a folder of its own."""

_MAIN = (
    INSTANCE
    + """myhostname = mta.brand.test
local_recipient_maps =
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
relayhost = [127.0.0.1]:{sink}
default_process_limit = {processes}
default_destination_concurrency_limit = {connections}
initial_destination_concurrency = 20
smtp_connection_cache_on_demand = yes
smtpd_client_connection_count_limit = 0
smtpd_milters = {milters}
milter_default_action = tempfail
"""
)
# A connection is kept for the next mail only by tlsproxy.
_TLS = "smtp_tls_security_level = may\nsmtp_tls_connection_reuse = yes\n"
CONNECTIONS = 100
_OTHERS = 100  # processes of a kind beside those that deliver


class Postfix:
    """One instance; `run` gives it mail and waits until the sink has it."""

    def __init__(self, folder: Path, world: Internet, *, signed: bool, connections: int) -> None:
        require(_NEEDED)
        if os.geteuid() != 0:
            raise Missing("Postfix as a peer needs root")
        self._folder = folder
        self._world = world
        self._port, self._milter_port = free_ports(2)
        self._signed = signed
        self._connections = connections
        self._milter: Child | None = None
        self._master = 0

    def start(self) -> None:
        folder = self._folder
        for name in ("config", "queue", "data"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        shutil.chown(folder / "data", "postfix")
        for path in (folder, *folder.parents[:1]):
            path.chmod(0o755)
        milters = f"inet:127.0.0.1:{self._milter_port}" if self._signed else ""
        config = folder / "config"
        values = {"folder": folder, "sink": self._world.sink_port, "milters": milters}
        values |= {"connections": self._connections, "processes": self._connections + _OTHERS}
        (config / "main.cf").write_text(_MAIN.format(**values) + (_TLS if self._world.behaviour.tls else ""))
        (config / "master.cf").write_text(services(self._port))
        if self._signed:
            self._milter = self._start_milter(folder)
        subprocess.run(["postfix", "-c", str(config), "start"], check=True, capture_output=True)
        self._master = int((folder / "queue" / "pid" / "master.pid").read_text())

    def stop(self) -> None:
        subprocess.run(["postfix", "-c", str(self._folder / "config"), "stop"], check=False, capture_output=True)
        if self._milter is not None:
            self._milter.stop(10)

    def run(self, messages: int) -> PeerOutcome:
        return fed(self._folder, self._port, messages, self._world, self._cpu)

    def _cpu(self) -> float:
        """Of master, of all its children that ended, of those that live, and of the milter."""
        living = [pid for pid in _processes() if _parent(pid) == self._master]
        total = cpu_seconds(self._master, children=True) + sum(map(cpu_seconds, living))
        return total + (cpu_seconds(self._milter.pid) if self._milter is not None else 0.0)

    def _start_milter(self, folder: Path) -> Child:
        key = folder / "r1.pem"
        create_key_file(key, "r1", Algorithm.RSA)
        config = folder / "opendkim.conf"
        # The folder is below /tmp, which others may write to: opendkim would refuse the key.
        config.write_text(
            f"Mode s\nCanonicalization relaxed/relaxed\nDomain {workload.SENDING_DOMAIN}\nSelector r1\nKeyFile {key}\n"
            f"Socket inet:{self._milter_port}@127.0.0.1\nRequireSafeKeys no\n"
        )
        argv = [find("opendkim"), "-f", "-x", str(config)]
        milter = launch("opendkim", argv, log=folder / "opendkim.log")
        wait_listening(self._milter_port, milter)
        return milter


@contextmanager
def postfix(folder: Path, world: Internet, *, signed: bool, connections: int = CONNECTIONS) -> Iterator[Postfix]:
    """`connections`: at most so many to the sink."""
    peer = Postfix(folder, world, signed=signed, connections=connections)
    try:
        peer.start()
        yield peer
    finally:
        peer.stop()


def services(port: int) -> str:
    """Debian's services, none in a chroot, SMTP on a port of ours, and the log in a file of ours."""
    lines = [f"127.0.0.1:{port} inet n - n - - smtpd", "postlog unix-dgram n - n - 1 postlogd"]
    lines.append("tlsproxy unix - - n - 0 tlsproxy")
    for line in Path("/usr/share/postfix/master.cf.dist").read_text().splitlines():
        fields = line.split()
        if len(fields) >= 8 and not line.startswith(("#", " ")) and fields[1] != "inet" and fields[0] != "postlog":
            fields[4] = "n"
            lines.append(" ".join(fields))
    return "\n".join(lines) + "\n"


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
