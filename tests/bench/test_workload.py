"""The workload: the same for every system, domains by Zipf."""

from __future__ import annotations

from collections import Counter

import orjson

from bench import workload
from bench.workload import Content
from schemas import ids
from schemas.address import canonical, parse
from schemas.codec import decode_send


def test_sites_are_asked_for_by_zipf() -> None:
    sites = Counter(address.rpartition(".s")[2].removesuffix(".test") for address in workload.recipients(20_000))
    assert len(sites) == workload.SITES
    assert 1.7 < sites["1"] / sites["2"] < 2.3
    assert 3.3 < sites["1"] / sites["4"] < 4.7


def test_the_same_seed_gives_the_same_mail_and_every_send_has_its_own_key() -> None:
    first, second = (list(workload.sends("r", list(workload.recipients(50)))) for _ in range(2))
    assert first == second
    assert len({send.key for send in first}) == 50
    assert all(9_500 < len(orjson.loads(send.value)["html"]) < 10_800 for send in first)


def test_a_campaign_comes_before_sends_that_hold_only_a_name() -> None:
    mailing = workload.mailing(Content.CAMPAIGN, "spring", workload.recipients(50), b"s" * 32, 5_000)
    assert mailing.campaign is not None
    assert mailing.campaign.text is None
    assert "<h1>News for {{ name }}</h1>" in (mailing.campaign.html or "")
    assert 4_500 < len(mailing.campaign.html or "") < 5_800
    for send in mailing.sends:
        request = decode_send(send.value, None)
        person = ids.recipient_id(b"s" * 32, workload.TENANT, canonical(parse(request.recipient)))
        assert send.key.decode() == ids.campaign_key("spring", person)
        assert request.campaign_id == "spring"
        assert request.variables == {"name": request.recipient.partition("@")[0]}


def test_both_kinds_of_content_make_the_same_page() -> None:
    inline = workload.mailing(Content.INLINE, "r", ["ann@d0.s1.test"], b"s" * 32)
    campaign = workload.campaign("r")
    assert inline.campaign is None
    assert orjson.loads(inline.sends[0].value)["html"] == (campaign.html or "").replace("{{ name }}", "ann")


def test_what_every_send_shall_say_besides_is_in_both_kinds() -> None:
    for content in Content:
        mailing = workload.mailing(content, "r", ["ann@d0.s1.test"], b"s" * 32, send_at="2030-01-01T00:00:00Z")
        assert decode_send(mailing.sends[0].value, None).send_at is not None


def test_more_sites_share_the_same_mail() -> None:
    found = {address.rpartition(".s")[2] for address in workload.recipients(3_000, sites=1)}
    assert found == {"1.test"}
    assert len(workload.domains(30)) == 30 * workload.DOMAINS_PER_SITE
