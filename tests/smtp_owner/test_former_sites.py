"""What owners tell of the sites that a domain had."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from schemas.state import FormerSite
from sinks.smtp.sites import former

NOW = datetime(2026, 11, 2, 9, 30, tzinfo=UTC)


def had(site: str, ago: timedelta) -> FormerSite:
    return FormerSite(site=site, until=NOW - ago)


def test_a_domain_that_is_new_had_none() -> None:
    assert former(None, NOW) == ()


def test_the_site_until_now_comes_last() -> None:
    before = (had("mx-a", timedelta(hours=1)),)
    assert former(("mx-b", before), NOW) == (*before, FormerSite(site="mx-b", until=NOW))


def test_what_no_window_reaches_is_forgotten() -> None:
    before = (had("mx-a", timedelta(days=8)), had("mx-b", timedelta(days=6)))
    assert [each.site for each in former(("mx-c", before), NOW)] == ["mx-b", "mx-c"]


def test_of_a_domain_that_changes_all_the_time_the_oldest_stays() -> None:
    known: tuple[str, tuple[FormerSite, ...]] = ("mx-0", ())
    for number in range(1, 30):
        known = (f"mx-{number}", former(known, NOW + timedelta(minutes=number)))
    sites = [each.site for each in known[1]]
    assert (len(sites), sites[0], sites[-1]) == (8, "mx-0", "mx-28")
