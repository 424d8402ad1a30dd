"""The workload: the same for every system, domains by Zipf."""

from __future__ import annotations

from collections import Counter

import orjson

from bench import workload


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
