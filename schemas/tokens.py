"""Signed tokens: what a return path, a pixel, a link or an unsubscribe URL says about its message, unforgeable.

Decides the form, what a token carries and when it is genuine. A token carries all that its reader needs, so that the
tracking server has no database: a click can be written as a fact, and an unsubscribe be acted on, from the URL alone.
It is signed and not encrypted: whoever has the mail may read the names of tenant, stream and campaign; it holds no
address. Where keys come from, the words around a token (`b+TOKEN@bounces.brand.test`) and the link's target (from the
campaign's table) are left to the callers.

There is no expiry: an unsubscribe must work for at least 60 days, and a click or bounce that comes late is still true.
Tokens end when their key leaves the keyring: keep a retired key for as long as mail signed with it may be read.
"""

from __future__ import annotations

import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from hashlib import blake2b
from typing import Final, Literal, NamedTuple, overload

RETURN_PATH_MAX: Final = 60  # of the 64 octets of a local part (RFC 5321 section 4.5.3.1.1): leaves room for `b+`
LINK_MAX: Final = 1_024  # a domain of 253 octets, tenant and campaign of 128 characters fit

_KEY_ID: Final = re.compile(r"[a-z0-9]{1,4}")
_KEY_MIN: Final = 32
_KEY_MAX: Final = 64  # RFC 7693 section 2.1
# A local part has room for 80 bits only, and every guess at it costs an SMTP transaction.
_MAC_SHORT: Final = 10
_MAC_LONG: Final = 16
_SIGNATURE: Final = 32
RETURN_PATH_FORM: Final = f"[a-z0-9]{{1,4}}-[0-9a-f]{{{2 * (16 + _MAC_SHORT)}}}"  # a pattern, in any case of letters
_END: Final = 24  # characters of a link's number and MAC
_MESSAGE_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_FIELD_MAX: Final = 255  # of one text: its length is one byte


class TokenError(ValueError):
    """Not a token of ours for this use. Never quotes the token."""


class Kind(Enum):
    """What a token may be used for. Part of what is signed: a pixel's token cannot unsubscribe anybody."""

    RETURN_PATH = b"return-path"
    OPEN = b"open"
    CLICK = b"click"
    UNSUBSCRIBE = b"unsubscribe"


class ReturnPath(NamedTuple):
    """All that fits: the message, whose facts know the rest."""

    message_id: str


class Link(NamedTuple):
    """A pixel, a link or an unsubscribe URL of a message."""

    message_id: str
    recipient_id: str
    recipient_domain: str
    tenant: str
    stream: str
    campaign_id: str | None = None
    number: int = 0
    """Of the link in the campaign's table, 0 to 65535; 0 where there is only one of the kind."""


LinkKind = Literal[Kind.OPEN, Kind.CLICK, Kind.UNSUBSCRIBE]
_LINK_KINDS: Final[tuple[LinkKind, ...]] = (Kind.OPEN, Kind.CLICK, Kind.UNSUBSCRIBE)


@dataclass(frozen=True, slots=True)
class Keyring:
    """Keys by id (1 to 4 of `a-z0-9`), each of 32 to 64 bytes; `active` signs, all of them open."""

    keys: Mapping[str, bytes] = field(repr=False)
    active: str

    def __post_init__(self) -> None:
        if self.active not in self.keys:
            raise ValueError("the active key is not in the keyring")
        for key_id, key in self.keys.items():
            if not _KEY_ID.fullmatch(key_id):
                raise ValueError("a key id is 1 to 4 of a-z and 0-9")
            if not _KEY_MIN <= len(key) <= _KEY_MAX:
                raise ValueError(f"key {key_id} does not have {_KEY_MIN} to {_KEY_MAX} bytes")

    @overload
    def seal(self, kind: Literal[Kind.RETURN_PATH], payload: ReturnPath) -> str: ...
    @overload
    def seal(self, kind: LinkKind, payload: Link) -> str: ...
    def seal(self, kind: Kind, payload: ReturnPath | Link) -> str:
        """The token: `KEY_ID-…`. Of a return path in hexadecimal digits, as relays may change the case; else base64url.

        Raises ValueError on a payload that no message of ours has.
        """
        match payload:
            case ReturnPath() if kind is Kind.RETURN_PATH:
                body = _message_id_bytes(payload.message_id)
                return f"{self.active}-{(body + self._mac(self.active, kind, body).digest()).hex()}"
            case Link() if kind is not Kind.RETURN_PATH:
                return self.seal_links(payload, ((kind, payload.number),))[0]
            case _:
                raise TypeError(f"{type(payload).__name__} is not what a token of kind {kind.name} carries")

    def seal_links(self, payload: Link, wanted: Iterable[tuple[LinkKind, int]]) -> list[str]:
        """The tokens of one message, by kind and number: what they share is packed once, as a mail has dozens."""
        shared = _packed(payload)
        start = f"{self.active}-{_base64(shared)}"
        if len(start) + _END > LINK_MAX:
            raise ValueError(f"a token of more than {LINK_MAX} characters")
        macs = {kind: self._mac(self.active, kind, shared) for kind in _LINK_KINDS}
        ends: list[bytes] = []
        for kind, number in wanted:
            if not 0 <= number <= 0xFFFF:
                raise ValueError("a link's number is 0 to 65535")
            coded = number.to_bytes(2, "big")
            mac = macs[kind].copy()
            mac.update(coded)
            ends += (coded, mac.digest())
        text = _base64(b"".join(ends))
        return [start + text[at : at + _END] for at in range(0, len(text), _END)]

    @overload
    def open_token(self, kind: Literal[Kind.RETURN_PATH], text: str) -> ReturnPath: ...
    @overload
    def open_token(self, kind: LinkKind, text: str) -> Link: ...
    def open_token(self, kind: Kind, text: str) -> ReturnPath | Link:
        """What was sealed. Raises TokenError on anything that `seal` of the same kind did not make."""
        short = kind is Kind.RETURN_PATH
        # Before any work: the text is anybody's.
        if len(text) > (RETURN_PATH_MAX if short else LINK_MAX):
            raise TokenError("too long")
        if not text.isascii():
            raise TokenError("not a token")
        key_id, _, encoded = (text.lower() if short else text).partition("-")
        if key_id not in self.keys:
            raise TokenError("unknown key")
        raw = _decoded(encoded, short)
        size = _MAC_SHORT if short else _MAC_LONG
        body, mac = raw[:-size], raw[-size:]
        if not hmac.compare_digest(mac, self._mac(key_id, kind, body).digest()):
            raise TokenError("wrong signature")
        # Signed with "token 1" by `seal`, so well formed: another form would sign with another number.
        return ReturnPath(_message_id(body)) if short else _unpacked(body)

    def sign(self, purpose: bytes, body: bytes) -> str:
        """A signature of what stands elsewhere: `KEY_ID-…`. `purpose`, of up to 16 bytes, keeps uses apart."""
        return f"{self.active}-{_base64(self._keyed(self.active, purpose, body, _SIGNATURE).digest())}"

    def verify(self, purpose: bytes, body: bytes, text: str) -> bool:
        key_id, _, encoded = text.partition("-")
        if key_id not in self.keys:
            return False
        wanted = _base64(self._keyed(key_id, purpose, body, _SIGNATURE).digest())
        return hmac.compare_digest(wanted.encode(), encoded.encode())

    def _mac(self, key_id: str, kind: Kind, body: bytes) -> blake2b:
        return self._keyed(key_id, kind.value, body, _MAC_SHORT if kind is Kind.RETURN_PATH else _MAC_LONG)

    def _keyed(self, key_id: str, use: bytes, body: bytes, size: int) -> blake2b:
        # RFC 7693: keyed, BLAKE2b is a MAC by itself, at a third of the cost of an HMAC, and a mail has dozens.
        return blake2b(body, digest_size=size, key=self.keys[key_id], salt=key_id.encode(), person=use)


def _packed(link: Link) -> bytes:
    """Message id, then five texts, each behind its length; no campaign is the empty text. The number comes behind.

    Filled with NUL to a multiple of three bytes, so that in base64 it is a text of its own.
    """
    parts = [_message_id_bytes(link.message_id)]
    for text in (link.recipient_id, link.recipient_domain, link.tenant, link.stream, link.campaign_id or ""):
        raw = text.encode()
        if len(raw) > _FIELD_MAX:
            raise ValueError(f"a text of more than {_FIELD_MAX} bytes")
        parts += (bytes((len(raw),)), raw)
    packed = b"".join(parts)
    return packed + bytes(-len(packed) % 3)


def _unpacked(body: bytes) -> Link:
    texts: list[str] = []
    at = 16
    for _ in range(5):
        end = at + 1 + body[at]
        texts.append(body[at + 1 : end].decode())
        at = end
    recipient_id, recipient_domain, tenant, stream, campaign_id = texts
    number = int.from_bytes(body[-2:], "big")
    return Link(_message_id(body), recipient_id, recipient_domain, tenant, stream, campaign_id or None, number)


def _decoded(encoded: str, short: bool) -> bytes:
    try:
        raw = bytes.fromhex(encoded) if short else urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except ValueError:
        raise TokenError("not a token") from None
    # One spelling each: the decoders pass over unused bits and foreign characters.
    if (raw.hex() if short else _base64(raw)) != encoded:
        raise TokenError("not a token")
    return raw


def _base64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode("ascii").rstrip("=")


def _message_id_bytes(message_id: str) -> bytes:
    if not _MESSAGE_ID.fullmatch(message_id):
        raise ValueError("a message_id is a UUID in lower case")
    return bytes.fromhex(message_id.replace("-", ""))


def _message_id(body: bytes) -> str:
    text = body[:16].hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
