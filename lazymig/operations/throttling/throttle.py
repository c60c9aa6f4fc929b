"""What a bulk run may cost the database: limits, and when the next chunk may start.

Nothing sleeps here: the runner asks, sleeps, and tells how long it slept.
"""

from __future__ import annotations

import inspect
import logging
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from functools import partial
from numbers import Real
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import ConnectionFailure, OperationFailure

from lazymig.engines.access import Raw
from lazymig.engines.driver_errors import is_away, waited_too_long
from lazymig.errors import RunOptionError

__all__ = ["PACING", "LagWatch", "Limits", "Throttle", "Wait", "lag_of_hello", "lag_of_status"]

logger = logging.getLogger(__name__)

# The waits by which a run keeps its own pace, as opposed to those for something to get better.
PACING = frozenset({"max_rate", "nice"})

# The longest wait before it is asked again: a run that waits must still be seen to live.
_LOOK = 1.0

# A wait shorter than what a sleep can keep is none.
_SHORTEST = 0.001

_FIRST_BACK_OFF = 0.1
_LONGEST_BACK_OFF = 5.0

_PRIMARY = 1
_SECONDARY = 2

_AMOUNTS = {
    "max_rate": "documents per second",
    "max_replication_lag": "seconds",
    "max_latency": "seconds",
    "nice": "the seconds to sleep for each second of work",
}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a bulk run may cost the database; `None` or 0 is no limit.

    - `max_rate`: documents matched, per second.
    - `max_replication_lag`: seconds that a secondary may be behind the primary.
    - `max_latency`: seconds that the run's own small write, the checkpoint of a chunk, may take.
    - `throttle`: asked before each chunk. Anything false: go on. A text: wait, with this reason.
      A number: wait that many seconds, then go on. Anything else that is true: wait. A run that
      waits for a text or for true asks again each second. What it raises stops the run.
    - `flag_file`: while this file exists, the run waits.
    - `nice`: seconds to sleep for each second of work; 0.5 sleeps half as long as the work took.

    :raises RunOptionError: a value is none of these.
    """

    max_rate: float | None = None
    max_replication_lag: float | None = None
    max_latency: float | None = None
    throttle: Callable[[], object] | None = None
    flag_file: str | os.PathLike[str] | None = None
    nice: float = 0.0

    def __post_init__(self) -> None:
        for option, unit in _AMOUNTS.items():
            value = getattr(self, option)
            if value is not None and not _is_amount(value):
                raise RunOptionError(
                    f"{value!r} is no limit; give {unit}, 0 or more (0: no limit)", option=option
                )
        if self.throttle is not None and not callable(self.throttle):
            raise RunOptionError(
                f"{self.throttle!r} cannot be called; give a function without parameters",
                option="throttle",
            )
        if inspect.iscoroutinefunction(self.throttle):
            raise RunOptionError(
                f"{self.throttle!r} is a coroutine function, which nobody would await; "
                "give an ordinary function",
                option="throttle",
            )
        if self.flag_file is not None and not _is_path(self.flag_file):
            raise RunOptionError(
                f"{self.flag_file!r} is no path; give the path of a file, or None",
                option="flag_file",
            )


def _number(value: Any) -> float | None:
    """A number of any kind, those of NumPy included; `None`: it is none."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return None
    return float(value)


def _is_amount(value: Any) -> bool:
    number = _number(value)
    return number is not None and math.isfinite(number) and number >= 0


def _is_path(value: object) -> bool:
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    return isinstance(value, str) and value != "" and "\0" not in value


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
        self._lag = LagWatch(_command_of(client_or_collection), clock=clock)
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
        """Set limits anew while the run goes on; the others stay as they are.

        :raises RunOptionError: a name or a value that `Limits` does not know; nothing is changed.
        """
        for option in sorted(set(overrides) - _OPTIONS):
            raise RunOptionError(
                f"no limit of a run; give one of {', '.join(sorted(_OPTIONS))}", option=option
            )
        limits = replace(self.limits, **overrides)
        self._pay_off(self._clock())
        self.limits = limits

    def worked(self, documents: int, seconds: float, latency: float | None = None) -> None:
        """Tell what a chunk did, right after it.

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
        """Seconds slept per kind of reason, as told by `slept`; kinds without sleep are absent."""
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
        return _hold("max_rate", f"max_rate {rate:g} documents/s", self._owed / rate)

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
            number = _number(answer)
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


class LagWatch:
    """The replication lag of a server, asked for at most once per second.

    `command` runs a command on the database `admin` of the primary; `None`: there is no server.
    It asks `replSetGetStatus`. Where that is refused, it asks `hello`. Where neither knows
    (`mongos`, a server without replica set, mongomock), it warns once and asks no more.
    """

    def __init__(
        self,
        command: Callable[[str], Raw] | None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ways = [partial(way, command) for way in (_by_status, _by_hello)] if command else []
        self._clock = clock
        self._warned = False
        self._asked_at = -math.inf
        self._seconds: float | None = None

    def seconds(self, limit: float) -> float | None:
        """The lag in seconds; `None`: not known, now or at all.

        A member that is delayed on purpose counts with what exceeds its delay. The delays are
        asked for only where the lag is above `limit`.
        """
        if self.until_asked() < _SHORTEST:
            self._seconds = self._ask(limit)
            self._asked_at = self._clock()
        return self._seconds

    def until_asked(self) -> float:
        """Seconds until the server is asked again."""
        return min(_LOOK, max(0.0, self._asked_at + _LOOK - self._clock()))

    def _ask(self, limit: float) -> float | None:
        while self._ways:
            try:
                return self._ways[0](limit)
            except ConnectionFailure as error:
                # The run's next write meets the same server, and knows what to do without it.
                logger.debug("the replication lag is not known: %s", error)
                return None
            except (OperationFailure, _NoReplicaSet) as error:
                if isinstance(error, OperationFailure) and (
                    waited_too_long(error) or is_away(error)
                ):
                    return None
                del self._ways[0]
                logger.info("the replication lag cannot be asked for in this way: %s", error)
        if not self._warned:
            self._warned = True
            logger.warning(
                "max_replication_lag is not watched: this server tells no replication lag "
                "(mongos, no replica set, or mongomock)"
            )
        return None


class _NoReplicaSet(Exception):
    """The server does not belong to a replica set itself."""


def _by_hello(command: Callable[[str], Raw], _limit: float) -> float | None:
    hello = command("hello")
    if "setName" not in hello:
        raise _NoReplicaSet("hello names no replica set")
    return lag_of_hello(hello)


def _by_status(command: Callable[[str], Raw], limit: float) -> float | None:
    status = command("replSetGetStatus")
    lag = lag_of_status(status)
    if lag is None or lag <= limit:
        return lag
    try:
        config = command("replSetGetConfig").get("config", {})
    except OperationFailure as error:
        logger.debug("the delays of the members are not known: %s", error)
        return lag
    # The name of the option before MongoDB 5.0 is slaveDelay.
    delays = {
        member["_id"]: float(member.get("secondaryDelaySecs", member.get("slaveDelay", 0)))
        for member in config.get("members", ())
    }
    return lag_of_status(status, delays)


def lag_of_status(status: Raw, delays: Mapping[Any, float] | None = None) -> float | None:
    """The largest lag of a secondary behind the primary, from an answer of `replSetGetStatus`.

    In seconds, by `optimeDate`, which MongoDB gives in whole seconds. Only members in the state
    SECONDARY count: not those that are down, recovering, starting or arbiters. `delays` holds, by
    the member's `_id`, the seconds that a member is behind on purpose. 0 where no member counts;
    `None` where the answer knows no primary.
    """
    members = status.get("members", ())
    primary = [
        member["optimeDate"]
        for member in members
        if member.get("state") == _PRIMARY and "optimeDate" in member
    ]
    if not primary:
        return None
    newest = max(primary)
    return max(
        (
            max(
                0.0,
                (newest - member["optimeDate"]).total_seconds()
                - (delays or {}).get(member.get("_id"), 0.0),
            )
            for member in members
            if member.get("state") == _SECONDARY and "optimeDate" in member
        ),
        default=0.0,
    )


def lag_of_hello(hello: Raw) -> float | None:
    """The seconds by which a majority of the members is behind, from an answer of `hello`.

    It is the age of the newest write that a majority has, seen from the newest write: a single
    slow member does not show. `None` where the answer does not tell both.
    """
    last = hello.get("lastWrite", {})
    written, by_majority = last.get("lastWriteDate"), last.get("majorityWriteDate")
    if not isinstance(written, datetime) or not isinstance(by_majority, datetime):
        return None
    return max(0.0, (written - by_majority).total_seconds())


def _command_of(client_or_collection: Any) -> Callable[[str], Raw] | None:
    """What runs a command on `admin`, on the primary; `None` for mongomock."""
    client = client_or_collection
    if isinstance(client, Collection):
        client = client.database
    if isinstance(client, Database):
        client = client.client
    if not isinstance(client, MongoClient):
        return None
    return client.get_database("admin").command
