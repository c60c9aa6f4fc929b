"""The paths that aggregation expressions name."""

from __future__ import annotations

from typing import Any

import pytest

from lazymig.query.expressions import expression_paths


@pytest.mark.parametrize(
    ("expression", "paths"),
    [
        (1, set()),
        ("a", set()),
        ("$a.b", {"a.b"}),
        ({"$concat": ["$a", "-", {"$toLower": "$b"}]}, {"a", "b"}),
        ({"$literal": "$a"}, set()),
        ({"x": {"y": "$a"}}, {"a"}),
        ({"$map": {"input": "$a", "as": "one", "in": "$$one.b"}}, {"a"}),
        (["$$NOW", "$$REMOVE"], set()),
        ("$$ROOT.a", {"a"}),
        ("$$CURRENT.a.b", {"a.b"}),
        ([{"$set": {"a": "$b"}}, {"$unset": "c"}], {"b"}),
        ({"$function": {"body": "", "args": ["$a"], "lang": "js"}}, {"a"}),
        ({"$top": {"sortBy": {"a.b": -1}, "output": "$c"}}, {"a.b", "c"}),
        ({"x": {"$bottomN": {"n": 2, "sortBy": {"a": 1, "b": -1}, "output": ["$c"]}}}, {*"abc"}),
        ({"$setField": {"field": "a", "input": "$b", "value": "$c"}}, {"b", "c"}),
        ({"$ifNull": ["$a", {"$getField": {"field": "b", "input": "$c.d"}}]}, {"a", "c.d"}),
        ({"$getField": {"field": {"$literal": "$id"}, "input": "$a"}}, {"a"}),
    ],
)
def test_each_path_that_is_read_is_named(expression: Any, paths: set[str]) -> None:
    """An expression names the fields that it reads, wherever they stand in it, and no literal."""
    assert expression_paths(expression) == paths


@pytest.mark.parametrize(
    "expression",
    [
        "$$ROOT",
        {"$mergeObjects": ["$$CURRENT", "$a"]},
        {"$getField": "a"},
        {"$ifNull": ["$a", {"$getField": {"field": "b", "input": "$$ROOT"}}]},
        {"$getField": {"field": "a"}},
    ],
)
def test_what_is_not_named_is_not_known(expression: Any) -> None:
    """Of the whole document, and of fields whose names are computed, no path is given."""
    assert expression_paths(expression) is None
