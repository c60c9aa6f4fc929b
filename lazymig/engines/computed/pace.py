"""The time that rules take in Python: work in slices, each written before the next one is begun."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import pymongo
from pymongo.errors import PyMongoError

from lazymig.engines.driver_errors import waited_too_long

__all__ = ["IN_TRANSACTION", "SLICE", "Pace", "Slow", "slowest"]

_Result = TypeVar("_Result")

# Seconds of computing after which its results are written, so that what ends the process, or the
# time limit, takes no more than this with it.
SLICE: Final = 0.5

# Seconds of computing in one transaction, which MongoDB ends after a minute.
IN_TRANSACTION: Final = 10.0

# The most seconds that the write of a computed update is given, where the time limit is over.
_OVERTIME: Final = 1.0

# PyMongo takes 0 for no limit.
_LEAST: Final = 0.001


@dataclass(slots=True)
class Slow:
    """What a rule has taken in Python so far: seconds, for so many documents."""

    rule: str
    seconds: float = 0.0
    documents: int = 0

    @property
    def each(self) -> float:
        """Seconds per document."""
        return self.seconds / max(self.documents, 1)


@dataclass(slots=True)
class Pace:
    """How long documents may be computed, and what they took.

    :param until: the time of `time.monotonic` at which no further document is computed.
    :param context: where commands are sent: the caller's context, without the time limit, which
        computing may have used up; `None` in a bulk run.
    :param taken: what rules took, by their names.
    :param patience: seconds for the one write that follows an effect; `None` for no limit.

    `waited`: a command has waited until the end of its time. `computed`: seconds.
    """

    until: float = math.inf
    context: Context | None = None
    taken: dict[str, Slow] = field(default_factory=dict)
    patience: float | None = None
    waited: bool = False
    computed: float = 0.0

    @classmethod
    def within(cls, limit: float | None, taken: dict[str, Slow], patience: float | None) -> Pace:
        """The pace of work that has so many seconds from now on, `None` for no limit."""
        until = math.inf if limit is None else time.monotonic() + limit
        return cls(until, copy_context(), taken, patience)

    @property
    def seconds(self) -> float:
        """The seconds that all rules took."""
        return sum(each.seconds for each in self.taken.values())

    @property
    def is_over(self) -> bool:
        """Return whether the time is up."""
        return time.monotonic() >= self.until

    def note(self, rule: str, seconds: float) -> None:
        """Note what a rule has taken for one document."""
        slow = self.taken.get(rule)
        if slow is None:
            slow = self.taken[rule] = Slow(rule)
        slow.seconds += seconds
        self.computed += seconds
        slow.documents += 1

    def sliced(self, documents: Sequence[Any], seconds: float) -> Iterator[Any]:
        """The documents whose turn comes within so many seconds, the first one in any case.

        Once the time is up, none.
        """
        end = time.monotonic() + seconds
        for number, document in enumerate(documents):
            now = time.monotonic()
            if now >= self.until or (number and now >= end):
                return
            yield document

    def send(self, command: Callable[[], _Result]) -> _Result:
        """Send what was computed; up to a second, computing takes nothing of the time for that."""
        if self.context is None or self.until == math.inf:
            return command()

        def limited() -> _Result:
            left = self.until - time.monotonic()
            with pymongo.timeout(max(left, min(left + self.computed, _OVERTIME), _LEAST)):
                return command()

        try:
            return self.context.run(limited)
        except PyMongoError as exc:
            self.waited = waited_too_long(exc)
            raise


def slowest(taken: Mapping[str, Slow], limit: float | None) -> Slow | None:
    """The rule that has used up a time limit, if it is one that has: half of it, at least."""
    if limit is None or not taken:
        return None
    found = max(taken.values(), key=lambda each: each.seconds)
    return found if sum(each.seconds for each in taken.values()) >= limit / 2 else None
