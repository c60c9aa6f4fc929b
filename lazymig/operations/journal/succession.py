"""The succession to a lease that has expired: what its former holders may have left is ended.

A holder that was killed may have left a transaction. One that was only stopped may continue: it
must not find the entry of its run as it was, for by that it would write in a transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from bson import Binary
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import OperationFailure

from lazymig.engines.access import Raw, is_mongomock
from lazymig.engines.driver_errors import is_away
from lazymig.operations.journal import JOURNAL
from lazymig.operations.journal.collection import journal_collection
from lazymig.redaction import excerpt

__all__ = ["end_predecessors", "sessions_left"]

logger = logging.getLogger(__name__)

# Sessions of runs that have not ended, of which the newest are looked at.
_MOST_SESSIONS = 100


def end_predecessors(database: Database[Any], collection: str, holders: Sequence[Raw]) -> None:
    """End the transactions of former holders, and take their runs away from them.

    MongoDB would end a transaction by itself after a minute (`transactionLifetimeLimitSeconds`).

    :raises pymongo.errors.PyMongoError: the connection or the rights.
    """
    for holder in holders:
        entries = journal_collection(database, str(holder.get("journal") or JOURNAL))
        if not is_mongomock(database):
            _kill_sessions(entries, collection)
        if holder.get("run") is not None:
            # It waits for a transaction that could not be ended.
            entries.update_one({"_id": holder["run"], "kind": "run"}, {"$set": {"token": None}})


def _kill_sessions(entries: Collection[Any], collection: str) -> None:
    sessions = sessions_left(entries, collection)
    if not sessions:
        return
    try:
        entries.database.client.admin.command("killSessions", sessions)
    except OperationFailure as exc:
        if is_away(exc):
            raise
        logger.warning(
            "%s: a transaction of a dead run may hold documents for a minute: %s",
            collection,
            excerpt(exc),
        )


def sessions_left(entries: Collection[Any], collection: str) -> list[Raw]:
    """The sessions of runs over a collection that have not ended, the newest first.

    Whoever holds the lease of the collection knows that their processes are dead.
    """
    query = {"kind": "run", "collection": collection, "ended": None}
    found = entries.find({**query, "session": {"$exists": True}}, {"session": 1})
    sessions = [entry["session"] for entry in found.sort("_id", -1).limit(_MOST_SESSIONS)]
    ids = [each["id"] for each in sessions if isinstance(each, Mapping) and "id" in each]
    # A client may read back as a UUID what it can only send as binary.
    return [{"id": Binary.from_uuid(each) if isinstance(each, UUID) else each} for each in ids]
