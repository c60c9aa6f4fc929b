"""Where the lines and bars of a report's charts are."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from lazymig.reports.page.charts import Bar, Span, Spark, bar_of, span_of, spark_of

START = datetime(2024, 2, 29, 12)
DAY = timedelta(days=1)


def _days(*left: int | None) -> list[tuple[datetime, int | None]]:
    return [(START + number * DAY, each) for number, each in enumerate(left)]


LEFT, TOP = Spark.MARGIN, Spark.MARGIN
RIGHT, BOTTOM = Spark.WIDTH - Spark.MARGIN, Spark.HEIGHT - Spark.MARGIN


def _spark(*left: int | None) -> Spark:
    points = _days(*left)
    span = span_of(moment for moment, _left in points)
    assert span is not None
    spark = spark_of(points, span)
    assert spark is not None
    return spark


def _points(line: str) -> list[tuple[float, float]]:
    pairs = [pair.split(",") for pair in line.split(" ")]
    return [(float(x), float(y)) for x, y in pairs]


def test_a_span_goes_from_the_first_to_the_last_moment() -> None:
    """The order of the moments does not count, and without one there is no span."""
    assert span_of([START + DAY, START, START + 3 * DAY]) == Span(START, START + 3 * DAY)
    assert span_of([]) is None


def test_a_line_goes_from_corner_to_corner() -> None:
    """The most that was left is at the top, nothing left at the bottom, the ends at the sides."""
    (line,) = _spark(100, 50, 0).lines
    middle = ((LEFT + RIGHT) / 2, (TOP + BOTTOM) / 2)
    assert _points(line) == [(LEFT, TOP), middle, (RIGHT, BOTTOM)]


def test_the_distance_between_points_is_that_of_their_times() -> None:
    """A long pause between two samples is a long way on the axis."""
    points = [(START, 9), (START + DAY, 8), (START + 4 * DAY, 7)]
    spark = spark_of(points, Span(START, START + 4 * DAY))
    assert spark is not None
    places = [x for x, _y in _points(spark.lines[0])]
    assert places == [LEFT, LEFT + (RIGHT - LEFT) / 4, RIGHT]


def test_an_unknown_number_is_a_gap() -> None:
    """No line leads over a time at which nothing is known."""
    spark = _spark(10, 8, None, 6, 5)
    assert [len(_points(line)) for line in spark.lines] == [2, 2]
    assert (spark.first, spark.last, spark.samples) == ((START, 10), (START + 4 * DAY, 5), 4)


def test_a_lone_number_is_a_dot() -> None:
    """A sample between two gaps can be seen, and so can the only one of all."""
    assert [float(x) for x, _y in _spark(4, 3, None, 2, None, 1, 1).dots] == [60, RIGHT]
    assert _spark(5).lines == ()
    assert _spark(5).dots == (("60", str(TOP)),)


@pytest.mark.parametrize("left", [(None, None), (0, 0), (None, 0)])
def test_nothing_to_draw_is_no_line(left: tuple[int | None, ...]) -> None:
    """Where nothing is known, or nothing was ever left, there is no line."""
    assert spark_of(_days(*left), Span(START, START + DAY)) is None


@pytest.mark.parametrize("most", [1, 9, 10, 11, 99, 100, 101, 1501, 10**6, 10**12 - 1])
def test_no_point_is_outside_of_the_plot(most: int) -> None:
    """Whatever the numbers are, the line stays within the plot."""
    for x, y in _points(_spark(most, most // 3, 0).lines[0]):
        assert LEFT <= x <= RIGHT
        assert TOP <= y <= BOTTOM


def test_many_samples_make_no_long_line() -> None:
    """A thousand samples cost no more points than can be told apart, and the peaks are kept."""
    left = [500 + (number % 2) * 400 for number in range(5000)]
    left[2500] = 1000
    points = _points(_spark(*left).lines[0])
    assert len(points) <= 4 * (RIGHT - LEFT + 1)
    assert min(y for _x, y in points) == TOP
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
