"""Read a campaign from files and make it ready to be published: design compiled, every part of it tried, attachments
read. What cannot be mailed is refused here, with file, line and reason; no worker meets it.

The file is TOML with the fields of `campaign.set` (`from` and `subject` for short), and `html_file`, `mjml_file`,
`text_file` and `attachments` (each a `file`, perhaps `inline` with a `content_id`) in its folder.
"""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from pipeline import checkin
from pipeline.design import html_of
from schemas.address import AddressError, parse_mailbox
from schemas.attachments import AttachmentError, AttachmentRequested, require_allowed
from schemas.claims import CHECKED_IN_ABOVE, ClaimError
from schemas.state import CampaignSet
from sinks.smtp.content import compile_content
from sinks.smtp.templates import ContentError
from topics.claims import Claims

# Until its first send is planned, from when on each send keeps them: time enough to prepare a campaign.
_ATTACHMENTS_KEPT: Final = timedelta(days=90)
_SHORT: Final = {"from": "from_", "subject": "subject_template"}
_OURS: Final = {"event_id", "type", "schema_version", "occurred_at", "recorded_at"}


class CampaignError(Exception):
    """A campaign that cannot be published: file, where in it, why."""


def read(path: Path, claims: Claims | None, now: datetime | None = None) -> CampaignSet:
    """The campaign of a file, prepared. Raises CampaignError, or ClaimsAway."""
    fields = _fields(path)
    try:
        files = {part: _text(path, fields.pop(f"{part}_file", None)) for part in ("html", "mjml", "text")}
        given = {part: text for part, text in files.items() if text is not None}
        if twice := given.keys() & fields.keys():
            raise CampaignError(f"{path}: {', '.join(sorted(twice))}: given twice, here and as a file")
        attachments = fields.pop("attachments", [])
        if not isinstance(attachments, list):
            raise CampaignError(f"{path}: attachments: a list of tables, each with a file")
        each = CHECKED_IN_ABOVE // max(len(attachments), 1)
        fields["attachments"] = [_attachment(path, item, claims, each) for item in attachments]
    except OSError as error:
        raise CampaignError(f"{error.filename}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise CampaignError(f"{path}: a file of it is not UTF-8") from None
    except ClaimError as error:
        raise CampaignError(f"{path}: attachments: {error}") from None
    return _prepared(path, fields | given, now or datetime.now(UTC))


def _prepared(path: Path, fields: dict[str, Any], now: datetime) -> CampaignSet:
    mjml, inline_css = fields.get("mjml"), fields.get("inline_css") is True
    if mjml is not None and fields.get("html") is not None:
        raise CampaignError(f"{path}: html and mjml: one of them")
    try:
        source = mjml if mjml is not None else fields.get("html")
        if isinstance(source, str) and (mjml is not None or inline_css):
            fields["html"] = html_of(source, mjml=mjml is not None, inline_css=inline_css)
        event = {"event_id": "", "occurred_at": now, **fields}
        campaign = CampaignSet.model_validate(event)
        parse_mailbox(campaign.from_)
        if campaign.reply_to is not None:
            parse_mailbox(campaign.reply_to)
        compile_content(campaign.subject_template, campaign.html, campaign.text)
        require_allowed(campaign.attachments, has_html=campaign.html is not None)
    except ContentError as error:
        raise CampaignError(f"{path}: {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise CampaignError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (AddressError, AttachmentError) as error:
        raise CampaignError(f"{path}: {error}") from None
    # The same content has the same id, so publishing it again makes nobody compile it again.
    content = campaign.model_dump_json(exclude=_OURS).encode()
    return CampaignSet.from_cause(sha256(content).hexdigest(), **(fields | {"occurred_at": now}))


def _fields(path: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise CampaignError(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CampaignError(f"{path}: not TOML: {error}") from None
    known = {*CampaignSet.model_fields, *_SHORT, "html_file", "mjml_file", "text_file"} - _OURS
    if unknown := sorted(content.keys() - known):
        raise CampaignError(f"{path}: {unknown[0]} is not a field of a campaign; known: {', '.join(sorted(known))}")
    return {_SHORT.get(name, name): value for name, value in content.items()}


def _text(path: Path, name: object) -> str | None:
    return (path.parent / str(name)).read_text(encoding="utf-8") if name is not None else None


def _attachment(path: Path, item: object, claims: Claims | None, room: int) -> dict[str, Any]:
    if not isinstance(item, dict) or not isinstance(item.get("file"), str):
        raise CampaignError(f"{path}: attachments: each needs a file")
    given = {name: value for name, value in item.items() if name != "file"}
    whole = checkin.attachment(path.parent / item["file"], claims, room, _ATTACHMENTS_KEPT) | given
    try:
        AttachmentRequested.model_validate(whole)
    except ValidationError as error:
        raise CampaignError(f"{path}: attachment {item['file']}: {error.errors()[0]['msg']}") from None
    return whole
