"""What an outcome on the wire means for message and site, case by case."""

from __future__ import annotations

import pytest

from sinks.smtp.outcome import Accepted, Broken, Cause, InDoubt, Outcome, Refused, Stage
from sinks.smtp.replies import Reply
from sinks.smtp.results import Attempt, result_of, unroutable
from sinks.smtp.routing import Permanent, Temporary
from sinks.smtp.state import Kind
from tests.smtp_owner.world import command

ATTEMPT = Attempt("1", "1-1", 1_000, 2_000)


def reply(code: int, text: str = "") -> Reply:
    return Reply(code, (text.encode(),))


@pytest.mark.parametrize(
    ("outcome", "kind", "rests"),
    [
        (Accepted(reply(250, "2.0.0 queued")), Kind.DELIVERED, False),
        (Refused(reply(550, "5.1.1 no such user"), Stage.RCPT), Kind.BOUNCED, False),
        (Refused(reply(552, "5.2.2 mailbox full"), Stage.DOT), Kind.BOUNCED, False),
        (Refused(reply(451, "4.7.1 greylisted"), Stage.RCPT), Kind.DEFERRED, False),
        (Refused(reply(452, "4.5.3 too many recipients"), Stage.RCPT), Kind.DEFERRED, False),
        (Refused(reply(421, "4.3.2 shutting down"), Stage.MAIL), Kind.DEFERRED, True),
        # Of the host, not of the mail: other mail to it would hear the same.
        (Refused(reply(554, "5.7.1 go away"), Stage.BANNER), Kind.DEFERRED, True),
        (Broken(Stage.CONNECT, Cause.TIMEOUT), Kind.DEFERRED, True),
        (Broken(Stage.HANDSHAKE, Cause.TLS), Kind.DEFERRED, True),
        (Broken(Stage.BODY, Cause.LOST), Kind.DEFERRED, False),
        (Broken(Stage.CONNECT, Cause.FORBIDDEN), Kind.FAILED, False),
        (Broken(Stage.CONNECT, Cause.SOURCE), Kind.HELD, True),
        (InDoubt(Cause.LOST), Kind.UNKNOWN, False),
    ],
)
def test_outcomes(outcome: Outcome, kind: Kind, rests: bool) -> None:
    result, rest = result_of(outcome, command("ann"), ATTEMPT)
    assert (result.kind, rest) == (kind, rests)
    # Only what was tried has a beginning, and only that counts as an attempt.
    assert (result.started_at == 1_000) is (kind not in (Kind.FAILED, Kind.HELD))


def test_the_text_is_kept_without_addresses() -> None:
    result, _ = result_of(Refused(reply(550, "5.1.1 <ann@a.test> unknown"), Stage.RCPT), command("ann"), ATTEMPT)
    assert "ann@" not in result.text
    assert "unknown" in result.text
    assert (result.code, result.enhanced, result.bounce_class) == (550, "5.1.1", "InvalidRecipient")


def test_no_route_bounces_only_when_the_domain_says_so() -> None:
    gone = unroutable(Permanent("5.1.2", "the domain does not exist"), ATTEMPT)
    assert (gone.kind, gone.enhanced, gone.bounce_class) == (Kind.BOUNCED, "5.1.2", "BadDomain")
    assert unroutable(Temporary("DNS time-out"), ATTEMPT).kind is Kind.DEFERRED
