"""The two dashboards: Overview (is mail flowing, and do the promises hold?) and Campaign (how is this one doing?).

Written to `dashboards/*.json`, which Grafana reads and the repository keeps:

    python -m sinks.grafana.dashboards
"""

# ruff: noqa: S608  # SQL of this file's own constants; what a viewer chooses is quoted by Grafana (sqlstring)

from __future__ import annotations

from pathlib import Path
from typing import Final

from sinks.grafana.builder import Dashboard, Kind, Panel, Threshold, Variable

FOLDER: Final = Path(__file__).parent / "dashboards"

_OUTCOMES: Final = {
    "delivered": "green",
    "bounced": "red",
    "expired": "dark-orange",
    "failed": "dark-red",
    "suppressed": "blue",
    "cancelled": "purple",
    "unknown": "yellow",
}
_CAMPAIGN: Final = "tenant IN (${tenant:sqlstring}) AND campaign_id IN (${campaign:sqlstring})"


def _outcomes(title: str, where: str, width: int) -> Panel:
    return Panel(
        title,
        Kind.SERIES,
        f"""SELECT $__timeInterval(ended_at) AS time, status, count() AS messages
FROM v_outcomes
WHERE $__timeFilter(ended_at){where}
GROUP BY time, status
ORDER BY time""",
        width=width,
        stacked=True,
        colours=_OUTCOMES,
    )


def _seconds(title: str, where: str, width: int) -> Panel:
    return Panel(
        title,
        Kind.SERIES,
        f"""SELECT $__timeInterval(ended_at) AS time,
    quantile(0.5)(seconds) AS p50, quantile(0.95)(seconds) AS p95, quantile(0.99)(seconds) AS p99
FROM v_outcomes
WHERE $__timeFilter(ended_at) AND status = 'delivered'{where}
GROUP BY time
ORDER BY time""",
        width=width,
        unit="s",
        description="From the acceptance of a message to the next hop's 250.",
    )


def _replies(title: str, where: str) -> Panel:
    return Panel(
        title,
        Kind.TABLE,
        f"""SELECT if(provider = '', recipient_domain, provider) AS provider, outcome, class, reply_code, reply_text,
    count() AS attempts
FROM v_attempts
WHERE $__timeFilter(occurred_at) AND outcome IN ('bounced', 'deferred'){where}
GROUP BY ALL
ORDER BY attempts DESC
LIMIT 25""",
        width=24,
        height=10,
    )


OVERVIEW: Final = Dashboard(
    uid="mailriver-overview",
    title="Overview",
    panels=(
        Panel(
            "In flight",
            Kind.STAT,
            "SELECT count() AS in_flight FROM v_messages WHERE status = 'in_flight'",
            width=6,
            height=4,
        ),
        Panel(
            "Ledger difference",
            Kind.STAT,
            "SELECT toInt64(sum(abs(difference))) AS difference FROM v_conservation WHERE $__timeFilter(minute)",
            width=6,
            height=4,
            threshold=Threshold(1),
            description="Accepted less ended less in flight. Not 0: a message has two ends, or was never accepted.",
        ),
        Panel(
            "Overdue",
            Kind.STAT,
            "SELECT count() AS overdue FROM v_overdue",
            width=6,
            height=4,
            threshold=Threshold(1),
            description="Past their deadline by more than five minutes, without an end.",
        ),
        Panel(
            "Sent in spite of a suppression",
            Kind.STAT,
            "SELECT count() AS breaches FROM v_suppression_breaches WHERE $__timeFilter(started_at)",
            width=6,
            height=4,
            threshold=Threshold(1),
        ),
        _outcomes("Messages by outcome", "", 12),
        Panel(
            "Delivery rate by provider",
            Kind.SERIES,
            """SELECT $__timeInterval(minute) AS time, provider, sum(delivered) / sum(attempts) AS rate
FROM v_provider_health
WHERE $__timeFilter(minute)
GROUP BY time, provider
ORDER BY time""",
            unit="percentunit",
            description="Delivered attempts of all that were made.",
        ),
        _seconds("Acceptance to delivery", "", 12),
        Panel(
            "Deferrals by provider",
            Kind.SERIES,
            """SELECT $__timeInterval(minute) AS time, provider, sum(deferred) AS deferrals
FROM v_provider_health
WHERE $__timeFilter(minute)
GROUP BY time, provider
ORDER BY time""",
            stacked=True,
        ),
        Panel(
            "Bounces by class",
            Kind.BARS,
            """SELECT class, count() AS messages
FROM v_outcomes
WHERE $__timeFilter(ended_at) AND status = 'bounced'
GROUP BY class
ORDER BY messages DESC
LIMIT 15""",
        ),
        Panel(
            "Suppressions set",
            Kind.SERIES,
            """SELECT $__timeInterval(recorded_at) AS time, reason, count() AS suppressions
FROM v_suppression_history
WHERE $__timeFilter(recorded_at) AND active
GROUP BY time, reason
ORDER BY time""",
            stacked=True,
        ),
        _replies("What providers answer", ""),
        Panel(
            "Dead letters",
            Kind.TABLE,
            """SELECT occurred_at, topic, partition, offset, group, reason
FROM v_deadletters
WHERE $__timeFilter(occurred_at)
ORDER BY occurred_at DESC
LIMIT 25""",
            width=24,
        ),
    ),
)

CAMPAIGN: Final = Dashboard(
    uid="mailriver-campaign",
    title="Campaign",
    variables=(
        Variable("tenant", "Tenant", "SELECT DISTINCT tenant FROM v_campaigns ORDER BY tenant"),
        Variable(
            "campaign",
            "Campaign",
            """SELECT campaign_id FROM v_campaigns WHERE tenant IN (${tenant:sqlstring})
ORDER BY recorded_at DESC LIMIT 500""",
        ),
    ),
    since="now-24h",
    panels=(
        Panel(
            "Funnel",
            Kind.FUNNEL,
            f"""SELECT sum(accepted) AS accepted, sum(delivered) AS delivered, sum(opened_human) AS opened,
    sum(clicked_human) AS clicked
FROM v_campaign_funnel
WHERE {_CAMPAIGN}""",
            description="Opens and clicks by people.",
        ),
        Panel(
            "Where the rest is",
            Kind.STAT,
            f"""SELECT sum(in_flight) AS in_flight, sum(bounced) AS bounced, sum(late_bounced) AS late_bounced,
    sum(suppressed) AS suppressed, sum(expired) AS expired, sum(failed) AS failed, sum(cancelled) AS cancelled,
    sum(unknown) AS unknown, sum(unsubscribed) AS unsubscribed, sum(complained) AS complained
FROM v_campaign_funnel
WHERE {_CAMPAIGN}""",
        ),
        _outcomes("Messages by outcome", f" AND {_CAMPAIGN}", 12),
        _seconds("Acceptance to delivery", f" AND {_CAMPAIGN}", 12),
        Panel(
            "Delivery rate by provider",
            Kind.BARS,
            f"""SELECT if(provider = '', recipient_domain, provider) AS provider,
    countIf(status = 'delivered') / count() AS rate
FROM v_outcomes
WHERE {_CAMPAIGN} AND status NOT IN ('suppressed', 'cancelled')
GROUP BY provider
ORDER BY rate
LIMIT 25""",
            unit="percentunit",
        ),
        Panel(
            "Bounces by class",
            Kind.BARS,
            f"""SELECT class, count() AS messages
FROM v_messages
WHERE {_CAMPAIGN} AND class != ''
GROUP BY class
ORDER BY messages DESC
LIMIT 15""",
            description="Those that came after a delivery included.",
        ),
        Panel(
            "Opens and clicks by verdict",
            Kind.SERIES,
            f"""SELECT $__timeInterval(judged_at) AS time, concat(kind, ' by ', verdict) AS who, count() AS times
FROM v_engagement
WHERE $__timeFilter(judged_at) AND {_CAMPAIGN}
GROUP BY time, who
ORDER BY time""",
            stacked=True,
        ),
        Panel(
            "Links that people click",
            Kind.BARS,
            f"""SELECT concat('link ', toString(link)) AS link, uniqExact(recipient_id) AS people
FROM v_engagement_human
WHERE {_CAMPAIGN} AND kind = 'click'
GROUP BY link
ORDER BY people DESC
LIMIT 15""",
        ),
        _replies("What providers answer", f" AND {_CAMPAIGN}"),
    ),
)

FILES: Final = {"overview.json": OVERVIEW, "campaign.json": CAMPAIGN}


def write(folder: Path = FOLDER) -> None:
    for name, dashboard in FILES.items():
        (folder / name).write_text(dashboard.text(), encoding="utf-8")


if __name__ == "__main__":
    write()
