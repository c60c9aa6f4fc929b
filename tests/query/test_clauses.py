"""The tree of a query, made small and written back."""

from __future__ import annotations

import re
from typing import Any

import pytest
from bson import DBRef, ObjectId
from hypothesis import given, settings
from pymongo.database import Database

from lazymig.query.clauses import negated, read, written
from tests.query.strategies import Raw, cases

EXAMPLES = max(60, settings().max_examples // 10)


@pytest.mark.parametrize(
    "query",
    [
        {"a": 1, "b": {"$ne": None}, "c.d": {"$exists": False}},
        {"a": {"$gt": 1, "$lt": 5, "$nin": [2, 3]}, "$or": [{"b": 1}, {"c": {"$size": 2}}]},
        {"a": {"$regex": "^x", "$options": "i", "$ne": "xy"}},
        {"a": re.compile("x"), "b": {"$not": re.compile("y")}, "c": {"$in": [re.compile("z"), 1]}},
        {"a": {"$all": [1, 2]}, "b": {"$not": {"$elemMatch": {"c": 1}}}},
        {"a": {"$not": {"$gt": 1, "$lt": 5}}},
        {"$nor": [{"a": 1, "b": 2}]},
        {"a": {"$near": [0, 0], "$maxDistance": 1}, "b": 1},
        {"a": {"$geoWithin": {"$center": [[0, 0], 1]}}, "b": {"$bitsAllSet": 5}},
        {"a": {"x": {"$gt": 1}}, "b": DBRef("c", ObjectId("0" * 24)), "d": {}},
        {"a": {"$eq": {"$gt": 1}}},
        {"$expr": {"$gt": ["$a", "$b"]}, "$text": {"$search": "x"}, "$comment": "why"},
        {"a..b": 1},
    ],
)
def test_a_query_is_written_as_it_was(query: Raw) -> None:
    """What cannot be made smaller keeps its form: MongoDB plans it as before."""
    assert written(read(query)) == query


@pytest.mark.parametrize(
    "query",
    [
        {"a": {"$unknown": 1}},
        {"a": {"$in": 1}, "b": 2},
        {"a": {"$options": "i"}},
        {"$or": []},
        {"$and": [{"a": 1}, 2]},
        {"$unknown": 1},
    ],
)
def test_what_is_malformed_stays_as_it_is(query: Raw) -> None:
    """It is for MongoDB to refuse, in its own words."""
    assert written(read(query)) == query


@pytest.mark.parametrize(
    ("query", "opposite"),
    [
        ({"a": 1}, {"a": {"$ne": 1}}),
        ({"a": {"$nin": [1, 2]}}, {"a": {"$in": [1, 2]}}),
        ({"a": {"$exists": 0}}, {"a": {"$exists": True}}),
        ({"a": {"$gt": 1}}, {"a": {"$not": {"$gt": 1}}}),
        ({"a": {"$not": {"$gt": 1}}}, {"a": {"$gt": 1}}),
        ({"$or": [{"a": 1}, {"b": 2}]}, {"a": {"$ne": 1}, "b": {"$ne": 2}}),
        ({}, {"_id": {"$in": []}}),
    ],
)
def test_a_query_is_denied_in_its_shortest_form(query: Raw, opposite: Raw) -> None:
    """The negation of one condition is one condition."""
    assert written(negated(read(query))) == opposite


def test_a_query_that_is_written_back_finds_the_same(database: Database[Raw]) -> None:
    """Whatever the query: it, and the negation of what it denies, find the same documents."""

    @settings(deadline=None, max_examples=EXAMPLES)
    @given(cases(documents=8, queries=6))
    def check(case: tuple[list[Raw], list[Raw]]) -> None:
        documents, queries = case
        database.t.delete_many({})
        database.t.insert_many([{**document, "_id": i} for i, document in enumerate(documents)])

        def found(query: Any) -> set[Any]:
            return {each["_id"] for each in database.t.find(query, {"_id": 1})}

        for query in queries:
            clause = read(query)
            expected = found(query)
            assert found(written(clause)) == expected, written(clause)
            denied = written(negated(clause))
            assert found(denied) == set(range(len(documents))) - expected, denied

    check()
