"""Panels and dashboards as typed values, and the JSON that Grafana reads of them.

Decides layout and what all panels have in common; what they ask and how they look is in dashboards.py. Panels are put
in rows of 24 columns, in the order given.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

PLUGIN: Final = "grafana-clickhouse-datasource"
SOURCE: Final = {"type": PLUGIN, "uid": "mailriver"}  # as provisioned
_COLUMNS: Final = 24
# The plugin's numbers for what a query returns.
_SERIES: Final = 0
_TABLE: Final = 1


class Kind(Enum):
    """Grafana's name of a panel."""

    SERIES = "timeseries"
    BARS = "barchart"
    STAT = "stat"
    TABLE = "table"
    FUNNEL = "bargauge"


@dataclass(frozen=True, slots=True)
class Threshold:
    """From `value` on, `colour`; below it, green."""

    value: float
    colour: str = "red"


@dataclass(frozen=True, slots=True)
class Panel:
    """`sql` may use the plugin's macros and the dashboard's variables.

    For a series: a column `time`, then numbers, or one text (the name of the series) and one number. For the others:
    rows as they are; each field of the one row of a stat or funnel is a figure of its own.
    """

    title: str
    kind: Kind
    sql: str
    width: int = 12
    height: int = 8
    unit: str = "short"  # Grafana's id of a unit
    description: str = ""
    stacked: bool = False
    threshold: Threshold | None = None
    colours: dict[str, str] = field(default_factory=dict)  # of series by name


@dataclass(frozen=True, slots=True)
class Variable:
    """A choice above the dashboard, offered from the first column of `sql`."""

    name: str
    label: str
    sql: str
    several: bool = False


@dataclass(frozen=True, slots=True)
class Dashboard:
    uid: str
    title: str
    panels: Sequence[Panel]
    variables: Sequence[Variable] = ()
    since: str = "now-6h"
    refresh: str = "1m"

    def text(self) -> str:
        """The file's content."""
        return json.dumps(self._json(), indent=2, ensure_ascii=False) + "\n"

    def _json(self) -> dict[str, Any]:
        places = _places(self.panels)
        return {
            "uid": self.uid,
            "title": self.title,
            "tags": ["mailriver"],
            "schemaVersion": 39,
            "version": 1,
            "editable": False,
            "graphTooltip": 1,  # one crosshair for all
            "timezone": "",
            "time": {"from": self.since, "to": "now"},
            "refresh": self.refresh,
            "templating": {"list": [_variable(variable) for variable in self.variables]},
            "annotations": {"list": []},
            "panels": [
                _panel(number, panel, place)
                for number, (panel, place) in enumerate(zip(self.panels, places, strict=True), 1)
            ],
        }


def _places(panels: Sequence[Panel]) -> Iterator[dict[str, int]]:
    x = y = tallest = 0
    for panel in panels:
        if x + panel.width > _COLUMNS:
            x, y, tallest = 0, y + tallest, 0
        yield {"x": x, "y": y, "w": panel.width, "h": panel.height}
        x, tallest = x + panel.width, max(tallest, panel.height)


def _variable(variable: Variable) -> dict[str, Any]:
    return {
        "name": variable.name,
        "label": variable.label,
        "type": "query",
        "datasource": SOURCE,
        "query": variable.sql,
        "refresh": 2,  # whenever the time range changes
        "multi": variable.several,
        "includeAll": variable.several,
        "sort": 0,  # as the query has it
    }


def _panel(number: int, panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    series = panel.kind is Kind.SERIES
    return {
        "id": number,
        "title": panel.title,
        "description": panel.description,
        "type": panel.kind.value,
        "datasource": SOURCE,
        "gridPos": place,
        "targets": [
            {
                "refId": "A",
                "datasource": SOURCE,
                "editorType": "sql",
                "queryType": "timeseries" if series else "table",
                "format": _SERIES if series else _TABLE,
                "rawSql": panel.sql,
            }
        ],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": [_colour(*pair) for pair in panel.colours.items()]},
        "options": _options(panel),
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.threshold is not None:
        steps.append({"color": panel.threshold.colour, "value": panel.threshold.value})
    defaults: dict[str, Any] = {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.kind is Kind.SERIES:
        defaults["custom"] = {
            "drawStyle": "bars" if panel.stacked else "line",
            "fillOpacity": 80 if panel.stacked else 10,
            "lineWidth": 1,
            "showPoints": "never",
            "spanNulls": not panel.stacked,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        }
    return defaults


def _options(panel: Panel) -> dict[str, Any]:
    match panel.kind:
        case Kind.SERIES:
            return {
                "legend": {"displayMode": "list", "placement": "bottom"},
                "tooltip": {"mode": "multi", "sort": "desc"},
            }
        case Kind.STAT:
            return {"reduceOptions": {"calcs": ["lastNotNull"], "values": False}, "colorMode": "background"}
        case Kind.FUNNEL:
            reduce = {"calcs": ["lastNotNull"], "values": False}
            return {"reduceOptions": reduce, "orientation": "horizontal", "displayMode": "basic"}
        case Kind.BARS:
            return {"orientation": "horizontal", "legend": {"showLegend": False}}
        case Kind.TABLE:
            return {"showHeader": True, "cellHeight": "sm"}


def _colour(name: str, colour: str) -> dict[str, Any]:
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
    }
