"""The configuration: file and variables, and errors that say what, where and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import settings, wiring
from pipeline.settings import SettingsError
from sinks.smtp.relays import Login, Relay
from sinks.smtp.routing import IpPolicy
from sinks.smtp.sources import Pool, Source
from sinks.smtp.tls import TlsMode


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


ROUTES = """
pools = ["default", "bulk"]
[routes.partner]
host = "Mail.Partner.Example"
domains = ["partner.example", "Bücher.example"]
tls = "none"
[routes.bulk]
host = "[::1]"
port = 587
pools = ["bulk"]
username = "river"
password_file = "FILE"
"""


def password_file(tmp_path: Path, content: bytes = b"s3cret\n", mode: int = 0o600) -> Path:
    path = tmp_path / "relay-password"
    path.write_bytes(content)
    path.chmod(mode)
    return path


def test_routes(tmp_path: Path) -> None:
    loaded = settings.load(written(tmp_path, ROUTES.replace("FILE", str(password_file(tmp_path)))))
    relays = wiring.relays(loaded)
    domains = frozenset({"partner.example", "xn--bcher-kva.example"})
    partner = Relay("partner", "mail.partner.example", 25, TlsMode.NONE, domains=domains)
    assert relays.of("xn--bcher-kva.example", "bulk") == partner
    login = Login("river", "s3cret")
    assert relays.of("a.test", "bulk") == Relay("bulk", "::1", 587, TlsMode.VERIFIED, login, pools=frozenset({"bulk"}))
    assert relays.of("a.test", "default") is None
    assert not wiring.relays(settings.load(written(tmp_path, "")))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[routes.x]\nport = 25\n", "routes.x.host: Field required"),
        ('[routes.x]\nhost = "a b"\n', "routes.x.host: "),
        ('[routes.x]\nhost = "relay"\n', "routes.x.host: .*fully qualified"),
        ('[routes.x]\nhost = "relay.example:587"\n', "routes.x.host: "),
        ('[routes.x]\nhost = "a.example"\nport = 0\n', "routes.x.port"),
        ('[routes.x]\nhost = "a.example"\ndomain = ["b.example"]\n', "routes.x.domain is not a .*mean domains"),
        ('[routes.x]\nhost = "a.example"\ndomains = ["*.b.example"]\n', "routes.x.domains.0"),
        ('[routes.x]\nhost = "a.example"\npools = ["bulk"]\n', "toml: routes.x.pools names bulk, .*no such pool"),
        ('[routes.x]\nhost = "a.example"\ntls = "starttls"\n', "routes.x.tls: .*'verified'"),
        ('[routes.x]\nhost = "a.example"\nusername = "u"\n', "routes.x: .*password_file belong together"),
        ('[routes.x]\nhost = "a.example"\npassword_file = "/p"\n', "routes.x: .*belong together"),
        (
            '[routes.x]\nhost = "a.example"\nusername = "u"\npassword_file = "/p"\ntls = "required"\n',
            'routes.x: .*verified host alone: tls = "verified", not "required"',
        ),
    ],
)
def test_mistakes_in_routes(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(SettingsError, match=error):
        settings.load(written(tmp_path, text))


def test_two_routes_for_the_same_mail(tmp_path: Path) -> None:
    loaded = settings.load(written(tmp_path, '[routes.x]\nhost = "a.example"\n[routes.y]\nhost = "b.example"\n'))
    with pytest.raises(SettingsError, match="routes: x and y are both for mail to all domains of all pools"):
        wiring.relays(loaded)


@pytest.mark.parametrize(
    ("content", "mode", "error"),
    [
        (b"s3cret", 0o640, "others may read"),
        (b"s3cret", 0o604, "others may read"),
        (b"", 0o600, "one line"),
        (b"s3cret\nmore\n", 0o600, "one line"),
        (b"s3cret\0", 0o600, "one line"),
        (b"s3cret\xff", 0o600, "UTF-8"),
    ],
)
def test_a_password_file_that_cannot_be_used(tmp_path: Path, content: bytes, mode: int, error: str) -> None:
    path = password_file(tmp_path, content, mode)
    loaded = settings.load(written(tmp_path, ROUTES.replace("FILE", str(path))))
    with pytest.raises(SettingsError, match=f"routes.bulk.password_file: {path}: .*{error}") as raised:
        wiring.relays(loaded)
    assert "s3cret" not in str(raised.value)


def test_a_password_file_that_is_not_there(tmp_path: Path) -> None:
    loaded = settings.load(written(tmp_path, ROUTES.replace("FILE", str(tmp_path / "none"))))
    with pytest.raises(SettingsError, match=r"routes.bulk.password_file: .*none: No such file"):
        wiring.relays(loaded)
