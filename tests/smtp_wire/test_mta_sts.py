"""MTA-STS: what records and files say, how long it holds, and files fetched over real HTTPS."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trustme
from aiohttp import web

from sinks.smtp.answers import Addresses, Answer, Failure, NoData, NoName, Texts
from sinks.smtp.mta_sts import MAX_BYTES, StsMode, StsPolicy, Unusable, parse, record_id
from sinks.smtp.reach import LiveReach, Reach, SinkReach
from sinks.smtp.sts_fetch import StsFetcher
from sinks.smtp.sts_policies import FetchError, StsPolicies, StsView

FILE = b"version: STSv1\r\nmode: enforce\r\nmx: mx.a.test\r\nmx: *.mail.a.test\r\nmax_age: 604800\r\n"
POLICY = StsPolicy("1", StsMode.ENFORCE, ("mx.a.test", "*.mail.a.test"), 604800.0)


@pytest.mark.parametrize(
    ("texts", "id"),
    [
        ((b"v=STSv1; id=20160831085700Z;",), "20160831085700Z"),
        ((b"v=STSv1;id=1",), "1"),
        ((b"v=STSv1 ; x=y; id = 7 ;",), "7"),
        ((b"v=spf1 -all", b"v=STSv1; id=1;"), "1"),
        ((b"v=STSv1; id=1;", b"v=STSv1; id=2;"), ""),
        ((b"v=STSv1; id=not-one;",), ""),
        ((b"v=STSv1; id=" + b"1" * 33,), ""),
        ((b"v=STSv10; id=1",), ""),
        ((b"v=STSv1;",), ""),
        ((), ""),
    ],
)
def test_the_record(texts: tuple[bytes, ...], id: str) -> None:
    assert record_id(texts) == id


@pytest.mark.parametrize(
    "content",
    [
        FILE,
        FILE.replace(b"\r\n", b"\n"),
        FILE.rstrip(),
        FILE + b"new: thing\r\nmode: none\r\n",
        FILE.replace(b"mx.a.test", b"MX.A.test.", 1),
        FILE.replace(b": ", b":"),
    ],
)
def test_a_policy_file(content: bytes) -> None:
    assert parse(content, "1") == POLICY


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "version"),
        (FILE.replace(b"STSv1", b"STSv2"), "version"),
        (FILE.replace(b"enforce", b"Enforce"), "mode"),
        (FILE.replace(b"max_age: 604800", b"max_age: soon"), "max_age"),
        (FILE.replace(b"max_age: 604800\r\n", b""), "max_age"),
        (FILE.replace(b"mx: mx.a.test\r\nmx: *.mail.a.test\r\n", b""), "names no mx"),
        (FILE.replace(b"*.mail", b"a.*"), "host name"),
        (FILE.replace(b"mx.a.test", b"mx a"), "host name"),
        (FILE + b"mx: x.test\n" * 101, "too many"),
        (FILE + b"nonsense\n", "colon"),
        (FILE + b"\xff: x\n", "UTF-8"),
        (FILE + b"x: y\n" * MAX_BYTES, "long"),
        (b"<html>: no</html>", "version"),
    ],
)
def test_a_file_that_is_none(content: bytes, why: str) -> None:
    with pytest.raises(Unusable, match=why):
        parse(content, "1")


def test_no_mx_is_needed_where_there_is_no_policy_any_more() -> None:
    assert parse(b"version: STSv1\nmode: none\nmax_age: 99999999999"[:-2], "2").mode is StsMode.NONE
    assert parse(b"version: STSv1\nmode: none\nmax_age: 999999999", "2").max_age == 31_557_600


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("mx.a.test", True),
        ("b.mail.a.test", True),
        ("mail.a.test", False),
        ("c.b.mail.a.test", False),
        ("xmx.a.test", False),
        ("mx.a.test.evil.test", False),
        ("*.mail.a.test", True),  # no such host can be looked up
    ],
)
def test_a_wildcard_is_one_label(host: str, named: bool) -> None:
    assert POLICY.names(host) is named


RECORD = Texts((b"v=STSv1; id=1;",), 60.0)


@dataclass
class Net:
    """A clock, a TXT record and a file, each as the test wants it; and what was asked."""

    now: float = 1000.0
    answer: Answer = RECORD
    file: bytes | FetchError = FILE
    asked: Counter[str] = field(default_factory=Counter)

    async def lookup(self, name: str, kind: str) -> Answer:
        self.asked[kind] += 1
        assert (name, kind) == ("_mta-sts.a.test", "TXT")
        await asyncio.sleep(0)
        return self.answer

    async def fetch(self, domain: str) -> bytes:
        self.asked["file"] += 1
        await asyncio.sleep(0)
        if isinstance(self.file, FetchError):
            raise self.file
        return self.file

    def policies(self) -> StsPolicies:
        return StsPolicies(self.lookup, self.fetch, lambda: self.now)


async def test_a_policy_is_fetched_once_and_looked_after() -> None:
    net = Net()
    policies = net.policies()
    assert policies.known("a.test") is None
    views = await asyncio.gather(*(policies.of("a.test") for _ in range(20)))
    assert set(views) == {StsView(POLICY)}
    assert policies.known("a.test") == StsView(POLICY)
    assert net.asked == {"TXT": 1, "file": 1}
    net.now += 61
    assert policies.known("a.test") is None
    assert await policies.of("a.test") == StsView(POLICY)
    assert net.asked == {"TXT": 2, "file": 1}, "the same id is the same policy"
    net.now += POLICY.max_age / 2
    await policies.of("a.test")
    assert net.asked["file"] == 2, "it is fetched anew well before it ends"


async def test_a_new_id_brings_the_new_file() -> None:
    net = Net()
    policies = net.policies()
    await policies.of("a.test")
    net.now, net.answer = net.now + 61, Texts((b"v=STSv1; id=2;",), 60.0)
    net.file = FILE.replace(b"enforce", b"none")
    view = await policies.of("a.test")
    assert (view.policy and view.policy.mode, view.enforced) == (StsMode.NONE, None)


@pytest.mark.parametrize("answer", [NoName(60.0), NoData(60.0), Failure("SERVFAIL"), Texts((b"x",), 60.0)])
async def test_what_is_kept_holds_though_its_record_is_hidden_but_not_beyond_its_age(answer: Answer) -> None:
    net = Net()
    policies = net.policies()
    await policies.of("a.test")
    net.answer = answer
    net.now += POLICY.max_age - 10
    assert (await policies.of("a.test")).enforced == POLICY
    net.now += 11
    assert await policies.of("a.test") == StsView()


async def test_a_file_that_does_not_come_is_no_policy_and_not_asked_for_at_once_again() -> None:
    net = Net(file=FetchError("status 500"))
    policies = net.policies()
    assert await policies.of("a.test") == StsView(None, "sts-policy-fetch-error")
    net.now += 61
    assert (await policies.of("a.test")).policy is None
    assert net.asked["file"] == 1
    net.now, net.file = net.now + 300, FILE
    assert await policies.of("a.test") == StsView(POLICY)


@pytest.mark.parametrize(
    ("file", "failure"),
    [
        (FetchError("x", untrusted=True), "sts-webpki-invalid"),
        (FetchError("x"), "sts-policy-fetch-error"),
        (b"junk", "sts-policy-invalid"),
    ],
)
async def test_a_new_file_that_is_no_good_leaves_the_old_one(file: bytes | FetchError, failure: str) -> None:
    net = Net()
    policies = net.policies()
    await policies.of("a.test")
    net.now, net.answer, net.file = net.now + 61, Texts((b"v=STSv1; id=2;",), 60.0), file
    assert await policies.of("a.test") == StsView(POLICY, failure)
    net.now += POLICY.max_age
    assert await policies.of("a.test") == StsView(None, failure)


# Over real HTTPS

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
AUTHORITY = trustme.CA()


@asynccontextmanager
async def host(
    handler: Handler, name: str = "mta-sts.a.test", authority: trustme.CA = AUTHORITY
) -> AsyncIterator[Reach]:
    """A policy host, reached in sink mode by its mapped address."""
    app = web.Application()
    app.router.add_get("/.well-known/mta-sts.txt", handler)
    app.router.add_get("/elsewhere", served(FILE))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        yield SinkReach({"198.18.0.80:443": f"127.0.0.1:{runner.addresses[0][1]}"})
    finally:
        await runner.cleanup()


def served(content: bytes, **answer: object) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        if "location" in answer:
            raise web.HTTPFound(str(answer["location"]))
        kind = str(answer.get("kind", "text/plain"))
        return web.Response(body=content, content_type=kind, status=int(str(answer.get("status", 200))))

    return handle


async def lookup(name: str, kind: str) -> Answer:
    assert name == "mta-sts.a.test"
    return Addresses(("198.18.0.80",)) if kind == "A" else NoData()


def fetcher(reach: Reach, timeout: float = 20.0) -> StsFetcher:
    roots = ssl.create_default_context()
    AUTHORITY.configure_trust(roots)
    return StsFetcher(lookup, reach, roots, timeout)


async def test_a_file_comes() -> None:
    async with host(served(FILE)) as reach:
        assert await fetcher(reach)("a.test") == FILE


@pytest.mark.parametrize(
    ("handler", "why"),
    [
        (served(FILE, location="/elsewhere"), "status 302"),
        (served(FILE, status=404), "status 404"),
        (served(FILE, status=203), "status 203"),
        (served(FILE, kind="text/html"), "text/plain"),
        (served(b"x" * (MAX_BYTES + 1)), "too long"),
    ],
)
async def test_anything_else_is_no_file(handler: Handler, why: str) -> None:
    async with host(handler) as reach:
        with pytest.raises(FetchError, match=why) as caught:
            await fetcher(reach)("a.test")
        assert not caught.value.untrusted


async def test_silence_ends() -> None:
    async def hang(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with host(hang) as reach:
        with pytest.raises(FetchError):
            await fetcher(reach, 0.3)("a.test")


@pytest.mark.parametrize(
    ("name", "authority"), [("a.test", AUTHORITY), ("mta-sts.b.test", AUTHORITY), ("mta-sts.a.test", trustme.CA())]
)
async def test_the_certificate_is_the_hosts(name: str, authority: trustme.CA) -> None:
    async with host(served(FILE), name, authority) as reach:
        with pytest.raises(FetchError) as caught:
            await fetcher(reach)("a.test")
        assert caught.value.untrusted


@dataclass(frozen=True)
class Misled(LiveReach):
    """The address was fine when it was chosen, and is not the one that is connected."""

    to: tuple[str, int] = ("", 0)

    def target(self, ip: str, port: int) -> tuple[str, int] | None:
        return self.to


async def test_private_addresses_are_not_asked() -> None:
    async def private(name: str, kind: str) -> Answer:
        return Addresses(("127.0.0.1", "10.0.0.1", "169.254.169.254")) if kind == "A" else Addresses(("::1",))

    with pytest.raises(FetchError):
        await StsFetcher(private, LiveReach())("a.test")


async def test_the_address_that_is_really_connected_is_looked_at() -> None:
    async with host(served(FILE)) as reach:
        mapped = reach.target("198.18.0.80", 443)
        assert mapped is not None
        with pytest.raises(FetchError):
            await fetcher(Misled(to=mapped))("a.test")
