"""What an internet file may say, and what is said about a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.simulator.addresses import endpoint
from pipeline.simulator.config import ConfigError, Oddity, load, parse
from tests.simulator.conftest import SMALL


def test_the_shipped_internet_has_what_the_manual_promises() -> None:
    internet = load()
    assert len(internet.provider) >= 8
    assert {odd.kind for odd in internet.domain} == set(Oddity)
    sample = internet.provider_of(internet.general.sample_domain)
    assert sample is not None
    assert not any(sample.odds.model_dump().values())
    assert not any(sample.limits.model_dump(include={"connections", "messages_per_second"}).values())


def test_the_shipped_internet_never_doubles_a_message_by_itself() -> None:
    # The demo fails on a doubled message; a lost reply after the dot is a test's business (drop+dot@).
    assert not any(provider.odds.drop_dot for provider in load().provider)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("connections = 1,", "connections = -1,", 'provider "narrow", limits.connections: Input should be greater'),
        ("connections = 1,", "conections = 1,", 'provider "narrow", limits.conections: no such key'),
        ('name = "narrow"\n', "", "provider number 2, name: is missing: add it"),
        ('["narrow.test"]', '["narrow.com"]', "must be a lower-case host name that ends in .test"),
        ('["narrow.test"]', '["example.test"]', "'example.test' is declared twice"),
        ('sample_domain = "example.test"', 'sample_domain = "else.test"', "is no provider's domain"),
        ("slow_seconds = 0.05", "odds = { unknown = 0.1 }", "must always accept, but provider 'plainhost' has odds"),
        ("slow_seconds = 0.05", "odds = { unknown = 0.6, full = 0.6 }", "together at most 1"),
        ("slow_seconds = 0.05", 'texts = { unknown = "550 4.1.1 No" }', "must begin with the code's first digit"),
        ("slow_seconds = 0.05", 'texts = { unknown = "250 fine" }', "a 4xx or 5xx code"),
        ("slow_seconds = 0.05", 'texts = { unknown = "550 a\\r\\n250 b" }', "a 4xx or 5xx code"),
        ("starttls = false", "starttls = false\nrequire_tls = true", "require_tls needs starttls = true"),
        ('kind = "null-mx"', 'kind = "null"', 'domain "nomail.test", kind: Input should be'),
        ('kind = "null-mx"', 'kind = "null-mx"\nprovider = "narrow"', "belongs to an implicit-mx domain"),
        ('provider = "plainhost"', 'provider = "nobody"', "which is not declared"),
        ("[general]", "[general", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_told_what_where_and_what_to_do(old: str, new: str, complaint: str) -> None:
    assert old in SMALL
    with pytest.raises(ConfigError) as caught:
        parse(SMALL.replace(old, new, 1), "small.toml")
    message = str(caught.value)
    assert message.startswith("small.toml: ")
    assert complaint in message
    assert "Correct" in message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.toml: cannot be read"):
        load(tmp_path / "nothing.toml")


@pytest.mark.parametrize(
    "value", ["192.0.2.1:25", "0.0.0.0:25", "[2001:db8::1]:25", "brand.test:25", "127.0.0.1", ":25"]
)
def test_an_endpoint_elsewhere_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="--inbound"):
        endpoint("--inbound", value)


@pytest.mark.parametrize(
    ("value", "read"),
    [("127.0.0.1:25", "127.0.0.1:25"), ("localhost:25", "127.0.0.1:25"), ("[::1]:25", "[::1]:25")],
)
def test_an_endpoint_here(value: str, read: str) -> None:
    assert str(endpoint("--inbound", value)) == read
