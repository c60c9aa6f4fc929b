"""Orders over today's shape, by what is stored."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymongo.database import Database

from lazymig.rules.rewrite.ordering import apart_from_nothing, stored_order
from tests.support.steps import compile_step

Raw = dict[str, Any]

TARGET = {"a": {"$exists": True}}
UPDATES: list[Any] = [
    {"$rename": {"a": "b"}},
    {"$rename": {"a": "b"}, "$set": {"c": 1}},
    {"$set": {"b": "x"}},
    {"$unset": {"b": ""}},
    [{"$set": {"b": "$a"}}],
    [{"$set": {"b": "$c", "c": "$a"}}],
    [{"$set": {"b": "$a.x"}}],
]
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.sampled_from(["", "x", 1.5]),
    st.lists(st.integers(0, 2), max_size=2),
    st.fixed_dictionaries({}, optional={"x": st.integers(0, 2)}),
)
DOCUMENTS = st.lists(
    st.fixed_dictionaries({"a": VALUES}, optional={"b": VALUES, "c": VALUES}),
    min_size=1,
    max_size=6,
)


@settings(max_examples=settings().max_examples // 2)
@given(
    update=st.sampled_from(UPDATES),
    path=st.sampled_from(["a", "b", "b.x", "c"]),
    direction=st.sampled_from([1, -1]),
    documents=DOCUMENTS,
)
def test_the_order_before_is_the_order_after(
    database: Database[Raw], update: Any, path: str, direction: int, documents: list[Raw]
) -> None:
    """Documents that a rule concerns stand, before it, in the order that they have after it."""
    order = stored_order(compile_step("r", TARGET, update), [(path, direction), ("_id", 1)])
    collection = database.subject
    collection.delete_many({})
    collection.insert_many({"_id": number, **one} for number, one in enumerate(documents))
    if order is None:
        return
    before = [one["_id"] for one in collection.find(TARGET).sort(order)]
    collection.update_many(TARGET, update)
    after = [one["_id"] for one in collection.find().sort([(path, direction), ("_id", 1)])]
    assert before == after


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        (UPDATES[0], [("a", -1), ("_id", 1)]),
        (UPDATES[2], [("_id", 1)]),
        (UPDATES[3], [("_id", 1)]),
        (UPDATES[5], [("c", -1), ("_id", 1)]),
        ([{"$set": {"b": {"$toLower": "$a"}}}], None),
        ({"$inc": {"b": 1}}, None),
    ],
    ids=["rename", "constant", "unset", "copies", "computed", "inc"],
)
def test_what_moves_or_is_copied_has_an_order(update: Any, expected: Any) -> None:
    """Values that are moved or copied are sorted where they are; a constant says nothing."""
    assert stored_order(compile_step("r", TARGET, update), [("b", -1), ("_id", 1)]) == expected


@given(documents=DOCUMENTS)
def test_those_with_nothing_apart_are_all(database: Database[Raw], documents: list[Raw]) -> None:
    """The branches find what the query finds, each document once."""
    collection = database.subject
    collection.delete_many({})
    collection.insert_many({"_id": number, **one} for number, one in enumerate(documents))
    query = {"c": {"$exists": False}}
    found = collection.find(apart_from_nothing(query, "b"))
    assert sorted(one["_id"] for one in found) == [
        one["_id"] for one in collection.find(query).sort("_id")
    ]
