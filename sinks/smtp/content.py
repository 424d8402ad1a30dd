"""What a mail says: subject, HTML and text compiled once per campaign, written as header fields and body per message.

Pure: date, ids, URLs and variables are handed in. The unchanging lines of a part are encoded when it is compiled; a
rendering encodes what its variables gave, with the lines around it, and joins. Signing is dkim.py's, the envelope the
session's, and which addresses a tenant may write From is decided before.
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
from sinks.smtp.lines import Layout, Lines, joined, lines
from sinks.smtp.templates import ContentError, Insert, Literal, Rendering, Tracking, as_text, compile_template

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


class RenderContext(NamedTuple):
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
    """`headers` are fields, each ending in CRLF, without the empty line."""

    headers: bytes
    body: Lines


class _Part:
    """One text part: its unchanging texts in bytes, plain where that may be, quoted-printable or base64 else.

    `delimiter` is what goes before it, its fields following, where a mail has several; empty: it is the mail's body.
    """

    def __init__(self, subtype: str, rendering: Rendering, delimiter: bytes) -> None:
        self._subtype = subtype.encode()
        self._rendering = rendering
        self._delimiter = delimiter
        self._static = [mime.crlf(text) for text in rendering.static]
        whole = b"".join(self._static)
        plain = mime.is_plain(whole) and mime.has_short_lines(whole)
        self._plain = self._layout(b"7bit", self._static) if plain else None
        self._quoted: Layout | None = None  # when it is first needed: a final text in plain ASCII never needs it
        # Quoted-printable writes three bytes for one: for Greek or Japanese, base64 is shorter.
        self._base64 = not whole.isascii() and len(whole.translate(None, _ASCII)) * 6 > len(whole)
        self.constant = len(self._static) == 1
        self._kept = self._encoded([]) if self.constant else None

    def write(self, variables: Mapping[str, object], tracking: Tracking) -> tuple[bytes, Lines]:
        """Header fields of the part, and its lines."""
        return self._kept or self._encoded(self._rendering.render(variables, tracking))

    def _encoded(self, texts: list[str]) -> tuple[bytes, Lines]:
        dynamic = mime.crlf_each(texts)
        if self._plain is not None and (found := self._plain.filled(dynamic)) is not None:
            return self._fields(b"7bit"), found
        if self._base64:
            whole = [mime.base64(mime.crlf(as_text(self._rendering, texts)))]
            return self._fields(b"base64"), lines(b"".join(self._framed(b"base64", whole)))
        # Pieces encoded apart never pass 76 in a line, as each that ends within one ends in a soft line break.
        if self._quoted is None:
            *before, last = map(mime.quoted_printable, self._static)
            self._quoted = self._layout(b"quoted-printable", [*map(_softly, before), last])
        quoted = self._quoted.filled([_softly(mime.quoted_printable(text)) for text in dynamic])
        assert quoted is not None, "quoted-printable is plain"
        return self._fields(b"quoted-printable"), quoted

    def _layout(self, encoding: bytes, static: Sequence[bytes]) -> Layout:
        return Layout(self._framed(encoding, static))

    def _framed(self, encoding: bytes, texts: Sequence[bytes]) -> list[bytes]:
        """The texts with what stands before and behind them."""
        framed = list(texts)
        if self._delimiter:
            framed[0] = b"".join((self._delimiter, self._fields(encoding), b"\r\n", framed[0]))
            framed[-1] += b"\r\n"  # RFC 2046 section 5.1.1: of the delimiter that follows
        elif not framed[-1].endswith(b"\r\n"):
            framed[-1] += b"\r\n"
        return framed

    def _fields(self, encoding: bytes) -> bytes:
        return b"Content-Type: text/%b; charset=utf-8\r\nContent-Transfer-Encoding: %b\r\n" % (self._subtype, encoding)


def _softly(quoted: bytes) -> bytes:
    """RFC 2045 section 6.7 (5): a soft line break behind what ends within a line."""
    return quoted + b"=\r\n" if quoted and not quoted.endswith(b"\r\n") else quoted


class Content:
    """A compiled mail. `links` is the link table: `tracking.click(n)` stands for `links[n]`."""

    def __init__(
        self, subject: Rendering, html: Rendering | None, text: Rendering, links: tuple[str, ...], bulk: Bulk | None
    ) -> None:
        self._subject = subject
        self._bulk = bulk
        self._list_fields = list_fields(bulk)
        self.links = links
        self._untracked = Tracking(links.__getitem__)
        seed = "\0".join(("", *subject.static, *text.static, *(html.static if html else ())))
        # "=_" occurs in no part (mime.is_plain), so no text can close one, and the same content has the same bytes.
        self._boundary = b"=_" + sha256(seed.encode("utf-8", "replace")).hexdigest()[:24].encode()
        delimiter = b"--%b\r\n" % self._boundary
        # RFC 2046 section 5.1.4: the plainest first, the richest last.
        self._parts = (
            [_Part("plain", text, delimiter), _Part("html", html, delimiter)]
            if html is not None
            else [_Part("plain", text, b"")]
        )
        self._closing = lines(b"--%b--\r\n" % self._boundary)
        self._kept = self._assembled({}, self._untracked) if all(part.constant for part in self._parts) else None

    def render(self, variables: Mapping[str, object], context: RenderContext) -> Rendered:
        """The message for one recipient. ContentError names the part that cannot be written; nothing of it is sent.

        A body without variables and links is the same object every time: its hash can be kept.
        """
        tracking = context.tracking or self._untracked
        values = {**variables, "unsubscribe_url": context.unsubscribe_url, "message_id": context.message_id}
        try:
            subject = as_text(self._subject, self._subject.render(values, tracking))
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
            mime.require_fields(headers, names)
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

    def _assembled(self, variables: Mapping[str, object], tracking: Tracking) -> tuple[bytes, Lines]:
        """The last header fields, and the body."""
        written = [part.write(variables, tracking) for part in self._parts]
        if len(written) == 1:
            return written[0]
        body = joined([*(part for _, part in written), self._closing])
        return b'Content-Type: multipart/alternative;\r\n boundary="%b"\r\n' % self._boundary, body


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
