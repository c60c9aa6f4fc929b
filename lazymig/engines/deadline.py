"""The deadline of a load's writes: the shortest of the time limits that are set, and its name.

`lazy_timeout` is one of them. The client's `timeoutMS`, and a `pymongo.timeout` around the load,
are what the application has promised to its own users: nothing here outlasts them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

import pymongo
from pymongo import _csot

from lazymig.engines.access import client_options

__all__ = ["Deadline", "seconds_around", "without_client_limit"]

# What is used of a `pymongo.timeout` around a load: the rest is for reading what was written, and
# for the neighbours of a document that had to be given up.
_SHARE: Final = 0.9

# Seconds that an operation is given at least: for PyMongo, 0 means no limit.
_LEAST: Final = 0.001

_UNNAMED: Final = "the server's own time limit"

# The deadline that this module has set in this context, as PyMongo has noted it, and its name.
_set_here: ContextVar[tuple[float, str] | None] = ContextVar("lazymig_deadline", default=None)


@dataclass(frozen=True, slots=True)
class Deadline:
    """The time within which something must be done.

    :param started: a time of `time.monotonic`.
    :param seconds: from then on; `None` for no limit.
    :param limit: the name and the value of what sets it, as in "lazy_timeout = 5 s".
    """

    started: float
    seconds: float | None
    limit: str

    @classmethod
    def of(cls, collection: Any, lazy_timeout: float | None) -> Deadline:
        """The deadline of what begins now on a collection: whichever limit ends first."""
        limits = (
            [] if lazy_timeout is None else [(lazy_timeout, f"lazy_timeout = {lazy_timeout:g} s")]
        )
        other = _limit_around(collection)
        if other is not None:
            limits.append(other)
        seconds, limit = min(limits, default=(None, _UNNAMED), key=itemgetter(0))
        return cls(time.monotonic(), seconds, limit)

    @property
    def left(self) -> float | None:
        """The seconds that are left, 0 when it is over; `None` without a limit."""
        if self.seconds is None:
            return None
        return max(self.started + self.seconds - time.monotonic(), 0.0)

    @property
    def is_over(self) -> bool:
        """Return whether no time is left."""
        return self.left == 0

    def part(self, fraction: float) -> Deadline:
        """The first part of the whole time."""
        seconds = None if self.seconds is None else self.seconds * fraction
        return Deadline(self.started, seconds, self.limit)

    def at_most(self, seconds: float) -> Deadline:
        """What is left of it, and no more than so many seconds from now."""
        left = self.left
        return Deadline(
            time.monotonic(), seconds if left is None else min(seconds, left), self.limit
        )

    def at_least(self, seconds: float) -> Deadline:
        """What is left of it, and no less than so many seconds from now."""
        left = self.left
        return Deadline(time.monotonic(), None if left is None else max(seconds, left), self.limit)

    @contextmanager
    def within(self) -> Iterator[None]:
        """End the operations of a block in time, by an error for which `waited_too_long` holds."""
        left = self.left
        if left is None:
            # Not `pymongo.timeout(None)`: that would lift a limit which is set around it.
            yield
            return
        with pymongo.timeout(max(left, _LEAST)):
            token = _set_here.set((_csot.get_deadline(), self.limit))
            try:
                yield
            finally:
                _set_here.reset(token)


def _limit_around(collection: Any) -> tuple[float, str] | None:
    """What PyMongo would limit an operation to, in seconds, and the name of that limit."""
    if _csot.get_timeout() is not None:
        # That stands in place of the client's options, also where it is longer.
        left = _csot.remaining()
        if left is None:
            return None
        here = _set_here.get()
        if here is not None and here[0] == _csot.get_deadline():
            return max(left * _SHARE, _LEAST), here[1]
        left = max(left, _LEAST)
        return left * _SHARE, f"the pymongo.timeout around it, of which {left:.2g} s were left,"
    options = client_options(collection.database)
    if options is None:
        return None
    if options.timeout:
        return options.timeout, f"the client's timeoutMS = {options.timeout * 1000:g}"
    waiting = options.pool_options.socket_timeout
    return (waiting, f"the client's socketTimeoutMS = {waiting * 1000:g}") if waiting else None


def seconds_around() -> float | None:
    """The seconds that are left of a `pymongo.timeout` around; `None` where nothing limits."""
    return _csot.remaining()


@contextmanager
def without_client_limit(database: Any) -> Iterator[None]:
    """Lift the client's `timeoutMS` for a block that takes as long as it takes.

    That option is made for requests: a bulk run has commands that take longer, and limits of its
    own. A `pymongo.timeout` around the block is left as it is.
    """
    options = client_options(database)
    if _csot.get_timeout() is not None or options is None or not options.timeout:
        yield
        return
    # No time limit at all, by the definition of timeoutMS.
    with pymongo.timeout(0):
        yield
