"""The progress of a bulk run: what its callback is given, a bar for terminals, lines for logs."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bson import ObjectId

from lazymig.characters import in_one_line
from lazymig.errors import MissingExtra, RunOptionError, check_extra
from lazymig.operations.runs.overall import Overall
from lazymig.rules.rule import Scope

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live

__all__ = ["Meter", "Progress", "ProgressBar", "ProgressLog", "reporter"]

logger = logging.getLogger(__name__)

# Seconds over which the rate is smoothed, and the number of steps in which it is kept.
_WINDOW = 30.0
_STEPS = 60

# Seconds between two drawings of a bar: more often, nobody sees it.
_REDRAW = 0.1

_INTERVAL = 10.0


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is: what its callback is given after each chunk, and while the run waits.

    An exception of the callback ends the run after the chunk, which is noted in the journal: the
    run can be resumed.

    - `run_id`, `model`, `collection` (with its database), `scope`: the run.
    - `rule`, `position`, `rules`: the rule at work, its position, counted from 1, and how many
      there are. Consecutive rules whose targets need the document count as one, under all names.
    - `done`, `total`: documents of the collection that the rule has been past, and has to pass.
      `exact`: `total` is counted, not estimated.
    - `matched`, `modified`, `quarantined`: documents, of this rule.
    - `rate`: documents passed per second, as `done` counts them, smoothed; 0 as long as it is not
      known. `match_rate`: the same of `matched`, which is what `max_rate` limits. `eta`: seconds
      left of this rule, `None` as long as they are not known.
    - `seconds`: since the run began or was resumed; `waited`: those of them without work.
    - `waiting`: why the run waits, `None` while it works.
    - `finished`: whether the last rule is done, which is reported once.
    """

    run_id: ObjectId
    model: str
    collection: str
    scope: Scope
    rule: str
    position: int
    rules: int
    done: int
    total: int
    exact: bool
    matched: int
    modified: int
    quarantined: int
    rate: float
    match_rate: float = 0.0
    eta: float | None
    seconds: float
    waited: float = 0.0
    waiting: str | None
    finished: bool


class Meter:
    """The rate of one rule, smoothed over the last 30 seconds, without pauses.

    `clock` gives seconds that never go back.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.restart()

    def restart(self, done: int = 0) -> None:
        """Begin with a rule, of which so many documents were done before."""
        self._paused = 0.0
        self._samples: deque[tuple[float, int]] = deque([(self._clock(), done)])

    def note(self, done: int) -> None:
        """Note how many documents are done by now."""
        samples = self._samples
        now = max(self._clock() - self._paused, samples[-1][0])
        if len(samples) > 1 and now - samples[-2][0] < _WINDOW / _STEPS:
            samples.pop()
        samples.append((now, done))
        while len(samples) > 2 and now - samples[1][0] >= _WINDOW:
            samples.popleft()

    def pause(self, seconds: float) -> None:
        """Leave out time in which the run waited.

        Not for the waits by which the run keeps its own pace (`throttle.PACING`): they recur, so
        they belong to the rate, and to the time that is left.
        """
        self._paused += seconds

    @property
    def rate(self) -> float:
        """Documents per second; 0 as long as it is not known."""
        (since, before), (until, done) = self._samples[0], self._samples[-1]
        return max(0.0, (done - before) / (until - since)) if until > since else 0.0

    def eta(self, left: int) -> float | None:
        """The seconds that so many documents will take; `None` as long as it is not known."""
        if left <= 0:
            return 0.0
        rate = self.rate
        return left / rate if rate else None


def _rule_of(progress: Progress) -> tuple[ObjectId, int]:
    return progress.run_id, progress.position


class _Display(AbstractContextManager["_Display"]):
    """What `ProgressBar` and `ProgressLog` share: a report shows when a rule has ended."""

    def __init__(self) -> None:
        self._last: Progress | None = None

    def __call__(self, progress: Progress) -> None:
        """Show one report."""
        last = self._last
        if last is not None and _rule_of(last) != _rule_of(progress):
            self._conclude(last)
        self._last = progress
        self._show(progress)
        if progress.finished:
            self._conclude(progress)
            self._last = None

    def close(self) -> None:
        """Show where the run is left; no report may follow."""
        if self._last is not None:
            self._leave(self._last)
            self._last = None

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def _show(self, progress: Progress) -> None:
        """Show a rule at work."""

    @abstractmethod
    def _conclude(self, progress: Progress) -> None:
        """Show that a rule is done, of which this was the last report."""

    @abstractmethod
    def _leave(self, progress: Progress) -> None:
        """Show that the run ends here, with the rule not done."""


class ProgressBar(_Display):
    """A bar for each rule on the terminal, with counts and why the run waits; to be closed.

    It is drawn by the thread that reports, on standard error unless `console` is another one.
    Standard output stays as it is. A terminal that is gone ends the bar, not the run.

    :param overall: the runs of which this is one: a bar for all of them is drawn above that of the
        rule at work, unless there is one rule alone.
    :raises MissingExtra: rich is not installed.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        overall: Overall | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        check_extra("a progress bar", "rich")
        self._overall = overall
        self._console = console
        self._clock = clock
        self._live: Live | None = None
        self._drawn_at = 0.0
        self._drawn: Progress | None = None
        self._has_waited = False
        self._is_gone = False

    def _show(self, progress: Progress) -> None:
        if self._overall is not None:
            self._overall.note(progress)
        now = self._clock()
        waits_anew = progress.waiting is not None and (
            self._drawn is None or self._drawn.waiting != progress.waiting
        )
        if self._drawn is None or waits_anew or now - self._drawn_at >= _REDRAW:
            # Once there is a line for waits, it stays: bars that jump cannot be read.
            self._has_waited = self._has_waited or waits_anew
            self._draw(_picture(progress, self._overall, has_waited=self._has_waited))
            self._drawn_at, self._drawn = now, progress

    def _conclude(self, progress: Progress) -> None:
        self._end(_picture(progress, done=True))

    def _leave(self, progress: Progress) -> None:
        self._end(_picture(progress, has_waited=progress.waiting is not None))

    def _draw(self, picture: RenderableType, *, is_last: bool = False) -> None:
        if self._is_gone:
            return
        try:
            self._live = live = self._live or self._new_live()
            if live.console.is_terminal and not live.console.is_dumb_terminal:
                live.start()
                live.update(picture, refresh=True)
            elif is_last:
                live.console.print(picture)
        except OSError as error:
            self._is_gone = True
            logger.warning("the progress bar ends, the run continues: %s", error)

    def _end(self, picture: RenderableType) -> None:
        """Leave a last picture; the next rule has a bar of its own."""
        self._draw(picture, is_last=True)
        if self._live is not None:
            with suppress(OSError):
                self._live.stop()
        self._live = self._drawn = None
        self._has_waited = False

    def _new_live(self) -> Live:
        # Only who wants a bar pays for the import.
        from rich.console import Console  # noqa: PLC0415
        from rich.live import Live  # noqa: PLC0415

        return Live(
            console=self._console or Console(stderr=True),
            # Without a thread: worker processes may be forked while the bar is there.
            auto_refresh=False,
            # What is printed to standard output would go to this console.
            redirect_stdout=False,
        )


class ProgressLog(_Display):
    """A log line, at INFO, each `interval` seconds, at the end of each rule, and where a run ends.

    `clock` gives seconds that never go back.
    """

    def __init__(
        self, interval: float = _INTERVAL, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__()
        self._interval = interval
        self._clock = clock
        self._logged_at = clock()
        self._logged: Progress | None = None

    def _show(self, progress: Progress) -> None:
        if not progress.finished and self._clock() - self._logged_at >= self._interval:
            self._log(progress)

    def _conclude(self, progress: Progress) -> None:
        self._log(progress, done=True)

    def _leave(self, progress: Progress) -> None:
        if progress is not self._logged:
            self._log(progress)

    def _log(self, progress: Progress, *, done: bool = False) -> None:
        self._logged_at, self._logged = self._clock(), progress
        logger.info("%s", _line(progress, done=done))


def _is_terminal() -> bool:
    """Return whether a bar can be drawn: there may be no standard error, or a dumb terminal."""
    stream: Any = sys.stderr
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def _display() -> ProgressBar | ProgressLog:
    if _is_terminal():
        try:
            return ProgressBar()
        except MissingExtra as error:
            logger.warning("%s; the progress is logged", error)
    return ProgressLog()


@contextmanager
def reporter(
    progress: bool | Callable[[Progress], object] | None,
) -> Iterator[Callable[[Progress], object]]:
    """What a run reports its progress to, while the context is open.

    `None` and `False`: nothing. `True`: a bar if standard error is a terminal, else log lines.
    A callable: itself.

    :raises RunOptionError: it is none of these.
    """
    if progress is None or progress is False:
        yield lambda _: None
    elif progress is True:
        with _display() as display:
            yield display
    elif callable(progress):
        yield progress
    else:
        raise RunOptionError(
            f"{progress!r} cannot be called; give True, or a function that takes a Progress",
            option="progress",
        )


def _picture(
    progress: Progress,
    overall: Overall | None = None,
    *,
    done: bool = False,
    has_waited: bool = False,
) -> RenderableType:
    """The rule with its counts, its bar; above, the bar of all; below, why the run waits."""
    from rich.console import Group  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    lines: list[RenderableType] = []
    if overall is not None and overall.rules > 1:
        lines.append(Text(f"all rules, {overall.position} of {overall.rules}"))
        lines.append(_bar(overall.done, overall.total, overall.rate, overall.eta, exact=False))
    name = f"{progress.model}: {progress.position}/{progress.rules} {progress.rule}"
    counts = f"matched {_short(progress.matched)}, modified {_short(progress.modified)}"
    head = Text(in_one_line(name), overflow="fold").append(f"  {counts}", style="dim")
    if progress.quarantined:
        head.append(f", quarantined {_short(progress.quarantined)}", style="red")
    eta, exact = progress.eta, progress.exact
    lines.append(head)
    lines.append(_bar(progress.done, progress.total, progress.rate, eta, exact=exact, done=done))
    if has_waited:
        reason = in_one_line(f"waiting: {progress.waiting}") if progress.waiting else ""
        lines.append(Text(reason, style="yellow", no_wrap=True, overflow="ellipsis"))
    return Group(*lines)


def _bar(
    passed: int, total: int, rate: float, eta: float | None, *, exact: bool, done: bool = False
) -> RenderableType:
    """A row of bar, share, counts, rate and time left; where all is done, that."""
    from rich.progress_bar import ProgressBar as Bar  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    share = _share(passed, total, done=done)
    row = Table.grid(padding=(0, 1), expand=True)
    row.add_column(ratio=1, min_width=6)
    # Bars one above the other are equally long, whatever stands beside them.
    for width in (4, 11, 7, 8):
        row.add_column(no_wrap=True, justify="right", min_width=width)
    row.add_row(
        Bar(total=1.0, completed=share),
        Text(f"{math.floor(100 * share):3}%"),
        Text(f"{_short(passed)}/{'' if exact else '~'}{_short(total)}"),
        Text(f"{_short(rate)}/s"),
        Text("done" if done else _duration(eta)),
    )
    return row


def _line(progress: Progress, *, done: bool) -> str:
    waiting = f"; waiting: {progress.waiting}" if progress.waiting else ""
    left = "done" if done else f"{_duration(progress.eta)} left"
    return in_one_line(
        f"{progress.model}.{progress.rule} ({progress.position} of {progress.rules}): "
        f"{progress.done:,} of {'' if progress.exact else 'about '}{progress.total:,} documents "
        f"({_share(progress.done, progress.total, done=done):.1%}), matched {progress.matched:,} "
        f"at {_short(progress.match_rate)}/s, "
        f"modified {progress.modified:,}, quarantined {progress.quarantined:,}, "
        f"{_short(progress.rate)} documents/s, {left}{waiting}"
    )


def _share(passed: int, total: int, *, done: bool) -> float:
    """From 0 to 1; an estimated total may be too small."""
    if done:
        return 1.0
    return min(1.0, passed / total) if total else 0.0


def _short(number: float) -> str:
    """At most five characters, for any number of documents that there may be."""
    if number < 100 and number != int(number):
        return f"{number:.1f}"
    if number < 9_999.5:
        return f"{number:,.0f}"
    power = 1 if number < 999_500 else 2 if number < 999_500_000 else 3
    number /= 1000**power
    places = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:.{places}f}{'kMG'[power - 1]}"


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "-:--:--"
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days}d {hours:02}:{minutes:02}" if days else f"{hours}:{minutes:02}:{left:02}"
