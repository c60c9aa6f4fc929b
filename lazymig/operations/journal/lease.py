"""The lease of a collection: one bulk run at a time, by the server's clock."""

from __future__ import annotations

import logging
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

import pymongo
from bson import ObjectId
from pymongo import ReturnDocument
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError, PyMongoError

from lazymig.engines.access import Raw, is_mongomock
from lazymig.errors import CollectionLocked, LeaseLost, Remedy
from lazymig.locks import new_event, new_lock
from lazymig.operations.journal import JOURNAL
from lazymig.operations.journal.collection import lease_collection
from lazymig.operations.journal.fencing import Fence
from lazymig.operations.journal.records import FORMAT, fault_of
from lazymig.operations.journal.succession import end_predecessors
from lazymig.redaction import excerpt, without_secrets

__all__ = ["LEASE_SECONDS", "Lease"]

logger = logging.getLogger(__name__)

LEASE_SECONDS = 15.0

# Renewals within the time of one lease, so that one or two may fail.
_RENEWALS = 3

# Of two that upsert the same entry at once one gets an error, and asks again.
_ATTEMPTS = 3


# The leases that are held on mongomock, by client and collection.
_imitated: dict[tuple[int, str], Mapping[str, Any]] = {}


def _imitate(entries: Collection[Any], name: str, holder: Mapping[str, Any]) -> None:
    """Hold a lease among the threads of this process, the only ones that reach mongomock."""
    found = _imitated.setdefault((id(entries.database.client), name), holder)
    if found is not holder:
        raise CollectionLocked(
            f"{name}: another thread is at work on it; wait for it",
            collection=name,
            holder=found,
        )


class Lease(AbstractContextManager[Any]):
    """The right to run over one collection, taken on entering and given back on leaving.

    The lease is an entry of the collection `lazymig_journal` with a time at which it expires. A
    thread renews it while it is held. A process that dies renews nothing, so the next run can take
    over. On mongomock, which no other process reaches, it is held without an entry.

    :param journal: the journal collection. The lease is in its database, but always under the same
        name: runs with different journals exclude each other as well.
    :param collection: the name of the collection that is run over, in the journal's database.
    :param seconds: how long the lease lasts without a renewal.
    :param holder: what others see: `run`, `note`; `host` and `pid` are this process's, and
        `journal` is where the run is noted. Connection strings are cut out of its texts.
    :param clock: seconds that never go back, by which the holder itself judges the lease.
    """

    def __init__(
        self,
        journal: Collection[Any],
        collection: str,
        *,
        seconds: float = LEASE_SECONDS,
        holder: Mapping[str, Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if seconds <= 0:
            raise ValueError("a lease lasts longer than 0 seconds")
        self.collection = collection
        self.seconds = seconds
        self._entries = lease_collection(journal.database)
        self._key = f"lease:{collection}"
        self._token = ObjectId()
        self._holder = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "journal": journal.name,
            "run": None,
            "note": None,
            **without_secrets(holder or {}),
        }
        self._lock = new_lock()
        self._clock = clock
        self._until = 0.0
        self._taken = False
        self._held = False
        self._closing = new_event()
        self._renewer: threading.Thread | None = None

    def __enter__(self) -> Lease:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lease, if it is free or has expired, and begin to renew it.

        :raises CollectionLocked: another run holds it.
        :raises pymongo.errors.PyMongoError: the connection or the rights.
        """
        if self._held:
            raise RuntimeError(f"the lease of {self.collection} is held already")
        self._taken = False
        if is_mongomock(self._entries):
            _imitate(self._entries, self._full_name, self._holder)
            self._held, self._until = True, math.inf
            return
        asked = self._clock()
        entry = self._take()
        if entry.get("token") != self._token:
            raise self._locked(entry)
        self._until = asked + self.seconds
        self._held = True
        self._closing = new_event()
        self._renewer = threading.Thread(
            target=self._keep, args=(self._closing,), name=self._key, daemon=True
        )
        self._renewer.start()
        try:
            self._succeed(entry.get("before") or ())
        except BaseException:
            self._stop_renewing()
            raise

    def _succeed(self, holders: Sequence[Raw]) -> None:
        """End what those have left whose lease had expired, and forget them."""
        if not holders:
            return
        end_predecessors(self._entries.database, self.collection, holders)
        mine = {"_id": self._key, "token": self._token}
        self._entries.update_one(mine, {"$unset": {"before": ""}})

    def _stop_renewing(self) -> None:
        self._held = False
        self._closing.set()
        if self._renewer is not None:
            self._renewer.join()
            self._renewer = None

    def fence(self, collection: Collection[Any]) -> Fence:
        """What keeps the writes to the collection within the lease."""
        return Fence(collection, self._token, self.seconds)

    @property
    def token(self) -> ObjectId:
        """The proof that the lease is held by this process."""
        return self._token

    def name_run(self, run_id: ObjectId) -> None:
        """Let others see at once which run the lease is held for.

        :raises pymongo.errors.PyMongoError: the connection or the rights.
        """
        self._holder = {**self._holder, "run": run_id}
        if not is_mongomock(self._entries):
            self._renew()

    @property
    def valid(self) -> bool:
        """Return whether no other run can hold the lease at this moment.

        False when renewing has failed for longer than the lease lasts, by this machine's
        monotonic clock, and for good once another run has taken it.
        """
        return self._held and not self._taken and self._clock() < self._until

    @property
    def taken(self) -> bool:
        """Return whether the lease is another run's by now, or its entry was deleted: for good."""
        return self._taken

    def check(self) -> None:
        """Do nothing while the lease is valid.

        :raises LeaseLost: it is not.
        """
        if self.valid:
            return
        if self._taken:
            problem = "another run has taken the lease, or its entry was deleted"
        elif self._held:
            problem = f"the lease could not be renewed for {self.seconds:g} s"
        else:
            problem = "the lease is not held"
        raise LeaseLost(
            f"{self._full_name}: {problem}",
            collection=self._full_name,
            run=self._holder["run"],
            remedy=Remedy("resume"),
        )

    def release(self) -> None:
        """Give the lease back; one that is another's by now is left alone.

        Where the server cannot be reached the lease is left to expire.
        """
        if not self._held:
            return
        self._stop_renewing()
        if is_mongomock(self._entries):
            _imitated.pop((id(self._entries.database.client), self._full_name))
            return
        try:
            with pymongo.timeout(self.seconds):
                self._entries.delete_one({"_id": self._key, "token": self._token})
        except PyMongoError as exc:
            logger.warning("%s: the lease is left to expire: %s", self._full_name, excerpt(exc))

    @property
    def _full_name(self) -> str:
        return f"{self._entries.database.name}.{self.collection}"

    def _entry(self) -> dict[str, Any]:
        return {
            "_id": self._key,
            "kind": "lease",
            "format": FORMAT,
            "collection": self.collection,
            "token": self._token,
            "holder": self._holder,
            "seconds": self.seconds,
        }

    def _take(self) -> Raw:
        """The entry after the attempt: with our token, or with the holder's."""
        expires = {"$add": ["$$NOW", self.seconds * 1000]}
        # Whoever dies before the former holders are ended leaves them to the next one.
        known = {"$cond": [{"$isArray": "$before"}, "$before", []]}
        nobody = {"$ne": [{"$type": "$holder"}, "object"]}
        again = {"$or": [nobody, {"$eq": ["$token", self._token]}]}
        before = {"$cond": [again, known, {"$concatArrays": [known, ["$holder"]]}]}
        ours = {
            "$mergeObjects": [{"$literal": self._entry()}, {"expires": expires, "before": before}]
        }
        # Free, expired, or ours already: an answer that was lost made the driver ask twice. What a
        # newer version means by its entry is not known here.
        expired = {"$lte": ["$expires", "$$NOW"]}
        free = {
            "$or": [
                {"$eq": [{"$type": "$expires"}, "missing"]},
                {"$and": [expired, {"$lte": [{"$ifNull": ["$format", FORMAT]}, FORMAT]}]},
                {"$eq": ["$token", self._token]},
            ]
        }
        update = [{"$replaceWith": {"$cond": [free, ours, "$$ROOT"]}}]
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                entry: Raw | None = self._entries.find_one_and_update(
                    {"_id": self._key}, update, upsert=True, return_document=ReturnDocument.AFTER
                )
            except DuplicateKeyError:
                if attempt == _ATTEMPTS:
                    raise
            else:
                assert entry is not None
                return entry
        raise AssertionError  # pragma: no cover - the loop returns or raises

    def _locked(self, entry: Raw) -> CollectionLocked:
        fault = fault_of("lease", entry)
        if fault is not None:
            raise CollectionLocked(
                f"{self._full_name}: the lease {self._key!r} in {self._entries.full_name} cannot "
                f"be read, because {fault}; delete the entry if that is not at work",
                collection=self._full_name,
                holder={},
                expires=None,
            )
        holder, expires = dict(entry["holder"]), entry["expires"]
        run = holder.get("run")
        who = f"{holder.get('host')} (pid {holder.get('pid')})"
        note = f", note {holder['note']!r}" if holder.get("note") else ""
        journal = holder.get("journal", JOURNAL)
        remedy = Remedy(
            "wait" if run is None else "stop",
            run=str(run),
            journal=None if journal == JOURNAL else journal,
        )
        return CollectionLocked(
            f"{self._full_name}: a bulk run{f' {run}' if run is not None else ''} on {who}{note} "
            f"holds the lease until {_text(expires)}, and renews it while it lives",
            collection=self._full_name,
            holder=holder,
            expires=expires,
            remedy=remedy,
        )

    def _renew(self) -> None:
        asked = self._clock()
        query = {"_id": self._key, "token": self._token}
        expires = {"$add": ["$$NOW", self.seconds * 1000]}
        update = [{"$set": {"expires": expires, "holder": {"$literal": self._holder}}}]
        if self._entries.update_one(query, update).matched_count:
            with self._lock:
                self._until = max(self._until, asked + self.seconds)
        else:
            self._taken = True

    def _keep(self, closing: threading.Event) -> None:
        """Renew until the lease is given back or lost; a failure is tried again sooner."""
        interval = self.seconds / _RENEWALS
        pause = interval
        while not closing.wait(pause) and not self._taken:
            try:
                with pymongo.timeout(interval):
                    self._renew()
                pause = interval
            except PyMongoError as exc:
                logger.warning("%s: the lease was not renewed: %s", self._full_name, excerpt(exc))
                pause = interval / 4


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
