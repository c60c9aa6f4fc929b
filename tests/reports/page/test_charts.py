"""Where the lines and bars of a report's charts are."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from lazymig.reports.page.charts import Bar, Curve, Span, bar_of, burn_down, compact, span_of

START = datetime(2024, 2, 29, 12)
DAY = timedelta(days=1)


def _days(*left: int | None) -> list[tuple[datetime, int | None]]:
    return [(START + number * DAY, each) for number, each in enumerate(left)]


def _curve(*left: int | None) -> Curve:
    points = _days(*left)
    span = span_of(moment for moment, _left in points)
    assert span is not None
    curve = burn_down(points, span)
    assert curve is not None
    return curve


def _points(line: str) -> list[tuple[float, float]]:
    pairs = [pair.split(",") for pair in line.split(" ")]
    return [(float(x), float(y)) for x, y in pairs]


def test_a_span_goes_from_the_first_to_the_last_moment() -> None:
    """The order of the moments does not count, and without one there is no span."""
    assert span_of([START + DAY, START, START + 3 * DAY]) == Span(START, START + 3 * DAY)
    assert span_of([]) is None


def test_a_curve_goes_from_corner_to_corner() -> None:
    """A round number at the beginning is at the upper left, nothing left at the lower right."""
    (line,) = _curve(100, 50, 0).lines
    middle = ((Curve.LEFT + Curve.RIGHT) / 2, (Curve.TOP + Curve.BOTTOM) / 2)
    assert _points(line) == [(Curve.LEFT, Curve.TOP), middle, (Curve.RIGHT, Curve.BOTTOM)]


def test_the_distance_between_points_is_that_of_their_times() -> None:
    """A long pause between two samples is a long way on the axis."""
    points = [(START, 9), (START + DAY, 8), (START + 4 * DAY, 7)]
    curve = burn_down(points, Span(START, START + 4 * DAY))
    assert curve is not None
    places = [x for x, _y in _points(curve.lines[0])]
    assert places == [Curve.LEFT, Curve.LEFT + (Curve.RIGHT - Curve.LEFT) / 4, Curve.RIGHT]


def test_an_unknown_number_is_a_gap() -> None:
    """No line leads over a time at which nothing is known."""
    curve = _curve(10, 8, None, 6, 5)
    assert [len(_points(line)) for line in curve.lines] == [2, 2]
    assert len(curve.areas) == 2
    assert (curve.first, curve.last, curve.samples) == ((START, 10), (START + 4 * DAY, 5), 4)


def test_a_lone_number_is_a_dot() -> None:
    """A sample between two gaps can be seen, and so can the only one of all."""
    assert [float(x) for x, _y in _curve(4, 3, None, 2, None, 1, 1).dots] == [142, 280]
    assert _curve(5).lines == ()
    assert _curve(5).dots == (("142", "8"),)


@pytest.mark.parametrize("left", [(None, None), (0, 0), (None, 0)])
def test_nothing_to_draw_is_no_curve(left: tuple[int | None, ...]) -> None:
    """Where nothing is known, or nothing was ever left, there is no curve."""
    assert burn_down(_days(*left), Span(START, START + DAY)) is None


def test_an_area_ends_on_the_zero_line() -> None:
    """The area is the line, closed at both ends along the bottom of the plot."""
    curve = _curve(4, 2)
    (area,) = curve.areas
    first, *line, last = _points(area)
    assert line == _points(curve.lines[0])
    assert (first, last) == ((Curve.LEFT, Curve.BOTTOM), (Curve.RIGHT, Curve.BOTTOM))


@pytest.mark.parametrize(
    ("most", "labels"),
    [
        (1, ["1", "0"]),
        (7, ["8", "4", "0"]),
        (10, ["10", "5", "0"]),
        (11, ["15", "0"]),
        (3211, ["4k", "2k", "0"]),
        (1_000_001, ["1.5M", "750k", "0"]),
        (12_345_678_901, ["15G", "7.5G", "0"]),
    ],
)
def test_the_grid_has_round_numbers(most: int, labels: list[str]) -> None:
    """The axis ends at a round number above all others, and is halved if that is whole."""
    grid = _curve(most, 0).grid
    assert [label for _height, label in grid] == labels
    assert grid[-1][0] == str(Curve.BOTTOM)


@pytest.mark.parametrize("most", [1, 9, 10, 11, 99, 100, 101, 1501, 10**6, 10**12 - 1])
def test_no_point_is_outside_of_the_plot(most: int) -> None:
    """Whatever the numbers are, the curve stays within the plot."""
    for x, y in _points(_curve(most, most // 3, 0).lines[0]):
        assert Curve.LEFT <= x <= Curve.RIGHT
        assert Curve.TOP <= y <= Curve.BOTTOM


def test_many_samples_make_no_long_line() -> None:
    """A thousand samples cost no more points than can be told apart, and the peaks are kept."""
    left = [500 + (number % 2) * 400 for number in range(5000)]
    left[2500] = 1000
    points = _points(_curve(*left).lines[0])
    assert len(points) <= 4 * (Curve.RIGHT - Curve.LEFT + 1)
    assert min(y for _x, y in points) == Curve.TOP
    assert points == sorted(points, key=lambda point: point[0])


def test_a_bar_is_where_its_time_is() -> None:
    """A bar begins and ends at its shares of the span, and has a mark for each moment."""
    span = Span(START, START + 10 * DAY)
    bar = bar_of(START + DAY, START + 6 * DAY, span, [START + 2 * DAY])
    assert bar == Bar("100", "500", ("200",))


@pytest.mark.parametrize("day", [0, 5, 10])
def test_a_short_bar_can_be_seen(day: int) -> None:
    """A bar of no length has some width, and stays within the line."""
    moment = START + day * DAY
    bar = bar_of(moment, moment, Span(START, START + 10 * DAY))
    assert float(bar.length) == 6
    assert 0 <= float(bar.start) <= 994


def test_the_only_bar_is_the_whole_line() -> None:
    """A single run that took no time fills its time line."""
    assert bar_of(START, START, Span(START, START)) == Bar("0", "1000", ())


def test_an_end_before_the_start_is_no_length() -> None:
    """Clocks that disagree make no bar of negative length."""
    bar = bar_of(START + 5 * DAY, START, Span(START, START + 10 * DAY))
    assert (bar.start, bar.length) == ("500", "6")


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (950, "950"), (1500, "1.5k"), (20_000, "20k"), (3_000_000, "3M"), (10**12, "1T")],
)
def test_numbers_of_the_grid_are_short(number: int, text: str) -> None:
    """A label has a few characters, however large its number is."""
    assert compact(number) == text
