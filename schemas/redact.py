"""Take email addresses out of free text: SMTP replies, diagnostics, whatever ends up in a fact or a log.

Decides what looks like an address to a machine or a person, generously: `parse` in schemas.address says what an address
is, this says what might be read as one, and it would rather take a word too many. What is not recognised: an address
split by spaces (`ann at example.test`) or by a fold of the reply, and Base64. For those the caller names the recipient
it was talking about (`known`): then the bare local part goes too. The work is bounded by `limit`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import quote

from schemas.address import LOCAL_MAX, Address

PLACEHOLDER: Final = "<address>"

# Read beyond the limit, so that an address across it is seen whole: 64 octets of local part, each percent-encoded.
_MARGIN: Final = 512

# What stands between local part and domain: @ and its full-width forms; percent, quoted-printable (=40, also within
# encoded words), HTML and backslash escapes; and (at), which people write.
_AT: Final = re.compile(
    r"[@\uff20\ufe6b]|(?P<hex>=40)|%(?:25)*40|&#(?:64|x40);|&commat;|\\(?:u00|x)40|(?P<word> ?[(\[{<]at[)\]}>] ?)",
    re.IGNORECASE,
)
# Each match of it holds one of these: what has none is looked at no further.
_SUSPECT: Final = re.compile(r"[@\uff20\ufe6b=%&\\(\[{<]")
# Ends a local part to the left. The rest is taken: everything of RFC 5322's atext, so the whole of a VERP or SRS form
# (bounce+ann=example.test@, SRS0=x=y=example.test=ann@), dots in any number, percent signs, and all beyond ASCII.
_LOCAL_STOP: Final = frozenset('()<>[]:;,"')
_DOMAIN: Final = re.compile(r"\[[0-9A-Za-z:.-]{1,80}\]?|[\w.%\u00b7-]*[\w%]|", re.ASCII)
_DOMAIN_UTF8: Final = re.compile(r"\[[0-9A-Za-z:.-]{1,80}\]?|(?:[\w.%-]|[^\x00-\x7f\s])*(?:[\w%]|[^\x00-\x7f\s])|")

# A local part alone is taken only when it can point to somebody. These words are in every second reply: to take one out
# would tell that it was the local part, and leave the classifier blind.
_COMMON: Final = frozenset(
    """
    abuse account address admin blocked bounce client connection contact delivery domain error help host info
    invalid local mail mailbox mailer-daemon message news newsletter not policy postmaster recipient rejected
    relay reply sales security sender server service smtp spam support system temporary test the this unavailable
    unknown user you
    """.split()  # noqa: SIM905 - as a list it would fill fifty lines
)
_LOCAL_ALONE_MIN: Final = 3
_AROUND: Final = frozenset({("<", ">"), ('"', '"'), ("'", "'")})


def redact(text: str, limit: int = 512, known: Sequence[Address] = ()) -> str:
    """At most `limit` characters of `text`, on one line, without addresses. `known` are those it probably quotes."""
    clean = _one_line(text[: limit + _MARGIN])
    # Of a text that was cut the last part is read, but not given: an address may begin in it whose @ is out of sight.
    given = limit if len(text) <= limit + _MARGIN else min(limit, max(0, len(clean) - _MARGIN))
    spans = list(_spans(clean))
    for address in known:
        spans.extend(_known(clean, address))
    parts: list[str] = []
    done = 0
    for start, end in _merged(spans):
        if start >= given:
            break
        parts += (clean[done:start], PLACEHOLDER)
        done = end
    parts.append(clean[done:given])
    return "".join(parts)[:limit]


def holds_address(text: str) -> bool:
    """Whether `redact` would take something out of the text. Looks at all of it: bound its length first."""
    return next(_spans(_one_line(text)), None) is not None


def _spans(text: str) -> Iterator[tuple[int, int]]:
    """Where the addresses are. A quoted local part may hold an @ itself, so a span may begin before the last one."""
    if _SUSPECT.search(text) is None:
        return
    floor = 0
    for at in _AT.finditer(text):
        if at.start() < floor:
            continue  # within the one before
        start = _local_start(text, at.start(), floor)
        domain = (_DOMAIN if text.isascii() else _DOMAIN_UTF8).match(text, at.end())
        assert domain is not None  # both patterns match nothing, too
        end = domain.end()
        if start == at.start() and (floor == 0 or start != floor):
            continue  # nothing in front: a domain alone, or a sign on its own
        if at["hex"] or at["word"]:
            # "limit=4000" and "(at)" are ordinary text, unless a domain follows.
            last = domain[0].rpartition(".")
            if last[0][:1] in ("", ".") or not any(character.isalpha() for character in last[2]):
                continue
        elif at[0] not in "@\uff20\ufe6b" and end == at.end():
            continue
        if start > 0 and text[start - 1] == "<" and text[end : end + 1] == ">":
            start, end = start - 1, end + 1
        yield start, end
        floor = end


def _local_start(text: str, end: int, floor: int) -> int:
    start = end
    if start > floor and text[start - 1] == '"':
        # A quoted local part: back to the quote that opens it, or as far as it can reach.
        least = max(0, end - LOCAL_MAX - 2)
        start -= 1
        while start > least:
            start -= 1
            if text[start] == '"' and not _escaped(text, start, least):
                break
        return start
    while start > floor and text[start - 1] not in _LOCAL_STOP and not text[start - 1].isspace():
        start -= 1
    return start


def _escaped(text: str, at: int, least: int) -> bool:
    slashes = at
    while slashes > least and text[slashes - 1] == "\\":
        slashes -= 1
    return (at - slashes) % 2 == 1


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _known(text: str, address: Address) -> Iterator[tuple[int, int]]:
    """Where the local part stands by itself, or with the domain in another form (`ann=example.test`)."""
    # No regular expression: there is another recipient for every reply, and compiling one costs 0.3 ms.
    lowered = _lower(text)
    local = _lower(_one_line(address.local))
    tail = f"={address.domain}"
    for form in {local, _lower(_one_line(address.local_wire)), quote(local), local.partition("+")[0]}:
        alone = len(form) >= _LOCAL_ALONE_MIN and form not in _COMMON and not _is_code(form)
        at = lowered.find(form) if form else -1
        while at >= 0:
            end = at + len(form)
            before, after = lowered[at - 1 : at], lowered[end : end + 1]
            if (before, after) in _AROUND:
                # In brackets or quotes it is a name, whatever word it is.
                yield at - 1, end + 1
            elif not _is_word(before) and lowered.startswith(tail, end):
                yield at, end + len(tail)
            elif alone and not _is_word(before) and not _is_word(after):  # ann is not in cannot
                yield at, end
            at = lowered.find(form, end)


def _lower(text: str) -> str:
    """Lower case of the same length, so that places in it are places in the text."""
    if text.isascii():
        return text.lower()
    return "".join(low if len(low := character.lower()) == 1 else character for character in text)


def _is_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def _is_code(text: str) -> bool:
    return len(text) == 3 and text.isdecimal()  # 550 is a reply code


def _one_line(text: str) -> str:
    """Line breaks become spaces; characters that are not seen, or that no UTF-8 can hold, go or become U+FFFD."""
    if text.isascii():
        return text if text.isprintable() else text.replace("\r\n", " ").translate(_ASCII_CONTROLS)
    # NFC, so that a known local part is found however it was composed.
    normal = unicodedata.normalize("NFC", text.replace("\r\n", " "))
    return "".join(map(_shown, normal))


def _shown(character: str) -> str:
    match unicodedata.category(character):
        case "Zl" | "Zp" | "Zs":
            return " "
        case "Cc" | "Cf":
            return " " if character in "\r\n\t" else ""
        case "Cs":
            return "\ufffd"  # undecodable bytes of the peer, as surrogateescape left them
        case _:
            return character


_ASCII_CONTROLS: Final = {code: " " if chr(code) in "\r\n\t" else None for code in (*range(0x20), 0x7F)}
