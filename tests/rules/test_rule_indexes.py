"""The index that each form of target needs, and the reasons where there is none."""

from __future__ import annotations

import re
from typing import Any

import pytest

from lazymig.query.indexable import indexable, worded_paths
from lazymig.rules.rule_indexes import IndexSpec, index_name, indexes_for, is_rule_index

THERE, MISSING = {"$exists": True}, {"$exists": False}
TEXT = {"$type": "string", "$not": {"$type": "array"}}

# A target, and the key and the filter of each of its indexes.
SERVED: list[tuple[Any, list[tuple[Any, Any]]]] = [
    ({"mail": THERE}, [("mail", {"mail": THERE})]),
    ({"enabled": MISSING}, [("enabled", {"enabled": None})]),
    ({"enabled": None}, [("enabled", {"enabled": None})]),
    ({"age": {"$type": "string"}}, [("age", {"age": {"$type": "string"}})]),
    ({"_cls": "Human.Jedi"}, [("_cls", {"_cls": "Human.Jedi"})]),
    ({"n": {"$gt": 1, "$lte": 5}}, [("n", {"n": {"$gt": 1, "$lte": 5}})]),
    ({"n": {"$in": [1, 2]}}, [("n", {"n": {"$in": [1, 2]}})]),
    ({"n": {"$in": [1]}}, [("n", {"n": 1})]),
    ({"items.qty": THERE}, [("items.qty", {"items.qty": THERE})]),
    ({"items": {"$elemMatch": {"qty": THERE}}}, [("items.qty", {"items.qty": THERE})]),
    ({"mail": THERE, "email": MISSING}, [("mail", {"mail": THERE, "email": None})]),
    ({"email": MISSING, "kind": "a"}, [("kind", {"email": None, "kind": "a"})]),
    ({"$or": [{"a": MISSING}, {"b": THERE}]}, [("a", {"a": None}), ("b", {"b": THERE})]),
    ({"a": THERE, "$or": [{"b": 1}, {"c": 1}]}, [("a", {"a": THERE, "$or": [{"b": 1}, {"c": 1}]})]),
    ({"n": {"$ne": None}}, [("n", {"n": THERE})]),
    ({"n": {"$regex": "^ab"}}, [("n", {"n": THERE})]),
    ({"tags": {"$all": ["a"]}}, [("tags", {"tags": "a"})]),
    # A list of strings is of the type, too: what has a first element is not held.
    ({"tags": TEXT}, [("tags", {"tags": {"$type": "string"}, "tags.0": None})]),
    ({"a.tags": TEXT}, [("a.tags", {"a.tags": {"$type": "string"}, "a.tags.0": None})]),
    # A field is the smaller key, beside the document that it is in.
    (
        {"items.c": None, "items": {"$type": "object"}},
        [("items.c", {"items.c": None, "items": {"$type": "object"}})],
    ),
    # No filter holds these, but the order of an index finds them.
    ({"address.zip": MISSING}, [("address.zip", None)]),
    ({"address": THERE, "address.zip": MISSING}, [("address.zip", {"address": THERE})]),
    ({"n": {"$ne": 5}}, [("n", None)]),
    # No document matches the first branch.
    (
        {"a": THERE, "$or": [{"b": {"$all": []}}, {"c": 1}]},
        [("a", {"a": THERE, "$or": [{"c": 1}]})],
    ),
    ({"$or": [{"a": THERE, "b": {"$in": []}}, {"c": THERE}]}, [("c", {"c": THERE})]),
    # Nor these, which the other condition helps to find.
    ({"kind": "a", "tags": {"$size": 2}}, [("kind", {"kind": "a"})]),
]


@pytest.mark.parametrize(("target", "expected"), SERVED, ids=lambda value: str(value)[:60])
def test_a_target_has_the_index_that_holds_what_is_old(target: Any, expected: Any) -> None:
    """The filter says of the target what a filter may, and the key tells documents apart."""
    assert [(*spec.keys, spec.filter) for spec in indexes_for(target).specs] == expected


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (None, "its target needs a document"),
        ({}, "its target matches every document"),
        ({"mail": THERE, "tags": {"$all": []}}, "its target matches no document"),
        ({"mail": THERE, "kind": {"$in": []}}, "its target matches no document"),
        ({"mail": THERE, "$or": [{"a": {"$all": []}}]}, "its target matches no document"),
        ({"_id": {"$gt": 5}}, "the _id, which has its index"),
        ({"tags": {"$size": 2}}, r"by \$size on 'tags'"),
        ({"tags": {"$gte": [[], 5]}}, r"by \$gte on 'tags'"),
        ({"n": {"$not": {"$type": "int"}}}, r"by \$not on 'n'"),
        ({"n": {"$mod": [2, 0]}}, r"by \$mod on 'n'"),
        ({"name": {"$regex": "ab"}}, r"by \$regex on 'name'"),
        ({"name": {"$regex": "^a?"}}, r"by \$regex on 'name'"),
        ({"items": {"$elemMatch": {"n": MISSING}}}, r"by \$elemMatch on 'items'"),
        ({"$expr": {"$gt": ["$a", "$b"]}}, "what only MongoDB judges"),
        ({"$or": [{"a": MISSING}, {"tags": {"$size": 0}}]}, r"of a branch of its \$or"),
    ],
)
def test_where_no_index_serves_there_is_a_reason(target: Any, reason: str) -> None:
    """A rule without an index says which condition MongoDB finds by none."""
    needed = indexes_for(target)
    assert needed.specs == ()
    assert needed.reason is not None
    assert re.search(reason, needed.reason)


def test_an_index_that_holds_more_says_so() -> None:
    """What no filter may hold is named, as the index then never shrinks to nothing."""
    assert indexes_for({"mail": THERE}).reason is None
    assert "no filter may hold $size on 'tags'" in str(
        indexes_for({"kind": "a", "tags": {"$size": 2}}).reason
    )
    assert "it holds every document" in str(indexes_for({"n": {"$ne": 5}}).reason)
    assert indexes_for({"tags": TEXT}).reason is None
    assert indexes_for({"n": {**THERE, "$not": {"$type": "int"}}}).reason is None
    for more in (
        {**THERE, "$not": {"$type": "array"}},
        {"$type": "object", "$not": {"$type": "array"}},
        {"$type": "string", "$not": {"$type": "int"}},
    ):
        reason = str(indexes_for({"tags": more}).reason)
        assert "more than what is old: no filter may hold $not on 'tags'" in reason


def test_all_but_one_type_are_named() -> None:
    """A field of any type but one is found by the `$type` of the others, for a filter."""
    (spec,) = indexes_for({"age": {"$exists": True, "$not": {"$type": ["int", 18]}}}).specs
    types = spec.filter["age"]["$type"]  # type: ignore[index]
    assert "string" in types
    assert {"int", "long"}.isdisjoint(types)
    number = indexes_for({"age": {"$exists": True, "$not": {"$type": "number"}}}).specs[0]
    assert {"int", "long", "double", "decimal"}.isdisjoint(number.filter["age"]["$type"])  # type: ignore[index]


def test_the_key_is_the_path_that_is_copied() -> None:
    """Queries for what a rule writes ask for what it copies, so that is the key."""
    target = {"kind": {"$in": ["a", "b"]}, "mail": THERE}
    assert indexes_for(target).specs[0].keys == ("kind",)
    assert indexes_for(target, sources={"mail"}).specs[0].keys == ("mail",)


def test_the_class_is_part_of_the_filter_or_of_the_key() -> None:
    """Documents of other classes are not in the index, or are passed over by its order."""
    some = {"_cls": {"$in": ["A", "B"]}}
    assert indexes_for({"x": MISSING}, some).specs == (
        IndexSpec(("x",), {"x": None, "_cls": {"$in": ["A", "B"]}}),
    )
    assert indexes_for({"x": MISSING}, {"_cls": {"$nin": ["A"]}}).specs == (
        IndexSpec(("x", "_cls"), {"x": None}),
    )
    assert indexes_for({"_cls": "A"}, some).specs == (IndexSpec(("_cls",), {"_cls": "A"}),)


def test_names_tell_rule_indexes_from_others() -> None:
    """A name has the library's, the rule's, and from the second index on a number."""
    names = [index_name("migration01__a", number) for number in (1, 2)]
    assert names == ["lazymig_migration01__a", "lazymig_migration01__a_2"]
    assert all(map(is_rule_index, [*names, "lazymig_allmigration02__b"]))
    assert not any(map(is_rule_index, ["mail_1", "lazymig_mine", "_id_"]))


@pytest.mark.parametrize(
    ("query", "worded"),
    [
        ({"a": MISSING}, {"a": {"$exists": False, "$eq": None}}),
        ({"a.b": MISSING}, {"a.b": MISSING}),
        ({"a": {"$exists": False, "$eq": None}}, {"a": {"$exists": False, "$eq": None}}),
        ({"$or": [{"a": MISSING}]}, {"$or": [{"a": {"$exists": False, "$eq": None}}]}),
        ({"$nor": [{"a": MISSING}]}, {"$nor": [{"a": MISSING}]}),
        (
            {"x": {"$elemMatch": {"y": {"$gt": 1}, "z": MISSING}}},
            {"x": {"$elemMatch": {"y": {"$gt": 1}, "z": MISSING}}, "x.y": {"$gt": 1}},
        ),
        (
            {"_cls": "A", "$and": [{"$or": [{"a": 1}, {"_cls": "B"}]}]},
            {"_cls": "A", "$and": [{"$or": [{"_cls": "A", "a": 1}, {"_cls": "B"}]}]},
        ),
    ],
    ids=str,
)
def test_a_query_is_worded_once(query: Any, worded: Any) -> None:
    """What is said besides is what filters hold; a query that says it all is the same object."""
    given = dict(query)
    assert indexable(query) == worded
    assert query == given
    assert indexable(worded) is worded


def test_only_what_a_target_asks_for_is_worded() -> None:
    """Beside the paths of targets a query is left as its author wrote it."""
    paths = worded_paths({"$or": [{"a": MISSING}, {"b": THERE}, {"c.d": MISSING}]})
    assert paths == {"a"}
    assert indexable({"b": MISSING}, paths) == {"b": MISSING}
    query = {"_cls": "A", "$or": [{"b": 1}, {"b": 2}]}
    assert indexable(query, paths, by_class=False) is query


def test_an_imitation_is_told_nothing_of_types() -> None:
    """What an imitation of MongoDB judges otherwise is not said to it."""
    target = {"tags": TEXT, "age": {**THERE, "$not": {"$type": "int"}}}
    assert indexable(target, types=False) is target
    assert indexable(target)["tags.0"] is None
