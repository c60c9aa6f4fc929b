"""Where the lines and bars of a report's charts are. Knows no database and no HTML."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

__all__ = ["Bar", "Curve", "Point", "Span", "bar_of", "burn_down", "compact", "span_of"]

# When, and how many documents were left; `None` where that is not known.
Point = tuple[datetime, int | None]

# The steps at which an axis may end, in powers of ten.
_STEPS: Final = (1, 1.5, 2, 3, 4, 5, 6, 8, 10)

_UNITS: Final = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


@dataclass(frozen=True, slots=True)
class Span:
    """The time from `begin` to `end`; both may be the same."""

    begin: datetime
    end: datetime

    def share(self, moment: datetime) -> float:
        """How much of the span is over at a moment: from 0 to 1; half where there is none."""
        length = self.end - self.begin
        if not length:
            return 0.5
        return min(1.0, max(0.0, (moment - self.begin) / length))


def span_of(moments: Iterable[datetime]) -> Span | None:
    """From the first to the last moment, in any order; `None` without one."""
    there = sorted(moments)
    return Span(there[0], there[-1]) if there else None


@dataclass(frozen=True, slots=True)
class Curve:
    """A burn-down in the units of its view box, `WIDTH` by `HEIGHT`.

    :ivar lines: for each stretch without a gap the points of a polyline, as SVG writes them.
    :ivar areas: the same, closed along the zero line.
    :ivar dots: stretches of a single point, and the last point of all.
    :ivar grid: heights of the horizontal lines with what they are labelled.
    :ivar first: the earliest known number, `last` the latest, each with its time.
    :ivar samples: how many numbers are known.
    """

    lines: tuple[str, ...]
    areas: tuple[str, ...]
    dots: tuple[tuple[str, str], ...]
    grid: tuple[tuple[str, str], ...]
    first: tuple[datetime, int]
    last: tuple[datetime, int]
    samples: int

    WIDTH: ClassVar[int] = 320
    HEIGHT: ClassVar[int] = 116
    # Of the plot itself: right of it the grid's labels are, below it those of the time.
    LEFT: ClassVar[int] = 4
    RIGHT: ClassVar[int] = 280
    TOP: ClassVar[int] = 8
    BOTTOM: ClassVar[int] = 92


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of time in thousandths of a span: where it begins, how long it is, and marks."""

    start: str
    length: str
    marks: tuple[str, ...]


def burn_down(points: Sequence[Point], span: Span) -> Curve | None:
    """The curve of what was left over time.

    :param points: the oldest first.
    :param span: what the width stands for.
    :returns: `None` if no number is known, or all are 0.
    """
    known = [(moment, left) for moment, left in points if left is not None]
    most = max((left for _moment, left in known), default=0)
    if not most:
        return None
    top = _ceiling(most)
    stretches = [
        _thinned([(_across(span, moment), _up(left, top)) for moment, left in stretch])
        for stretch in _stretches(points)
    ]
    bottom = _text(Curve.BOTTOM)
    lines = [stretch for stretch in stretches if len(stretch) > 1]
    alone = [stretch[0] for stretch in stretches if len(stretch) == 1]
    last = stretches[-1][-1]
    labels = [top, top // 2, 0] if top % 2 == 0 else [top, 0]
    return Curve(
        lines=tuple(_polyline(stretch) for stretch in lines),
        areas=tuple(
            f"{_text(stretch[0][0])},{bottom} {_polyline(stretch)} {_text(stretch[-1][0])},{bottom}"
            for stretch in lines
        ),
        dots=tuple((_text(x), _text(y)) for x, y in dict.fromkeys((*alone, last))),
        grid=tuple((_text(_up(label, top)), compact(label)) for label in labels),
        first=known[0],
        last=known[-1],
        samples=len(known),
    )


def bar_of(start: datetime, end: datetime, span: Span, marks: Iterable[datetime] = ()) -> Bar:
    """A bar that can be seen, however short it is."""
    if span.begin == span.end:
        return Bar("0", "1000", ())
    left = 1000 * span.share(start)
    length = max(6.0, 1000 * span.share(max(start, end)) - left)
    left = min(left, 1000 - length)
    return Bar(
        _text(left),
        _text(length),
        tuple(_text(min(997.0, 1000 * span.share(mark))) for mark in marks),
    )


def compact(number: int) -> str:
    """A number in few characters, as it is good for round ones: 950, 1.5k, 20k, 3M."""
    for size, unit in _UNITS:
        if number >= size:
            return f"{number / size:g}{unit}"
    return str(number)


def _ceiling(number: int) -> int:
    power = 1
    while power * 10 < number:
        power *= 10
    tops = (step * power for step in _STEPS)
    return next(int(top) for top in tops if top >= number and top == int(top))


def _stretches(points: Sequence[Point]) -> Iterable[list[tuple[datetime, int]]]:
    for is_known, stretch in itertools.groupby(points, lambda point: point[1] is not None):
        if is_known:
            yield [(moment, left) for moment, left in stretch if left is not None]


def _thinned(stretch: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most four points for each unit of width: the outermost in time and in height."""
    kept: list[tuple[float, float]] = []
    for _column, group in itertools.groupby(stretch, lambda point: int(point[0])):
        there = list(group)
        heights = [height for _across, height in there]
        ends = {0, len(there) - 1, heights.index(min(heights)), heights.index(max(heights))}
        kept.extend(there[place] for place in sorted(ends))
    return kept


def _across(span: Span, moment: datetime) -> float:
    return Curve.LEFT + span.share(moment) * (Curve.RIGHT - Curve.LEFT)


def _up(left: int, top: int) -> float:
    return Curve.BOTTOM - left / top * (Curve.BOTTOM - Curve.TOP)


def _polyline(stretch: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{_text(x)},{_text(y)}" for x, y in stretch)


def _text(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
