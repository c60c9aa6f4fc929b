"""Transactions of bulk runs and of retries: where there are any, and how one is opened."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Final, TypeVar

import pymongo
from pymongo import WriteConcern
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.read_concern import ReadConcern

from lazymig.engines.access import is_mongomock
from lazymig.operations.scratch import describe
from lazymig.operations.workers import is_away
from lazymig.redaction import excerpt

__all__ = ["MOST_CONFLICTS", "Contended", "has_transactions", "opened"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

# A transaction that has met so many writes of others is tried again in smaller ones.
MOST_CONFLICTS: Final = 3

# Seconds for which a server that is gone is told that its transaction is over.
_FAREWELL = 0.1


class Contended(Exception):
    """Others write the documents of a transaction again and again."""


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
