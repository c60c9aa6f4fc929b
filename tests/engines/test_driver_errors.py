"""Kinds of errors of the driver: time limits, lost servers, refused documents."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo import UpdateOne
from pymongo.database import Database
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    DuplicateKeyError,
    ExecutionTimeout,
    NetworkTimeout,
    OperationFailure,
    ServerSelectionTimeoutError,
    WriteError,
)

from lazymig.engines.driver_errors import is_document_error, waited_too_long


def _bulk(*codes: int, concern: bool = False) -> BulkWriteError:
    return BulkWriteError(
        {
            "writeErrors": [{"index": 0, "code": code} for code in codes],
            "writeConcernErrors": [{"code": 64}] if concern else [],
        }
    )


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ExecutionTimeout("x", code=50), True),
        (NetworkTimeout("x"), True),
        (_bulk(50), True),
        (ServerSelectionTimeoutError("x"), False),
        (AutoReconnect("x"), False),
        (OperationFailure("x", code=13), False),
        (_bulk(11000), False),
    ],
)
def test_a_wait_that_was_too_long_is_no_lost_server(error: Any, expected: bool) -> None:
    """Only a limit that ran out on a server that was there is a timeout of the migration."""
    assert waited_too_long(error) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (WriteError("x", code=66), True),
        (DuplicateKeyError("x", code=11000), True),
        (_bulk(121), True),
        (OperationFailure("x", code=166), True),
        (OperationFailure("x", code=72), True),
        (OperationFailure("x", code=13), False),
        (OperationFailure("x", code=50), False),
        (_bulk(concern=True), False),
        (_bulk(50), False),
    ],
)
def test_a_refused_document_is_no_refused_operation(error: Any, expected: bool) -> None:
    """The rights, the write concern and time limits are nothing a document is to blame for."""
    assert is_document_error(error) is expected


def test_the_server_refuses_documents_by_write_errors(database: Database[Any]) -> None:
    """What a real server answers to a duplicate key is a document's error."""
    collection = database["c"]
    collection.create_index("a", unique=True)
    collection.insert_many([{"_id": 1, "a": 1}, {"_id": 2, "a": 2}])
    with pytest.raises(BulkWriteError) as caught:
        collection.bulk_write([UpdateOne({"_id": 1}, {"$set": {"a": 2}})])
    assert is_document_error(caught.value)
