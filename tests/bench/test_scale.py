"""The scale tool: its arguments, its charts, its fixed mails. What it measures is nobody's to assert."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import accounting, inbound, plots, scale
from bench.throughput import Row
from schemas.links import RETURN_PATH
from schemas.tokens import Keyring, Kind

_SVG = "{http://www.w3.org/2000/svg}"


def _chart(values: list[float]) -> ElementTree.Element:
    places = [str(number) for number in range(len(values))]
    return ElementTree.fromstring(plots.chart("a < b & c", places, {"rate": values}, x="x", y="y"))


def _points(chart: ElementTree.Element) -> list[tuple[float, float]]:
    line = chart.find(f"{_SVG}polyline")
    assert line is not None
    return [(float(a), float(b)) for a, b in (point.split(",") for point in line.attrib["points"].split())]


@pytest.mark.parametrize("values", [[1.0, 2.0, 4.0], [0.0, 0.0], [0.001, 0.0005], [1e6, 999_999.0, 5.0], [820.0]])
def test_a_chart_shows_every_value_within_its_frame(values: list[float]) -> None:
    chart = _chart(values)
    points = _points(chart)
    assert len(points) == len(values)
    assert all(0 < x < 640 and 0 < y < 360 for x, y in points)


def test_a_chart_is_read_by_round_ticks() -> None:
    texts = [each.text for each in _chart([0.0, 823.0]).iter(f"{_SVG}text")]
    assert texts[0] == "a < b & c"
    assert {"0", "200", "400", "600", "800", "1,000"} <= set(texts)


def test_twice_as_much_is_twice_as_high() -> None:
    (_, none), (_, once), (_, twice) = _points(_chart([0.0, 50.0, 100.0]))
    assert none - twice == pytest.approx(2 * (none - once), abs=0.11)


def test_a_section_takes_its_own_values_and_the_options_of_all() -> None:
    options = scale.parse(["depth", "--depths", "0,100000", "--json", "f.json"])
    assert (options.section, options.values, options.json) == ("depth", (0, 100_000), Path("f.json"))
    before = scale.parse(["--quick", "--messages", "7", "idle"])
    assert (before.section, before.quick, before.messages) == ("idle", True, 7)
    assert scale.parse([]).section is None


def test_rows_are_kept_and_drawn_and_a_lost_message_fails_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(values: object, messages: int) -> Iterator[Row]:
        yield {"workers": 1, "messages_per_second": 500.0, "cpu_seconds_per_1000": 2.0, "delivered_once": 1.0}
        yield {"workers": 2, "messages_per_second": 700.0, "cpu_seconds_per_1000": 2.2, "delivered_once": 0.0}

    monkeypatch.setattr(scale, "SECTIONS", (replace(scale.SECTIONS[0], run=measured),))
    assert scale.main(["--json", str(tmp_path / "f.json"), "--plots", str(tmp_path / "plots")]) == 1
    assert [row["workers"] for row in json.loads((tmp_path / "f.json").read_text())["workers"]] == [1, 2]
    drawn = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert drawn == ["workers-cpu_seconds_per_1000.svg", "workers-messages_per_second.svg"]


def test_the_mails_of_inbound_are_what_they_claim_to_be() -> None:
    keyring = Keyring({"a": b"k" * 32}, "a")
    to, dsn = inbound.mail(keyring, 0)
    assert keyring.open_token(Kind.RETURN_PATH, to.partition("@")[0].removeprefix(RETURN_PATH))
    assert b"\n" not in dsn.replace(b"\r\n", b"")
    assert b"\r\n.\r\n" not in dsn
    assert b"report-type=delivery-status" in dsn
    assert b"Feedback-Type: abuse" in inbound.mail(keyring, 1)[1]


def test_what_we_write_to_disk_and_what_a_broker_keeps_is_counted(tmp_path: Path) -> None:
    for partition, size in ((0, 10), (1, 5)):
        folder = tmp_path / f"mail.lanes.main-{partition}"
        folder.mkdir()
        (folder / "00000000000000000000.log").write_bytes(bytes(size))
        (folder / "00000000000000000000.index").write_bytes(bytes(100))
    assert accounting.log_bytes(tmp_path) == {"mail.lanes.main": 15}
    assert accounting.written(os.getpid()) >= 0
    assert accounting.written(2**30) == 0
