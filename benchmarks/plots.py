"""Plots of ratios: a line for each curve, the places on the x axis in the order of the rows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.measure import Plot, Row
from frontpage.svg import line, picture, text

__all__ = ["plotted"]

_WIDTH, _HEIGHT = 760, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 490, 56, 340
_COLOURS = ("accent", "old", "new", "ink", "soft")
# Labels of curves closer than that cannot be read.
_APART = 18
_STEPS = (1, 2, 5)


class _Scale:
    """Ratios on a logarithmic axis: twice as much is as far everywhere."""

    def __init__(self, ratios: Sequence[float]) -> None:
        self._low = math.log10(min(0.8, *ratios))
        self._high = math.log10(max(2.5, *ratios) * 1.1)

    def y(self, ratio: float) -> float:
        share = (math.log10(ratio) - self._low) / (self._high - self._low)
        return _BOTTOM - share * (_BOTTOM - _TOP)

    def ticks(self) -> list[float]:
        """Round numbers along the axis, not too many of them."""
        decades = range(math.floor(self._low), math.ceil(self._high) + 1)
        steps = _STEPS if self._high - self._low < 3 else (1,)
        all_ticks = [step * 10.0**decade for decade in decades for step in steps]
        return [tick for tick in all_ticks if self._low <= math.log10(tick) <= self._high]


def plotted(plot: Plot, rows: Sequence[Row]) -> str:
    """The rows that belong to a curve, as SVG; the others are left out.

    :raises ValueError: none does.
    """
    there = [row for row in rows if row.curve is not None]
    if not there:
        raise ValueError(f"nothing to plot: {plot.title}")
    scale = _Scale([row.ratio for row in there])
    places = {at: number for number, at in enumerate(dict.fromkeys(row.at for row in there))}
    step = (_RIGHT - _LEFT - 40) / max(1, len(places) - 1)
    x_of = {at: _LEFT + 20 + number * step for at, number in places.items()}
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in there:
        curves.setdefault(str(row.curve), []).append((x_of[row.at], scale.y(row.ratio)))
    said = "; ".join(f"{row.curve}, {row.at}: {row.ratio:.2f}" for row in there)
    parts = [*_axes(plot, scale, x_of), *_curves(curves)]
    return picture(_WIDTH, _HEIGHT, f"{plot.title}. {said}", parts)


def _axes(plot: Plot, scale: _Scale, x_of: Mapping[str, float]) -> Iterator[str]:
    yield text(_LEFT - 40, 30, plot.title, "bold ink")
    for tick in scale.ticks():
        y = scale.y(tick)
        yield line([(_LEFT, y), (_RIGHT, y)], "soft" if tick == 1 else "edge", width=1)
        yield text(_LEFT - 8, y + 5, f"{tick:g}", "soft", anchor="end")
    for at, x in x_of.items():
        yield text(x, _BOTTOM + 22, at, "soft", anchor="middle")
    yield text((_LEFT + _RIGHT) / 2, _BOTTOM + 44, plot.across, "soft", anchor="middle")


def _curves(curves: Mapping[str, Sequence[tuple[float, float]]]) -> Iterator[str]:
    colours = {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(curves)}
    for name, points in curves.items():
        yield line(points, colours[name], width=2)
        for x, y in points:
            yield f'<circle cx="{x:g}" cy="{y:.1f}" r="3.5" class="{colours[name]}"/>'
    free = -math.inf
    for name, points in sorted(curves.items(), key=lambda one: one[1][-1][1]):
        free = max(points[-1][1] + 5, free + _APART)
        yield text(_RIGHT + 8, free, name, colours[name])
