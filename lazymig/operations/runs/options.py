"""The options of a bulk run, checked before anything is written."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

from bson import ObjectId

from lazymig.errors import RunOptionError
from lazymig.operations.declared import declarations, name_of, option, plain
from lazymig.operations.journal import JOURNAL
from lazymig.operations.runs.progress import Progress
from lazymig.operations.throttling.limits import Limits

__all__ = ["Options", "RunOptions"]

_MOST_ERRORS = 100_000


class RunOptions(TypedDict, total=False):
    """The keywords of `migrate_all` and `migrate_pending`.

    - `chunk_size`: documents per chunk; `"auto"` (default) adapts it to `chunk_seconds`, `None`
      sends a rule that reads no document as one update of the whole collection.
    - `chunk_seconds`: seconds that a chunk should take (0.5).
    - `resume`: continue after the last checkpoint of the latest run that has not finished, or of
      the run with this id. It never begins a run: where there is none to resume, nothing is done.
    - `again`: apply also rules that a run has applied to the whole collection before, and whose
      targets do not show that they were applied (`False`).
    - `note`: a text for the journal.
    - `max_errors`: refused documents that are put into quarantine before the run stops (0).
    - `max_rate`: documents that match, per second. `max_replication_lag`: seconds. `max_latency`:
      seconds of the run's own small writes. `nice`: share of the work's time to sleep after it.
      `throttle`: a callable, asked before each chunk: a reason to wait, or something false.
      `flag_file`: the run waits while this file exists.
    - `progress`: `True` for a bar on a terminal and log lines elsewhere, or a callable that is
      given a `Progress`.
    - `transactions`: a chunk of a rule that reads the document is a transaction (`False`). That is
      faster, but the application's writes of these documents wait meanwhile.
    - `backup`: a folder that gets the documents as they were before they are changed.
    - `executor`: a `concurrent.futures.Executor`, or a callable that makes one, for rules that read
      the document. `in_flight`: chunks that are given to it at the same time (4).
    - `rule_indexes`: build the indexes of the rules while the run is at work (`False`). It waits
      for them at its end, and raises `RuleIndexError` then if one could not be built.
    - `lease`: seconds after which the lock of a dead runner expires (15).
    - `keep_runs`: ended runs per collection that the journal keeps (100).
    - `journal`: the name of the journal's collection (`lazymig_journal`).
    """

    chunk_size: int | Literal["auto"] | None
    chunk_seconds: float
    resume: Any
    again: bool
    note: str | None
    max_errors: int
    max_rate: float | None
    max_replication_lag: float | None
    max_latency: float | None
    throttle: Callable[[], object] | None
    flag_file: str | os.PathLike[str] | None
    nice: float
    progress: bool | Callable[[Progress], object] | None
    transactions: bool
    backup: str | os.PathLike[str] | None
    executor: Executor | Callable[[], Executor] | None
    in_flight: int
    rule_indexes: bool
    lease: float
    keep_runs: int
    journal: str


def _is_chunk_size(value: Any) -> bool:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value is None or value == "auto" or (is_number and value >= 1)


def _is_resume(value: Any) -> bool:
    is_id = isinstance(value, (str, ObjectId)) and ObjectId.is_valid(value)
    return value is None or isinstance(value, bool) or is_id


@dataclass(frozen=True, kw_only=True)
class Options(Limits):
    """The options of one run, complete and checked; see `RunOptions`.

    :raises RunOptionError: one of them has a value that it cannot have.
    """

    resume: Any = option(
        False, fits=_is_resume, problem="is {}; use True, or the id of a run, as in its report"
    )
    again: bool = option(
        False,
        "flag",
        help="Apply also rules that were applied to all documents, and whose target does not show "
        "that.",
    )
    note: str | None = option(None, "text", help="A text for the journal.")
    backup: str | os.PathLike[str] | None = option(
        None, "folder", help="A folder for the documents as they were."
    )
    max_errors: int = option(
        0,
        "whole",
        unit=f"0 to {_MOST_ERRORS}",
        least=0,
        most=_MOST_ERRORS,
        help="Refused documents that are put aside before the run stops.  [default: 0]",
        journal=plain,
    )
    transactions: bool = option(
        False,
        "flag",
        help="Make a transaction of each chunk of a rule that reads the document.",
    )
    executor: Executor | Callable[[], Executor] | None = option(None, journal=name_of)
    in_flight: int = option(
        4,
        "whole",
        unit="a number of chunks",
        help="Chunks that are given to workers at once.  [default: two for each]",
    )
    chunk_size: int | Literal["auto"] | None = option(
        "auto",
        fits=_is_chunk_size,
        problem='is {}; use documents per chunk, "auto" or None',
        journal=plain,
    )
    chunk_seconds: float = option(
        0.5, "seconds", help="What a chunk should take.  [default: 0.5]", journal=plain
    )
    rule_indexes: bool = option(
        False,
        "flag",
        help="Build the indexes of the rules while the run is at work.",
    )
    lease: float = option(
        15.0, "seconds", help="Seconds after which the lock of a dead runner ends.  [default: 15]"
    )
    keep_runs: int = option(
        100,
        "whole",
        unit="a number of runs",
        help="Ended runs per collection that the journal keeps.  [default: 100]",
    )
    journal: str = option(
        JOURNAL,
        fits=lambda value: isinstance(value, str) and value != "",
        problem="is {}; use the name of a collection",
    )
    progress: bool | Callable[[Progress], object] | None = option(None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.again and self.resume:
            raise RunOptionError(
                "excludes resume: that continues a run, which has its rules; leave one of them out",
                option="again",
            )
        if self.backup is not None and self.executor is not None:
            raise RunOptionError(
                "excludes executor: a backup is written by the process that writes the documents; "
                "leave one of them out",
                option="backup",
            )

    @classmethod
    def of(cls, given: RunOptions) -> Options:
        """The options from the keywords of a call.

        :raises TypeError: there is no such option.
        :raises RunOptionError: an option has a value that it cannot have.
        """
        unknown = sorted(given.keys() - RunOptions.__annotations__.keys())
        if unknown:
            known = ", ".join(sorted(RunOptions.__annotations__))
            raise TypeError(f"{unknown[0]!r} is no option of a bulk run; the options are {known}")
        return cls(**given)

    def to_journal(self) -> dict[str, Any]:
        """What the journal records: plain values, of what is not one only that it was there."""
        return {
            name: each.journal(getattr(self, name))
            for name, each in declarations(self).items()
            if each.journal is not None
        }
