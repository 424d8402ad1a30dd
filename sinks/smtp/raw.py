"""A complete message that an app handed over, as we send it: its own fields and body, with what only we can say.

Pure. Taken out: Bcc, which nobody else is to read, Return-Path, which is the last hop's (RFC 5321 section 4.4), and
whatever looks like our own marks. Put in: our id; Message-ID and Date where they are missing; on bulk
mail the way to unsubscribe here, in place of any other. The rest is not touched: no links are rewritten, no pixel is
added, and a DKIM-Signature of somebody else's stays below ours.
"""

from __future__ import annotations

from collections.abc import Mapping

from schemas.rules.raw_mail import Field, RawMail
from sinks.smtp import mime
from sinks.smtp.content import Bulk, ContentError, RenderContext, Rendered, list_fields, unsubscribe_field
from sinks.smtp.lines import lines

_TAKEN_OUT = frozenset(("bcc", "resent-bcc", "return-path"))
_OURS_ON_BULK = frozenset(("list-unsubscribe", "list-unsubscribe-post", "feedback-id"))


class RawContent:
    """In the place of a compiled content; without variables, links or pixel."""

    links: tuple[str, ...] = ()

    def __init__(self, mail: RawMail, bulk: Bulk | None) -> None:
        self._mail = mail
        self._bulk = bulk

    def render(self, variables: Mapping[str, object], context: RenderContext) -> Rendered:
        mail = self._mail
        added = [mime.structured("X-Mailriver-ID", [context.message_id])]
        if not mail.has("message-id"):
            added.append(mime.structured("Message-ID", [f"<{context.message_id}@{mail.from_.domain}>"]))
        if not mail.has("date"):
            added.append(mime.date("Date", context.date))
        if self._bulk is not None:
            added.append(unsubscribe_field(context.unsubscribe_url))
            listed = mail.has("list-id")  # the app's own name for its list is as good as ours
            added += [field for field in list_fields(self._bulk) if not (listed and field.startswith(b"List-ID:"))]
        fields = [*added, *(field.data for field in mail.fields if self._stays(field))]
        headers = b"".join(fields)
        try:
            mime.require_fields(headers, [field.partition(b":")[0] for field in fields])
            body = lines(mail.body if mail.body.endswith(b"\r\n") or not mail.body else mail.body + b"\r\n")
        except mime.MimeError as error:
            raise ContentError(error.where, 0, error.reason) from None
        return Rendered(headers, body)

    def _stays(self, field: Field) -> bool:
        if field.name in _TAKEN_OUT or field.name.startswith("x-mailriver"):
            return False
        return self._bulk is None or field.name not in _OURS_ON_BULK
