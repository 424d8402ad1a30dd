"""The address grammar: tables of what is read and refused, and properties of what was read."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.address import Address, AddressError, Mailbox, canonical, parse, parse_domain, parse_mailbox

ATEXT = string.ascii_letters + string.digits + "!#$%&'*+/=?^_`{|}~-"
UTF8 = st.characters(min_codepoint=0xA1, categories=["L", "M", "N"])

atoms = st.text(st.one_of(st.sampled_from(ATEXT), UTF8), min_size=1, max_size=8)
dot_strings = st.lists(atoms, min_size=1, max_size=3).map(".".join)
quoted_content = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=20)
locals_ = st.one_of(dot_strings, quoted_content).filter(lambda text: len(text.encode()) <= 50)
labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True).filter(lambda s: not s.startswith("xn--"))
domains = st.lists(labels, min_size=1, max_size=3).map(lambda parts: ".".join([*parts, "test"]))
addresses = st.builds(Address, locals_, domains)

READ = [
    ("ann@example.test", "ann", "example.test"),
    ("Ann.O'Neil+x=y@EXAMPLE.Test", "Ann.O'Neil+x=y", "example.test"),
    ('"ann"@x.test', "ann", "x.test"),
    ('"a\\nn"@x.test', "ann", "x.test"),
    ('"a b\\"c\\\\"@x.test', 'a b"c\\', "x.test"),
    ('"a@b"@x.test', "a@b", "x.test"),
    ('".."@x.test', "..", "x.test"),
    ("jörg@bücher.test", "jörg", "xn--bcher-kva.test"),
    ("a@BÜCHER.test", "a", "xn--bcher-kva.test"),
    ("a@XN--BCHER-KVA.test", "a", "xn--bcher-kva.test"),
    ("a@faß.test", "a", "xn--fa-hia.test"),  # IDNA 2008: not fass.test
    ("a@bücher.test", "a", "xn--bcher-kva.test"),  # decomposed
    ("a@r3---sn.test", "a", "r3---sn.test"),
    ("a@1.2.3.4x", "a", "1.2.3.4x"),
    ("x" * 64 + "@x.test", "x" * 64, "x.test"),
    ("a@" + "x" * 63 + ".test", "a", "x" * 63 + ".test"),
    ("a@" + "x." * 124 + "test", "a", "x." * 124 + "test"),
]

REFUSED = [
    ("", "empty", 0),
    ("ann", "domain is missing", 3),
    ("ann@", "domain is missing", 4),
    ("@x.test", "local part is empty", 0),
    ('""@x.test', "local part is empty", 0),
    (".a@x.test", "dot at an end", 0),
    ("a.@x.test", "dot at an end", 1),
    ("a..b@x.test", "two in a row", 1),
    ("a b@x.test", "not allowed", 1),
    (" a@x.test", "not allowed", 0),
    ("a@x.test ", "letters, digits", 4),
    ("a@b@x.test", "letters, digits", 2),
    ("<a@x.test>", "angle bracket", 0),
    ("a(c)@x.test", "comments", 1),
    ("@r.test:a@x.test", "local part is empty", 0),
    ("a\r\nRCPT TO:<b@x.test>", "line break", 1),
    ("a@x.test\r\nDATA", "letters, digits", 4),
    ("a@x.test\n", "letters, digits", 4),
    ("a\0@x.test", "NUL", 1),
    ('"a\r\nb"@x.test', "quoted string", 0),
    ('"a@x.test', "quoted string", 0),
    ('"a"b@x.test', "not allowed", 3),
    ("a@x.test.", "dot at an end", 9),
    ("a@.x.test", "dot at an end", 2),
    ("a@x..test", "empty label", 4),
    ("a@localhost", "fully qualified", 2),
    ("a@192.0.2.1", "IP address", 2),
    ("a@[192.0.2.1]", "literals", 2),
    ("a@-x.test", "letters, digits", 2),
    ("a@x-.test", "letters, digits", 2),
    ("a@x_y.test", "letters, digits", 2),
    ("a@xn--a.test", "IDNA", 2),
    ("a@xn--abc-.test", "IDNA", 2),  # decodes to plain abc
    ("a@\u212a.test", "IDNA", 2),  # the Kelvin sign, whose lower case is an ASCII k
    ("a@xn--bcher-\u212ava.test", "IDNA", 2),
    ("a@１.test", "IDNA", 2),
    ("a@x。test", "IDNA", 2),
    ("a@☕.test", "IDNA", 2),
    ("a@\udc80.test", "IDNA", 2),
    ("a\udc80@x.test", "control character", 1),
    ("a\u0085@x.test", "control character", 1),
    ("\u202ea@x.test", "reordering", 0),
    ('"a\u200b"@x.test', "invisible", 2),
    ("a\u00a0b@x.test", "space", 1),
    ("x" * 65 + "@x.test", "64 octets", 0),
    ("ö" * 33 + "@x.test", "64 octets", 0),
    ('"' + "x" * 63 + '"@x.test', "64 octets", 0),
    ("a@" + "x" * 64 + ".test", "63 octets", 2),
    ("a@" + "ü" * 60 + ".test", "IDNA", 2),
    ("ab@" + "x." * 124 + "test", "254 octets", 254),
    ("ö@" + "x." * 124 + "test", "254 octets", 2),
    ("a@" + "ü" * 50 + ".x" * 97 + ".test", "254 octets", 2),
    ("a@" + "ab." * 100_000, "254 octets", 254),
]


@pytest.mark.parametrize(("text", "local", "domain"), READ, ids=[ascii(case[0])[:40] for case in READ])
def test_read(text: str, local: str, domain: str) -> None:
    assert parse(text) == Address(local, domain)


@pytest.mark.parametrize(("text", "what", "where"), REFUSED, ids=[ascii(case[0])[:40] for case in REFUSED])
def test_refused(text: str, what: str, where: int) -> None:
    with pytest.raises(AddressError) as caught:
        parse(text)
    assert what in caught.value.what
    assert caught.value.where == where
    assert "x.test" not in str(caught.value)  # an error is logged; an address is not


@given(addresses)
def test_what_is_sent_is_read_back(address: Address) -> None:
    assert parse(str(address)) == address
    assert parse(address.display) == address
    assert address.needs_smtputf8 == (not address.local.isascii())


@given(st.text(max_size=300))
@example("a@b.test")
def test_any_text_is_an_address_or_an_address_error(text: str) -> None:
    try:
        address = parse(text)
    except AddressError:
        return
    wire = str(address)
    assert parse(wire) == address
    assert len(wire.encode()) <= 254
    assert address.domain.isascii()
    assert not set(wire) & set("\r\n\0")


def test_least_quoting_and_display() -> None:
    assert str(parse('"ann"@x.test')) == "ann@x.test"
    assert str(parse('"a b"@x.test')) == '"a b"@x.test'
    assert parse("ann@xn--bcher-kva.test").display == "ann@bücher.test"
    assert not parse("ann@bücher.test").needs_smtputf8
    assert parse("jörg@x.test").needs_smtputf8


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ANN@X.test", "ann@x.test"),
        ('"Ann"@x.test', "ann@x.test"),
        ("JÖRG@x.test", "jörg@x.test"),
        ("jo\u0308rg@x.test", "jörg@x.test"),  # composed or not
        ("a@BÜCHER.test", "a@xn--bcher-kva.test"),
    ],
)
def test_canonical_joins(one: str, other: str) -> None:
    assert canonical(parse(one)) == canonical(parse(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a.nn@x.test", "ann@x.test"),
        ("ann+news@x.test", "ann@x.test"),
        ("straße@x.test", "strasse@x.test"),
        ("ann@x.test", "ann@y.test"),
        ('"a@b"@c.test', '"a"@c.test'),
    ],
)
def test_canonical_keeps_apart(one: str, other: str) -> None:
    assert canonical(parse(one)) != canonical(parse(other))


@given(addresses)
def test_canonical_ignores_case(address: Address) -> None:
    shouted = Address("".join(c.upper() if c.isascii() else c for c in address.local), address.domain)
    assert canonical(shouted) == canonical(address)


def test_a_domain_alone() -> None:
    assert parse_domain("Bücher.Test") == "xn--bcher-kva.test"
    with pytest.raises(AddressError, match="fully qualified"):
        parse_domain("test")


NEWS = Address("news", "brand.test")

MAILBOXES = [
    ("news@brand.test", ""),
    ("<news@brand.test>", ""),
    ("News <news@brand.test>", "News"),
    ("News<news@Brand.test> ", "News"),
    ("The  Daily   News <news@brand.test>", "The Daily News"),
    ("J. Doe <news@brand.test>", "J. Doe"),
    ('"Brand, Inc." <news@brand.test>', "Brand, Inc."),
    ('The "Daily" News <news@brand.test>', "The Daily News"),
    ('"say \\"hi\\"" <news@brand.test>', 'say "hi"'),
    ("Jörg Müller <news@brand.test>", "Jörg Müller"),
    ('"  " <news@brand.test>', ""),
]

NO_MAILBOXES = [
    ("", "empty"),
    ("News", "domain is missing"),
    ("News news@brand.test", "not allowed"),
    ("News <news@brand.test", "not closed"),
    ("News <news@brand.test> again", "not allowed"),
    ("News <news@brand.test>, Ann <ann@brand.test>", "letters, digits"),
    ("news@brand.test, ann@brand.test", "letters, digits"),
    ("Friends: ann@brand.test, bob@brand.test;", "groups"),
    ("News <@route.test:news@brand.test>", "local part is empty"),
    ("News (daily) <news@brand.test>", "comments"),
    ("News <news@brand.test> (daily)", "comments"),
    ("News\r\nBcc: ann@brand.test <news@brand.test>", "line break"),
    ('"News\r\nBcc: x" <news@brand.test>', "quoted string"),
    ('"\r"x" <news@brand.test>', "quoted string"),
    ("News\r\n <news@brand.test>", "line break"),
    ("=?utf-8?q?Bank?= <news@brand.test>", "encoded word"),
    ("Bank \u202e <news@brand.test>", "reordering"),
    ("N" * 257 + " <news@brand.test>", "256 characters"),
    ("N " * 100_000, "characters"),
    ("< news@brand.test>", "not allowed"),
]


@pytest.mark.parametrize(("text", "name"), MAILBOXES)
def test_a_mailbox(text: str, name: str) -> None:
    assert parse_mailbox(text) == Mailbox(name, NEWS)


@pytest.mark.parametrize(("text", "what"), NO_MAILBOXES, ids=[ascii(case[0])[:40] for case in NO_MAILBOXES])
def test_no_mailbox(text: str, what: str) -> None:
    with pytest.raises(AddressError, match=what):
        parse_mailbox(text)


def test_a_quoted_local_part_in_brackets() -> None:
    assert parse_mailbox('X <"a>b"@brand.test>') == Mailbox("X", Address("a>b", "brand.test"))


def test_where_counts_from_the_start_of_the_whole_text() -> None:
    with pytest.raises(AddressError) as caught:
        parse_mailbox("News <news@x_y.test>")
    assert caught.value.where == len("News <news@")


@given(st.text(st.sampled_from('ab .<>@",;:()\\\r\n=?é'), max_size=40))
def test_any_text_is_a_mailbox_or_an_address_error(text: str) -> None:
    try:
        mailbox = parse_mailbox(text)
    except AddressError:
        return
    assert parse(str(mailbox.address)) == mailbox.address
    assert not set(mailbox.display_name) & set("\r\n\0")
