"""Postfix as a destination: an instance of its own, in a folder of ours."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.postfix import INSTANCE, services
from tests.peers.mta import BUSY, BUSY_REPLY, DOMAIN, SIZE, TAKEN, Place, place, wait_listening
from tests.smtp_wire.peer import MX

_MAIN = (
    INSTANCE
    + """myhostname = {mx}
smtpd_peername_lookup = no
virtual_mailbox_domains = {domain}
virtual_mailbox_maps = inline:{{ {{ {taken} = taken/ }}, {{ {busy} = busy/ }} }}
virtual_mailbox_base = {folder}/mail
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{uid}
smtpd_relay_restrictions = reject_unauth_destination
smtpd_recipient_restrictions = check_recipient_access inline:{{ {{ {busy} = 450 {busy_reply} }} }}
message_size_limit = {size}
smtpd_tls_security_level = may
smtpd_tls_chain_files = {folder}/chain.pem
"""
)
_NOBODY = 65534


@contextmanager
def postfix() -> Iterator[Place]:
    if shutil.which("postfix") is None:
        pytest.skip("Postfix is not installed: apt-get install postfix")
    with place() as found:
        folder = found.folder
        for name in ("config", "queue", "data", "mail"):
            (folder / name).mkdir()
        shutil.chown(folder / "data", "postfix")
        shutil.chown(folder / "mail", _NOBODY, _NOBODY)
        chain = folder / "chain.pem"
        chain.write_bytes(found.key.read_bytes() + found.certificate.read_bytes())
        chain.chmod(0o600)
        values = {"folder": folder, "mx": MX, "domain": DOMAIN, "taken": TAKEN, "busy": BUSY, "uid": _NOBODY}
        config = folder / "config"
        (config / "main.cf").write_text(_MAIN.format(**values, busy_reply=BUSY_REPLY, size=SIZE))
        (config / "master.cf").write_text(services(found.port))
        started = subprocess.run(["postfix", "-c", str(config), "start"], capture_output=True, text=True, check=False)
        assert started.returncode == 0, started.stderr
        try:
            wait_listening(found.port)
            yield found
        finally:
            subprocess.run(["postfix", "-c", str(config), "stop"], check=False, capture_output=True)
