"""How the engines reach a collection: keys, conditions, options, kinds of errors."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId
from pymongo import ReadPreference, WriteConcern
from pymongo.database import Database

from lazymig.engines.access import all_of, by_ids, key_of, on_primary, writable


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
