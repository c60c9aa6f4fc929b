"""Errors that tell of a server that was gone, or that ceased to be the primary, for a moment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    CursorNotFound,
    OperationFailure,
    PyMongoError,
)

__all__ = ["is_away"]

# What a server says while it shuts down, steps down or is not yet the primary, and what a mongos or
# the driver says that has lost it: the codes of the specification of retryable writes, and 133,
# which a mongos gives for a shard without a primary.
_CODES: Final = frozenset(
    {
        *(6, 7, 89, 91, 133, 134, 189, 262, 9001),
        *(10058, 10107, 11600, 11602, 13435, 13436),
    }
)

_LABELS: Final = ("RetryableWriteError", "UnknownTransactionCommitResult")


def is_away(error: PyMongoError) -> bool:
    """Whether the server was gone, for a moment at least, so that nobody knows what it has done.

    A step-down may be told as the failure of the whole command, of a write in it, or of the wait
    for other members. A server that was started again knows nothing of the cursors it had.
    """
    if isinstance(error, (AutoReconnect, CursorNotFound)):
        return True
    if any(error.has_error_label(label) for label in _LABELS):
        return True
    return any(code in _CODES for code in _codes_of(error))


def _codes_of(error: PyMongoError) -> Iterator[Any]:
    if not isinstance(error, OperationFailure):
        return
    yield error.code
    if isinstance(error, BulkWriteError):
        for kind in ("writeErrors", "writeConcernErrors"):
            for entry in error.details.get(kind) or ():
                if isinstance(entry, Mapping):
                    yield entry.get("code")
