"""How the engines reach a collection: keys, conditions, options, kinds of errors."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId
from pymongo import ReadPreference, UpdateOne, WriteConcern
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

from lazymig.engines.access import all_of, by_ids, key_of, on_primary, writable
from lazymig.engines.driver_errors import is_document_error, waited_too_long
from lazymig.engines.store import Store, write_each
from tests.support.commands import CommandLog


@pytest.mark.parametrize(
    "document_id",
    [
        ObjectId(),
        "a",
        1,
        1.5,
        Int64(1),
        Decimal128("1"),
        {"a": 1},
        b"x",
        None,
        True,
        datetime(2020, 1, 1),
    ],
)
def test_every_id_has_a_hashable_key(document_id: Any) -> None:
    """An `_id` of any type has a key, and equal ones the same."""
    assert {key_of(document_id): 1}[key_of(document_id)] == 1


def test_ids_that_mongodb_tells_apart_have_different_keys() -> None:
    """1 and True, and sub-documents in another order, are not the same `_id`."""
    ids: list[Any] = [1, True, "1", b"1", {"a": 1, "b": 2}, {"b": 2, "a": 1}]
    assert len({key_of(each) for each in ids}) == len(ids)


def test_conditions_are_joined_and_never_changed() -> None:
    """All given conditions are demanded, in a query of its own."""
    first, second = {"a": 1}, {"a": {"$gt": 0}}
    assert all_of(first, None, second, {}) == {"$and": [{"a": 1}, {"a": {"$gt": 0}}]}
    assert all_of(first, {"b": 2}, {"$or": [second]}) == {"a": 1, "b": 2, "$or": [second]}
    alone = all_of(None, first)
    alone["b"] = 1
    assert (first, all_of(None)) == ({"a": 1}, {})


def test_an_id_that_looks_like_a_query_is_a_value() -> None:
    """A compound `_id` is compared, not interpreted."""
    assert by_ids([{"a": 1}]) == {"_id": {"$eq": {"a": 1}}}
    assert by_ids([1, 2]) == {"_id": {"$in": [1, 2]}}


def test_rereads_go_to_the_primary(database: Database[Any]) -> None:
    """Whatever the collection's options, a reread sees the engine's own writes."""
    secondary = database.get_collection("c", read_preference=ReadPreference.SECONDARY)
    assert on_primary(secondary).read_preference == ReadPreference.PRIMARY


def test_writes_are_acknowledged(database: Database[Any]) -> None:
    """An unacknowledged collection is written with w=1, any other with its own concern."""
    careless = database.get_collection("c", write_concern=WriteConcern(w=0))
    assert writable(careless).write_concern == WriteConcern(w=1)
    journaled = database.get_collection("c", write_concern=WriteConcern(w=1, j=True))
    assert writable(journaled) is journaled


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
def test_a_wait_that_was_too_long_is_told_from_a_lost_server(error: Any, expected: bool) -> None:
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
def test_a_refused_document_is_told_from_a_refused_operation(error: Any, expected: bool) -> None:
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


def test_an_answer_comes_at_once(database: Database[Any], command_log: CommandLog) -> None:
    """A cursor over a known number of documents costs one command, at any number."""
    posts = command_log.client[database.name]["c"]
    database["c"].insert_many([{"_id": n} for n in range(500)])
    assert len(list(Store(posts).find_ids({}, 500))) == 500
    assert command_log.names == ["find"]


@pytest.mark.parametrize("backend", ["database", "mock_db"])
def test_a_refused_update_stops_no_other(request: Any, backend: str) -> None:
    """Independent updates are all tried; counts and refusals are told apart by position."""
    collection = request.getfixturevalue(backend)["c"]
    collection.create_index("a", unique=True)
    collection.insert_many([{"_id": n, "a": n} for n in range(4)])
    queries = [{"_id": 0}, {"_id": 1, "a": 9}, {"_id": 2}, {"_id": 3}]
    written = write_each(Store(collection), queries, {"$set": {"a": 3}}, None)
    assert (written.matched, written.modified) == (1, 0)
    assert sorted(written.refused) == [0, 2]
    assert [each["a"] for each in collection.find().sort("_id")] == [0, 1, 2, 3]
