"""OpenSMTPD as a destination. Its spool and socket have fixed places: in its namespace, those are folders of ours."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.embedded.process import launch
from tests.peers import unpacked
from tests.peers.mta import BUSY, BUSY_REPLY, DOMAIN, SIZE, Place, place, wait_listening
from tests.smtp_wire.peer import MX

_USERS = ("opensmtpd", "opensmtpq", "taken")
_CONFIGURATION = """pki "{mx}" cert "{folder}/cert.pem"
pki "{mx}" key "{folder}/key.pem"
smtp max-message-size "{size}"
filter busy phase rcpt-to match rcpt-to {{ "{busy}" }} reject "450 {busy_reply}"
listen on 127.0.0.1 port {port} tls pki "{mx}" hostname "{mx}" filter busy
action "keep" maildir "{folder}/mail/taken"
match from any for domain "{domain}" action "keep"
"""


@contextmanager
def opensmtpd() -> Iterator[Place]:
    with place() as found:
        folder = found.folder
        unpacked.require("OpenSMTPD", "/usr/sbin/smtpd", folder, _USERS)
        found.mailbox.mkdir(parents=True)
        owner = unpacked.FIRST_ID + _USERS.index("taken")
        shutil.chown(found.mailbox, owner, owner)
        configuration = folder / "smtpd.conf"
        values = {"mx": MX, "folder": folder, "port": found.port, "size": SIZE, "domain": DOMAIN}
        configuration.write_text(_CONFIGURATION.format(**values, busy=BUSY, busy_reply=BUSY_REPLY))
        prepare = [
            "mount -t tmpfs tmpfs /var/lib && mkdir -p /var/lib/opensmtpd/empty",
            "mount -t tmpfs -o mode=0711 tmpfs /var/spool && mkdir -m 0711 /var/spool/smtpd",
            "mount -t tmpfs tmpfs /run",
        ]
        argv = unpacked.command(folder, ["smtpd", "-d", "-f", str(configuration)], *prepare)
        child = launch("opensmtpd", argv, log=folder / "smtpd.log")
        try:
            wait_listening(found.port, child)
            yield found
        finally:
            child.stop(10)
