"""Computed updates of one form are one update; each document finds what is its own, or is left."""

from __future__ import annotations

import math
from collections import Counter
from datetime import datetime
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from hypothesis import given
from hypothesis import strategies as st
from mongoengine import DynamicField
from pymongo.database import Database

from tests.support.commands import CommandLog
from tests.support.handlers import copying_in_python, handler, model

_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 9).map(Int64),
    st.floats(),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    st.sampled_from(["$a", "$$ROOT", "$$REMOVE", ""]),
    st.binary(max_size=5),
    st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)).map(
        lambda date: date.replace(microsecond=0)
    ),
    st.sampled_from([Decimal128("1.50"), Decimal128("NaN"), ObjectId("0" * 24)]),
)
_NAMES = st.sampled_from(["a", "b", "$eq", "$literal", "x.y", "", "_id"])
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=3),
    max_leaves=6,
)


_AS_BYTES: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)


def _post(**rules: Any) -> Any:
    return model(handler(**rules), a=DynamicField(), b=DynamicField())


def _sent(log: CommandLog) -> list[int]:
    """How many updates each update command has sent."""
    return [
        len(body["updates"])
        for name, body in log.commands
        if name == "update" and body["update"] == "post"
    ]


@given(st.lists(_VALUES, min_size=3, max_size=8))
def test_each_document_gets_its_own_value(mongoengine_db: Database[Any], values: list[Any]) -> None:
    """Values of every kind are stored as single updates store them, to the byte."""
    posts, expected = mongoengine_db["post"], mongoengine_db["expected"]
    for collection in (posts, expected):
        collection.delete_many({})
        collection.insert_many([{"_id": n, "a": value} for n, value in enumerate(values)])
    for n, value in enumerate(values):
        expected.update_one({"_id": n}, {"$set": {"b": value}})
    rules = _post(allmigration01__b=copying_in_python("a", "b"))
    report = rules.migration_handler(rules).migrate_all()
    report.raise_for_errors()
    assert report.modified == len(values)
    raw = [
        [bytes(each.raw) for each in collection.with_options(_AS_BYTES).find(sort=[("_id", 1)])]
        for collection in (posts, expected)
    ]
    assert raw[0] == raw[1]


def test_a_batch_is_one_update(monitored_db: Database[Any], command_log: CommandLog) -> None:
    """Updates that set the same fields are one for all documents, not one for each."""
    monitored_db["post"].insert_many([{"_id": n, "a": n} for n in range(300)])
    post = _post(allmigration01__b=copying_in_python("a", "b"))
    command_log.clear()
    assert post.migration_handler(post).migrate_all(chunk_size=100).modified == 300
    assert _sent(command_log) == [1, 1, 1]
    stored = {each["_id"]: each["b"] for each in monitored_db["post"].find()}
    assert stored == {n: n for n in range(300)}


@pytest.mark.parametrize("document_id", [1.5, Decimal128("1"), {"a": 1}, math.nan])
def test_odd_ids_are_written_one_by_one(mongoengine_db: Database[Any], document_id: Any) -> None:
    """A document whose `_id` is of another kind gets its own value all the same."""
    posts = mongoengine_db["post"]
    posts.insert_many([{"_id": n, "a": n} for n in (7, 8, 9)])
    posts.insert_one({"_id": document_id, "a": "odd"})
    post = _post(allmigration01__b=copying_in_python("a", "b"))
    assert post.migration_handler(post).migrate_all().modified == 4
    assert Counter(each["b"] for each in posts.find()) == Counter([7, 8, 9, "odd"])


def test_an_input_that_was_changed_is_computed_again(mongoengine_db: Database[Any]) -> None:
    """A document of a batch that somebody has written meanwhile is not given the old value."""
    posts = mongoengine_db["post"]
    posts.insert_many([{"_id": n, "a": n} for n in range(5)])

    def method(self: Any) -> None:
        self.target = {"b": {"$exists": False}}
        value = self.doc["a"]
        if self.doc["_id"] == 3 and value == 3:
            # What another writer does, between the read and the write.
            posts.update_one({"_id": 3}, {"$set": {"a": [3]}})
        self.update = {"$set": {"b": str(value)}}

    post = _post(allmigration01__b=method)
    assert post.migration_handler(post).migrate_all(again=True).modified == 5
    assert [each["b"] for each in posts.find(sort=[("_id", 1)])] == ["0", "1", "2", "[3]", "4"]


def test_a_field_that_appears_is_a_changed_input(mongoengine_db: Database[Any]) -> None:
    """A field that was missing when the rule looked for it has to be missing still."""
    posts = mongoengine_db["post"]
    posts.insert_many([{"_id": n} for n in range(5)])
    calls: Counter[int] = Counter()

    def method(self: Any) -> None:
        self.target = {"b": {"$exists": False}}
        number = self.doc["_id"]
        has = "a" in self.doc
        calls[number] += 1
        if number == 3 and calls[number] == 1:
            posts.update_one({"_id": 3}, {"$set": {"a": None}})
        self.update = {"$set": {"b": str(has)}}

    post = _post(allmigration01__b=method)
    assert post.migration_handler(post).migrate_all(again=True).modified == 5
    assert [each["b"] for each in posts.find(sort=[("_id", 1)])] == [
        *["False"] * 3,
        "True",
        "False",
    ]


def test_a_refused_document_stops_no_other(mongoengine_db: Database[Any]) -> None:
    """Where MongoDB refuses one of the documents, the others are written and counted, once each."""
    posts = mongoengine_db["post"]
    posts.create_index("b", unique=True, sparse=True)
    posts.insert_many([{"_id": n, "a": 4 if n == 6 else n} for n in range(10)])
    post = _post(allmigration01__b=copying_in_python("a", "b"))
    report = post.migration_handler(post).migrate_all(max_errors=5)
    assert report.modified == 9
    assert [error.document_id for error in report.errors] == [6]
    assert posts.count_documents({"b": {"$exists": True}}) == 9
