"""What comes back: bounces, complaints, opens, clicks and unsubscribes, arriving at a tiny sender's side."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from pipeline.simulator.config import Internet, People, parse
from tests.simulator.conftest import NEWSLETTER, SMALL, World
from tests.simulator.test_smtp import send
from tests.waiting import until_async


async def deeds(world: World, number: int) -> list[tuple[str, str]]:
    """All deeds, once `number` are done and none is ahead."""
    await until_async(lambda: len(world.deeds) >= number and not world.simulator.actor.pending, what=f"{number} deeds")
    return [(deed["kind"], deed["result"]) for deed in world.deeds]


async def test_a_late_bounce_comes_to_the_return_path_with_a_null_sender(world: World) -> None:
    await send(world, "mx.plainhost.test", "late+5.2.2@example.test", sender="b+tok@brand.test")
    await deeds(world, 1)
    ((mail_from, to, report),) = world.sender.mails
    assert (mail_from, to) == ("", "b+tok@brand.test")
    assert report.get_content_type() == "multipart/report"
    assert "5.2.2" in report.as_string()


async def test_no_bounce_about_a_bounce(world: World) -> None:
    await send(world, "mx.plainhost.test", "late@example.test", sender="")
    assert await deeds(world, 1) == [("dsn", "no return path")]
    assert world.sender.mails == []


async def test_a_bounce_waits_for_an_inbound_host_that_says_not_now(world: World) -> None:
    world.sender.refusals = ["451 4.3.0 later", "421 4.3.0 later"]
    await send(world, "mx.plainhost.test", "late@example.test")
    ((kind, result),) = await deeds(world, 1)
    assert (kind, result[:8]) == ("dsn", "accepted")
    assert world.deeds[0]["tries"] == 3
    assert len(world.sender.mails) == 1


async def test_a_bounce_that_is_refused_is_not_tried_again(world: World) -> None:
    world.sender.refusals = ["554 5.7.1 no"]
    await send(world, "mx.plainhost.test", "late@example.test")
    ((_, result),) = await deeds(world, 1)
    assert result.startswith("refused: 554")
    assert world.sender.mails == []


async def test_complaints_come_where_the_provider_sends_them(worlds: Callable[[Internet], Awaitable[World]]) -> None:
    world = await worlds(parse(SMALL.replace("size = 2048", "size = 8192"), "small"))
    await send(world, "mx.plainhost.test", "complaint@example.test", sender="b+1@brand.test")
    await send(world, "mx.narrow.test", "complaint@narrow.test", sender="b+2@brand.test")
    await deeds(world, 2)
    found = {to: report.as_string() for _, to, report in world.sender.mails}
    assert set(found) == {"b+1@brand.test", "abuse@brand.test"}
    assert "complaint@example.test" in found["b+1@brand.test"]
    assert "Original-Mail-From: <b+2@brand.test>" in found["abuse@brand.test"]
    assert "Original-Rcpt-To" not in found["abuse@brand.test"]


async def test_an_open_loads_the_images_and_follows_no_redirect(world: World) -> None:
    await send(world, "mx.plainhost.test", "open@example.test")
    assert await deeds(world, 1) == [("open", "HTTP 302")]
    ((method, host, path, agent, _),) = world.sender.visits
    assert (method, host, path) == ("GET", "track.brand.test", "/o/pixel.gif")
    assert "GoogleImageProxy" not in agent


async def test_a_click_follows_one_link_exactly_as_written(world: World) -> None:
    await send(world, "mx.plainhost.test", "click@example.test")
    # Their order is the plan's; a hundred times faster, on a busy machine, they may overtake each other.
    assert {kind for kind, _ in await deeds(world, 2)} == {"open", "click"}
    paths = {path for _, _, path, _, _ in world.sender.visits}
    assert len(paths) == 2
    assert paths - {"/c/1/abc%2Fdef?n=1&m=2", "/c/2/abc"} == {"/o/pixel.gif"}


async def test_unsubscribing_is_one_post(world: World) -> None:
    await send(world, "mx.plainhost.test", "unsubscribe@example.test")
    await deeds(world, 1)
    ((method, host, path, _, body),) = world.sender.visits
    assert (method, host, path) == ("POST", "track.brand.test", "/u/tok%2Fen?x=1")
    assert body == "List-Unsubscribe=One-Click"


async def test_without_the_header_nothing_is_posted(world: World) -> None:
    body = NEWSLETTER.replace(b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n", b"")
    await send(world, "mx.plainhost.test", "unsubscribe@example.test", body=body)
    assert await deeds(world, 1) == [("unsubscribe", "no one-click header")]
    assert world.sender.visits == []


async def test_machines_ask_before_and_more_than_people(worlds: Callable[[Internet], Awaitable[World]]) -> None:
    internet = parse(SMALL, "small")
    machines = internet.provider[0].model_copy(update={"people": People(prefetch=1.0, scans=1.0)})
    world = await worlds(internet.model_copy(update={"provider": (machines, *internet.provider[1:])}))
    await send(world, "mx.plainhost.test", "ann@example.test")
    await deeds(world, 2)
    asked = sorted((method, path) for method, _, path, _, _ in world.sender.visits)
    assert asked == [
        ("GET", "/c/1/abc%2Fdef?n=1&m=2"),
        ("GET", "/c/2/abc"),
        ("GET", "/o/pixel.gif"),
        ("HEAD", "/c/1/abc%2Fdef?n=1&m=2"),
        ("HEAD", "/c/2/abc"),
    ]
