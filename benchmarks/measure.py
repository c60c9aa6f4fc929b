"""Interleaved timing: the sides take turns, so that a noisy minute hits all of them."""

from __future__ import annotations

import gc
import math
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["Benchmark", "Comparison", "Plot", "Row", "Side", "measured"]

# Timed turns that a median needs.
_FEWEST = 3


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Side:
    """One way to do the work.

    `run` is timed; what it returns is the same for all sides of a benchmark. `prepare` runs before
    each `run`, untimed. `factor`: seconds are multiplied by it, for a side that does a part only.
    """

    name: str
    run: Callable[[], Any]
    prepare: Callable[[], object] = _nothing
    factor: float = 1.0


@dataclass(frozen=True)
class Comparison:
    """A row of the table: the side that is judged, the side it is held against, the limit.

    `limit`: `None` for what is measured and not judged. `allowance`: seconds that the judged side
    may take more before the ratio is 1. `called`: what the table calls the side it is held against,
    if not by its name. `curve`: the line of the benchmark's plot to which the ratio belongs, and
    `at` its place there.
    """

    what: str
    side: str
    against: str
    limit: float | None
    allowance: float = 0.0
    called: str | None = None
    curve: str | None = None
    at: str = ""


@dataclass(frozen=True)
class Plot:
    """A picture of the rows that belong to a curve: what it shows, and what its x axis has."""

    title: str
    across: str


@dataclass(frozen=True)
class Benchmark:
    """Sides that do the same work, and the rows that compare them.

    `left_behind` gives what the work has made of the database; it too is the same for all sides.
    """

    name: str
    sides: tuple[Side, ...]
    comparisons: tuple[Comparison, ...]
    left_behind: Callable[[], Any] = _nothing
    plot: Plot | None = None


@dataclass(frozen=True)
class Row:
    """A comparison as measured; `best` is the ratio of the fastest runs, times are in seconds."""

    what: str
    against: str
    ratio: float
    best: float
    limit: float | None
    seconds: float
    seconds_against: float
    curve: str | None = None
    at: str = ""

    @property
    def verdict(self) -> str:
        """`ok` or `over`; nothing where there is no limit."""
        if self.limit is None:
            return ""
        return "ok" if self.ratio <= self.limit else "over"


def measured(benchmark: Benchmark, repeat: int, seed: int, seconds: float = math.inf) -> list[Row]:
    """Time every side `repeat` times, in an order shuffled anew for each turn.

    One more turn at the start warms up and is dropped.

    :param seed: what the order is drawn from, so that it can be repeated.
    :param seconds: after so long no turn is begun any more, once three are timed.
    """
    ends = time.monotonic() + seconds
    times: dict[str, list[float]] = {side.name: [] for side in benchmark.sides}
    order = list(benchmark.sides)
    shuffle = random.Random(f"{seed} {benchmark.name}").shuffle
    for turn in range(repeat + 1):
        if turn > _FEWEST and time.monotonic() > ends:
            break
        shuffle(order)
        for side in order:
            taken = _timed(side)
            if turn:
                times[side.name].append(taken)
    return [
        _row(comparison, times[comparison.side], times[comparison.against])
        for comparison in benchmark.comparisons
    ]


def _timed(side: Side) -> float:
    side.prepare()
    gc.collect()
    gc.disable()
    try:
        started = time.perf_counter()
        # Held until the clock has stopped: to take the result apart is not part of the work.
        result = side.run()
        seconds = time.perf_counter() - started
        del result
    finally:
        gc.enable()
    return seconds * side.factor


def _row(comparison: Comparison, times: list[float], against: list[float]) -> Row:
    seconds = statistics.median(times)
    seconds_against = statistics.median(against) + comparison.allowance
    return Row(
        what=comparison.what,
        against=comparison.called or comparison.against,
        ratio=seconds / seconds_against,
        best=min(times) / (min(against) + comparison.allowance),
        limit=comparison.limit,
        seconds=seconds,
        seconds_against=seconds_against,
        curve=comparison.curve,
        at=comparison.at,
    )
