"""Of which message of ours a mail speaks: by signed tokens only.

A Message-ID, a subject or an address in a report can be written by anybody; a token can only be copied by who had the
mail, its recipient or his servers. So a report forged with it harms nobody but him.
"""

from __future__ import annotations

import re
from typing import Final

from processors.classify.mime import Headers
from schemas.links import UNSUBSCRIBE_PATH
from schemas.tokens import LINK_MAX, RETURN_PATH_FORM, Keyring, Kind, Link, TokenError

_RETURN_PATH: Final = re.compile(rf"(?<![\w.+-])b\+({RETURN_PATH_FORM})@", re.IGNORECASE)
_UNSUBSCRIBE: Final = re.compile(rf"{UNSUBSCRIBE_PATH}([a-z0-9]{{1,4}}-[A-Za-z0-9_-]{{20,{LINK_MAX}}})")
_MOST_TRIED: Final = 5  # tokens in a text; a field of ours has one


def of_return_path(text: str, keyring: Keyring) -> str | None:
    """The message_id of the first genuine return path (`b+TOKEN@…`) in the text."""
    for number, found in enumerate(_RETURN_PATH.finditer(text)):
        if number == _MOST_TRIED:
            break
        try:
            return keyring.open_token(Kind.RETURN_PATH, found[1]).message_id
        except TokenError:
            continue
    return None


def of_unsubscribe_url(text: str, keyring: Keyring) -> Link | None:
    """What the first genuine unsubscribe URL in the text says."""
    # RFC 2369 section 2: white space within the angle brackets comes from folding, and is ignored.
    for number, found in enumerate(_UNSUBSCRIBE.finditer("".join(text.split()))):
        if number == _MOST_TRIED:
            break
        try:
            return keyring.open_token(Kind.UNSUBSCRIBE, found[1])
        except TokenError:
            continue
    return None


def of_original(header: Headers, keyring: Keyring) -> tuple[set[str], Link | None]:
    """The messages that the header of a mail of ours, sent back to us, names; and what its unsubscribe URL says."""
    named: set[str] = set()
    for value in header.all("return-path")[:_MOST_TRIED]:
        if (message_id := of_return_path(value, keyring)) is not None:
            named.add(message_id)
    link = None
    for value in header.all("list-unsubscribe")[:_MOST_TRIED]:
        if (found := of_unsubscribe_url(value, keyring)) is not None:
            named.add(found.message_id)
            link = found
    return named, link
