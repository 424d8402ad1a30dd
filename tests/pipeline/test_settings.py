"""The configuration: file and variables, and errors that say what, where and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import settings, wiring
from pipeline.settings import SettingsError
from sinks.smtp.routing import IpPolicy
from sinks.smtp.sources import Pool, Source


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MAILRIVER_CONFIG", "MAILRIVER_KAFKA", "MAILRIVER_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mailriver.toml"
    path.write_text(text)
    return path


def test_a_fresh_install_delivers_only_to_the_sink() -> None:
    assert settings.load().delivery.mode == "sink"


def test_the_file_in_the_current_folder_is_read(tmp_path: Path) -> None:
    written(tmp_path, '[delivery]\nmode = "live"\n')
    assert settings.load().delivery.mode == "live"


def test_a_variable_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, '[kafka]\nbootstrap = "a:1"\nprefix = "x."\n')
    monkeypatch.setenv("MAILRIVER_KAFKA__BOOTSTRAP", "b:2")
    loaded = settings.load(path)
    assert (loaded.kafka.bootstrap, loaded.kafka.prefix) == ("b:2", "x.")


def test_kafka_can_be_named_in_one_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILRIVER_KAFKA", "broker.internal:9092")
    assert settings.load().kafka.bootstrap == "broker.internal:9092"


def test_naming_kafka_in_one_variable_leaves_the_rest_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, '[kafka]\nprefix = "x."\n')
    monkeypatch.setenv("MAILRIVER_KAFKA", "broker.internal:9092")
    monkeypatch.setenv("MAILRIVER_KAFKA__TLS", "true")
    kafka = settings.load(path).kafka
    assert (kafka.bootstrap, kafka.prefix, kafka.tls) == ("broker.internal:9092", "x.", True)


def test_a_tenant_is_named_by_its_table(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        '[tenants.acme]\nsending_domains = ["acme.test"]\nreturn_path_domain = "b.acme.test"\ntracking_url = "https://t"\n',
    )
    assert settings.load(path).tenants["acme"].name == "acme"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[delivry]\nmode = "live"', "delivry is not a setting; did you mean delivery?"),
        ('[delivery]\nmod = "live"', "delivery.mod is not a setting; did you mean mode?"),
        ("[tenants.acme]\ntracking_ur = 1", "tenants.acme.tracking_ur is not a setting; did you mean tracking_url?"),
        ('[delivery]\nmode = "everyone"', "delivery.mode: Input should be 'sink' or 'live'"),
        ("[delivery", "not TOML"),
        ("[lanes]\ngeneration = 2\ndraining = [2]", "lanes.draining: Value error, older generations than 2, each once"),
        ('[inbound]\nlisten = "25"', "inbound.listen: "),
    ],
)
def test_errors_say_what_and_where(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SettingsError) as raised:
        settings.load(path)
    assert said in str(raised.value)
    assert str(path) in str(raised.value)


def test_a_misspelt_variable_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILRIVER_KAFK", "x:1")
    with pytest.raises(SettingsError, match="MAILRIVER_KAFK is not a setting; did you mean MAILRIVER_KAFKA"):
        settings.load()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml: cannot be read"):
        settings.load(tmp_path / "none.toml")


SOURCES = """
pools = {main = {sources = ["mta1", "mta2"], ip = "prefer_ipv6"}, default = {}}
[delivery]
ehlo_name = "mta.test"
[sources.mta1]
ipv4 = "192.0.2.1"
not_for = ["google"]
[sources.mta2]
ehlo_name = "mta2.test"
weight = 3
proxy = "[2001:db8::5]:1080"
"""


def test_sources_and_pools(tmp_path: Path) -> None:
    loaded = settings.load(written(tmp_path, SOURCES))
    mta1 = Source("mta.test", "mta1", "192.0.2.1", not_for=frozenset({"google"}))
    mta2 = Source("mta2.test", "mta2", weight=3, proxy=("2001:db8::5", 1080))
    assert wiring.pools(loaded) == {
        "main": Pool((mta1, mta2), IpPolicy.PREFER_IPV6),
        "default": Pool((Source("mta.test"),)),
    }


def test_a_list_of_pools_is_short_for_pools_without_sources(tmp_path: Path) -> None:
    loaded = settings.load(written(tmp_path, 'pools = ["a", "b"]\n'))
    assert set(loaded.pools) == {"a", "b"}
    assert set(settings.load(written(tmp_path, "")).pools) == {"default"}


TENANT = """
[tenants.default]
sending_domains = ["brand.example"]
return_path_domain = "bounces.brand.example"
tracking_url = "https://click.brand.example"
[tenants.default.streams.marketing]
pool = "bulk"
"""


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            '[pools.default]\nsources = ["mta1"]\n',
            r"toml: pools.default.sources names mta1, .*\[sources.mta1\]",
        ),
        (TENANT, "marketing names the pool bulk"),
        ('[sources.mta1]\nadress = "x"\n', "sources.mta1.adress is not a setting"),
        ('[sources.mta1]\nipv4 = "mta.example"\n', "sources.mta1.ipv4"),
        ('[sources.mta1]\nproxy = "proxy.example:1080"\n', "sources.mta1.proxy"),
        ("[sources.mta1]\nweight = 0\n", "sources.mta1.weight"),
        ('[pools.default]\nip = "v6"\n', "pools.default.ip.*prefer_ipv6"),
        ('[sources."a/b"]\n', "sources"),
    ],
)
def test_mistakes_in_sources_and_pools(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(SettingsError, match=error):
        settings.load(written(tmp_path, text))


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ('window = { hours = "08:00-20:00" }', "streams.marketing.window.zone: Field required"),
        ('window = { zone = "Europe/Berln" }', "window.zone: .*not a time zone"),
        ('window = { zone = "UTC", days = "mo-fr" }', "window.days: .*mon-fri"),
        ('window = { zone = "UTC", hour = "08:00-20:00" }', "window.hour is not a setting; did you mean hours?"),
        ('windows = { zone = "UTC" }', "marketing.windows is not a setting; did you mean window?"),
    ],
)
def test_mistakes_in_a_delivery_window(tmp_path: Path, line: str, error: str) -> None:
    with pytest.raises(SettingsError, match=error):
        settings.load(written(tmp_path, f"{TENANT}{line}\n"))


def test_a_name_that_no_server_would_take(tmp_path: Path) -> None:
    loaded = settings.load(written(tmp_path, '[sources.mta1]\nehlo_name = "a b"\n'))
    with pytest.raises(SettingsError, match=r"sources.mta1.ehlo_name"):
        wiring.pools(loaded)
