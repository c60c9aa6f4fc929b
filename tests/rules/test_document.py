"""What a rule sees as `self.doc`: read-only, recorded, and stand-ins where there is no document."""

from __future__ import annotations

import copy
import operator
from datetime import datetime
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId, Regex
from pymongo.database import Database

from lazymig.rules.document import (
    DocumentChanged,
    DocumentNeeded,
    MissingDocument,
    ReadDocument,
)


def test_every_read_key_is_recorded() -> None:
    """Reading, asking for and defaulting a key each record it, also where it is missing."""
    view = ReadDocument({"_id": 1, "a": 1, "b": 2, "c": 3})
    assert (view["a"], "b" in view, view.get("missing", 7)) == (1, True, 7)
    assert view.keys_read == {"a", "b", "missing"}
    assert not view.read_whole


@pytest.mark.parametrize("look", [list, len, dict, lambda view: list(view.items())])
def test_looking_at_all_keys_reads_the_whole(look: Any) -> None:
    """Iterating over a document, or counting its keys, is reading all of it."""
    view = ReadDocument({"_id": 1, "a": 1})
    look(view)
    assert view.read_whole


def test_the_guard_demands_what_was_read() -> None:
    """The guard compares the keys that were read, and demands the absence of those not found."""
    view = ReadDocument({"_id": 1, "a": None, "b": 2})
    view["a"]
    view.get("c")
    view["_id"]
    assert view.guard() == [
        {"$expr": {"$eq": ["$a", {"$literal": None}]}},
        {"c": {"$exists": False}},
    ]


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 0, 1.5, float("nan"), "a", "", datetime(2020, 1, 1), Int64(7)),
        ObjectId("6b" * 12),
        *(b"x", Decimal128("1"), Regex("a"), {}, {"a": 1}, [], ["a"]),
    ],
    ids=repr,
)
def test_the_guard_finds_what_was_read_and_nothing_like_it(
    database: Database[Any], value: Any
) -> None:
    """A guard finds the very value; not an array that holds it, no other value, nor its absence."""
    collection = database["c"]
    collection.insert_many([{"_id": "array", "a": [value]}, {"_id": "missing"}])
    collection.insert_many({"_id": other, "a": other} for other in ("other", 12345, False))
    collection.insert_one({"_id": "same", "a": value})
    stored = collection.find_one({"_id": "same"})
    assert stored is not None
    view = ReadDocument(stored)
    view["a"]
    found = collection.find({"$and": view.guard()})
    assert [document["_id"] for document in found] == ["same"]


@pytest.mark.parametrize("key", ["$odd", "dotted.name"])
def test_a_key_that_is_no_path_guards_the_whole(key: str) -> None:
    """A key that a query cannot name makes the guard compare the whole document."""
    raw = {"_id": 1, key: 1}
    view = ReadDocument(raw)
    view[key]
    assert view.guard() == [{"$expr": {"$eq": ["$$ROOT", {"$literal": raw}]}}]


def test_mutating_a_nested_value_reaches_nothing() -> None:
    """A rule may spoil the containers it is handed: the document and the guard keep theirs."""
    raw = {"_id": 1, "tags": ["a"], "sub": {"list": [1]}}
    before = copy.deepcopy(raw)
    view = ReadDocument(raw)
    view["tags"].append("b")
    view["sub"]["list"].clear()
    assert raw == before
    assert {"$expr": {"$eq": ["$tags", {"$literal": ["a"]}]}} in view.guard()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda doc: operator.setitem(doc, "a", 1),
        lambda doc: operator.delitem(doc, "_id"),
        lambda doc: operator.ior(doc, {"a": 1}),
        lambda doc: doc.update(a=1),
        lambda doc: doc.setdefault("a", 1),
        lambda doc: doc.pop("_id"),
        lambda doc: doc.popitem(),
        lambda doc: doc.clear(),
    ],
)
def test_the_view_is_not_written_to(spoil: Any) -> None:
    """`self.doc` is read-only: each of a dict's writing methods says so."""
    stored = {"_id": 1}
    with pytest.raises(DocumentChanged, match=r"self\.doc, which is read-only; set self\.update"):
        spoil(ReadDocument(stored))
    assert stored == {"_id": 1}


@pytest.mark.parametrize(
    "look",
    [
        lambda doc: doc["a"],
        lambda doc: doc.get("a"),
        lambda doc: "a" in doc,
        list,
        len,
        bool,
        str,
        repr,
        lambda doc: doc == {},
        lambda doc: doc.a,
    ],
)
def test_any_look_at_a_missing_document_stops_the_rule(look: Any) -> None:
    """Whatever a rule does with a document that is not there raises DocumentNeeded."""
    with pytest.raises(DocumentNeeded):
        look(MissingDocument())


def test_the_stop_is_no_exception() -> None:
    """`except Exception` in a rule cannot swallow the stop, because it is none."""
    assert not issubclass(DocumentNeeded, Exception)
