"""Transactions of bulk runs and of retries, and those that such work must not be part of."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Final, TypeVar

import pymongo
from pymongo import WriteConcern
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from lazymig.engines.access import describe, is_mongomock
from lazymig.engines.deadline import seconds_around, without_client_limit
from lazymig.engines.driver_errors import is_away
from lazymig.engines.sessions import check_no_transaction
from lazymig.errors import RunError
from lazymig.redaction import excerpt

__all__ = ["MOST_CONFLICTS", "Contended", "has_transactions", "on_its_own", "opened"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

# A transaction that has met so many writes of others is tried again in smaller ones.
MOST_CONFLICTS: Final = 3

# Seconds for which a server that is gone is told that its transaction is over.
_FAREWELL = 0.1


class Contended(Exception):
    """Others write the documents of a transaction again and again."""


@contextmanager
def on_its_own(database: Database[Any], name: str, operation: str) -> Iterator[None]:
    """Do what lasts as long as it takes, and commits piece by piece.

    The client's `timeoutMS` is made for requests, and lifted.

    :param name: that of the collection, or of the database, for messages.
    :param operation: what is called, likewise.
    :raises RunError: it was called in a transaction, in a session at a snapshot, or within a
        `pymongo.timeout`; nothing was sent.
    """
    check_no_transaction(name, operation)
    seconds = seconds_around()
    if seconds is not None:
        raise RunError(
            f"{name}: {operation} was called within a pymongo.timeout, of which {seconds:.2g} s "
            "are left, and nothing was sent; call it outside of that block: it lasts as long as it "
            "takes, and History.stop() stops a run",
            collection=name,
        )
    with without_client_limit(database):
        yield


def has_transactions(collection: Collection[Any]) -> bool:
    """Whether the documents of a collection can be written in transactions."""
    if is_mongomock(collection):
        return False
    description = describe(collection)
    if description is not None and description.options.get("capped"):
        # They are written outside of transactions only, and not read at a point in time.
        return False
    try:
        hello = collection.database.client.admin.command("hello")
    except OperationFailure as exc:
        if is_away(exc):
            raise
        logger.warning("%s: runs without transactions: %s", collection.full_name, excerpt(exc))
        return False
    return "setName" in hello or hello.get("msg") == "isdbgrid"


def opened(session: ClientSession, work: Callable[[ClientSession], T]) -> T:
    """Do something in a transaction, and leave it open; it is undone if that fails."""
    session.start_transaction(ReadConcern("snapshot"), WriteConcern("majority"))
    try:
        return work(session)
    except BaseException as exc:
        gone = isinstance(exc, PyMongoError) and is_away(exc)
        # A server that is gone needs no telling: it ends the transaction when the next one begins.
        with pymongo.timeout(_FAREWELL) if gone else nullcontext():
            session.abort_transaction()
        raise
