"""One strict reading of an email address, for every stage.

Decides what a mailbox is (RFC 5321 section 4.1.2, RFC 6531 section 3.3), what it is compared by, and what a From or
Reply-To may say. Stages carry the parsed parts and compare them; nobody else takes an address apart. Whether a domain
has mail servers, and whether a sender may use it, is left to others.

Refused although a grammar allows it: address literals (`ann@[192.0.2.1]`: mail goes to domains, whose policies we
know), domains of a single label (RFC 5321 section 2.3.5 asks for a fully qualified one), an empty quoted local part,
comments, folding, routes and groups. The bare `postmaster` of RFC 5321 section 4.1.1.3 is the receiving server's case.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

import idna

# RFC 5321 section 4.5.3.1: a local part has at most 64 octets, a path 256 with its angle brackets. The 255 octets of a
# domain cannot be reached within that.
LOCAL_MAX: Final = 64
ADDRESS_MAX: Final = 254
_LABEL_MAX: Final = 63  # RFC 1035 section 2.3.4
_NAME_MAX: Final = 256
_MAILBOX_MAX: Final = 2 * _NAME_MAX + ADDRESS_MAX + 8  # a name may be all quoted pairs

_ATEXT: Final = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
_UTF8: Final = r"\x80-\U0010ffff"  # RFC 6531 section 3.3 adds all of these; `_visible` takes the invisible ones away
_DOT_STRING: Final = re.compile(rf"[{_ATEXT}{_UTF8}]+(?:\.[{_ATEXT}{_UTF8}]+)*")
_QUOTED: Final = re.compile(rf'"((?:[ !#-\[\]-~{_UTF8}]|\\[ -~])*)"')
_QUOTED_PAIR: Final = re.compile(r"\\(.)")
_LDH: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
# The common case in one step, with the same meaning as the grammar below.
_PLAIN: Final = re.compile(
    rf"([{_ATEXT}]+(?:\.[{_ATEXT}]+)*)@((?:(?!xn--)[a-z0-9](?:[a-z0-9-]{{0,61}}[a-z0-9])?\.)+[a-z](?:[a-z]{{0,62}}))"
)
# RFC 5322 section 3.4, display-name; the dots are section 4.1's (`J. Doe`), which everybody writes and nobody misreads.
_WORD: Final = re.compile(rf"[{_ATEXT}{_UTF8}.]+")
_QUOTE_NEEDED: Final = re.compile(r'["\\]')


class AddressError(ValueError):
    """Not an address that we accept. `what` is the reason, `where` the offset in the text; neither quotes the text."""

    def __init__(self, what: str, where: int) -> None:
        super().__init__(f"{what} (at character {where})")
        self.what = what
        self.where = where


@dataclass(frozen=True, slots=True)
class Address:
    """A mailbox as `parse` read it: equal parts are the same mailbox on the wire."""

    local: str
    """The local part's meaning: without the quotes and backslashes it may have been written with."""
    domain: str
    """A-labels in lower case."""

    @property
    def local_wire(self) -> str:
        # RFC 5321 section 4.1.2: send the form with the least quoting.
        if _DOT_STRING.fullmatch(self.local):
            return self.local
        return '"' + _QUOTE_NEEDED.sub(r"\\\g<0>", self.local) + '"'

    @property
    def needs_smtputf8(self) -> bool:
        """RFC 6531: only a UTF-8 local part needs it, since domains are sent as A-labels."""
        return not self.local.isascii()

    @property
    def display(self) -> str:
        """For people: the domain in its own script."""
        return f"{self.local_wire}@{idna.decode(self.domain) if 'xn--' in self.domain else self.domain}"

    def __str__(self) -> str:
        """The form for MAIL, RCPT and headers."""
        return f"{self.local_wire}@{self.domain}"


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A From or Reply-To: a name (may be empty) in plain Unicode, and an address. Encoding the name is the writer's."""

    display_name: str
    address: Address


def parse(text: str) -> Address:
    """Read exactly one address, nothing around it. Raises AddressError."""
    if len(text) > ADDRESS_MAX:  # before any work; A-labels are never shorter than what they stand for
        raise AddressError(f"more than {ADDRESS_MAX} octets", ADDRESS_MAX)
    plain = _PLAIN.fullmatch(text)
    if plain is not None and plain.end(1) <= LOCAL_MAX:
        return Address(plain[1], plain[2])

    local, end = _local(text)
    if not text.startswith("@", end):
        raise AddressError(_unexpected(text, end), end)
    try:
        domain = parse_domain(text[end + 1 :])
    except AddressError as error:
        raise AddressError(error.what, end + 1 + error.where) from None
    if end > LOCAL_MAX or len(text[:end].encode()) > LOCAL_MAX:
        raise AddressError(f"the local part has more than {LOCAL_MAX} octets", 0)
    if len(text[:end].encode()) + 1 + len(domain) > ADDRESS_MAX:
        raise AddressError(f"more than {ADDRESS_MAX} octets", end + 1)
    return Address(local, domain)


def parse_domain(text: str) -> str:
    """The domain as A-labels in lower case. Raises AddressError."""
    if len(text) > ADDRESS_MAX:
        raise AddressError(f"more than {ADDRESS_MAX} octets", ADDRESS_MAX)
    if text.startswith("["):
        raise AddressError("address literals are not accepted", 0)
    if not text:
        raise AddressError("the domain is missing", 0)
    labels: list[str] = []
    where = 0
    for label in text.split("."):
        labels.append(_label(label, where))
        where += len(label) + 1
    if len(labels) < 2:
        raise AddressError("the domain is not fully qualified", 0)
    if labels[-1].isdecimal():
        # RFC 3696 section 2: no top-level domain is all digits; 192.0.2.1 is not a domain.
        raise AddressError("an IP address is not a domain", 0)
    domain = ".".join(labels)
    if len(domain) > ADDRESS_MAX:
        raise AddressError(f"more than {ADDRESS_MAX} octets", 0)
    return domain


def canonical(address: Address) -> str:
    """What a recipient is recognised by: case and Unicode composition of the local part do not matter, all else does.

    RFC 5321 section 2.4 leaves the case of a local part to its host, and no mailbox provider of any size tells Ann from
    ann. Were two spellings two recipients, a complaint by one would not suppress the other. Lower case, not case
    folding, which would make straße and strasse one person. Dots and `+tags` stay: what they mean is each provider's
    own affair. The result is for hashing and comparing; mail goes to the address as written.
    """
    if address.local.isascii():
        return f"{address.local_wire.lower()}@{address.domain}"
    local = unicodedata.normalize("NFC", unicodedata.normalize("NFC", address.local).lower())
    return str(Address(local, address.domain))


def parse_mailbox(text: str) -> Mailbox:
    """Read `News <news@brand.test>`, `"Brand, Inc." <news@brand.test>` or a bare address. Raises AddressError."""
    if len(text) > _MAILBOX_MAX:
        raise AddressError(f"more than {_MAILBOX_MAX} characters", _MAILBOX_MAX)
    words: list[str] = []
    at = 0
    while at < len(text):
        match text[at]:
            case " ":
                at += 1
                continue
            case "<":
                return _name_addr(words, text, at)
            case '"':
                quoted = _QUOTED.match(text, at)
                if quoted is None:
                    raise AddressError("a quoted string is not closed, or holds a forbidden character", at)
                words.append(_QUOTED_PAIR.sub(r"\1", quoted[1]))
                at = quoted.end()
            case _:
                word = _WORD.match(text, at)
                if word is None:
                    break
                words.append(word[0])
                at = word.end()
        if text.startswith("@", at):
            break
    if text.startswith("@", at):
        return Mailbox("", parse(text))
    raise AddressError(_unexpected(text, at), at)


def _name_addr(words: list[str], text: str, at: int) -> Mailbox:
    # RFC 5322 section 3.4, without comments: one address within the brackets, nothing behind them.
    close = text.rfind(">", at)  # a quoted local part may hold one
    if close < 0:
        raise AddressError("the angle bracket is not closed", at)
    try:
        address = parse(text[at + 1 : close])
    except AddressError as error:
        raise AddressError(error.what, at + 1 + error.where) from None
    rest = text[close + 1 :]
    if rest.strip(" "):
        where = close + 1 + len(rest) - len(rest.lstrip(" "))
        raise AddressError(_unexpected(text, where), where)
    name = " ".join(words).strip(" ")
    if len(name) > _NAME_MAX:
        raise AddressError(f"the name has more than {_NAME_MAX} characters", 0)
    _visible(name, 0)
    if "=?" in name:
        # RFC 2047: readers would decode it to a name that nobody here has seen.
        raise AddressError("an encoded word: write the name in plain Unicode", 0)
    return Mailbox(name, address)


def _local(text: str) -> tuple[str, int]:
    """The local part's meaning and where it ends."""
    if text.startswith('"'):
        quoted = _QUOTED.match(text)
        if quoted is None:
            raise AddressError("a quoted string is not closed, or holds a forbidden character", 0)
        if not quoted[1]:
            raise AddressError("the local part is empty", 0)
        _visible(quoted[1], 1)
        return _QUOTED_PAIR.sub(r"\1", quoted[1]), quoted.end()
    dot_string = _DOT_STRING.match(text)
    if dot_string is None:
        raise AddressError(_unexpected(text, 0), 0)
    _visible(dot_string[0], 0)
    return dot_string[0], dot_string.end()


def _label(label: str, where: int) -> str:
    if not label:
        raise AddressError("an empty label, or a dot at an end, in the domain", where)
    try:
        # A plain one is not IDNA's business: r3--x, which RFC 5890 reserves, is registered and gets mail.
        plain = label.isascii() and not label.lower().startswith("xn--")
        result = label.lower() if plain else _a_label(label)
    except (idna.IDNAError, UnicodeError):
        # idna's own words quote the domain.
        raise AddressError("a label that IDNA 2008 does not allow", where) from None
    if len(result) > _LABEL_MAX:
        raise AddressError(f"a label of more than {_LABEL_MAX} octets", where)
    if not _LDH.fullmatch(result):
        # RFC 5321 section 4.1.2: sub-domain = Let-dig [Ldh-str]
        raise AddressError("a label is letters, digits and inner hyphens", where)
    return result


def _a_label(label: str) -> str:
    # RFC 5895 section 2, lower case and NFC only: full-width letters and ideographic dots are refused, and so is a
    # letter that turns into an ASCII one (the Kelvin sign).
    mapped = unicodedata.normalize("NFC", label.lower())
    if not mapped.isascii():
        return idna.alabel(mapped).decode("ascii")
    if not label.isascii():
        raise idna.IDNAError("a letter that turns into ASCII")
    idna.ulabel(mapped)  # RFC 5891 section 5.4: refuses what is not the A-label of a valid U-label
    return mapped


def _visible(text: str, where: int) -> None:
    """Refuse what a reader cannot see, or what reorders what he sees; what is left can be encoded as UTF-8."""
    if text.isascii() and text.isprintable():
        return
    for offset, character in enumerate(text):
        match unicodedata.category(character):
            case "Cc" | "Cs" | "Co" | "Zl" | "Zp":
                raise AddressError("a control character or one without a meaning", where + offset)
            case "Zs" if character != " ":
                raise AddressError("a space that is not the plain one", where + offset)
            case "Cf" if character not in "\u200c\u200d":  # the joiners are letters' parts in Persian and in India
                raise AddressError("an invisible or reordering character", where + offset)
            case _:
                continue


def _unexpected(text: str, at: int) -> str:
    match text[at : at + 1]:
        case "":
            return "the domain is missing" if text else "empty"
        case "@":
            return "the local part is empty" if at == 0 else "one @ too many"
        case "(" | ")":
            return "comments are not accepted"
        case ":" | ";":
            return "groups and routes are not accepted"
        case "\r" | "\n" | "\0":
            return "a line break or NUL"
        case ",":
            return "one mailbox only"
        case ".":
            return "a dot at an end of the local part, or two in a row"
        case "<" | ">":
            return "an angle bracket out of place"
        case _:
            return "a character that is not allowed here"
