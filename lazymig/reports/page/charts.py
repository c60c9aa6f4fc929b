"""The places of the lines and bars of a page's charts. Knows no database and no HTML."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar

__all__ = ["Bar", "Point", "Span", "Spark", "bar_of", "span_of", "spark_of"]

# When, and how many documents were left; `None` where that is not known.
Point = tuple[datetime, int | None]


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
class Spark:
    """What was left over time, as a small line in a view box of `WIDTH` by `HEIGHT`.

    :ivar lines: for each stretch without a gap the points of a polyline, as SVG writes them.
    :ivar dots: stretches of a single point, and the last point of all.
    :ivar first: the earliest known number, `last` the latest, each with its time.
    :ivar samples: how many numbers are known.
    """

    lines: tuple[str, ...]
    dots: tuple[tuple[str, str], ...]
    first: tuple[datetime, int]
    last: tuple[datetime, int]
    samples: int

    WIDTH: ClassVar[int] = 120
    HEIGHT: ClassVar[int] = 26
    # Left free on each side, so that a dot on the edge is whole.
    MARGIN: ClassVar[int] = 3


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of time in thousandths of a span: where it begins, how long it is, and marks."""

    start: str
    length: str
    marks: tuple[str, ...]


def spark_of(points: Sequence[Point], span: Span) -> Spark | None:
    """The line of what was left over time.

    :param points: the oldest first.
    :param span: what the width stands for.
    :returns: `None` if no number is known, or all are 0.
    """
    known = [(moment, left) for moment, left in points if left is not None]
    most = max((left for _moment, left in known), default=0)
    if not most:
        return None
    width, height = (size - 2 * Spark.MARGIN for size in (Spark.WIDTH, Spark.HEIGHT))
    stretches = [
        _thinned(
            [
                (
                    Spark.MARGIN + span.share(moment) * width,
                    Spark.MARGIN + (1 - left / most) * height,
                )
                for moment, left in stretch
                if left is not None
            ]
        )
        for is_known, stretch in itertools.groupby(points, lambda point: point[1] is not None)
        if is_known
    ]
    alone = [stretch[0] for stretch in stretches if len(stretch) == 1]
    return Spark(
        lines=tuple(
            " ".join(f"{_text(x)},{_text(y)}" for x, y in stretch)
            for stretch in stretches
            if len(stretch) > 1
        ),
        dots=tuple((_text(x), _text(y)) for x, y in dict.fromkeys((*alone, stretches[-1][-1]))),
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


def _thinned(stretch: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most four points for each unit of width: the outermost in time and in height."""
    kept: list[tuple[float, float]] = []
    for _column, group in itertools.groupby(stretch, lambda point: int(point[0])):
        there = list(group)
        heights = [height for _across, height in there]
        ends = {0, len(there) - 1, heights.index(min(heights)), heights.index(max(heights))}
        kept.extend(there[place] for place in sorted(ends))
    return kept


def _text(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
