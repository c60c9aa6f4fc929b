"""Whoever takes over a lease that has expired ends what its former holders may have left.

A holder that was killed may have left a transaction. One that was only stopped goes on some day: it
must not find the entry of its run as it was, for by that it would write in a transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from pymongo.database import Database
from pymongo.errors import OperationFailure

from lazymig.engines.access import Raw, is_mongomock
from lazymig.engines.driver_errors import is_away
from lazymig.operations.journal.journal import JOURNAL, Journal
from lazymig.redaction import excerpt

__all__ = ["end_predecessors"]

logger = logging.getLogger(__name__)


def end_predecessors(database: Database[Any], collection: str, holders: Sequence[Raw]) -> None:
    """End the transactions of former holders, and take their runs away from them.

    MongoDB would end a transaction by itself after a minute (`transactionLifetimeLimitSeconds`).

    :raises pymongo.errors.PyMongoError: the connection or the rights.
    """
    for holder in holders:
        journal = Journal(database, str(holder.get("journal") or JOURNAL))
        if not is_mongomock(database):
            _kill_sessions(journal, collection)
        if holder.get("run") is not None:
            # It waits for a transaction that could not be ended.
            journal.disown(holder["run"])


def _kill_sessions(journal: Journal, collection: str) -> None:
    sessions = journal.sessions_left(collection)
    if not sessions:
        return
    try:
        journal.collection.database.client.admin.command("killSessions", sessions)
    except OperationFailure as exc:
        if is_away(exc):
            raise
        logger.warning(
            "%s: a transaction of a dead run may hold documents for a minute: %s",
            collection,
            excerpt(exc),
        )
