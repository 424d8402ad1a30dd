"""Addresses leave free text; everything else stays."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.address import Address, canonical, parse
from schemas.redact import PLACEHOLDER, holds_address, redact
from tests.schemas.test_address import addresses

ORDINARY = [
    "250 2.0.0 Ok: queued as 4Xy7Zk1Lz9",
    "550 5.1.1 Recipient address rejected: User unknown in virtual mailbox table",
    "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred; see https://postmaster.brand.test/421.html?a=b#c",
    "452 4.2.2 The mailbox is over its quota (limit=4096.5, used=40.5 MB, 95%40)",
    "554 5.7.1 Service unavailable; Client host [2001:db8::1] blocked using rbl.brand.test; see /q?ip=2001:db8::1",
    "220 mx.brand.test ESMTP Exim 4.98.2 #2 Tue, 01 Sep 2026 10:00:00 +0000",
    "TLS 1.3 with cipher TLS_AES_256_GCM_SHA384 (256/256 bits)",
    "message-id 0b7d5a0e-4b1e-5d1d-9a5e-1f0a2b3c4d5e, size=400, domain=40.example.test",
    "not relaying for @brand.test",
    "a @ b (at) the door",
    "Boîte pleine, réessayez",
]

FOUND = [
    ("550 5.1.1 <ann@x.test>: unknown", "550 5.1.1 <address>: unknown"),
    ("unknown: ann@x.test.", "unknown: <address>."),
    ("to=<ann@x.test>, relay=y", "to=<address>, relay=y"),
    ("mailto:ann@x.test?subject=a", "mailto:<address>?subject=a"),
    ("rfc822;ann@x.test", "rfc822;<address>"),
    ('"ann lee"@x.test gone', "<address> gone"),
    ('"a\\"b@c"@x.test gone', "<address> gone"),
    ("jörg@bücher.test!", "<address>!"),
    ("ann%40x.test gone", "<address> gone"),
    ("ann%2540x.test gone", "<address> gone"),
    ("ann=40x.test gone", "<address> gone"),
    ("ann&#64;x.test gone", "<address> gone"),
    ("ann(at)x.test gone", "<address> gone"),
    ("ann [AT] x.test gone", "<address> gone"),
    ("ann\uff20x.test gone", "<address> gone"),
    ('{"to":"ann\\u0040x.test"}', '{"to":"<address>"}'),
    ("b+ann=x.test@bounces.test gone", "<address> gone"),
    ("SRS0=HHH=TT=x.test=ann@f.test gone", "<address> gone"),
    ("ann@[192.0.2.1] gone", "<address> gone"),
    ("ann@localhost gone", "<address> gone"),
    ("ann@ gone", "<address> gone"),
    ("an\x00n@x\u200b.test gone", "<address> gone"),
    ("ann\udcf6@x.test gone", "<address> gone"),
    ("a@b@c.test gone", "<address> gone"),
    ("ann@x.test,bob@x.test", "<address>,<address>"),
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays(text: str) -> None:
    assert redact(text) == text
    assert not holds_address(text)


@pytest.mark.parametrize(("text", "expected"), FOUND, ids=[ascii(case[0])[:40] for case in FOUND])
def test_addresses_go(text: str, expected: str) -> None:
    assert redact(text) == expected
    assert holds_address(text)
    assert redact(expected) == expected


surroundings = st.one_of(
    st.text(max_size=40),
    st.text(st.sampled_from(' <>"@\\.;:=%40()[]\r\né'), max_size=40),
    st.sampled_from(["", "<", '"', " ", "RCPT TO:<", "mailto:", "x@", "%40", 'said "', "\\"]),
)
forms = st.sampled_from(["wire", "display", "percent"])


def written(address: Address, form: str) -> tuple[str, str]:
    """The address in the text, and its local part with what follows."""
    match form:
        case "percent":
            local = quote(address.local_wire, safe="")
            return f"{local}%40{address.domain}", f"{local}%40"
        case "display":
            return address.display, f"{address.local_wire}@"
        case _:
            return str(address), f"{address.local_wire}@"


@given(surroundings, addresses, surroundings, forms)
@example('"', Address("a b", "x.test"), '"', "wire")
@example("\\", Address("a b", "x.test"), "", "wire")
@example('x@"y" ', Address('q"r', "x.test"), "@", "wire")
def test_no_address_survives_in_any_surroundings(before: str, address: Address, after: str, form: str) -> None:
    text, local = written(address, form)
    result = redact(before + text + after)
    assert text not in result
    # What stands before may end in the same letters: the address itself brings none.
    assert result.count(local) <= before.count(local) + after.count(local)
    assert not re.search(r"[A-Za-z0-9]@[A-Za-z0-9]", result)
    assert PLACEHOLDER in result


@given(st.text(max_size=200), st.integers(min_value=0, max_value=100))
def test_any_text_gives_a_short_printable_line(text: str, limit: int) -> None:
    result = redact(text, limit)
    assert len(result) <= limit
    result.encode()
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", result)


@pytest.mark.parametrize("local", ["x" * 64, quote("ö" * 32), '"' + "x y" * 20 + '"'])
def test_an_address_across_the_limit_leaves_no_half(local: str) -> None:
    # Its @ may lie behind the limit.
    for at in range(300, 520):
        result = redact(f"{'.' * at} {local}@example.test {'.' * 2_000}")
        assert PLACEHOLDER.startswith(result.replace(PLACEHOLDER, "").strip(". "))


def test_characters_that_go_do_not_pull_a_half_address_into_sight() -> None:
    # The cut is before its @.
    assert "secret" not in redact("\u200b" * 980 + "." * 20 + "secret.person" + "x" * 40 + "@example.test")


def test_what_is_not_seen_goes() -> None:
    assert redact("a\u202eb\x07c\x7f\u0085") == "abc"
    assert redact("550-a\r\n550\tb\u2028c\u00a0d") == "550-a 550 b c d"
    assert redact("Bo\udceete pleine") == "Bo\ufffdte pleine"  # Latin-1 from the peer, by surrogateescape
    assert redact("a@b.test", limit=4) == "<add"


KNOWN = [
    ("550 ann.lee unknown", "ann.lee@x.test", "550 <address> unknown"),
    ("550 ANN.LEE unknown", "Ann.Lee@x.test", "550 <address> unknown"),
    ("ann is not in cannot or annual", "ann@x.test", "<address> is not in cannot or annual"),
    ("ann at x.test has left", "ann@x.test", "<address> at x.test has left"),
    ("VERP ann=x.test, jo=x.test", "jo@x.test", "VERP ann=x.test, <address>"),
    ("ann unknown", "ann+news@x.test", "<address> unknown"),
    ("ann+news unknown", "ann+news@x.test", "<address> unknown"),
    ('no such user "a b" here, nor a b', '"a b"@x.test', "no such user <address> here, nor <address>"),
    ("user a%20b here", '"a b"@x.test', "user <address> here"),
    ("jo\u0308rg unknown", "jörg@x.test", "<address> unknown"),
    ("JÖRG unknown, İ", "jörg@x.test", "<address> unknown, İ"),
    # A word of every reply says nothing, until it is marked as a name.
    ("550 user unknown", "user@x.test", "550 user unknown"),
    ("550 <user> unknown", "user@x.test", "550 <address> unknown"),
    ("550 'jo' unknown to jo", "jo@x.test", "550 <address> unknown to jo"),
    ("550 5.1.1 550", "550@x.test", "550 5.1.1 550"),
]


@pytest.mark.parametrize(("text", "address", "expected"), KNOWN)
def test_the_known_recipient_goes_without_its_domain_too(text: str, address: str, expected: str) -> None:
    assert redact(text, known=(parse(address),)) == expected


@given(addresses, surroundings)
def test_a_known_address_goes_in_any_case(address: Address, after: str) -> None:
    result = redact(f"no {canonical(address).upper()} {after}", known=(address,))
    assert str(address).lower() not in result.lower()


class Counted(str):
    """A text that counts the characters that were asked for."""

    taken = 0

    def __getitem__(self, key: object) -> str:
        part = super().__getitem__(key)  # type: ignore[index]  # whatever a str takes
        Counted.taken += len(part)
        return part


@pytest.mark.parametrize("unit", ["a", "@", '"@', '\\"@', "%25", "%2525", "é@", "<", "a@", "(at)"])
def test_the_work_is_bounded_by_the_limit_whatever_the_size(unit: str) -> None:
    Counted.taken = 0
    assert len(redact(Counted(unit * 100_000))) <= 512
    assert Counted.taken <= 1_024
