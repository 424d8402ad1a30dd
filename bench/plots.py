"""A chart as SVG text: one line for each series over evenly spaced places. Small enough not to need a library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from math import ceil, floor, log10

_WIDTH, _HEIGHT = 640, 360
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 24, 48, 64
_COLOURS = ("#1f5fa8", "#b5482a", "#2f7d4f", "#7a4fa0", "#8a6d1a", "#4a4a4a")
_STEPS = (1, 2, 2.5, 5, 10)
_TICKS = 5


def chart(title: str, places: Sequence[str], series: Mapping[str, Sequence[float]], *, x: str, y: str) -> str:
    """`places` are the labels along the x axis; each series has a value, 0 or more, for each of them."""
    ticks = _ticks(max((value for values in series.values() for value in values), default=0.0))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        f'font-size="12" fill="#222">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        _text(_WIDTH / 2, 24, title, size=15),
        _text(_WIDTH / 2, _HEIGHT - 12, x),
        _text(16, _HEIGHT / 2, y, turn=True),
    ]
    for tick in ticks:
        at = _down(tick, ticks[-1])
        parts.append(f'<path d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(_text(_LEFT - 8, at + 4, f"{tick:,.10g}", anchor="end"))
    parts += [_text(_across(number, len(places)), _HEIGHT - _BOTTOM + 20, place) for number, place in enumerate(places)]
    for number, (name, values) in enumerate(series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        points = [(_across(place, len(places)), _down(value, ticks[-1])) for place, value in enumerate(values)]
        line = " ".join(f"{across:.1f},{down:.1f}" for across, down in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3" fill="{colour}"/>' for across, down in points]
        if len(series) > 1:
            parts.append(_text(_WIDTH - _RIGHT, _TOP + 14 * number, name, anchor="end", colour=colour))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _ticks(most: float) -> list[float]:
    """Round values from 0 to at least `most`."""
    if most <= 0:
        return [0.0, 1.0]
    rough = most / _TICKS
    power = 10.0 ** floor(log10(rough))
    step = next(each * power for each in _STEPS if each * power >= rough * 0.999)
    return [round(step * number, 10) for number in range(ceil(round(most / step, 6)) + 1)]


def _across(place: int, places: int) -> float:
    room = _WIDTH - _LEFT - _RIGHT
    return _LEFT + room * (place + 0.5) / places


def _down(value: float, most: float) -> float:
    room = _HEIGHT - _TOP - _BOTTOM
    return _TOP + room * (1 - value / most)


def _text(
    across: float,
    down: float,
    text: str,
    *,
    anchor: str = "middle",
    size: int = 12,
    colour: str = "#222",
    turn: bool = False,
) -> str:
    turned = f' transform="rotate(-90 {across:g} {down:g})"' if turn else ""
    return (
        f'<text x="{across:g}" y="{down:g}" text-anchor="{anchor}" font-size="{size}" fill="{colour}"{turned}>'
        f"{escape(text)}</text>"
    )
