"""The throttle of a bulk run: when its next chunk may start, so that it keeps to its limits.

Nothing sleeps here: the runner asks, sleeps, and reports how long it slept.
"""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from lazymig.errors import RunOptionError
from lazymig.operations.declared import number_of
from lazymig.operations.throttling.limits import Limits
from lazymig.operations.throttling.replication_lag import LagWatch, command_of

__all__ = ["PACING", "Throttle", "Wait"]

# The waits by which a run keeps its own pace, as opposed to those for something to get better.
PACING = frozenset({"max_rate", "nice"})

# The longest wait before it is asked again: a run that waits must still be seen to live.
_LOOK = 1.0

# A wait shorter than what a sleep can keep is none.
_SHORTEST = 0.001

_FIRST_BACK_OFF = 0.1
_LONGEST_BACK_OFF = 5.0


_OPTIONS = frozenset(field.name for field in fields(Limits))


@dataclass(frozen=True)
class Wait:
    """The next chunk may not start yet: why, and after how many seconds (at most 1) to ask again.

    `kind` is the name of the limit, under which the time slept is added up.
    """

    reason: str
    seconds: float
    kind: str


class Throttle:
    """Decides when a run's next chunk may start.

    `client_or_collection` is where replication lag is asked: a PyMongo client, database or
    collection. `clock` gives seconds that never go back. An instance belongs to one thread.

        while (held := throttle.wait()) is not None:
            sleep(held.seconds)
            throttle.slept(held.kind, held.seconds)
        ...  # a chunk of at most chunk_limit() documents that match
        throttle.worked(documents, seconds, latency)
    """

    def __init__(
        self,
        limits: Limits,
        client_or_collection: Any,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self._clock = clock
        self._lag = LagWatch(command_of(client_or_collection), clock=clock)
        self._waited: Counter[str] = Counter()
        # Documents written that `max_rate` has not yet paid off, at a point of time.
        self._owed = 0.0
        self._owed_at = clock()
        self._nice_until = -math.inf
        self._latency: float | None = None
        self._back_off = 0.0
        self._latency_until = -math.inf
        # When the number of seconds that `throttle` asked for is over.
        self._granted_from: float | None = None
        self._asked_for = 0.0
        self._looks = (
            self._rate_wait,
            self._nice_wait,
            self._latency_wait,
            self._flag_wait,
            self._lag_wait,
            # The last one, so that the chunk starts when it says so.
            self._throttle_wait,
        )

    def change(self, **overrides: Any) -> None:
        """Set limits anew during the run; the others stay as they are.

        :raises RunOptionError: a name or a value that `Limits` does not know; nothing is changed.
        """
        for option in sorted(overrides.keys() - _OPTIONS):
            raise RunOptionError(
                f"no limit of a run; give one of {', '.join(sorted(_OPTIONS))}", option=option
            )
        limits = replace(self.limits, **overrides)
        self._pay_off(self._clock())
        self.limits = limits

    def worked(self, documents: int, seconds: float, latency: float | None = None) -> None:
        """Note what a chunk did, right after it.

        `documents` matched; `seconds` of work, sleep not counted; `latency`: seconds that the
        chunk's checkpoint took, `None` if there was none.
        """
        now = self._clock()
        self._pay_off(now - seconds)
        self._owed += documents
        self._nice_until = now + self.limits.nice * seconds if self.limits.nice else -math.inf
        self._granted_from = None
        if latency is None:
            return
        self._latency = latency
        if not self._is_slow():
            self._back_off = 0.0
            return
        self._back_off = min(max(2 * self._back_off, _FIRST_BACK_OFF), _LONGEST_BACK_OFF)
        self._latency_until = now + self._back_off

    def wait(self) -> Wait | None:
        """Why and how long the run has to wait now; `None`: the next chunk may start.

        What `throttle` raises is let through.
        """
        for look in self._looks:
            held = look()
            if held is not None:
                return held
        return None

    def chunk_limit(self) -> int | None:
        """The most documents that match for the next chunk, so that `max_rate` is kept smoothly.

        It is about one second's worth; `None`: as many as you like.
        """
        return max(1, int(self.limits.max_rate)) if self.limits.max_rate else None

    def slept(self, kind: str, seconds: float) -> None:
        """Add to the time slept for one kind of reason: a `Wait.kind`, or one of the runner's."""
        self._waited[kind] += seconds  # type: ignore[assignment]  # Counter is typed for ints

    @property
    def waited(self) -> dict[str, float]:
        """Seconds slept per kind of reason, as noted by `slept`; kinds without sleep are absent."""
        return dict(self._waited)

    def _pay_off(self, moment: float) -> None:
        """Settle what `max_rate` allowed up to this moment; what was not used is not saved up."""
        rate = self.limits.max_rate
        elapsed = max(0.0, moment - self._owed_at)
        self._owed = max(0.0, self._owed - elapsed * rate) if rate else 0.0
        self._owed_at += elapsed

    def _rate_wait(self) -> Wait | None:
        rate = self.limits.max_rate
        if not rate:
            return None
        self._pay_off(self._clock())
        return _hold("max_rate", f"max_rate {rate:g} matching documents/s", self._owed / rate)

    def _nice_wait(self) -> Wait | None:
        nice = self.limits.nice
        if not nice:
            return None
        return _hold("nice", f"nice {nice:g}", self._nice_until - self._clock())

    def _is_slow(self) -> bool:
        limit = self.limits.max_latency
        return self._latency is not None and bool(limit and self._latency > limit)

    def _latency_wait(self) -> Wait | None:
        if not self._is_slow():
            return None
        return _hold(
            "max_latency",
            f"write latency {self._latency:.2f} s > max_latency {self.limits.max_latency:g} s",
            self._latency_until - self._clock(),
        )

    def _flag_wait(self) -> Wait | None:
        path = self.limits.flag_file
        if path is None:
            return None
        try:
            Path(path).stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            # Whoever set the flag must be able to rely on it.
            return Wait(f"flag file cannot be looked for: {error}", _LOOK, "flag_file")
        return Wait(f"flag file {os.fspath(path)} exists", _LOOK, "flag_file")

    def _lag_wait(self) -> Wait | None:
        limit = self.limits.max_replication_lag
        if not limit:
            return None
        lag = self._lag.seconds(limit)
        if lag is None or lag <= limit:
            return None
        return Wait(
            f"replication lag {lag:.1f} s > max_replication_lag {limit:g} s",
            self._lag.until_asked(),
            "max_replication_lag",
        )

    def _throttle_wait(self) -> Wait | None:
        if self.limits.throttle is None:
            return None
        if self._granted_from is None:
            answer = self.limits.throttle()
            if not answer:
                return None
            number = number_of(answer)
            if number is None:
                reason = answer if isinstance(answer, str) else "throttle asks to wait"
                return Wait(reason, _LOOK, "throttle")
            self._asked_for = number
            self._granted_from = self._clock() + number
        return _hold(
            "throttle",
            f"throttle asks to wait {self._asked_for:g} s",
            self._granted_from - self._clock(),
        )


def _hold(kind: str, reason: str, seconds: float) -> Wait | None:
    return Wait(reason, min(seconds, _LOOK), kind) if seconds >= _SHORTEST else None
