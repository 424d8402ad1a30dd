"""RSA signatures (RSASSA-PKCS1-v1_5 with SHA-256, RFC 8017 section 8.2), eight at a time where the processor can.

A signature is the dearest thing in a message's way: 0.45 ms by OpenSSL. Intel's crypto_mb makes eight in the time of
two and a half, of one key or of several, in the lanes of AVX-512's integer multiplier and in constant time. Where it
does not load (another processor, no OpenSSL 3 beside Python), and for too few at a time, OpenSSL makes each.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Final, NamedTuple

import structlog
from cryptography.hazmat.primitives.asymmetric import padding, utils
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

LANES: Final = 8
_LEAST: Final = 3  # all lanes are computed, however few are asked for
_SIZES: Final = (2048, 3072, 4096)  # that crypto_mb has a method for
_ALGORITHM: Final = 1  # MBX_ALGO_RSA_2K
_EXPONENT: Final = 65537  # the only public one that crypto_mb verifies by
_KEYS: Final = 4096  # prepared, 4 KB each, and 9 more where OpenSSL has signed with them
# Its compiler's own libraries: named as needed, and not one symbol of them is.
_UNUSED: Final = (b"libsvml.so", b"libirng.so", b"libimf.so", b"libintlc.so.5")
_DIGEST_INFO: Final = bytes.fromhex("3031300d060960864801650304020105000420")  # RFC 8017 section 9.2, note 1

_FUNCTIONS: Final = {  # of crypto_mb, and what each returns
    "mbx_get_algo_info": ctypes.c_uint64,
    "mbx_RSA_private_crt_Method": ctypes.c_void_p,
    "mbx_RSA_pub65537_Method": ctypes.c_void_p,
    "mbx_RSA_Method_BufSize": ctypes.c_int,
    "mbx_rsa_private_crt_mb8": ctypes.c_uint32,
    "mbx_rsa_public_mb8": ctypes.c_uint32,
}

_Buffer = ctypes.Array[ctypes.c_char]

log = structlog.get_logger(__name__)


class Wanted(NamedTuple):
    key: RSAPrivateKey
    digest: bytes  # SHA-256


def sign(wanted: Sequence[Wanted]) -> list[bytes]:
    """Their signatures, in order. Not for two threads at a time."""
    signatures = [b""] * len(wanted)
    by_size: dict[int, list[int]] = {}
    for number, each in enumerate(wanted):
        by_size.setdefault(_numbers(each.key).bits, []).append(number)
    for bits, numbers in by_size.items():
        for at in range(0, len(numbers), LANES):
            some = numbers[at : at + LANES]
            for number, signature in zip(some, _signed(bits, [wanted[each] for each in some]), strict=True):
                signatures[number] = signature
    return signatures


def forget() -> None:
    """Let go of the keys: there are others now."""
    _numbers.cache_clear()


def _signed(bits: int, wanted: list[Wanted]) -> list[bytes]:
    together = _together(bits) if bits and len(wanted) >= _LEAST else None
    found = together.sign(wanted) if together is not None else [None] * len(wanted)
    return [signature or _by_openssl(each) for each, signature in zip(wanted, found, strict=True)]


def _by_openssl(wanted: Wanted) -> bytes:
    return wanted.key.sign(wanted.digest, padding.PKCS1v15(), utils.Prehashed(SHA256()))


class _Numbers(NamedTuple):
    """A private key as crypto_mb reads it."""

    bits: int  # 0 where only OpenSSL can take it
    words: Sequence[_Buffer]  # p, q, d mod p-1, d mod q-1, 1/q mod p, n: each 64-bit words, the least first


@lru_cache(maxsize=_KEYS)
def _numbers(key: RSAPrivateKey) -> _Numbers:
    found = key.private_numbers()
    bits, n, e = key.key_size, found.public_numbers.n, found.public_numbers.e
    if bits not in _SIZES or e != _EXPONENT or any(prime.bit_length() != bits // 2 for prime in (found.p, found.q)):
        return _Numbers(0, ())
    crt = (found.p, found.q, found.dmp1, found.dmq1, found.iqmp)
    return _Numbers(bits, [*(_words(each, bits // 2) for each in crt), _words(n, bits)])


def _words(number: int, bits: int) -> _Buffer:
    return ctypes.create_string_buffer(number.to_bytes(bits // 8, "little"), bits // 8)


class _Together:
    """crypto_mb for keys of one size."""

    def __init__(self, library: ctypes.CDLL, bits: int) -> None:
        self._bits = bits
        self._private = ctypes.c_void_p(library.mbx_RSA_private_crt_Method(bits))
        self._public = ctypes.c_void_p(library.mbx_RSA_pub65537_Method(bits))
        self._sign = library.mbx_rsa_private_crt_mb8
        self._verify = library.mbx_rsa_public_mb8
        sizes = (library.mbx_RSA_Method_BufSize(method) for method in (self._private, self._public))
        self._scratch = ctypes.create_string_buffer(max(sizes))
        self._padded, self._signatures, self._opened = (
            [ctypes.create_string_buffer(bits // 8) for _ in range(LANES)] for _ in range(3)
        )

    def sign(self, wanted: Sequence[Wanted]) -> list[bytes | None]:
        """None for what did not verify: a signature with a fault in it would give the key away (Boneh, DeMillo and
        Lipton, 1997).
        """
        keys = [_numbers(each.key) for each in wanted]
        for lane, each in zip(self._padded, wanted, strict=False):
            lane.raw = self._encoded(each.digest)
        idle = [keys[0]] * (LANES - len(keys))
        *private, modulus = map(_pointers, zip(*(each.words for each in keys + idle), strict=True))
        padded, signatures, opened = map(_pointers, (self._padded, self._signatures, self._opened))
        failed = self._sign(padded, signatures, *private, self._bits, self._private, self._scratch) or self._verify(
            signatures, opened, modulus, self._bits, self._public, self._scratch
        )
        return [
            signature.raw if not failed and again.raw == lane.raw else None
            for _, lane, signature, again in zip(wanted, self._padded, self._signatures, self._opened, strict=False)
        ]

    def _encoded(self, digest: bytes) -> bytes:
        """RFC 8017 section 9.2."""
        text = _DIGEST_INFO + digest
        return b"\x00\x01" + b"\xff" * (self._bits // 8 - len(text) - 3) + b"\x00" + text


def _pointers(buffers: Sequence[_Buffer]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * LANES)(*map(ctypes.addressof, buffers))


@lru_cache
def _together(bits: int) -> _Together | None:
    library = _library()
    return _Together(library, bits) if library is not None else None


@lru_cache
def _library() -> ctypes.CDLL | None:
    """None where it is not installed, or will not load, or has nothing for this processor."""
    try:
        path = next(file for file in files("ipp-crypto") or () if file.name.startswith("libcrypto_mb.so."))
        library = _loaded(Path(path.locate()))
        for name, result in _FUNCTIONS.items():
            getattr(library, name).restype = result
    except (PackageNotFoundError, StopIteration, OSError, AttributeError) as error:
        log.info("rsa_one_by_one", reason=type(error).__name__)
        return None
    if library.mbx_get_algo_info(_ALGORITHM) & LANES:
        return library
    log.info("rsa_one_by_one", reason="processor")
    return None


def _loaded(path: Path) -> ctypes.CDLL:
    """From a copy in memory that names libm where it named what it does not use and nobody has."""
    code = path.read_bytes()
    for name in _UNUSED:
        code = code.replace(b"\0%b\0" % name, b"\0%b\0" % b"libm.so.6".ljust(len(name), b"\0"))
    copy = os.memfd_create("crypto_mb")
    with os.fdopen(copy, "wb") as file:
        file.write(code)
        file.flush()
        return ctypes.CDLL(f"/proc/self/fd/{copy}")
