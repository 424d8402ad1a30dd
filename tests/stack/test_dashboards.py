"""Every Grafana panel's SQL, as the analysts' user, on a history that the running stack has made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pipeline.embedded.stack import Stack
from sinks.grafana.dashboards import CAMPAIGN, OVERVIEW
from sinks.grafana.macros import Asked, expand
from tests.stack.questions import Questions
from tests.stack.test_faults import Campaign

pytestmark = pytest.mark.stack

# What goes wrong may rightly be nothing.
MAY_BE_EMPTY = {"Dead letters", "Overdue", "Sent in spite of a suppression"}


def test_every_panel_shows_a_real_campaign(stack: Stack, ask: Questions) -> None:
    campaign = Campaign(stack)
    campaign.run(lambda: None)
    now = datetime.now(UTC) + timedelta(seconds=5)
    asked = Asked(now - timedelta(hours=1), now, 60, {"tenant": ["default"], "campaign": [campaign.mailing.name]})
    panels = [panel for board in (OVERVIEW, CAMPAIGN) for panel in board.panels]
    empty = {panel.title for panel in panels if not ask.rows(expand(panel.sql, asked))}
    assert empty <= MAY_BE_EMPTY
