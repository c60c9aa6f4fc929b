"""The progress of several runs, taken together: the bar above that of the rule at work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lazymig.operations.runs.progress import Progress

__all__ = ["Overall", "PlannedRun"]


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run that is to be made.

    :ivar rules: how many rules it takes over the collection, one after the other.
    :ivar documents: the documents that each has to pass, estimated.
    """

    rules: int
    documents: int


class Overall:
    """How far the runs of a call are.

    `done` of `total` documents were passed, each once for each rule; `position` is that of the rule
    at work among the `rules` of all runs, counted from 1. `rate` is the last that was known.
    """

    def __init__(self, runs: Sequence[PlannedRun]) -> None:
        self._runs = list(runs)
        self._current = 0
        self.position = 1
        self.done = 0
        self.rate = 0.0

    def begin(self, place: int) -> None:
        """Note that the run of this place, counted from 0, is next; those before it are over."""
        self._current = place

    def note(self, progress: Progress) -> None:
        """Learn how far the current run is, and how large it really is."""
        runs = self._runs
        runs[self._current] = PlannedRun(progress.rules, progress.total)
        before = runs[: self._current]
        self.position = sum(run.rules for run in before) + progress.position
        own = (progress.position - 1) * progress.total + min(progress.done, progress.total)
        self.done = _size(before) + own
        self.rate = progress.rate or self.rate

    @property
    def rules(self) -> int:
        """The rules of all runs."""
        return sum(run.rules for run in self._runs)

    @property
    def total(self) -> int:
        """The documents that all rules have to pass, as far as is known."""
        return _size(self._runs)

    @property
    def eta(self) -> float | None:
        """The seconds left at the present rate; `None` as long as there is none."""
        left = self.total - self.done
        if not left:
            return 0.0
        return left / self.rate if self.rate else None


def _size(runs: Sequence[PlannedRun]) -> int:
    return sum(run.rules * run.documents for run in runs)
