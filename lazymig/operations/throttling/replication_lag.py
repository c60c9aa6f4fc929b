"""The replication lag of a server, by what it says of the members of its replica set."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from pymongo import MongoClient
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import ConnectionFailure, OperationFailure

from lazymig.engines.access import Raw
from lazymig.engines.driver_errors import is_away, waited_too_long

__all__ = ["LagWatch", "command_of", "lag_of_hello", "lag_of_status"]

logger = logging.getLogger(__name__)

# Seconds after which the server is asked again, and a time that is as good as over.
_INTERVAL = 1.0
_SHORTEST = 0.001

_PRIMARY = 1
_SECONDARY = 2


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
        return min(_INTERVAL, max(0.0, self._asked_at + _INTERVAL - self._clock()))

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
                "max_replication_lag is not watched: this server reports no replication "
                "lag (mongos, no replica set, or mongomock)"
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
    """The largest lag of a secondary, from an answer of `replSetGetStatus`.

    In seconds, by `optimeDate`, which MongoDB gives in whole seconds. Only members in the state
    SECONDARY count: not those that are down, recovering, starting or arbiters. `delays` holds, by
    the member's `_id`, the seconds that a member lags on purpose. 0 where no member counts;
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
    """The seconds by which a majority of the members lags, from an answer of `hello`.

    It is the age of the newest write that a majority has, seen from the newest write: a single
    slow member does not show. `None` where the answer does not have both.
    """
    last = hello.get("lastWrite", {})
    written, by_majority = last.get("lastWriteDate"), last.get("majorityWriteDate")
    if not isinstance(written, datetime) or not isinstance(by_majority, datetime):
        return None
    return max(0.0, (written - by_majority).total_seconds())


def command_of(client_or_collection: Any) -> Callable[[str], Raw] | None:
    """What runs a command on `admin`, on the primary; `None` for mongomock."""
    client = client_or_collection
    if isinstance(client, Collection):
        client = client.database
    if isinstance(client, Database):
        client = client.client
    if not isinstance(client, MongoClient):
        return None
    return client.get_database("admin").command
