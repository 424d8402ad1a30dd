from __future__ import annotations

import pytest

from sinks.smtp.reach import LiveReach, SinkReach


@pytest.mark.parametrize(
    "ip",
    [
        *(
            "127.0.0.1",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
        ),
        *(
            "255.255.255.255",
            "198.18.0.1",
            "192.0.2.1",
            "::1",
            "::",
            "fe80::1",
            "fe80::1%eth0",
            "fd00:ec2::254",
            "ff02::1",
        ),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::a9fe:a9fe", "::127.0.0.1", "2001:db8::1"),
        *("", "localhost", "1.2.3", "8.8.8.8.8"),
    ],
)
def test_live_mode_closes_what_is_not_the_internet(ip: str) -> None:
    assert LiveReach().target(ip, 25) is None
    assert not LiveReach().permits(ip)


@pytest.mark.parametrize("ip", ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2a00:1450:4001::1b", "64:ff9b::808:808"])
def test_live_mode_opens_the_internet(ip: str) -> None:
    assert LiveReach().target(ip, 25) == (ip, 25)


@pytest.mark.parametrize("ip", ["8.8.8.8", "::ffff:8.8.8.8"])
def test_live_mode_does_not_mail_to_itself(ip: str) -> None:
    assert LiveReach(frozenset({"8.8.8.8"})).target(ip, 25) is None


def test_sink_mode_knows_the_map_alone() -> None:
    reach = SinkReach({"198.18.0.10:25": "127.0.0.1:40123", "[2001:db8::10]:25": "[::1]:40124"})
    assert reach.target("198.18.0.10", 25) == ("127.0.0.1", 40123)
    assert reach.target("2001:db8::10", 25) == ("::1", 40124)
    assert reach.target("8.8.8.8", 25) is None
    assert reach.target("127.0.0.1", 40123) is None
    assert reach.permits("127.0.0.1")
    assert not reach.permits("8.8.8.8")
