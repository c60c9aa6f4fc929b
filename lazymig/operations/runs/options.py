"""What a bulk run may be told, checked before anything is written."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypedDict

from bson import ObjectId

from lazymig.errors import RunOptionError
from lazymig.operations.journal.journal import JOURNAL
from lazymig.operations.runs.progress import Progress
from lazymig.operations.throttling.throttle import Limits

__all__ = ["Options", "RunOptions"]

_MOST_ERRORS = 100_000


class RunOptions(TypedDict, total=False):
    """The keywords of `migrate_all` and `migrate_pending`.

    - `chunk_size`: documents per chunk; `"auto"` (default) adapts it to `chunk_seconds`, `None`
      sends a rule that reads no document as one update of the whole collection.
    - `chunk_seconds`: seconds that a chunk should take (0.5).
    - `resume`: go on after the last checkpoint of the latest run that has not finished, or of the
      run with this id. It never begins a run: where there is none to go on with, nothing is done.
    - `again`: apply also rules that a run has applied to the whole collection before, and whose
      targets do not tell that they were applied (`False`).
    - `note`: a text for the journal.
    - `max_errors`: refused documents that are put into quarantine before the run stops (0).
    - `max_rate`: documents per second. `max_replication_lag`: seconds. `max_latency`: seconds of
      the run's own small writes. `nice`: share of the work's time to sleep after it.
      `throttle`: a callable, asked before each chunk: a reason to wait, or something false.
      `flag_file`: the run waits while this file exists.
    - `progress`: `True` for a bar on a terminal and log lines elsewhere, or a callable that is
      given a `Progress`.
    - `transactions`: a chunk of a rule that reads the document is a transaction (`False`). That is
      faster, but the application's writes of these documents wait meanwhile.
    - `backup`: a folder that gets the documents as they were before they are changed.
    - `executor`: a `concurrent.futures.Executor`, or a callable that makes one, for rules that read
      the document. `in_flight`: chunks that are given to it at the same time (4).
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
    lease: float
    keep_runs: int
    journal: str


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of one run, complete and checked; see `RunOptions`.

    :raises RunOptionError: one of them has a value that it cannot have.
    """

    chunk_size: int | Literal["auto"] | None = "auto"
    chunk_seconds: float = 0.5
    resume: Any = False
    again: bool = False
    note: str | None = None
    max_errors: int = 0
    max_rate: float | None = None
    max_replication_lag: float | None = None
    max_latency: float | None = None
    throttle: Callable[[], object] | None = None
    flag_file: str | os.PathLike[str] | None = None
    nice: float = 0.0
    progress: bool | Callable[[Progress], object] | None = None
    transactions: bool = False
    backup: str | os.PathLike[str] | None = None
    executor: Executor | Callable[[], Executor] | None = None
    in_flight: int = 4
    lease: float = 15.0
    keep_runs: int = 100
    journal: str = JOURNAL
    limits: Limits = field(init=False)

    def __post_init__(self) -> None:
        if self.chunk_size != "auto" and self.chunk_size is not None:
            _check_whole(
                "chunk_size", self.chunk_size, 1, 'use documents per chunk, "auto" or None'
            )
        _check_positive("chunk_seconds", self.chunk_seconds)
        _check_positive("lease", self.lease)
        _check_whole("max_errors", self.max_errors, 0, f"use 0 to {_MOST_ERRORS}", _MOST_ERRORS)
        _check_whole("in_flight", self.in_flight, 1, "use a number of chunks")
        _check_whole("keep_runs", self.keep_runs, 1, "use a number of runs")
        if not isinstance(self.transactions, bool):
            raise RunOptionError(
                f"is {self.transactions!r}; use True or False", option="transactions"
            )
        is_id = isinstance(self.resume, (str, ObjectId)) and ObjectId.is_valid(self.resume)
        if self.resume is not None and not isinstance(self.resume, bool) and not is_id:
            raise RunOptionError(
                f"is {self.resume!r}; use True, or the id of a run, as in its report",
                option="resume",
            )
        if not isinstance(self.again, bool):
            raise RunOptionError(f"is {self.again!r}; use True or False", option="again")
        if self.again and self.resume:
            raise RunOptionError(
                "excludes resume: that goes on with a run, which has its rules; leave one of them "
                "out",
                option="again",
            )
        if self.note is not None and not isinstance(self.note, str):
            raise RunOptionError(f"is {self.note!r}; use a text", option="note")
        if not self.journal or not isinstance(self.journal, str):
            raise RunOptionError(
                f"is {self.journal!r}; use the name of a collection", option="journal"
            )
        if self.backup is not None and self.executor is not None:
            raise RunOptionError(
                "excludes executor: a backup is written by the process that writes the documents; "
                "leave one of them out",
                option="backup",
            )
        limits = Limits(
            max_rate=self.max_rate,
            max_replication_lag=self.max_replication_lag,
            max_latency=self.max_latency,
            throttle=self.throttle,
            flag_file=self.flag_file,
            nice=self.nice,
        )
        object.__setattr__(self, "limits", limits)

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
        plain = {
            name: getattr(self, name)
            for name in (
                "chunk_size",
                "chunk_seconds",
                "max_errors",
                "max_rate",
                "max_replication_lag",
                "max_latency",
                "nice",
                "transactions",
                "again",
            )
        }
        paths = {
            name: None if (value := getattr(self, name)) is None else str(Path(value).absolute())
            for name in ("flag_file", "backup")
        }
        callables = {
            name: None if (value := getattr(self, name)) is None else _name_of(value)
            for name in ("throttle", "executor")
        }
        return {**plain, **paths, **callables}


def _name_of(value: Any) -> str:
    return str(getattr(value, "__qualname__", type(value).__qualname__))


def _check_whole(name: str, value: Any, least: int, remedy: str, most: int | None = None) -> None:
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
    if not fits or (most is not None and value > most):
        raise RunOptionError(f"is {value!r}; {remedy}", option=name)


def _check_positive(name: str, value: Any) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not 0 < value < math.inf:
        raise RunOptionError(f"is {value!r}; use a number of seconds above 0", option=name)
