"""Independent verifiers of DKIM signatures: dkimpy, and Debian's opendkim with the keys in a file in place of DNS."""

from __future__ import annotations

import re
import subprocess
from base64 import b64decode
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dkim
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sinks.smtp.dkim import Key, txt_record

OPENDKIM = Path("/usr/sbin/opendkim")
_VERDICT = re.compile(r"""dkim=(\w+) (?:reason="[^"]*" )?(?:\([^)]*\) )?header\.d=\S+ \S+ header\.a=(\S+)""")


class _VerifyKey:
    """What dkimpy asks of pynacl, which it needs for Ed25519 alone."""

    def __init__(self, text: bytes, encoder: Any) -> None:
        self._key = Ed25519PublicKey.from_public_bytes(b64decode(text))

    def verify(self, message: bytes, signature: bytes) -> None:
        self._key.verify(signature, message)


dkim.nacl = SimpleNamespace(
    signing=SimpleNamespace(VerifyKey=_VerifyKey),
    encoding=SimpleNamespace(Base64Encoder=None),
    exceptions=SimpleNamespace(ValueError=ValueError, BadSignatureError=InvalidSignature),
)


def dkimpy_verdicts(message: bytes, keys: tuple[Key, ...], domain: str) -> list[bool]:
    """One verdict per signature, top to bottom."""
    zone = {f"{key.selector}._domainkey.{domain}.".encode(): txt_record(key).encode() for key in keys}
    verdicts = []
    for index in range(message.count(b"DKIM-Signature: ")):
        try:
            verified = dkim.DKIM(message).verify(idx=index, dnsfunc=lambda name, timeout=5: zone.get(name))
        except dkim.ValidationError:  # a body hash that does not match
            verified = False
        verdicts.append(bool(verified))
    return verdicts


def opendkim_verdicts(message: bytes, keys: tuple[Key, ...], domain: str, folder: Path) -> list[tuple[str, str]]:
    """(result, algorithm) per signature, as opendkim writes them into Authentication-Results."""
    records = "".join(f"{key.selector}._domainkey.{domain} {txt_record(key)}\n" for key in keys)
    (folder / "keys").write_text(records)
    (folder / "conf").write_text(f"Mode v\nSyslog no\nTestPublicKeys {folder / 'keys'}\n")
    (folder / "message").write_bytes(message)
    command = [str(OPENDKIM), "-vvv", "-x", str(folder / "conf"), "-t", str(folder / "message")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return re.findall(_VERDICT, done.stdout)


def unstuffed(wire: bytes) -> bytes:
    """What arrives of what goes over the wire (RFC 5321 section 4.5.2)."""
    return (b"\r\n" + wire).replace(b"\r\n.", b"\r\n")[2:]
