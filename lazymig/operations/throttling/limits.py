"""The limits of a bulk run: what it may cost the database.

A new kind of limit is a field here, a look in `throttle.py`, and a name in `RunOptions`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass

from lazymig.errors import RunOptionError
from lazymig.operations.declared import Checked, declarations, name_of, option

__all__ = ["CHANGEABLE", "Limits"]


@dataclass(frozen=True, kw_only=True)
class Limits(Checked):
    """What a bulk run may cost the database; `None` or 0 is no limit.

    - `max_rate`: documents matched, per second.
    - `max_replication_lag`: seconds that a secondary may lag.
    - `max_latency`: seconds that the run's own small write, the checkpoint of a chunk, may take.
    - `throttle`: asked before each chunk. Anything false: continue. A text: wait, with this reason.
      A number: wait that many seconds, then continue. Anything else that is true: wait. A run that
      waits for a text or for true asks again each second. What it raises stops the run.
    - `flag_file`: while this file exists, the run waits.
    - `nice`: seconds to sleep for each second of work; 0.5 sleeps half as long as the work took.

    :raises RunOptionError: a value is none of these.
    """

    max_rate: float | None = option(
        None,
        "amount",
        unit="documents per second",
        changes="rate limit",
        help="Documents that match, per second.",
        waited="the rate was kept",
    )
    max_replication_lag: float | None = option(
        None,
        "amount",
        unit="seconds",
        changes="replication lag limit",
        help="Seconds that a secondary may lag.",
        waited="secondaries lagged",
    )
    max_latency: float | None = option(
        None,
        "amount",
        unit="seconds",
        changes="latency limit",
        help="Seconds that the run's own small writes may take.",
        waited="writes were slow",
    )
    nice: float = option(
        0.0,
        "amount",
        unit="the seconds to sleep for each second of work",
        changes="nice",
        help="Seconds to sleep for each second of work.",
        waited="time was left to others",
    )
    throttle: Callable[[], object] | None = option(
        None,
        fits=lambda value: value is None or callable(value),
        problem="{} cannot be called; give a function without parameters",
        journal=name_of,
        waited="the application asked for it",
    )
    flag_file: str | os.PathLike[str] | None = option(
        None, "file", help="Wait while this file exists.", waited="a flag file was there"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if inspect.iscoroutinefunction(self.throttle):
            raise RunOptionError(
                f"{self.throttle!r} is a coroutine function, which nobody would await; "
                "give an ordinary function",
                option="throttle",
            )


CHANGEABLE = {
    name: each.changes for name, each in declarations(Limits).items() if each.changes is not None
}
"""The limits that a run at work can be given anew, each with what a user calls it."""
