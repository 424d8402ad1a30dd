"""The shaping file in a running worker: remembered by lane, read again when it changes; a bad one changes nothing."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from structlog.testing import capture_logs

from schemas.rules.shaping_file import load, merged
from sinks.smtp.policy import Limits
from sinks.smtp.session import Timeouts
from sinks.smtp.shapes import Manner, Shapes, site_of
from sinks.smtp.state import lane_name
from sinks.smtp.tls import TlsMode


def write(path: Path, text: str) -> None:
    draft = path.with_suffix(".draft")  # as an editor does: another file in its place
    draft.write_text(text)
    os.replace(draft, path)


def test_ceilings_of_a_lane() -> None:
    shapes = Shapes(load())
    assert shapes.limits("default/yahoo#0") == Limits(10, 20, 100.0, 60.0, 100 / 60)
    assert shapes.limits("default/yahoo#0") is shapes.limits("default/yahoo#0")
    assert shapes.limits("default/unheard.example#3") == Limits(10, 100, 100.0, 60.0, 100 / 60)
    assert site_of("default/mx-0123#2") == "mx-0123"
    assert not shapes.look()


def test_shards_of_a_site_share_what_it_is_allowed() -> None:
    google = '[provider.google]\nconnections = 11\nmessage_rate = "8/s"\nshards = 4\n'
    shapes = Shapes(merged(load(), google + "[site.tiny]\nconnections = 3\nshards = 4\n", "own"))
    whole = shapes.limits("default/google#0")
    parts = [shapes.dealt(f"default/google#{shard}", whole) for shard in range(4)]
    assert [part.connections for part in parts] == [3, 3, 3, 2]
    assert {part.messages_per_second for part in parts} == {2.0}
    assert shapes.at("tiny").shards == 1, "at most half of the connections"
    assert shapes.dealt("default/tiny#0", shapes.limits("default/tiny#0")).connections == 3
    assert {shapes.shard("google", str(uuid.uuid4())) for _ in range(200)} == {0, 1, 2, 3}


def test_a_lane_whose_name_was_cut_has_a_share_too() -> None:
    shapes = Shapes(merged(load(), "[default]\nconnections = 8\nshards = 4\n", "own"))
    lane = lane_name(f"default/{'a' * 60}.{'b' * 60}.test#3")
    assert "#" not in lane
    assert shapes.dealt(lane, shapes.limits(lane)).connections == 2


def test_how_a_site_is_spoken_to() -> None:
    text = "[default]\ntimeouts = { banner = 20 }\n[provider.gmx]\ntimeouts = { dot = 90 }\n"
    shapes = Shapes(merged(load(), text, "mine.toml"), timeouts=Timeouts(connect=3.0))
    assert shapes.manner("x.example") == Manner(TlsMode.OPPORTUNISTIC, Timeouts(connect=3.0, banner=20.0))
    assert shapes.manner("gmx") == Manner(TlsMode.REQUIRED, Timeouts(connect=3.0, banner=20.0, dot=90.0))
    assert Shapes(load()).manner("yahoo") == Manner()


def test_a_changed_file_holds_and_a_bad_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    write(path, "[default]\nconnections = 3\n")
    shapes = Shapes(load(path), path)
    assert not shapes.look()
    write(path, '[default]\nconnections = 4\n[provider.here]\nmx = [".mx.here.example"]\n')
    assert shapes.look()
    assert shapes.limits("default/x.example#0").connections == 4
    assert shapes.providers["here"] == (".mx.here.example",)
    write(path, "[default]\nconnections = 0\n")
    with capture_logs() as logs:
        assert not shapes.look()
        assert not shapes.look()  # it is said once
    assert [(each["event"], each["file"], each["line"]) for each in logs] == [("shaping_refused", str(path), 2)]
    path.unlink()
    with capture_logs() as logs:
        assert not shapes.look()
    assert logs[0]["reason"].startswith("cannot be read")
    assert shapes.limits("default/x.example#0").connections == 4
    write(path, "[default]\nconnections = 5\n")
    assert shapes.look()
    assert shapes.limits("default/x.example#0").connections == 5
