"""The fence of a lease: writes of a run do nothing once it has expired, by the server's clock.

A process may be stopped at any line, for longer than its lease lasts, and continue unaware of it.
So the time at which the lease ends is part of what each update looks for. In a transaction the
checkpoint is what does so, by its token.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from bson import ObjectId
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect

from lazymig.engines.access import Raw, all_of, is_mongomock, recast
from lazymig.errors import LeaseLost, Remedy
from lazymig.locks import new_lock
from lazymig.operations.journal.collection import lease_collection

__all__ = ["Fence", "WriteFenced", "fenced"]

# Looks at the lease within the time that one lasts: as often as it is renewed.
_LOOKS = 3

# Seconds between two looks at a lease that is renewed late.
_LOOK_AGAIN = 0.05


class WriteFenced(AutoReconnect):
    """The lease had ended before a write reached the server, which did nothing."""


class Fence:
    """The condition that keeps a write within a lease.

    :param collection: the one that the lease is for.
    :param token: by which the lease is the holder's.
    :param seconds: how long it lasts.
    """

    def __init__(self, collection: Collection[Any], token: ObjectId, seconds: float) -> None:
        self._entries = lease_collection(collection.database)
        self._query = {"_id": f"lease:{collection.name}", "token": token}
        self._place = str(collection.full_name)
        self._seconds = seconds
        self._lock = new_lock()
        self._fresh_until = 0.0
        self._expires: datetime

    def expires(self) -> datetime:
        """When the lease ends, if it is not renewed any more, by the server's clock.

        :raises LeaseLost: it is another's.
        :raises WriteFenced: it has ended, and is not renewed.
        """
        with self._lock:
            until = time.monotonic() + self._seconds
            while time.monotonic() >= self._fresh_until:
                now = self._look()
                if now < self._expires:
                    break
                if time.monotonic() > until:
                    raise WriteFenced(f"{self._place}: the lease is not renewed")
                time.sleep(_LOOK_AGAIN)
            return self._expires

    def check(self, expires: datetime) -> None:
        """See that a write which has found too little was sent in time.

        :raises WriteFenced: it was not.
        """
        with self._lock:
            now = self._look()
        if now >= expires:
            raise WriteFenced(f"{self._place}: a write came after the end of the lease")

    def _look(self) -> datetime:
        asked = time.monotonic()
        stages = [{"$match": self._query}, {"$project": {"expires": 1, "now": "$$NOW"}}]
        for entry in self._entries.aggregate(stages):
            self._expires = entry["expires"]
            left = (entry["expires"] - entry["now"]).total_seconds()
            self._fresh_until = asked + min(left, self._seconds) / _LOOKS
            now: datetime = entry["now"]
            return now
        raise LeaseLost(
            f"{self._place}: another run has taken the lease, or its entry was deleted",
            collection=self._place,
            remedy=Remedy("resume"),
        )


class _FencedCollection(Collection[Any]):
    """A collection whose updates outside of transactions keep within a lease."""

    _lazymig_fence: Fence

    def with_options(self, *args: Any, **options: Any) -> Any:
        """Return the same collection with other options, still fenced."""
        return fenced(super().with_options(*args, **options), self._lazymig_fence)

    def update_one(self, filter: Raw, update: Any, *args: Any, **options: Any) -> Any:  # noqa: A002
        """Update one document, as PyMongo's `update_one` does."""
        return self._lazymig_update(super().update_one, filter, update, args, options)

    def update_many(self, filter: Raw, update: Any, *args: Any, **options: Any) -> Any:  # noqa: A002
        """Update many documents, as PyMongo's `update_many` does."""
        return self._lazymig_update(super().update_many, filter, update, args, options)

    def bulk_write(self, requests: Sequence[Any], *args: Any, **options: Any) -> Any:
        """Write in bulk, as PyMongo's `bulk_write` does."""
        if options.get("session") is not None:
            return super().bulk_write(requests, *args, **options)
        expires = self._lazymig_fence.expires()
        result = super().bulk_write(
            [_within(request, expires) for request in requests], *args, **options
        )
        if result.matched_count + result.upserted_count < len(requests):
            self._lazymig_fence.check(expires)
        return result

    def _lazymig_update(
        self, write: Any, query: Raw, update: Any, args: Sequence[Any], options: dict[str, Any]
    ) -> Any:
        if options.get("session") is not None:
            return write(query, update, *args, **options)
        expires = self._lazymig_fence.expires()
        if options.get("upsert") or args:
            # What is not found would be inserted.
            return write(query, update, *args, **options)
        result = write(_before(query, expires), update, **options)
        if not result.matched_count:
            self._lazymig_fence.check(expires)
        return result


def fenced(collection: Collection[Any], fence: Fence) -> Any:
    """A collection whose updates keep within a lease; one of mongomock comes back."""
    if is_mongomock(collection):
        return collection
    again = recast(collection, _FencedCollection)
    vars(again)["_lazymig_fence"] = fence
    return again


def _before(query: Raw, expires: datetime) -> dict[str, Any]:
    return all_of(query, {"$expr": {"$lt": ["$$NOW", expires]}})


def _within(request: Any, expires: datetime) -> Any:
    """The same operation of a bulk write, which does nothing after the end of the lease."""
    query = getattr(request, "_filter", None)
    if not isinstance(query, Mapping) or getattr(request, "_upsert", None):
        return request
    again = copy.copy(request)
    again._filter = _before(query, expires)  # noqa: SLF001 - PyMongo has no public name for it
    return again
