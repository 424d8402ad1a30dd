"""RSA signatures in one go are those that OpenSSL makes one by one."""

from __future__ import annotations

import ctypes
import hashlib
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, utils
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256

from sinks.smtp import rsa
from sinks.smtp.rsa import LANES, Wanted

KEYS = [generate_private_key(65537, size) for size in (2048, 2048, 3072, 4096)]
FEW = 2  # too few for one go


@pytest.fixture(params=[True, False], ids=["in one go", "one by one"])
def together(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.param:
        monkeypatch.setattr(rsa, "_together", lambda bits: None)
    elif rsa._library() is None:
        pytest.skip("crypto_mb has nothing for this processor")


def wanted(count: int, keys: list[RSAPrivateKey]) -> list[Wanted]:
    return [Wanted(keys[n % len(keys)], hashlib.sha256(b"%d" % n).digest()) for n in range(count)]


def by_openssl(each: Wanted) -> bytes:
    return each.key.sign(each.digest, padding.PKCS1v15(), utils.Prehashed(SHA256()))


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize("count", [0, 1, FEW, 3, LANES, LANES + 1, 4 * LANES])
def test_any_number_of_any_keys_each_in_its_place(count: int) -> None:
    orders = wanted(count, KEYS)
    assert rsa.sign(orders) == [by_openssl(each) for each in orders]


@pytest.mark.usefixtures("together")
@pytest.mark.parametrize(("exponent", "bits"), [(3, 2048), (65537, 2176)])
def test_keys_that_it_cannot_take_are_signed_with_all_the_same(exponent: int, bits: int) -> None:
    orders = wanted(LANES, [generate_private_key(exponent, bits), KEYS[0]])
    assert rsa.sign(orders) == [by_openssl(each) for each in orders]


@pytest.mark.usefixtures("together")
def test_a_signature_with_a_fault_in_it_never_leaves() -> None:
    key, sound = generate_private_key(65537, 2048), KEYS[0]
    prime = rsa._numbers(key).words[0]
    prime[0] = bytes([prime.raw[0] ^ 2])
    orders = wanted(LANES, [key, sound])
    assert rsa.sign(orders) == [by_openssl(each) for each in orders]


def test_keys_that_sign_no_more_are_let_go() -> None:
    rsa.sign(wanted(1, KEYS))
    assert rsa._numbers.cache_info().currsize
    rsa.forget()
    assert not rsa._numbers.cache_info().currsize


def test_the_library_loads_where_its_processor_is() -> None:
    """Else nobody would notice that all signatures are made one by one."""
    flags = Path("/proc/cpuinfo").read_text().split() if sys.platform == "linux" else []
    if not {"avx512ifma", "avx512_vbmi2"}.issubset(flags):
        pytest.skip("not on this processor")
    try:
        ctypes.CDLL("libcrypto.so.3")
    except OSError:
        pytest.skip("no OpenSSL 3 beside Python")
    assert rsa._library() is not None
