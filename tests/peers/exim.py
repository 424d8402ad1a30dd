"""Exim as a destination."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.embedded.process import launch
from tests.peers import unpacked
from tests.peers.mta import BUSY, BUSY_REPLY, DOMAIN, SIZE, Place, place, wait_listening
from tests.smtp_wire.peer import MX

_USER = "Debian-exim"
_CONFIGURATION = """primary_hostname = {mx}
spool_directory = {folder}/spool
log_file_path = {folder}/spool/log-%slog
keep_environment =
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
tls_advertise_hosts = *
tls_certificate = {folder}/cert.pem
tls_privatekey = {folder}/key.pem
message_size_limit = {size}
acl_smtp_rcpt = recipient
host_lookup =

begin acl
recipient:
  defer
    local_parts = {busy}
    message = 450 {busy_reply}
  deny
    domains = !{domain}
    message = not a relay
  require
    verify = recipient
  accept

begin routers
mailboxes:
  driver = accept
  domains = {domain}
  local_parts = taken
  transport = folder

begin transports
folder:
  driver = appendfile
  directory = {folder}/mail/taken
  maildir_format
  user = {user}
"""


@contextmanager
def exim() -> Iterator[Place]:
    with place() as found:
        folder = found.folder
        unpacked.require("Exim", "/usr/sbin/exim4", folder, (_USER,))
        for name in ("spool", "mail"):
            (folder / name).mkdir()
            shutil.chown(folder / name, unpacked.FIRST_ID, unpacked.FIRST_ID)
        shutil.chown(found.key, unpacked.FIRST_ID)
        values = {"mx": MX, "folder": folder, "port": found.port, "size": SIZE, "domain": DOMAIN, "user": _USER}
        configuration = folder / "exim.conf"
        configuration.write_text(_CONFIGURATION.format(**values, busy=BUSY.partition("@")[0], busy_reply=BUSY_REPLY))
        argv = unpacked.command(folder, ["exim4", "-bdf", "-C", str(configuration)])
        child = launch("exim", argv, log=folder / "exim.log")
        try:
            wait_listening(found.port, child)
            yield found
        finally:
            child.stop(10)
