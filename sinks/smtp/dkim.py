"""Sign outgoing mail with DKIM: canonical fields, body hash, one signature per key.

Pure but for reading and creating key files: the time of signing is handed in. Which keys sign for which domain, and
whether the From belongs to the tenant, is the owner's decision. No private key and no part of a key file ever appears
in a repr or in an error.
"""

from __future__ import annotations

import os
import re
import stat
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey, generate_private_key

from sinks.smtp import rsa
from sinks.smtp.lines import squeezed

PrivateKey = RSAPrivateKey | Ed25519PrivateKey

# RFC 8301 section 3.2: signers use at least 1024 bits and should use 2048; mailbox providers count less as unsigned.
_RSA_MINIMUM = 2048
_LABELS = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?)*", re.IGNORECASE)

# RFC 6376 section 5.4.1 names the fields worth signing; RFC 8058 section 4 demands both List-Unsubscribe fields.
# Every one is listed once more than it occurs (sections 5.4.2 and 8.15), so that none can be added on the way.
_SIGNED = (
    *(b"from", b"to", b"cc", b"reply-to", b"sender", b"subject", b"date", b"message-id", b"in-reply-to", b"references"),
    *(b"mime-version", b"content-type", b"content-transfer-encoding"),
    *(b"list-id", b"list-unsubscribe", b"list-unsubscribe-post", b"feedback-id", b"x-mailriver-id"),
)


class DkimError(ValueError):
    """A key, a name or a header block that cannot be signed with; the text never quotes any of them."""


class Algorithm(StrEnum):
    RSA = "rsa-sha256"
    ED25519 = "ed25519-sha256"  # RFC 8463


@dataclass(frozen=True, slots=True)
class Key:
    """One selector with its private key as an object: parsing a PEM costs 46 ms, so it is done once."""

    selector: str
    private: PrivateKey = field(repr=False)

    def __post_init__(self) -> None:
        _require_name(self.selector, "selector")
        if isinstance(self.private, RSAPrivateKey) and self.private.key_size < _RSA_MINIMUM:
            raise DkimError(f"the RSA key of selector {self.selector} is shorter than {_RSA_MINIMUM} bits")

    def __reduce__(self) -> tuple[object, ...]:
        """A key object of OpenSSL has no copy: for another process of ours it goes as DER."""
        form = (serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return _from_der, (self.selector, self.private.private_bytes(*form))

    @property
    def algorithm(self) -> Algorithm:
        return Algorithm.RSA if isinstance(self.private, RSAPrivateKey) else Algorithm.ED25519


def _from_der(selector: str, der: bytes) -> Key:
    private = serialization.load_der_private_key(der, password=None)
    assert isinstance(private, PrivateKey)
    return Key(selector, private)


class Unsigned(NamedTuple):
    """A DKIM-Signature field but for its signature, which is of `digest`."""

    key: Key
    field: bytes
    digest: bytes


class Signer:
    """All live keys of one signing domain."""

    def __init__(self, keys: Sequence[Key]) -> None:
        if not keys:
            raise DkimError("no key to sign with")
        self._keys = tuple(keys)

    def prepare(self, headers: bytes, body_hash: bytes, *, domain: str, now: int) -> list[Unsigned]:
        """One DKIM-Signature field per key, to be signed (`signed`) and put before `headers`.

        `headers` is the block of fields, each ending in CRLF, without the empty line; `now` is Unix seconds.
        """
        _require_name(domain, "domain")
        names, canonical = _signed_fields(headers)
        bh = b64encode(body_hash)
        prepared = []
        for key in self._keys:
            field = _signature_field(key, domain, now, names, bh)
            # RFC 6376 section 3.7: the signature field itself comes last, b= empty and without its CRLF.
            prepared.append(Unsigned(key, field, sha256(canonical + _relaxed_field(field)).digest()))
        return prepared


def signed(fields: Sequence[Unsigned]) -> list[bytes]:
    """The fields whole, in order; of many messages together, since RSA signatures are cheaper so (rsa.py)."""
    by_rsa = [
        rsa.Wanted(each.key.private, each.digest) for each in fields if isinstance(each.key.private, RSAPrivateKey)
    ]
    made = iter(rsa.sign(by_rsa))
    return [each.field + _folded(b64encode(_signature(each, made))) + b"\r\n" for each in fields]


def _signature(unsigned: Unsigned, by_rsa: Iterator[bytes]) -> bytes:
    private = unsigned.key.private
    # RFC 8463 section 3: Ed25519 signs the SHA-256 of the data, not the data.
    return private.sign(unsigned.digest) if isinstance(private, Ed25519PrivateKey) else next(by_rsa)


def hash_body(relaxed: bytes) -> bytes:
    """The bh= value, as bytes, of a body whose lines are relaxed (lines.py)."""
    # RFC 6376 section 3.4.4 (b): no empty lines at its end.
    if relaxed.endswith(b"\r\n\r\n") or relaxed == b"\r\n":
        stripped = relaxed.rstrip(b"\r\n")
        relaxed = stripped + b"\r\n" if stripped else b""
    return sha256(relaxed).digest()


def _signed_fields(headers: bytes) -> tuple[bytes, bytes]:
    """The h= list and the canonical fields in its order."""
    if not headers.endswith(b"\r\n"):
        raise DkimError("the header block does not end in CRLF")
    found: dict[bytes, list[bytes]] = {}
    unfolded = squeezed(headers[:-2].replace(b"\r\n ", b" ").replace(b"\r\n\t", b" "))
    for line in unfolded.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if not colon:
            raise DkimError("the header block has a line that is no field")
        name = name.rstrip(b" ").lower()
        found.setdefault(name, []).append(b"%b:%b\r\n" % (name, value.strip(b" ")))
    # RFC 6376 section 5.4: From must be signed. RFC 5322 section 3.6: there is exactly one.
    if len(found.get(b"from", ())) != 1:
        raise DkimError("the header block needs exactly one From")
    names: list[bytes] = []
    lines: list[bytes] = []
    for name in _SIGNED:
        names.append(name)
        if occurrences := found.get(name):
            names += [name] * len(occurrences)
            lines += reversed(occurrences)  # section 5.4.2: from the bottom of the block upwards
    return _colon_list(tuple(names)), b"".join(lines)


@lru_cache(maxsize=64)  # messages of one kind have the same fields
def _colon_list(names: tuple[bytes, ...]) -> bytes:
    """Join by colons in folded lines; the relaxed form of it is the same for every fold."""
    lines = [names[0]]
    for name in names[1:]:
        if len(lines[-1]) + len(name) > 70:
            lines[-1] += b":"
            lines.append(name)
        else:
            lines[-1] += b":" + name
    return b"\r\n ".join(lines)


def _signature_field(key: Key, domain: str, now: int, names: bytes, bh: bytes) -> bytes:
    # No l= (RFC 6376 section 8.2): it would let text be appended under our signature.
    tags = f"v=1; a={key.algorithm}; c=relaxed/relaxed; d={domain};\r\n s={key.selector}; t={now:d}".encode("ascii")
    return b"DKIM-Signature: %b;\r\n h=%b;\r\n bh=%b;\r\n b=" % (tags, names, bh)


def _relaxed_field(line: bytes) -> bytes:
    _, _, value = line.partition(b":")
    return b"dkim-signature:" + squeezed(value.replace(b"\r\n ", b" ")).strip(b" ")


def _folded(text: bytes) -> bytes:
    return b"\r\n ".join(text[i : i + 72] for i in range(0, len(text), 72))


def _require_name(name: str, what: str) -> None:
    if len(name) > 253 or _LABELS.fullmatch(name) is None:
        raise DkimError(f"the {what} is not a DNS name in ASCII")


def txt_record(key: Key) -> str:
    """The value to publish as TXT at `selector._domainkey.domain` (RFC 6376 section 3.6.1, RFC 8463 section 4)."""
    public = key.private.public_key()
    if isinstance(public, RSAPublicKey):
        encoding, form, kind = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo, "rsa"
    else:
        encoding, form, kind = serialization.Encoding.Raw, serialization.PublicFormat.Raw, "ed25519"
    return f"v=DKIM1; k={kind}; p={b64encode(public.public_bytes(encoding, form)).decode()}"


def load_key(path: Path, selector: str) -> Key:
    """Read a PEM key file that only its owner may read; DkimError names the file, never its content."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())  # of the open file: no race with a rename
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077:
            raise DkimError(f"{path}: a DKIM key file must be a regular file with mode 0600")
        pem = file.read(65_536)
    try:
        private = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise DkimError(f"{path}: not an unencrypted PEM private key") from None  # the cause could quote the key
    if not isinstance(private, RSAPrivateKey | Ed25519PrivateKey):
        raise DkimError(f"{path}: neither an RSA nor an Ed25519 key")
    return Key(selector, private)


def create_key_file(path: Path, selector: str, algorithm: Algorithm) -> Key:
    """Generate a key and write it with mode 0600; an existing file is never overwritten (FileExistsError)."""
    private: PrivateKey
    if algorithm is Algorithm.RSA:
        private = generate_private_key(public_exponent=65537, key_size=_RSA_MINIMUM)
    else:
        private = Ed25519PrivateKey.generate()
    pem = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
    return Key(selector, private)
