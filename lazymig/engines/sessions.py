"""The session that the application has bound to its context, and what it forbids.

PyMongo 4.17 and later bind one by `session.bind()`: every command of its client joins it then, and
its transaction, without being given a `session=`. What stands between PyMongo and the application
may have one of its own, which each command has to be given.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from pymongo.errors import OperationFailure, PyMongoError
from pymongo.synchronous import client_session

from lazymig.engines.driver_errors import is_transient
from lazymig.errors import MigrationError, MigrationFailed, RunError
from lazymig.rules.bound_rule import BoundRule

__all__ = [
    "check_no_transaction",
    "current_session",
    "given_session",
    "in_given_transaction",
    "is_in_transaction",
    "join_session_of",
    "not_at_a_snapshot",
    "not_in_a_transaction",
    "raise_if_aborted",
    "session_of",
]

# PyMongo has no public name for it, and none at all before 4.17.
_bound: Final[Any] = getattr(client_session, "_SESSION", None)

_NO_BLOCK: Final = nullcontext()


# What gives the session of the layer above, if it has one.
_layer: list[Callable[[], Any]] = []


def join_session_of(layer: Callable[[], Any]) -> None:
    """Have commands join the session that a function gives in each context; `None` for none."""
    _layer[:] = [layer]


def current_session() -> Any:
    """The session of this context, of whatever client; `None` without one."""
    for layer in _layer:
        if (session := layer()) is not None:
            return session
    return None if _bound is None else _bound.get()


def session_of(collection: Any) -> Any:
    """The session that commands of a collection join; `None` without one."""
    session = current_session()
    if session is None:
        return None
    return session if session.client is collection.database.client else None


def given_session(collection: Any) -> dict[str, Any]:
    """What a command of a collection has to be given, so that it joins the session it should."""
    for layer in _layer:
        session = layer()
        if session is not None and session.client is collection.database.client:
            return {"session": session}
    return {}


def in_given_transaction(session: Any) -> AbstractContextManager[Any]:
    """Let all commands in the block join the transaction that a call was given by `session=`.

    What is settled outside of it would not be seen in it.

    :param session: of PyMongo; nothing happens for `None`, without a transaction, or where PyMongo
        can bind no session.
    """
    if _bound is None or not is_in_transaction(session):
        return _NO_BLOCK
    block: AbstractContextManager[Any] = session.bind(end_session=False)
    return block


def is_in_transaction(session: Any) -> bool:
    """Return whether commands that are given this session, or `None`, are part of a transaction."""
    return session is not None and bool(session.in_transaction)


def not_at_a_snapshot(model: str, document_id: Any) -> MigrationFailed:
    """The error for an old document that is loaded in a session which cannot write."""
    return MigrationFailed(
        "the document is old, and the bound session reads at a snapshot, where nothing can be "
        "written; load it outside of that session, or as it is stored by as_stored(), or call "
        "migrate_pending() before",
        model=model,
        document_id=document_id,
    )


def not_in_a_transaction(rule: BoundRule, document_id: Any) -> MigrationFailed:
    """The error for a once rule in a transaction, which would not undo its effect."""
    return MigrationFailed(
        "a once rule does not run within a transaction: if that is aborted or tried again, the "
        "effect has happened and the document does not say so; load the document before the "
        "transaction begins",
        model=rule.model_name,
        rule=rule.name,
        document_id=document_id,
    )


def raise_if_aborted(error: MigrationError) -> None:
    """Raise what a failed command has made of the transaction in which it was sent.

    MongoDB aborts a transaction with the first command that fails in it: no neighbour of the
    document can be read or written in it any more. What the document is refused for is raised as
    such, without the label that lets `with_transaction` try again for two minutes; a conflict with
    another transaction is raised with it.
    """
    cause = error.__cause__
    while cause is not None and not isinstance(cause, PyMongoError):
        # A rule may have loaded another document, which was refused.
        cause = cause.__cause__
    if cause is None:
        return
    if is_transient(cause):
        raise cause
    if not isinstance(cause, OperationFailure):
        return
    raise type(error)(
        f"{error.problem}; MongoDB has aborted the transaction with this: nothing of it is stored, "
        "and it takes no further command",
        model=error.model,
        rule=error.rule,
        document_id=error.document_id,
    ) from cause


def check_no_transaction(name: str, operation: str) -> None:
    """Refuse what has to be seen by others while it is at work.

    :param name: the model, the collection or the database, for the message.
    :param operation: what is called, likewise.
    :raises RunError: the context is in a transaction, or in a session that cannot write.
    """
    session = current_session()
    if session is None:
        return
    if session.in_transaction:
        problem = "within the transaction of a bound session"
    elif session.options.snapshot:
        problem = "within a bound session that reads at a snapshot"
    else:
        return
    raise RunError(
        f"{name}: {operation} was called {problem}, and nothing was sent; call it before that "
        "session is bound, or after: it commits piece by piece, and its lease and its journal must "
        "be seen by others"
    )
