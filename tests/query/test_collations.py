"""What a collation may change in the answer to a query."""

from __future__ import annotations

from typing import Any

import pytest
from bson import DBRef

from lazymig.query.collations import coarsened, has_text

TEXTS: list[tuple[Any, bool]] = [
    ({"a": {"$exists": False}}, False),
    ({"a": {"$type": "string"}}, False),
    ({"a": {"$regex": "x", "$options": "i"}}, False),
    ({"a": 1, "b": {"$in": [1, None, True]}}, False),
    ({"a": "x"}, True),
    ({"a": {"$in": [1, "x"]}}, True),
    ({"a": {"$elemMatch": {"b": {"$ne": "x"}}}}, True),
    ({"$or": [{"a": 1}, {"b": "x"}]}, True),
    ({"$expr": {"$eq": ["$a", 1]}}, True),
    ({"a": DBRef("x", 1)}, True),
]


@pytest.mark.parametrize(("query", "expected"), TEXTS)
def test_where_strings_are_compared(query: Any, expected: bool) -> None:
    """Only a query that compares with strings has another answer under a collation."""
    assert has_text(query) is expected


COARSER: list[tuple[Any, Any]] = [
    ({"a": {"$exists": False}, "b": "x"}, {"a": {"$exists": False}, "b": "x"}),
    ({"a": {"$in": ["x"]}, "b": {"$ne": 1}}, {"a": {"$in": ["x"]}, "b": {"$ne": 1}}),
    ({"a": {"$ne": "x"}, "b": 1}, {"b": 1}),
    ({"a": {"$nin": ["x"]}}, {}),
    ({"a": {"$gt": "x"}}, {}),
    ({"a": {"$not": {"$eq": "x"}}}, {}),
    ({"$nor": [{"a": "x"}], "b": "x"}, {"b": "x"}),
    ({"$or": [{"a": "x"}, {"a": {"$ne": "y"}}]}, {}),
    ({"$or": [{"a": "x"}, {"b": 1}]}, {"$or": [{"a": "x"}, {"b": 1}]}),
]


@pytest.mark.parametrize(("query", "expected"), COARSER)
def test_the_conditions_that_no_match_fails_under_a_collation(query: Any, expected: Any) -> None:
    """Equality holds under every collation where it holds by the characters; the rest may not."""
    assert coarsened(query) == expected
