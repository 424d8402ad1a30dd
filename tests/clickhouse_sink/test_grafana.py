"""The dashboards: checked-in files are new, and every panel's SQL gives rows of the types that its kind shows."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pytest
import yaml

from schemas import messages
from schemas.attempts import AttemptDelivered
from sinks.grafana.builder import Dashboard, Kind, Panel
from sinks.grafana.dashboards import CAMPAIGN, FILES, FOLDER, OVERVIEW, write
from sinks.grafana.macros import Asked, UnknownMacro, expand
from tests.clickhouse_sink.conftest import Database
from tests.clickhouse_sink.history import Story, numbered

NOW = datetime.now(UTC).replace(microsecond=0)
ASKED = Asked(NOW - timedelta(hours=6), NOW, 60, {"tenant": ["default"], "campaign": ["spring", "o'neill"]})
PANELS = [(board, panel) for board in (OVERVIEW, CAMPAIGN) for panel in board.panels]
PROVISIONING = FOLDER.parent / "provisioning"
ROOT = FOLDER.parent.parent.parent


def test_the_files_are_what_the_builder_makes(tmp_path: Path) -> None:
    """When this fails: python -m sinks.grafana.dashboards"""
    write(tmp_path)
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(FILES)
    for name in FILES:
        assert (FOLDER / name).read_text(encoding="utf-8") == (tmp_path / name).read_text(encoding="utf-8"), name


def test_panels_do_not_overlap_and_fit() -> None:
    for board in (OVERVIEW, CAMPAIGN):
        taken: set[tuple[int, int]] = set()
        for panel in orjson.loads(board.text())["panels"]:
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert at["x"] + at["w"] <= 24
            assert not taken & cells, panel["title"]
            taken |= cells


def test_the_data_source_is_the_one_that_the_panels_name() -> None:
    given = yaml.safe_load((PROVISIONING / "datasources" / "clickhouse.yaml").read_text(encoding="utf-8"))
    source = given["datasources"][0]
    for board in (OVERVIEW, CAMPAIGN):
        for panel in orjson.loads(board.text())["panels"]:
            assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
    compose = (ROOT / "docker-compose.kafka.yml").read_text(encoding="utf-8")
    assert source["type"] in compose, "the plugin that Grafana installs"
    for variable in (source["jsonData"]["username"], source["secureJsonData"]["password"]):
        assert f"{variable.removeprefix('$')}:" in compose


def test_grafana_finds_the_dashboards() -> None:
    given = yaml.safe_load((PROVISIONING / "dashboards" / "mailriver.yaml").read_text(encoding="utf-8"))
    path = given["providers"][0]["options"]["path"]
    assert f"./sinks/grafana/dashboards:{path}:ro" in (ROOT / "docker-compose.kafka.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("sql", "expanded"),
    [
        ("$__timeFilter(a_b)", "a_b >= toDateTime(1000) AND a_b <= toDateTime(2000)"),
        ("$__timeInterval(at) AS t", "toStartOfInterval(toDateTime(at), INTERVAL 60 second) AS t"),
        ("n / $__interval_s", "n / 60"),
        ("x IN (${campaign:sqlstring})", "x IN ('spring','o''neill','$__timeFilter(x)')"),
        ("SELECT '$5'", "SELECT '$5'"),
    ],
)
def test_macros_become_sql(sql: str, expanded: str) -> None:
    since, until = (datetime.fromtimestamp(second, UTC) for second in (1000, 2000))
    assert expand(sql, Asked(since, until, 60, {"campaign": ["spring", "o'neill", "$__timeFilter(x)"]})) == expanded


@pytest.mark.parametrize("sql", ["$__nothing(a)", "$__timeFilter", "${other:sqlstring}", "$campaign", "${campaign}"])
def test_what_is_not_known_is_not_let_through(sql: str) -> None:
    with pytest.raises(UnknownMacro):
        expand(sql, ASKED)


@pytest.fixture(scope="module")
def filled(database: Database) -> Database:
    """A campaign of the last hours with all that panels show; one ledger error, one overdue message, one breach."""
    story = Story(NOW - timedelta(hours=2)).campaign(400)
    old = Story(NOW - timedelta(days=4), seed=2)
    old.message("in_flight")
    twice = story.message("delivered")
    twice.end(messages.MessageUnknown)
    breached = story.message("in_flight")
    breached.suppress(breached.at + timedelta(minutes=1))
    breached.at += timedelta(minutes=2)
    breached.attempt(AttemptDelivered, reply_code=250)
    database.insert(numbered([*story.events, *old.events]))
    return database


@pytest.mark.stack
@pytest.mark.parametrize(("board", "panel"), PANELS, ids=lambda one: getattr(one, "title", ""))
def test_a_panel_gets_rows_of_the_types_it_needs(filled: Database, board: Dashboard, panel: Panel) -> None:
    reader = filled.server.reader_client(filled.name)
    result = reader.query(expand(panel.sql, ASKED))
    reader.close()
    types = [re.sub(r"^(LowCardinality|Nullable)\((.*)\)$", r"\2", kind.name) for kind in result.column_types]
    rows = result.result_rows
    assert rows, "no rows"
    number = re.compile(r"U?Int\d+|Float\d+")
    match panel.kind:
        case Kind.SERIES:
            assert types[0].startswith("DateTime")
            assert result.column_names[0] == "time"
            texts = [kind for kind in types[1:] if kind == "String"]
            assert len(texts) <= 1, "one text names the series"
            assert all(number.fullmatch(kind) for kind in types[1:] if kind != "String")
            times = [row[0] for row in rows]
            assert times == sorted(times), "Grafana wants series in order of time"
        case Kind.BARS:
            assert types[0] == "String"
            assert all(number.fullmatch(kind) for kind in types[1:])
        case Kind.STAT | Kind.FUNNEL:
            assert len(rows) == 1
            assert all(number.fullmatch(kind) for kind in types)
        case Kind.TABLE:
            assert number.fullmatch(types[-1]) or types[-1] == "String"


@pytest.mark.stack
@pytest.mark.parametrize("title", ["Ledger difference", "Overdue", "Sent in spite of a suppression"])
def test_a_broken_promise_turns_its_panel_red(filled: Database, title: str) -> None:
    panel = next(one for one in OVERVIEW.panels if one.title == title)
    assert panel.threshold is not None
    found = filled.rows(expand(panel.sql, ASKED))
    assert float(str(found[0][0])) >= panel.threshold.value


@pytest.mark.stack
def test_the_choices_are_offered(filled: Database) -> None:
    offered = {one.name: filled.rows(expand(one.sql, ASKED)) for one in CAMPAIGN.variables}
    assert offered == {"tenant": [("default",)], "campaign": [("spring",)]}
