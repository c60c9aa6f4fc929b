"""The progress of the runs of a call: bars on a terminal, log lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

from lazymig.operations.runs.overall import Overall, PlannedRun
from lazymig.operations.runs.progress import Progress, ProgressBar, ProgressLog

__all__ = ["RunDisplay"]


class RunDisplay:
    """The bars of runs, with one for all of them, or their log lines; to be closed.

    `last` is the last report, `None` if there was none.

    :param planned: the runs, each by a function that says how large it is; a terminal asks for it.
    """

    def __init__(self, planned: Iterable[Callable[[], PlannedRun]]) -> None:
        self._overall: Overall | None = None
        self._display: ProgressBar | ProgressLog
        if sys.stderr.isatty():
            self._overall = Overall([each() for each in planned])
            self._display = ProgressBar(overall=self._overall)
        else:
            self._display = ProgressLog()
        self.last: Progress | None = None

    def begin(self, place: int) -> None:
        """Note that the run of this place, counted from 0, is next."""
        if self._overall is not None:
            self._overall.begin(place)

    def __call__(self, progress: Progress) -> None:
        """Show one report."""
        self.last = progress
        self._display(progress)

    def close(self) -> None:
        """Show where the runs are left."""
        self._display.close()
