"""The page and its JSON: what they show, and that hostile mail stays harmless in them."""

from __future__ import annotations

import aiohttp
import pytest

from tests.simulator.conftest import NEWSLETTER, World
from tests.simulator.test_dns import ask
from tests.simulator.test_smtp import send

HOSTILE = (
    b"From: <script>alert('from')</script>@brand.test\r\nSubject: <script>alert('subject')</script>\r\n"
    b'X-Evil: "><img src=x onerror=alert(1)>\r\nMessage-ID: <a@b.test>\r\nX-Mailriver-ID: ../../etc\r\n'
    b"Content-Type: text/html\r\n\r\n<script>parent.alert('body')</script><form action='/api/dns'></form>\r\n"
    b"<a href=\"https://t.test/'><script>alert('link')</script>\">x</a>\r\n"
)


async def get(world: World, path: str, **headers: str) -> tuple[int, str, dict[str, str]]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(world.simulator.endpoints["http"] + path, headers=headers) as answer,
    ):
        return answer.status, await answer.text(), {k.lower(): v for k, v in answer.headers.items()}


async def test_messages_are_listed_found_and_shown(world: World) -> None:
    assert "No message has arrived yet." in (await get(world, "/"))[1]
    await send(world, "mx.plainhost.test", "ann@example.test")
    await send(world, "mx.plainhost.test", "bob@example.test")
    _, page, _ = await get(world, "/")
    assert page.index("bob@example.test") < page.index("ann@example.test")
    _, page, _ = await get(world, "/?search=ANN@")
    assert "ann@example.test" in page
    assert "bob@example.test" not in page
    _, page, _ = await get(world, "/messages/1")
    assert "ann@example.test" in page
    assert "List-Unsubscribe-Post" in page
    assert (await get(world, "/api/messages/1/raw"))[1].encode() == NEWSLETTER


async def test_json_for_programs(world: World) -> None:
    for name in ("ann", "bob", "cy"):
        await send(world, "mx.plainhost.test", f"{name}@example.test")
    async with aiohttp.ClientSession(world.simulator.endpoints["http"]) as session:
        async with session.get("/api/messages?limit=2") as answer:
            data = await answer.json()
        assert [message["seq"] for message in data["messages"]] == [3, 2]
        assert data["total"] == 3
        async with session.get("/api/messages?before=2") as answer:
            assert [message["seq"] for message in (await answer.json())["messages"]] == [1]
        async with session.get("/api/messages/id-1") as answer:
            assert (await answer.json())["seq"] == 3  # the newest of that id
        async with session.get("/api/counts") as answer:
            counts = await answer.json()
        assert (counts["messages"], counts["providers"]) == (3, {"plainhost": 3})
        for path in ("/api/messages/99", "/messages/99", "/messages/99/html", "/nothing"):
            async with session.get(path) as answer:
                assert answer.status == 404


async def test_hostile_mail_is_only_text(world: World) -> None:
    await send(world, "mx.plainhost.test", "ann@example.test", body=HOSTILE)
    for path in ("/", "/messages/1", "/?search=%22%3E%3Cscript%3Ealert"):
        _, page, headers = await get(world, path)
        assert "<script" not in page
        assert "<img" not in page
        assert headers["content-security-policy"].startswith("default-src 'none'; style-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"
    assert "&lt;script&gt;alert(&#x27;subject&#x27;)" in (await get(world, "/messages/1"))[1]
    assert '<iframe sandbox title="HTML part"' in (await get(world, "/messages/1"))[1]


async def test_the_html_part_may_do_nothing(world: World) -> None:
    await send(world, "mx.plainhost.test", "ann@example.test", body=HOSTILE)
    _, page, headers = await get(world, "/messages/1/html")
    assert "<script>" in page  # as it came; the policy is what keeps it still
    policy = headers["content-security-policy"].split("; ")
    assert {"sandbox", "default-src 'none'", "form-action 'none'"} <= set(policy)
    _, _, headers = await get(world, "/api/messages/1/raw")
    assert headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("host", ["evil.test", "evil.test:80", "127.0.0.1.evil.test", ""])
async def test_another_host_name_is_refused(world: World, host: str) -> None:
    status, _, _ = await get(world, "/api/counts", Host=host)
    assert status in (400, 403)


async def test_records_are_published_over_http(world: World) -> None:
    async with aiohttp.ClientSession(world.simulator.endpoints["http"]) as session:
        record = {"name": "_dmarc.brand.test", "values": ["v=DMARC1; p=none"]}
        async with session.post("/api/dns", json=record) as answer:
            assert answer.status == 200
        mistakes: list[object] = [
            {"name": "x.example.com", "values": ["x"]},
            {"name": "x.test"},
            {"name": 1, "values": []},
            [],
        ]
        for wrong in mistakes:
            async with session.post("/api/dns", json=wrong) as answer:
                assert answer.status == 400
        async with session.post("/api/dns", data={"name": "x.test"}) as answer:
            assert answer.status == 415  # what a form on another site could send
    assert await ask(world, "_dmarc.brand.test", "TXT") == ['"v=DMARC1; p=none"']
