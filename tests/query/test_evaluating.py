"""The expressions that are answered in memory, against MongoDB itself."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from bson import DBRef, Decimal128
from hypothesis import Phase, given, settings
from pymongo.database import Database
from pymongo.errors import OperationFailure

from lazymig.query.evaluating import compile_expression
from lazymig.query.matching import compile_query
from tests.query.strategies import Raw, expression_cases

DOCUMENTS, EXPRESSIONS, EXAMPLES = 8, 8, 60

KNOWN: list[tuple[str, Any, Raw, bool]] = [
    ("missing is less than null", {"$lt": ["$none", None]}, {}, True),
    ("missing is not null", {"$eq": ["$none", None]}, {}, False),
    ("a string is greater than a number", {"$gt": ["$a", 99]}, {"a": ""}, True),
    ("int equals double", {"$eq": ["$a", 1.0]}, {"a": 1}, True),
    ("true is not one", {"$eq": ["$a", 1]}, {"a": True}, False),
    ("NaN is less than a number", {"$lt": ["$a", 0]}, {"a": float("nan")}, True),
    ("an array is compared whole", {"$eq": ["$a", 1]}, {"a": [1]}, False),
    ("a path through an array", {"$eq": ["$a.b", [1, 2]]}, {"a": [{"b": 1}, 5, {"b": 2}]}, True),
    ("not through nested ones", {"$eq": ["$a.b", []]}, {"a": [[{"b": 1}]]}, True),
    ("a number names no element", {"$eq": ["$a.0", []]}, {"a": [1]}, True),
    ("an empty string is true", "$a", {"a": ""}, True),
    ("decimal zero is false", "$a", {"a": Decimal128("0.0")}, False),
    ("an empty array is true", {"$and": ["$a"]}, {"a": []}, True),
    ("what is missing in an array is null", {"$eq": [["$none"], [None]]}, {}, True),
    ("what is missing in an object is not", {"$eq": [{"x": "$none"}, {}]}, {}, True),
    (
        "$map makes null of nothing",
        {"$eq": [{"$map": {"input": "$a", "in": "$$this.b"}}, [None]]},
        {"a": [{}]},
        True,
    ),
    ("the type of nothing", {"$eq": [{"$type": "$none"}, "missing"]}, {}, True),
    ("the type of a reference", {"$eq": [{"$type": "$a"}, "object"]}, {"a": DBRef("c", 1)}, True),
    (
        "a reference has a field $ref",
        {"$eq": [{"$getField": {"field": {"$literal": "$ref"}, "input": "$a"}}, "c"]},
        {"a": DBRef("c", 1)},
        True,
    ),
    (
        "a field of null is null",
        {"$eq": [{"$getField": {"field": "b", "input": "$a"}}, None]},
        {"a": None},
        True,
    ),
    (
        "a field of a number is missing",
        {"$eq": [{"$type": {"$getField": {"field": "b", "input": "$a"}}}, "missing"]},
        {"a": 1},
        True,
    ),
    (
        "a name with a dot is one field",
        {"$eq": [{"$type": {"$getField": {"field": "b.c", "input": "$a"}}}, "missing"]},
        {"a": {"b": {"c": 1}}},
        True,
    ),
    (
        "the keys of a map",
        {"$in": ["x", {"$map": {"input": {"$objectToArray": "$a"}, "in": "$$this.k"}}]},
        {"a": {"x": 1}},
        True,
    ),
]


@pytest.mark.parametrize(("expression", "document", "expected"), [case[1:] for case in KNOWN])
def test_delicate_points(
    database: Database[Raw], expression: Any, document: Raw, expected: bool
) -> None:
    """Each known answer is that of the server, and of the matcher of `$expr`."""
    database.t.insert_one({**document, "_id": 1})

    found = database.t.find_one({"$expr": expression}) is not None
    matcher = compile_query({"$expr": expression})

    assert (found, matcher.judge(document), matcher.exact) == (expected, expected, True)


@pytest.mark.parametrize(
    "expression",
    [
        {"$add": ["$a", 1]},
        {"$eq": ["$a"]},
        {"$cond": {"if": 1, "then": 2}},
        {"$map": {"input": "$a"}},
        {"$getField": "a"},
        {"$getField": {"field": "$a", "input": "$b"}},
        {"$eq": ["$$NOW.a", {"$rand": {}}]},
        {"$eq": [1, 1], "$ne": [1, 2]},
        {"a.b": 1},
        "$a..b",
    ],
    ids=str,
)
def test_anything_else_is_left_to_mongodb(expression: Any) -> None:
    """An operator that is not known, or an argument that is malformed, is never judged."""
    assert compile_expression(expression) is None
    assert compile_query({"$expr": expression}).judge({"a": 1}) is None


@pytest.mark.parametrize(
    ("expression", "document"),
    [
        ({"$eq": ["$$NOW", "$a"]}, {"a": 1}),
        ({"$anyElementTrue": ["$a"]}, {"a": 1}),
        ({"$in": [1, "$a"]}, {"a": 1}),
        ({"$objectToArray": "$a"}, {"a": 1}),
        ({"$eq": ["$a", 1]}, {"a": object()}),
        ({"$ne": ["$a.$id", None]}, {"a": DBRef("c", None)}),
    ],
)
def test_what_raises_or_cannot_be_seen_is_unknown(expression: Any, document: Raw) -> None:
    """What raises on the server, or depends on what decoding has lost, is not judged."""
    assert compile_query({"$expr": expression}).judge(document) is None


def test_the_server_agrees(database: Database[Raw]) -> None:
    """Where the matcher of an `$expr` answers, MongoDB answers the same; where it raises, none."""
    seen: Counter[object] = Counter()

    @settings(deadline=None, max_examples=EXAMPLES, phases=(Phase.reuse, Phase.generate))
    @given(expression_cases(documents=DOCUMENTS, expressions=EXPRESSIONS))
    def agrees(case: tuple[list[Raw], list[Any]]) -> None:
        documents, expressions = case
        database.t.delete_many({})
        database.t.insert_many([{**one, "_id": i} for i, one in enumerate(documents)])
        stored = list(database.t.find(sort=[("_id", 1)]))
        for expression in expressions:
            judge = compile_query({"$expr": expression}).judge
            told = {one["_id"]: judge(one) for one in stored}
            try:
                found = {one["_id"] for one in database.t.find({"$expr": expression}, {"_id": 1})}
                refused: set[int] = set()
            except OperationFailure:
                if _is_refused_as_such(database, expression):
                    # It has a constant that cannot be computed, be it in a branch never taken.
                    continue
                found, refused = _one_by_one(database, expression, len(documents))
            for key, answer in told.items():
                seen[answer] += 1
                assert answer is None or key not in refused, (expression, stored[key])
                assert answer in (None, key in found), (expression, stored[key])

    agrees()
    assert min(seen[True], seen[False]) > seen[None] // 4, seen


def _is_refused_as_such(database: Database[Raw], expression: Any) -> bool:
    """Return whether MongoDB refuses an expression where nothing is stored, too."""
    try:
        database.empty.find_one({"$expr": expression})
    except OperationFailure:
        return True
    return False


def _one_by_one(database: Database[Raw], expression: Any, count: int) -> tuple[set[int], set[int]]:
    found, refused = set(), set()
    for key in range(count):
        try:
            if database.t.find_one({"_id": key, "$expr": expression}) is not None:
                found.add(key)
        except OperationFailure:
            refused.add(key)
    return found, refused
