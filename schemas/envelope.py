"""What all events share: identity, time, and the fields that let any two of them be joined.

An event is immutable. Its `event_id` is UUIDv5 of (type, cause), so the same fact has the same id after a retry, a
crash or a replay, and every reader folds by id. Readers ignore fields they do not know (a newer writer may add some);
commands from upstream refuse them (a typo must not be silence).
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, ClassVar, Final, NamedTuple, Self

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from schemas import ids
from schemas.redact import holds_address


class Stream(StrEnum):
    """Why a mail is sent; decides retries, expiry, priority and which suppressions hold."""

    TRANSACTIONAL = "transactional"
    MARKETING = "marketing"
    ONBOARDING = "onboarding"
    NEWSLETTER = "newsletter"

    @property
    def is_bulk(self) -> bool:
        return self is not Stream.TRANSACTIONAL


class Priority(StrEnum):
    """Which of a tenant's own mail to a site goes first; whose turn it is among tenants is another matter."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


def _no_address(value: str) -> str:
    # Facts are kept for years and cannot be unwritten: an address may not hide in a label.
    if holds_address(value):
        raise ValueError("an email address is not allowed here: use subject_ref or recipient_id")
    return value


Name = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$")]
"""An identifier chosen by people: tenant, pool, campaign, source. Also safe as a part of a key (`/` and `#` are not
allowed).
"""
Label = Annotated[str, Field(max_length=256), AfterValidator(_no_address)]
"""Free text that ends up in facts: tags, metadata, subject_ref."""
TAGS_MAX: Final = 16
METADATA_MAX: Final = 32
Tags = Annotated[tuple[Label, ...], Field(max_length=TAGS_MAX)]
Metadata = Annotated[
    dict[Annotated[str, Field(max_length=64), AfterValidator(_no_address)], Label], Field(max_length=METADATA_MAX)
]

NONE_GIVEN: Any = Field(default_factory=dict, json_schema_extra={"default": {}})
"""An empty mapping: by a factory, since pydantic deep-copies a default that can change, 2 us each time."""


class Event(BaseModel):
    """Base of every fact and internal command. Subclasses fix `type` by a Literal with a default."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_timedelta="float")

    version: ClassVar[int] = 1  # the highest schema_version this code writes and reads

    event_id: str
    type: str
    schema_version: int = 1
    occurred_at: AwareDatetime
    recorded_at: AwareDatetime | None = None
    tenant: Name = "default"

    @classmethod
    def from_cause(cls, cause: str, /, *, occurred_at: datetime, **fields: object) -> Self:
        """Build the event that `cause` (text unique within the type) brought about.

        `cause` is what makes a repeat recognisable: "MESSAGE_ID/3" for a third attempt, a token, a Kafka position.
        """
        kind = _form(cls).kind
        return cls.model_validate(
            {"event_id": ids.event_id(kind, cause), "type": kind, "occurred_at": occurred_at, **fields}
        )

    @classmethod
    def from_checked(cls, cause: str, /, *, occurred_at: datetime, **fields: object) -> Self:
        """`from_cause` without validation, a third of its cost: for values that come from validated models.

        They must have the types that the fields declare: nothing is converted. Raises TypeError for a name that is no
        field's, and for a field left out that has no constant default.
        """
        form = _form(cls)
        values = {**form.blank, **fields, "event_id": ids.event_id(form.kind, cause), "occurred_at": occurred_at}
        if len(values) != len(form.blank) or not form.required <= fields.keys():
            missing, unknown = form.required - fields.keys(), fields.keys() - form.blank.keys()
            raise TypeError(f"{form.kind} lacks {sorted(missing)} and has no {sorted(unknown)}")
        # What pydantic's model_construct does, less its loop over all fields.
        made = cls.__new__(cls)
        object.__setattr__(made, "__dict__", values)
        object.__setattr__(made, "__pydantic_fields_set__", {"event_id", "occurred_at", *fields})
        object.__setattr__(made, "__pydantic_extra__", None)
        object.__setattr__(made, "__pydantic_private__", None)
        return made

    @property
    def key(self) -> str:
        """The record key on its topic."""
        raise NotImplementedError(type(self).__name__)

    @property
    def subject(self) -> str:
        """CloudEvents `subject`: what the event is about."""
        return self.key


class _Form(NamedTuple):
    kind: str  # its type
    blank: dict[str, Any]  # every field in its order, with its constant default if it has one
    required: frozenset[str]  # to be given, beside cause and time


@cache  # there are as many as classes
def _form(model: type[Event]) -> _Form:
    fields = model.model_fields
    given = {name for name, field in fields.items() if field.is_required() or field.default_factory is not None}
    blank = {name: None if name in given else field.default for name, field in fields.items()}
    return _Form(str(fields["type"].default), blank, frozenset(given - {"event_id", "occurred_at"}))


class MailEvent(Event):
    """An event about one message to one recipient; carries no address."""

    stream: Stream = Stream.TRANSACTIONAL
    campaign_id: Name | None = None
    message_id: str
    recipient_id: str
    subject_ref: Label | None = None
    recipient_domain: str
    provider: str = ""
    pool: Name = "default"
    tags: Tags = ()
    metadata: Metadata = NONE_GIVEN

    @property
    def key(self) -> str:
        return self.message_id


class RecipientEvent(MailEvent):
    """Feedback and engagement: about a message, keyed by the person so that one reader sees a person's history in
    order.
    """

    @property
    def key(self) -> str:
        return self.recipient_id

    @property
    def subject(self) -> str:
        return self.message_id
