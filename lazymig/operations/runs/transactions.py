"""Transactions of bulk runs and of retries, and those that such work must not be part of."""

from __future__ import annotations

import logging
import time
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
from lazymig.operations.journal.entries import RunEntry
from lazymig.operations.runs.context import RunContext
from lazymig.operations.runs.pacing import LOOK_AGAIN, Pacing, Stopped, patience_from_now
from lazymig.operations.runs.steps import RuleStep
from lazymig.redaction import excerpt

__all__ = ["MOST_CONFLICTS", "Contended", "Transactions", "has_transactions", "on_its_own"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

# A transaction that has met so many writes of others is tried again in smaller ones.
MOST_CONFLICTS: Final = 3

# Seconds that it may take to end the transaction on a server that is gone.
_FAREWELL = 0.1

# Seconds before a transaction is tried again; twice as long each time.
_FIRST_RETRY = 0.01


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
    """Return whether the documents of a collection can be written in transactions."""
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


class Transactions:
    """The transactions of a run, in one session that the journal knows before it has one."""

    def __init__(self, context: RunContext, entry: RunEntry, pacing: Pacing) -> None:
        self._context = context
        self._entry = entry
        self._pacing = pacing
        self._session: ClientSession | None = None

    def close(self) -> None:
        """End the session."""
        if self._session is not None:
            self._session.end_session()

    def run(self, step: RuleStep, work: Callable[[ClientSession], T], *, may_be_split: bool) -> T:
        """Do something in a transaction, again and again until it is known to be committed.

        PyMongo's `with_transaction` would wait for a server that is gone without saying so.

        :param may_be_split: there may be smaller transactions in its place.
        :raises PartRefused: MongoDB refused an update.
        :raises Contended: others write the same documents, and it may be split.
        :raises Stopped: others write the same documents, and a signal has asked the run to stop.
        """
        pacing, interrupts = self._pacing, self._pacing.interrupts
        session = pacing.persistently(step, self._opened_session)
        conflicts = 0
        pause = _FIRST_RETRY
        until = None
        while True:
            try:
                result = pacing.persistently(step, lambda: _opened(session, work))
                # The server commits once, however often its answer is lost.
                pacing.persistently(step, session.commit_transaction)
            except PyMongoError as exc:
                if is_away(exc) or not exc.has_error_label("TransientTransactionError"):
                    raise
                if interrupts.requested:
                    # There would be no pause between two attempts.
                    raise Stopped(f"{interrupts.requested} was received") from exc
                conflicts += 1
                if conflicts >= MOST_CONFLICTS and may_be_split:
                    raise Contended from exc
                until = until or patience_from_now()
                if time.monotonic() > until:
                    raise
            else:
                return result
            interrupts.wait(pause)
            pause = min(pause * 2, LOOK_AGAIN)
            if not pacing.has_lease(step, until):
                self._context.lease.check()

    def _opened_session(self) -> ClientSession:
        if self._session is None:
            session = self._context.collection.database.client.start_session()
            self._context.journal.hold(self._entry, session.session_id)
            self._session = session
        return self._session


def _opened(session: ClientSession, work: Callable[[ClientSession], T]) -> T:
    """Do something in a transaction, and leave it open; it is undone if that fails."""
    session.start_transaction(ReadConcern("snapshot"), WriteConcern("majority"))
    try:
        return work(session)
    except BaseException as exc:
        gone = isinstance(exc, PyMongoError) and is_away(exc)
        # A server that is gone ends the transaction by itself when the next one begins.
        with pymongo.timeout(_FAREWELL) if gone else nullcontext():
            session.abort_transaction()
        raise
