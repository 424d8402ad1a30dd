"""TLSA records against chains of certificates (RFC 6698, 7672)."""

from __future__ import annotations

from datetime import timedelta
from hashlib import sha256, sha512

import pytest

from sinks.smtp.answers import Tlsa
from sinks.smtp.dane import authenticates, usable
from tests.smtp_wire.certificates import NOW, Made, made

MX = "mx.a.test"
ROOT = made("root", is_authority=True)
MIDDLE = made("middle", ROOT, is_authority=True)
HOST = made("host", MIDDLE, host=MX)
CHAIN = [HOST.der, MIDDLE.der, ROOT.der]
LONG_AGO = NOW - timedelta(days=60)


def of(usage: int, selector: int, matching: int, made: Made) -> Tlsa:
    data = made.spki if selector else made.der
    match matching:
        case 1:
            data = sha256(data).digest()
        case 2:
            data = sha512(data).digest()
    return Tlsa(usage, selector, matching, data)


@pytest.mark.parametrize("usage", [2, 3])
@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
def test_every_kind_of_record(usage: int, selector: int, matching: int) -> None:
    right, wrong = (HOST, MIDDLE) if usage == 3 else (MIDDLE, HOST)
    record = of(usage, selector, matching, right)
    assert usable([record]) == (record,)
    assert authenticates([record], CHAIN, MX, NOW)
    assert not authenticates([of(usage, selector, matching, wrong)], CHAIN, MX, NOW)
    assert not authenticates([of(usage, selector, matching, made("other"))], CHAIN, MX, NOW)


@pytest.mark.parametrize(
    "record",
    [
        of(0, 1, 1, MIDDLE),
        of(1, 1, 1, HOST),
        Tlsa(3, 2, 1, b"x" * 32),
        Tlsa(3, 1, 1, b"x" * 31),
        Tlsa(3, 1, 3, b"x" * 32),
        Tlsa(255, 1, 1, b"x" * 32),
    ],
)
def test_records_that_nobody_can_judge_by(record: Tlsa) -> None:
    assert usable([record, of(3, 1, 1, HOST)]) == (of(3, 1, 1, HOST),)


def test_one_of_several_is_enough() -> None:
    assert authenticates([of(3, 1, 1, made("next key")), of(3, 1, 1, HOST)], CHAIN, MX, NOW)


def test_the_hosts_own_key_needs_no_name_date_or_issuer() -> None:
    stale = made("x", until=LONG_AGO)
    assert authenticates([of(3, 1, 1, stale)], [stale.der], MX, NOW)


class TestIssuer:
    def test_a_root_at_the_end(self) -> None:
        assert authenticates([of(2, 0, 1, ROOT)], CHAIN, MX, NOW)

    def test_one_that_was_not_shown_proves_nothing(self) -> None:
        assert not authenticates([of(2, 0, 1, ROOT)], CHAIN[:2], MX, NOW)

    def test_one_that_is_in_dns_need_not_be_shown(self) -> None:
        assert authenticates([of(2, 0, 0, ROOT)], CHAIN[:2], MX, NOW)
        assert not authenticates([of(2, 0, 0, made("other", is_authority=True))], CHAIN[:2], MX, NOW)

    def test_the_name_counts(self) -> None:
        assert not authenticates([of(2, 1, 1, MIDDLE)], CHAIN, "other.a.test", NOW)

    def test_dates_count(self) -> None:
        stale = made("stale", MIDDLE, host=MX, until=LONG_AGO)
        assert not authenticates([of(2, 1, 1, MIDDLE)], [stale.der, MIDDLE.der], MX, NOW)

    def test_shown_beside_is_not_issued_by(self) -> None:
        foreign = made("foreign", made("its own", is_authority=True), host=MX)
        assert not authenticates([of(2, 1, 1, MIDDLE)], [foreign.der, MIDDLE.der, ROOT.der], MX, NOW)

    @pytest.mark.parametrize("is_authority", [False, None])
    def test_a_host_is_no_issuer(self, is_authority: bool | None) -> None:
        host = made("a customer", MIDDLE, host="b.test", is_authority=is_authority)
        forged = made("forged", host, host=MX)
        assert not authenticates([of(2, 1, 1, host)], [forged.der, host.der], MX, NOW)
        assert not authenticates([of(2, 1, 1, MIDDLE)], [forged.der, host.der, MIDDLE.der], MX, NOW)


@pytest.mark.parametrize("chain", [[], [b"junk"], [HOST.der, b"junk"]])
def test_a_chain_that_is_none(chain: list[bytes]) -> None:
    assert not authenticates([of(3, 1, 1, HOST)], chain, MX, NOW)
