from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.rules.shaping_file import load
from sinks.smtp.answers import Addresses, Answer, Failure, MxRecords, NoData, NoName
from sinks.smtp.routing import (
    ADDRESSES_MAX,
    HOSTS_MAX,
    OTHER,
    Hop,
    Hosts,
    IpPolicy,
    Permanent,
    Route,
    Temporary,
    hosts,
    provider,
    route,
    site,
)

DOMAIN = "example.test"
V4, V6 = Addresses(("198.18.0.1",)), Addresses(("2001:db8::1",))


def mx(*pairs: tuple[int, str]) -> MxRecords:
    return MxRecords(pairs)


def routed(
    answer: Answer, addresses: dict[str, tuple[Answer, Answer]], policy: IpPolicy = IpPolicy.PREFER_IPV4
) -> Route | Permanent | Temporary:
    found = hosts(DOMAIN, answer, Random(1))
    return route(DOMAIN, found, addresses, policy=policy, rng=Random(1)) if isinstance(found, Hosts) else found


@pytest.mark.parametrize(
    ("answer", "addresses", "enhanced"),
    [
        (NoName(), {}, "5.1.2"),
        (mx((0, "")), {}, "5.1.10"),
        (NoData(), {DOMAIN: (NoData(), NoData())}, "5.1.2"),
        (NoData(), {DOMAIN: (NoName(), NoName())}, "5.1.2"),
        (mx((10, "mx.x.test")), {"mx.x.test": (NoName(), NoName())}, "5.4.4"),
        (mx((10, "192.0.2.1")), {}, "5.4.4"),
    ],
)
def test_a_domain_without_mail_is_permanent(
    answer: Answer, addresses: dict[str, tuple[Answer, Answer]], enhanced: str
) -> None:
    decision = routed(answer, addresses)
    assert isinstance(decision, Permanent)
    assert decision.enhanced == enhanced


@pytest.mark.parametrize(
    ("answer", "addresses"),
    [
        (Failure("SERVFAIL"), {}),
        (NoData(), {DOMAIN: (NoData(), Failure("SERVFAIL"))}),
        (mx((10, "a.test"), (20, "b.test")), {"a.test": (NoName(), NoName()), "b.test": (Failure("x"), NoData())}),
    ],
)
def test_what_is_not_known_is_temporary(answer: Answer, addresses: dict[str, tuple[Answer, Answer]]) -> None:
    assert isinstance(routed(answer, addresses), Temporary)


def test_hosts_by_preference_and_a_failed_one_is_passed_over() -> None:
    answer = mx((20, "b.test"), (10, "a.test"), (0, "dead.test"))
    decision = routed(
        answer, {"a.test": (V4, NoData()), "b.test": (NoData(), V6), "dead.test": (Failure("x"), NoName())}
    )
    assert isinstance(decision, Route)
    assert decision.hops == (Hop("198.18.0.1", "a.test"), Hop("2001:db8::1", "b.test"))


def test_without_mx_the_domain_is_its_own_host_and_site() -> None:
    decision = routed(NoData(), {DOMAIN: (V4, NoData())})
    assert decision == Route(DOMAIN, OTHER, (DOMAIN,), (Hop("198.18.0.1", DOMAIN),))


def test_a_null_mx_beside_others_means_nothing() -> None:
    assert hosts(DOMAIN, mx((0, ""), (10, "a.test")), Random(1)) == Hosts(("a.test",))


def test_equals_take_turns_and_others_do_not() -> None:
    answer = mx((10, "a.test"), (10, "b.test"), (20, "c.test"))
    orders = set()
    for seed in range(40):
        found = hosts(DOMAIN, answer, Random(seed))
        assert isinstance(found, Hosts)
        orders.add(found.names)
    assert orders == {("a.test", "b.test", "c.test"), ("b.test", "a.test", "c.test")}


@pytest.mark.parametrize(
    ("policy", "ips"),
    [
        (IpPolicy.IPV4, ["198.18.0.1"]),
        (IpPolicy.IPV6, ["2001:db8::1"]),
        (IpPolicy.PREFER_IPV4, ["198.18.0.1", "2001:db8::1"]),
        (IpPolicy.PREFER_IPV6, ["2001:db8::1", "198.18.0.1"]),
    ],
)
def test_the_family_policy_orders_addresses(policy: IpPolicy, ips: list[str]) -> None:
    decision = routed(mx((10, "a.test")), {"a.test": (V4, V6)}, policy)
    assert isinstance(decision, Route)
    assert [hop.ip for hop in decision.hops] == ips


def test_a_hostile_zone_is_cut() -> None:
    names = [f"mx{n}.x.test" for n in range(500)]
    many = Addresses(tuple(f"198.18.{n // 256}.{n % 256}" for n in range(1000)))
    answer = mx(*((10, name) for name in names))
    decision = routed(answer, dict.fromkeys(names, (many, NoData())))
    assert isinstance(decision, Route)
    assert (len(decision.mx_hosts), len(decision.hops)) == (HOSTS_MAX, ADDRESSES_MAX)


@pytest.mark.parametrize(
    ("names", "name"),
    [
        (("gmail-smtp-in.l.google.com", "alt1.gmail-smtp-in.l.google.com"), "google"),
        (("aspmx.l.google.com", "aspmx2.googlemail.com"), "google"),
        (("outlook-com.olc.protection.outlook.com",), "microsoft"),
        (("example-com.mail.protection.outlook.com",), "microsoft365"),
        (("mta5.am0.yahoodns.net",), "yahoo"),
        (("aspmx.l.google.com", "mx.own.test"), OTHER),
        (("google.com.evil.test",), OTHER),
        (("notgoogle.com",), OTHER),
        ((), OTHER),
    ],
)
def test_a_provider_is_known_by_all_its_hosts(names: tuple[str, ...], name: str) -> None:
    assert provider(names, load().providers) == name


@given(st.lists(st.sampled_from(["a.test", "b.test", "c.test"]), min_size=1, unique=True), st.randoms())
def test_a_site_does_not_depend_on_order_or_domain(names: list[str], rng: Random) -> None:
    shuffled = rng.sample(names, len(names))
    assert site("one.test", Hosts(tuple(names))) == site("two.test", Hosts(tuple(shuffled)))
    assert site("one.test", Hosts((*names, "d.test"))) != site("one.test", Hosts(tuple(names)))
