"""A mail server of somebody else as a destination: what all are told to do, and where they keep what they took.

Each takes mail to TAKEN, says 450 to BUSY, and knows nobody else; mail over SIZE octets it does not take.
"""

from __future__ import annotations

import os
import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from pipeline.embedded.ports import free_ports, is_free
from pipeline.embedded.process import Child
from tests.smtp_wire.peer import MX
from tests.waiting import wait_until

DOMAIN = "peer.test"
TAKEN, BUSY, UNKNOWN = f"taken@{DOMAIN}", f"busy@{DOMAIN}", f"stranger@{DOMAIN}"
BUSY_REPLY = "4.2.1 this mailbox is busy"
SIZE = 20_000


@dataclass(frozen=True)
class Place:
    """What a server is given: a folder that any of its users may enter, a port, and a certificate for MX."""

    folder: Path
    port: int
    certificate: Path
    key: Path
    roots: ssl.SSLContext  # that trust it

    @property
    def mailbox(self) -> Path:
        """A maildir."""
        return self.folder / "mail" / "taken"

    @property
    def mails(self) -> list[bytes]:
        """Their line ends are LF, as mailboxes have them."""
        return [path.read_bytes() for path in sorted(self.mailbox.glob("new/*"))]


@contextmanager
def place() -> Iterator[Place]:
    if os.geteuid() != 0:
        pytest.skip("a mail server changes to users of its own: that needs root")
    authority, roots = trustme.CA(), ssl.create_default_context()
    authority.configure_trust(roots)
    leaf = authority.issue_cert(MX, key_type=trustme.KeyType.RSA)  # what each of them can use
    # Not pytest's own folders, which are closed to the servers' users.
    with tempfile.TemporaryDirectory(prefix="peer-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        certificate, key = folder / "cert.pem", folder / "key.pem"
        certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        key.write_bytes(leaf.private_key_pem.bytes())
        key.chmod(0o600)
        yield Place(folder, free_ports(1)[0], certificate, key, roots)


def wait_listening(port: int, child: Child | None = None) -> None:
    def listening() -> bool:
        if child is not None:
            assert child.poll() is None, f"{child.name} has ended: {child.last_lines()}"
        return not is_free(port) and _greets(port)

    wait_until(listening, what="the server to greet")


def _greets(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            return connection.recv(3) == b"220"
    except OSError:
        return False
