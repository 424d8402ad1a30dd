"""What a mail says: subject, HTML and text compiled once per campaign, written as header fields and body per message.

Pure: date, ids, URLs and variables are handed in. The unchanging texts of a part are encoded when it is compiled; a
rendering encodes what its variables gave and joins. Signing is dkim.py's, the envelope the session's, and which
addresses a tenant may write From is decided before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from schemas.address import Mailbox
from sinks.smtp import markup, mime
from sinks.smtp.attachments import Attached
from sinks.smtp.templates import (
    ContentError,
    Insert,
    Literal,
    Rendering,
    Tracking,
    compile_template,
    joined,
)

__all__ = ["Bulk", "Content", "ContentError", "RenderContext", "Rendered", "Tracking", "compile_content"]

_ASCII = bytes(range(128))

# Extra fields that a sender may set. A list of what is allowed: a field that we do not know can redirect replies, claim
# a path or break a signature.
_EXTRA = frozenset(
    ("in-reply-to", "references", "precedence", "auto-submitted", "comments", "keywords", "organization", "importance")
)


@dataclass(frozen=True, slots=True)
class Bulk:
    """What makes a mail a list's. `list_id` is its identifier (RFC 2919), such as `news.brand.test`."""

    list_id: str
    feedback_id: str = ""  # `campaign:tenant:stream:sender`, as mailbox providers report complaint rates by it


@dataclass(frozen=True, slots=True)
class RenderContext:
    """What differs from message to message, variables aside."""

    message_id: str
    from_: Mailbox
    to: Mailbox
    date: datetime
    reply_to: Mailbox | None = None
    tracking: Tracking | None = None
    unsubscribe_url: str = ""
    headers: Sequence[tuple[str, str]] = ()
    attached: Attached | None = None


class Rendered(NamedTuple):
    """`headers` without the empty line, `body` not dot-stuffed; both end in CRLF."""

    headers: bytes
    body: bytes


class _Part:
    """One text part: its unchanging texts in bytes, plain where that may be, quoted-printable or base64 else."""

    def __init__(self, subtype: str, rendering: Rendering) -> None:
        self._subtype = subtype.encode()
        self._rendering = rendering
        static = [mime.crlf(text) for text in rendering.static]
        whole = b"".join(static)
        self._plain = static if mime.is_plain(whole) else None
        self._static = static
        self._quoted: list[bytes] = []  # when it is first needed: a final text in plain ASCII never needs it
        # Quoted-printable writes three bytes for one: for Greek or Japanese, base64 is shorter.
        self._base64 = not whole.isascii() and len(whole.translate(None, _ASCII)) * 6 > len(whole)
        self.constant = len(static) == 1
        self._kept = self._encoded([]) if self.constant else None

    def write(self, variables: Mapping[str, object], tracking: Tracking) -> tuple[bytes, bytes]:
        """Header fields and data of the part."""
        return self._kept or self._encoded(self._rendering.render(variables, tracking))

    def _encoded(self, texts: list[str]) -> tuple[bytes, bytes]:
        # All at once, NUL between them: two passes instead of two for each.
        together = mime.crlf("\0".join(texts))
        dynamic = together.split(b"\0") if texts else []
        if len(dynamic) != len(texts):  # a variable with a NUL of its own
            dynamic = [mime.crlf(text) for text in texts]
        elif self._plain is not None and mime.is_plain(together.replace(b"\0", b"")):
            data = _interleaved(self._plain, dynamic, b"")
            if mime.has_short_lines(data) and b"=_" not in data:
                return self._fields(b"7bit"), data
        if self._base64:
            return self._fields(b"base64"), mime.base64(mime.crlf(joined(self._rendering, texts)))
        # RFC 2045 section 6.7 (5): a soft line break on either side, so that pieces encoded apart never pass 76.
        if not self._quoted:
            self._quoted = [mime.quoted_printable(text) for text in self._static]
        data = _interleaved(self._quoted, list(map(mime.quoted_printable, dynamic)), b"=\r\n")
        return self._fields(b"quoted-printable"), data

    def _fields(self, encoding: bytes) -> bytes:
        return b"Content-Type: text/%b; charset=utf-8\r\nContent-Transfer-Encoding: %b\r\n" % (self._subtype, encoding)


def _interleaved(static: Sequence[bytes], dynamic: Sequence[bytes], between: bytes) -> bytes:
    parts = [static[0]]
    for text, following in zip(dynamic, static[1:], strict=True):
        parts += (between, text, between, following) if text else (between, following)
    return b"".join(parts)


class Content:
    """A compiled mail. `links` is the link table: `tracking.click(n)` stands for `links[n]`."""

    def __init__(
        self, subject: Rendering, html: Rendering | None, text: Rendering, links: tuple[str, ...], bulk: Bulk | None
    ) -> None:
        self._subject = subject
        self._parts = [_Part("plain", text), *([_Part("html", html)] if html is not None else [])]
        self._bulk = bulk
        self._list_fields = list_fields(bulk)
        self.links = links
        self._untracked = Tracking(links.__getitem__)
        seed = "\0".join(("", *subject.static, *text.static, *(html.static if html else ())))
        # "=_" occurs in no part (mime.is_plain), so no text can close one, and the same content has the same bytes.
        self._boundary = b"=_" + sha256(seed.encode("utf-8", "replace")).hexdigest()[:24].encode()
        self._kept = self._assembled({}, self._untracked) if all(part.constant for part in self._parts) else None

    def render(self, variables: Mapping[str, object], context: RenderContext) -> Rendered:
        """The message for one recipient. ContentError names the part that cannot be written; nothing of it is sent.

        A body without variables and links is the same object every time: its hash can be kept.
        """
        tracking = context.tracking or self._untracked
        values = {**variables, "unsubscribe_url": context.unsubscribe_url, "message_id": context.message_id}
        try:
            subject = joined(self._subject, self._subject.render(values, tracking))
            fields = self._fields(subject, context)
            ends, body = self._kept if self._kept is not None else self._assembled(values, tracking)
            in_parts = len(self._parts) > 1
            if context.attached is not None:
                ends, body = context.attached.around(ends, body)
                in_parts = True
            headers = b"".join([*fields, b"MIME-Version: 1.0\r\n", ends])
            names = [field.partition(b":")[0] for field in fields]
            names += [
                b"MIME-Version",
                b"Content-Type",
                *([b"Content-Transfer-Encoding"] if not in_parts else []),
            ]
            mime.scan(headers, body, names)
        except mime.MimeError as error:
            raise ContentError(error.where, 0, error.reason) from None
        return Rendered(headers, body)

    def _fields(self, subject: str, context: RenderContext) -> list[bytes]:
        domain = context.from_.address.domain
        fields = [
            _sender("From", context.from_),
            mime.mailboxes("To", [context.to]),
            mime.unstructured("Subject", subject),
            mime.date("Date", context.date),
            # RFC 5322 section 3.6.4: stable, so a message that is sent again is the same message to its reader.
            mime.structured("Message-ID", [f"<{context.message_id}@{domain}>"]),
            mime.structured("X-Mailriver-ID", [context.message_id]),
        ]
        if context.reply_to is not None:
            fields.append(_sender("Reply-To", context.reply_to))
        if self._bulk is not None:
            fields += (unsubscribe_field(context.unsubscribe_url), *self._list_fields)
        for name, value in context.headers:
            mime.require_field_name(name)
            lower = name.lower()
            if lower not in _EXTRA and (not lower.startswith("x-") or lower.startswith("x-mailriver")):
                raise ContentError("header name", 0, "a field that a sender may not set")
            fields.append(mime.unstructured(name, value))
        return fields

    def _assembled(self, variables: Mapping[str, object], tracking: Tracking) -> tuple[bytes, bytes]:
        """The last header fields, and the body."""
        written = [part.write(variables, tracking) for part in self._parts]
        if len(written) == 1:
            fields, data = written[0]
            return fields, data if data.endswith(b"\r\n") else data + b"\r\n"
        boundary = self._boundary
        pieces: list[bytes] = []
        # RFC 2046 section 5.1.4: the plainest first, the richest last. Section 5.1.1: the CRLF before "--" is its.
        for fields, data in written:
            pieces += (b"--", boundary, b"\r\n", fields, b"\r\n", data, b"\r\n")
        body = b"".join([*pieces, b"--", boundary, b"--\r\n"])
        return b'Content-Type: multipart/alternative;\r\n boundary="%b"\r\n' % boundary, body


def compile_content(
    subject: str,
    html: str | None,
    text: str | None,
    *,
    bulk: Bulk | None = None,
    templated: bool = True,
    track_clicks: bool = True,
    track_opens: bool = True,
) -> Content:
    """Compile a mail of `html`, `text` or both. Raises ContentError with part, line and reason.

    With `templated=False` the texts are final: Liquid in them is text. Without `text` one is made from `html`.
    """
    if not html and not text:
        raise ContentError("content", 0, "neither html nor text")
    links = markup.links(html) if html and track_clicks else ()
    table = tuple(dict.fromkeys(link.url for link in links))
    number = {url: n for n, url in enumerate(table)}
    inserts = [Insert(link.start, link.end, number[link.url]) for link in links]
    if html and track_opens:
        end = markup.body_end(html)
        inserts = sorted([*inserts, Insert(end, end, None)], key=lambda insert: insert.start)
    plain = text or (markup.text_of(html, templated=templated) if html else "")
    if not templated:
        rich = Literal(html, inserts) if html else None
        return Content(Literal(subject), rich, Literal(plain), table, bulk)
    return Content(
        compile_template("subject", subject.strip(), escape=False),
        compile_template("html", html, escape=True, inserts=inserts) if html else None,
        compile_template("text", plain, escape=False),
        table,
        bulk,
    )


def unsubscribe_field(url: str) -> bytes:
    # RFC 8058 section 3.1: one HTTPS URI, and the field that makes a POST to it an unsubscription.
    if not url.startswith(("https://", "http://")):
        raise ContentError("List-Unsubscribe", 0, "bulk mail needs an unsubscribe URL")
    return mime.structured("List-Unsubscribe", [f"<{_uri(url)}>"])


def list_fields(bulk: Bulk | None) -> tuple[bytes, ...]:
    """What is the same in all mail of a list."""
    if bulk is None:
        return ()
    fields = (
        b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n",
        mime.structured("List-ID", [f"<{_uri(bulk.list_id)}>"]),
    )
    return (*fields, mime.structured("Feedback-ID", [bulk.feedback_id])) if bulk.feedback_id else fields


@lru_cache(maxsize=1024)  # few senders, many messages
def _sender(name: str, mailbox: Mailbox) -> bytes:
    return mime.mailboxes(name, [mailbox])


def _uri(text: str) -> str:
    if "<" in text or ">" in text:
        raise mime.MimeError("URI", "angle brackets")
    return text
