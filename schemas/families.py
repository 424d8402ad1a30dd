"""Every event type that exists, by name: the one list that the codec, the registry and the exports read."""

from __future__ import annotations

from schemas import attempts, engagement, feedback, lanes, messages, operations, state, tracing
from schemas.envelope import Event
from schemas.sends import SendRequested

EVENTS: dict[str, type[Event]] = {
    str(model.model_fields["type"].default): model
    for model in (
        lanes.MessageQueue,
        messages.MessageAccepted,
        messages.MessageScheduled,
        messages.MessageRejected,
        messages.MessageDuplicate,
        *messages.ENDS,
        attempts.AttemptDelivered,
        attempts.AttemptDeferred,
        attempts.AttemptBounced,
        attempts.AttemptHeld,
        attempts.AttemptUnknown,
        feedback.InboundReceived,
        feedback.InboundSetAside,
        feedback.BounceReceived,
        feedback.ComplaintReceived,
        feedback.RecipientUnsubscribed,
        feedback.ReplyReceived,
        engagement.MessageOpened,
        engagement.MessageClicked,
        engagement.OpenJudged,
        engagement.ClickJudged,
        engagement.ConversionRecorded,
        state.SuppressionSet,
        state.CampaignSet,
        state.ShapingSet,
        state.ControlSet,
        state.SiteLearned,
        state.RecipientSeen,
        state.SubscriberSet,
        operations.TallyCounted,
        operations.AllowanceDrawn,
        operations.AuditFound,
        operations.RecordDeadLettered,
        tracing.SessionTraced,
    )
}

SEND = str(SendRequested.model_fields["type"].default)
