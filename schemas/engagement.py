"""What recipients, their privacy proxies and their security gateways do with a mail; the verdict who it was is its own
fact.
"""

from __future__ import annotations

from typing import Literal

from schemas.envelope import RecipientEvent

Verdict = Literal["human", "prefetch", "proxy", "scanner", "unknown"]


class MessageOpened(RecipientEvent):
    type: Literal["message.opened"] = "message.opened"
    user_agent: str = ""  # at most 256 characters
    network: str = ""  # the client's address cut to /24 or /48: a person's address is not kept
    method: str = "GET"


class MessageClicked(RecipientEvent):
    """`link` is the number in the campaign's link table; a URL with its query is never in a fact."""

    type: Literal["message.clicked"] = "message.clicked"
    link: int
    user_agent: str = ""
    network: str = ""
    method: str = "GET"


class OpenJudged(RecipientEvent):
    type: Literal["open.judged"] = "open.judged"
    open_id: str  # event_id of the message.opened
    verdict: Verdict
    rule: str
    classifier_version: int


class ClickJudged(RecipientEvent):
    type: Literal["click.judged"] = "click.judged"
    click_id: str
    link: int
    verdict: Verdict
    rule: str
    classifier_version: int


class ConversionRecorded(RecipientEvent):
    type: Literal["conversion.recorded"] = "conversion.recorded"
    name: str
    value: float = 0.0
    currency: str = ""
