"""The kinds of errors of the driver: the server away, the time over, a document refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    CursorNotFound,
    DocumentTooLarge,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WriteError,
)

__all__ = ["is_away", "is_document_error", "is_transient", "waited_too_long"]

# What a server says while it shuts down, steps down or is not yet the primary, and what a mongos or
# the driver says that has lost it: the codes of the specification of retryable writes, and 133,
# which a mongos gives for a shard without a primary.
_AWAY: Final = frozenset(
    {
        *(6, 7, 89, 91, 133, 134, 189, 262, 9001),
        *(10058, 10107, 11600, 11602, 13435, 13436),
    }
)

_LABELS: Final = ("RetryableWriteError", "UnknownTransactionCommitResult")

_MAX_TIME_EXPIRED: Final = 50

# A view, options that a time-series collection refuses, and a command that has no room for a
# document's update, or for what has become of the document.
_OF_DOCUMENTS: Final = frozenset({166, 72, 10334, 17419, 17420})


def is_away(error: PyMongoError) -> bool:
    """Return whether the server was gone for a moment, so that nobody knows what it has done.

    A step-down may be reported as the failure of the whole command, of a write in it, or of the
    wait for other members. A server that was started again knows nothing of the cursors it had.
    """
    if isinstance(error, (AutoReconnect, CursorNotFound)):
        return True
    if any(error.has_error_label(label) for label in _LABELS):
        return True
    return any(code in _AWAY for code in _codes_of(error))


def is_transient(error: PyMongoError) -> bool:
    """Return whether a transaction is over that the application may begin anew."""
    return error.has_error_label("TransientTransactionError")


def waited_too_long(error: PyMongoError) -> bool:
    """Return whether the time limit ended an operation on a server that was there."""
    if isinstance(error, ServerSelectionTimeoutError):
        return False
    if isinstance(error, BulkWriteError):
        errors = error.details.get("writeErrors") or []
        return any(entry.get("code") == _MAX_TIME_EXPIRED for entry in errors)
    if isinstance(error, OperationFailure):
        return error.code == _MAX_TIME_EXPIRED
    return bool(error.timeout)


def is_document_error(error: PyMongoError | DocumentTooLarge) -> bool:
    """Return whether the update of documents was refused, not the whole operation.

    A view and a time-series collection refuse every update by `_id`: their documents cannot be
    migrated, whoever asks.
    """
    if isinstance(error, DocumentTooLarge):
        return True
    if waited_too_long(error) or is_transient(error) or is_away(error):
        return False
    if isinstance(error, BulkWriteError):
        return bool(error.details.get("writeErrors"))
    return isinstance(error, WriteError) or getattr(error, "code", None) in _OF_DOCUMENTS


def _codes_of(error: PyMongoError) -> Iterator[Any]:
    if not isinstance(error, OperationFailure):
        return
    yield error.code
    if isinstance(error, BulkWriteError):
        for kind in ("writeErrors", "writeConcernErrors"):
            for entry in error.details.get(kind) or ():
                if isinstance(entry, Mapping):
                    yield entry.get("code")
