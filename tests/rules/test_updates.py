"""Updates before they run, each claim held against the real server."""

from __future__ import annotations

import re
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymongo import MongoClient, UpdateOne
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError

from lazymig.rules.updates import (
    ANY_VALUE,
    check_update,
    created_paths,
    ends_match,
    removed_paths,
    written_paths,
)

Raw = dict[str, Any]


# --- check_update ------------------------------------------------------------------------

BAD_UPDATES = {
    "nothing": (None, "None"),
    "empty mapping": ({}, "{}"),
    "empty pipeline": ([], "[]"),
    "a string": ("$set", "'$set'"),
    "replacement document": ({"name": "x"}, "replacement document ('name')"),
    "mixed": ({"$set": {"a": 1}, "name": "x"}, "mixes operators with plain fields ('name')"),
    "unknown operator": ({"$sett": {"a": 1}}, "$sett is not an update operator"),
    "removed operator": ({"$pushAll": {"a": [1]}}, "$pushAll is not an update operator"),
    "operator without mapping": ({"$set": 5}, "$set is given 5"),
    "operator with empty mapping": ({"$set": {}}, "$set is given {}"),
    "same path twice": ({"$set": {"a": 1}, "$unset": {"a": ""}}, "$set of 'a' and $unset of 'a'"),
    "path and parent": ({"$set": {"a": {}}, "$inc": {"a.b": 1}}, "$set of 'a' and $inc of 'a.b'"),
    "parent in between": ({"$set": {"a": 1, "a-b": 1, "a.b": 1}}, "$set of 'a' and $set of 'a.b'"),
    "rename onto a written path": (
        {"$rename": {"a": "b"}, "$set": {"b": 1}},
        "$rename of 'b' and $set of 'b'",
    ),
    "rename into itself": ({"$rename": {"a": "a.b"}}, "conflict"),
    "rename to itself": ({"$rename": {"a": "a"}}, "$rename of 'a' to itself"),
    "rename to no path": ({"$rename": {"a": 1}}, "$rename of 'a' is given 1"),
    "rename of elements": ({"$rename": {"a.$[].b": "c"}}, "positional path 'a.$[].b'"),
    "rename to elements": ({"$rename": {"c": "a.$.b"}}, "positional path 'a.$.b'"),
    "empty path": ({"$set": {"": 1}}, "the path ''"),
    "empty component": ({"$set": {"a..b": 1}}, "the path 'a..b'"),
    "leading dot": ({"$unset": {".a": 1}}, "the path '.a'"),
    "trailing dot": ({"$rename": {"b": "a."}}, "the path 'a.'"),
    "path no string": ({"$set": {1: 1}}, "the path 1"),
    "_id": ({"$set": {"_id": 1}}, "writes '_id'"),
    "beneath _id": ({"$unset": {"_id.x": 1}}, "writes '_id.x'"),
    "not BSON": ({"$set": {"a": {"b": object()}}}, "$set of 'a' holds a value"),
    "too large": ({"$inc": {"n": 2**64}}, "$inc of 'n' holds a value"),
    "stage no mapping": ([["$set"]], "a pipeline stage is ['$set']"),
    "stage of two": ([{"$set": {"a": 1}, "$unset": "b"}], "give a mapping with one operator"),
    "unknown stage": ([{"$match": {"a": 1}}], "$match is not a stage"),
    "empty stage": ([{"$set": {}}], "the stage $set is given {}"),
    "unset stage of nothing": ([{"$unset": []}], "the stage $unset is given []"),
    "unset stage of mapping": ([{"$unset": {"a": 1}}], "the stage $unset is given {'a': 1}"),
    "path and parent in a stage": ([{"$set": {"a": 1, "a.b": 2}}], "conflict"),
    "_id in a stage": ([{"$set": {"_id": 1}}], "writes '_id'"),
    "stage path": ([{"$unset": ["a..b"]}], "the path 'a..b'"),
    "stage value": ([{"$set": {"a": object()}}], "$set of 'a' holds a value"),
    "no new root": ([{"$replaceRoot": {"root": "$a"}}], "newRoot"),
}


@pytest.mark.parametrize(("update", "wrong"), BAD_UPDATES.values(), ids=BAD_UPDATES)
def test_bad_update_is_named_with_a_remedy(update: Any, wrong: str) -> None:
    """A malformed update raises ValueError that says what is wrong, and what to do."""
    with pytest.raises(ValueError, match=re.escape(wrong)) as caught:
        check_update(update)
    problem, remedy = str(caught.value).split(";", 1)
    assert problem
    assert remedy.strip()


BAD_FILTERS = {
    "no list": ({"$set": {"i.$[e].q": 1}}, {"e.q": 0}, "array_filters is {'e.q': 0}"),
    "no mappings": ({"$set": {"i.$[e].q": 1}}, ["e"], "array_filters contains 'e'"),
    "missing": ({"$set": {"i.$[e].q": 1}}, None, "no array filter for 'e'"),
    "unused": ({"$set": {"i.$[].q": 1}}, [{"e.q": 0}], "'e', which no path uses"),
    "twice": ({"$set": {"i.$[e].q": 1}}, [{"e.q": 0}, {"e.r": 0}], "'e' twice"),
    "two identifiers": ({"$set": {"i.$[e].q": 1}}, [{"e.q": 0, "f": 0}], "names 'e', 'f'"),
    "pipeline": ([{"$set": {"a": 1}}], [{"e": 0}], "cannot be combined with a pipeline"),
}


@pytest.mark.parametrize(("update", "filters", "wrong"), BAD_FILTERS.values(), ids=BAD_FILTERS)
def test_bad_array_filters_are_named_with_a_remedy(update: Any, filters: Any, wrong: str) -> None:
    """Array filters that do not fit the update raise ValueError that says what and what to do."""
    with pytest.raises(ValueError, match=re.escape(wrong)) as caught:
        check_update(update, filters)
    assert ";" in str(caught.value)


@pytest.mark.parametrize(
    ("update", "filters"),
    [
        ({"$set": {"a": ANY_VALUE, "b.c": [{"d": ANY_VALUE}]}, "$unset": {"ab": ""}}, None),
        ({"$rename": {"a": "b.c"}, "$currentDate": {"d": True}, "$pop": {"e": 1}}, None),
        ({"$set": {"i.$.q": 1, "j.$[].q": 1, "k.0": 1}}, None),
        ({"$set": {"i.$[e].q": 1}}, [{"$or": [{"e.q": 0}, {"e.r": 0}]}]),
        ([{"$addFields": {"a": "$b", "c": {"$add": ["$d", 1]}}}, {"$unset": ["b", "d"]}], None),
        ([{"$replaceWith": {"$mergeObjects": ["$a", "$$ROOT"]}}, {"$project": {"a": 0}}], None),
        ([{"$replaceRoot": {"newRoot": "$a"}}], None),
    ],
)
def test_good_update_is_accepted(update: Any, filters: Any) -> None:
    """What the server would take is accepted."""
    assert check_update(update, filters) is None


# --- paths ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("update", "written", "removed", "created"),
    [
        ({"$set": {"a": 1, "b.c": 1}}, {"a", "b.c"}, set(), {"a", "b.c"}),
        (
            {"$set": {"i.$[e].q": 1, "j.$[].q": 1, "k.$.q": 1, "l.0.q": 1}},
            {"i.q", "j.q", "k.q", "l.q"},
            set(),
            {"i.q", "j.q", "k.q", "l.q"},
        ),
        ({"$set": {"2024": 1}}, {"2024"}, set(), {"2024"}),
        ({"$unset": {"a": 1}, "$inc": {"b": 1}}, {"a", "b"}, {"a"}, {"b"}),
        ({"$rename": {"a": "b.c"}}, {"a", "b.c"}, {"a"}, {"b.c"}),
        ({"$setOnInsert": {"a": 1}, "$push": {"b": 1}}, {"b"}, set(), {"b"}),
        (
            [{"$set": {"a": {"b": {"c": 1}, "d": {"$add": [1, "$e"]}}, "f.g": "$h"}}],
            {"a.b.c", "a.d", "f.g"},
            set(),
            {"a.b.c", "a.d", "f.g"},
        ),
        ([{"$set": {"a": "$$REMOVE"}}], {"a"}, {"a"}, set()),
        ([{"$unset": "a"}, {"$unset": ["b", "c.d"]}], {"a", "b", "c.d"}, {"a", "b", "c.d"}, set()),
        ([{"$set": {"t.x": 1, "a": 1}}, {"$unset": "t"}], {"t.x", "t", "a"}, {"t"}, {"a"}),
        ([{"$unset": "a"}, {"$set": {"a": 1}}], {"a"}, set(), {"a"}),
        ([{"$project": {"a": 0, "b.c": False}}], {"a", "b.c"}, {"a", "b.c"}, set()),
        ([{"$project": {"a": 1}}], None, set(), None),
        ([{"$project": {"a": "$b"}}], None, set(), None),
        ([{"$set": {"a": 1}}, {"$replaceRoot": {"newRoot": "$b"}}], None, set(), None),
        ([{"$replaceWith": "$b"}], None, set(), None),
    ],
)
def test_paths(update: Any, written: Any, removed: set[str], created: Any) -> None:
    """The paths an update writes, takes away and creates are told, without positions."""
    assert written_paths(update) == written
    assert removed_paths(update) == removed
    assert created_paths(update) == created


# --- ends_match ----------------------------------------------------------------------------


class Case(NamedTuple):
    """A rule and one document that matches its target."""

    target: Raw
    update: Any
    document: Raw
    array_filters: list[Raw] | None = None


NO_QTY = {"$elemMatch": {"qty": {"$exists": False}}}

PROVED = {
    "set absent": Case({"a": {"$exists": False}}, {"$set": {"a": 1}}, {}),
    "set null": Case({"a": None}, {"$set": {"a": 1}}, {"a": None}),
    "set class": Case({"_cls": "A.B"}, {"$set": {"_cls": "A.C"}}, {"_cls": "A.B"}),
    "set other type": Case({"a": {"$type": "string"}}, {"$set": {"a": 1}}, {"a": "x"}),
    "set beyond a bound": Case({"v": {"$lt": 3}}, {"$set": {"v": 3}}, {"v": 1}),
    "set not equal": Case({"v": {"$ne": 3}}, {"$set": {"v": 3}}, {"v": 1}),
    "set not in": Case({"v": {"$nin": [3, 4]}}, {"$set": {"v": 3}}, {}),
    "set not a regex": Case({"v": {"$not": {"$regex": "^x"}}}, {"$set": {"v": "x"}}, {}),
    "set out of a regex": Case(
        {"v": {"$regex": "^X", "$options": "i"}}, {"$set": {"v": "y"}}, {"v": "xx"}
    ),
    "set child, parent absent": Case({"a": {"$exists": False}}, {"$set": {"a.b": 1}}, {}),
    "set child, parent null": Case({"a": None}, {"$set": {"a.b": 1}}, {}),
    "set parent, child absent": Case(
        {"a.b": {"$exists": False}}, {"$set": {"a": {"b": 1}}}, {"a": 1}
    ),
    "set parent, child gone": Case({"a.b": {"$exists": True}}, {"$set": {"a": 5}}, {"a": {"b": 1}}),
    "set unknown value": Case({"a": {"$exists": False}}, {"$set": {"a": ANY_VALUE}}, {}),
    "set container of unknown": Case(
        {"t": {"$type": "string"}}, {"$set": {"t": {"lang": "en", "v": ANY_VALUE}}}, {"t": "x"}
    ),
    "set unknown child": Case(
        {"a.b": {"$exists": False}}, {"$set": {"a": {"b": ANY_VALUE}}}, {"a": {}}
    ),
    "one of a conjunction": Case({"a": 1, "b": {"$gt": 2}}, {"$set": {"a": 2}}, {"a": 1, "b": 3}),
    "all of a disjunction": Case(
        {"$or": [{"a": None}, {"b": {"$lt": 3}}]}, {"$set": {"a": 1, "b": 3}}, {"b": 9}
    ),
    "nor": Case({"$nor": [{"a": 1}, {"b": 2}]}, {"$set": {"b": 2}}, {}),
    "and": Case({"$and": [{"a": 1}, {"c": 1}]}, {"$unset": {"c": ""}}, {"a": 1, "c": 1}),
    "unset": Case({"a": {"$exists": True}}, {"$unset": {"a": ""}}, {"a": None}),
    "unset child": Case({"a.b": {"$exists": True}}, {"$unset": {"a.b": ""}}, {"a": {"b": 1}}),
    "unset with value": Case({"a": {"$in": [1, 2]}}, {"$unset": {"a": ""}}, {"a": 2}),
    "rename source": Case({"a": {"$exists": True}}, {"$rename": {"a": "b"}}, {"a": 1}),
    "rename destination": Case(
        {"b": {"$exists": False}, "a": {"$type": "string"}}, {"$rename": {"a": "b"}}, {"a": "x"}
    ),
    "rename destination, source bounded": Case(
        {"b": {"$exists": False}, "a": {"$gt": 1}}, {"$rename": {"a": "b"}}, {"a": 2}
    ),
    "rename destination, source not null": Case(
        {"b.c": {"$exists": False}, "a": {"$ne": None}}, {"$rename": {"a": "b.c"}}, {"a": 2}
    ),
    "rename destination, either implies": Case(
        {"b": {"$exists": False}, "$or": [{"a": 1}, {"a.x": 1}]}, {"$rename": {"a": "b"}}, {"a": 1}
    ),
    "inc known": Case({"version": 1}, {"$inc": {"version": 1}}, {"version": 1.0}),
    "inc known bound": Case({"v": {"$in": [1, 2]}}, {"$inc": {"v": 5}}, {"v": 2}),
    "inc absent": Case({"n": {"$exists": False}}, {"$inc": {"n": 1}}, {}),
    "inc null": Case({"n": None}, {"$inc": {"n": 1}}, {}),
    "mul": Case({"n": {"$exists": False}}, {"$mul": {"n": 2}}, {}),
    "min": Case({"n": {"$exists": False}}, {"$min": {"n": 2}}, {}),
    "max": Case({"n": {"$exists": False}}, {"$max": {"n": 2}}, {}),
    "bit": Case({"n": {"$exists": False}}, {"$bit": {"n": {"or": 2}}}, {}),
    "current date": Case({"d": {"$type": "string"}}, {"$currentDate": {"d": True}}, {"d": "x"}),
    "current date, no date": Case(
        {"d": {"$not": {"$type": "date"}}}, {"$currentDate": {"d": True}}, {}
    ),
    "current timestamp": Case(
        {"d": {"$not": {"$type": "timestamp"}}}, {"$currentDate": {"d": {"$type": "timestamp"}}}, {}
    ),
    "push": Case({"t": {"$exists": False}}, {"$push": {"t": 1}}, {}),
    "push makes array": Case({"t": {"$not": {"$type": "array"}}}, {"$push": {"t": 1}}, {}),
    "push to empty": Case({"t": {"$size": 0}}, {"$push": {"t": 1}}, {"t": []}),
    "push element": Case({"t": {"$ne": "x"}}, {"$push": {"t": "x"}}, {"t": ["y"]}),
    "push each": Case({"t": {"$nin": ["x"]}}, {"$push": {"t": {"$each": ["y", "x"]}}}, {}),
    "push field": Case({"i.q": {"$exists": False}}, {"$push": {"i": {"q": 1}}}, {"i": [{}]}),
    "add to set": Case({"t": {"$ne": 5}}, {"$addToSet": {"t": 5}}, {"t": [4]}),
    "pull": Case({"t": "x"}, {"$pull": {"t": "x"}}, {"t": ["x", "y", "x"]}),
    "pull in": Case(
        {"t": {"$in": ["x", "y"]}}, {"$pull": {"t": {"$in": ["y", "x"]}}}, {"t": ["y"]}
    ),
    "pull all": Case(
        {"t": {"$in": ["x", "y"]}}, {"$pullAll": {"t": ["y", "x"]}}, {"t": ["y", "z"]}
    ),
    "pull bounded": Case(
        {"t": {"$elemMatch": {"$gt": 3}}}, {"$pull": {"t": {"$gt": 3}}}, {"t": [5]}
    ),
    "pull elements": Case(
        {"i": {"$elemMatch": {"q": 1, "r": 2}}},
        {"$pull": {"i": {"r": 2, "q": 1}}},
        {"i": [{"q": 1, "r": 2}, {"q": 1}]},
    ),
    "pull more elements": Case(
        {"i": {"$elemMatch": {"q": 1, "r": 2}}},
        {"$pull": {"i": {"q": 1}}},
        {"i": [{"q": 1, "r": 2}]},
    ),
    "pull by field": Case({"i.q": 1}, {"$pull": {"i": {"q": 1}}}, {"i": [{"q": [1, 2]}, {"q": 1}]}),
    "every element": Case({"i": NO_QTY}, {"$set": {"i.$[].qty": 1}}, {"i": [{"qty": 2}, {}]}),
    "filtered elements": Case(
        {"i": NO_QTY},
        {"$set": {"i.$[e].qty": 1}},
        {"i": [{"qty": 2}, {}]},
        [{"e.qty": {"$exists": False}}],
    ),
    "filtered elements, narrower target": Case(
        {"i": {"$elemMatch": {"qty": None, "kind": "a"}}},
        {"$set": {"i.$[e].qty": ANY_VALUE, "i.$[e].kind": "b"}},
        {"i": [{"kind": "a"}, {}]},
        [{"e.qty": None}],
    ),
    "unset in every element": Case(
        {"i.old": {"$exists": True}}, {"$unset": {"i.$[].old": ""}}, {"i": [{"old": 1}, 5, {}]}
    ),
    "unset in filtered elements": Case(
        {"i.old": {"$exists": True}},
        {"$unset": {"i.$[e].old": ""}},
        {"i": [{"old": 1}, {}]},
        [{"e.old": {"$exists": True}}],
    ),
    "renamed elements": Case(
        {"t": "old"}, {"$set": {"t.$[e]": "new"}}, {"t": ["old", "x"]}, [{"e": "old"}]
    ),
    "elements of elements": Case(
        {"i": {"$elemMatch": {"j": {"$elemMatch": {"k": {"$exists": True}}}}}},
        {"$unset": {"i.$[].j.$[].k": ""}},
        {"i": [{"j": [{"k": 1}]}]},
    ),
    "stage constant": Case({"a": {"$exists": False}}, [{"$set": {"a": "x"}}], {}),
    "stage add fields": Case({"a": None}, [{"$addFields": {"a": 5}}], {}),
    "stage literal": Case({"a": {"$ne": "$x"}}, [{"$set": {"a": {"$literal": "$x"}}}], {}),
    "stage list": Case({"t": {"$not": {"$type": "array"}}}, [{"$set": {"t": ["$t"]}}], {"t": 1}),
    "stage merges": Case({"a.b": {"$exists": False}}, [{"$set": {"a": {"b": 1}}}], {"a": {"c": 1}}),
    "stage concat": Case(
        {"full": {"$exists": False}}, [{"$set": {"full": {"$concat": ["$a", "$b"]}}}], {"a": "x"}
    ),
    "stage converts": Case(
        {"p": {"$type": "string"}}, [{"$set": {"p": {"$toInt": "$p"}}}], {"p": "5"}
    ),
    "stage wraps": Case(
        {"title": {"$type": "string"}},
        [{"$set": {"title": {"lang": "en", "value": "$title"}}}],
        {"title": "x"},
    ),
    "stage copies": Case(
        {"b": {"$exists": False}, "a": {"$exists": True}}, [{"$set": {"b": "$a"}}], {"a": 1}
    ),
    "stage copies what a stage set": Case(
        {"b": {"$ne": 3}}, [{"$set": {"a": {"c": 3}}}, {"$set": {"b": "$a.c"}}], {}
    ),
    "stage moves": Case(
        {"a": {"$exists": True}}, [{"$set": {"b.c": "$a"}}, {"$unset": ["a"]}], {"a": 1}
    ),
    "stage defaults": Case(
        {"b": {"$exists": False}}, [{"$set": {"b": {"$ifNull": ["$a", 0]}}}], {}
    ),
    "stage conditions": Case(
        {"b": {"$nin": [1, 2]}}, [{"$set": {"b": {"$cond": ["$a", 1, 2]}}}], {"a": True}
    ),
    "stage named conditions": Case(
        {"b": {"$exists": False}},
        [{"$set": {"b": {"$cond": {"if": "$a", "then": "$$NOW", "else": None}}}}],
        {},
    ),
    "stage switches": Case(
        {"b": {"$exists": False}},
        [{"$set": {"b": {"$switch": {"branches": [{"case": "$a", "then": 1}], "default": 2}}}}],
        {},
    ),
    "stage now": Case({"d": {"$type": "string"}}, [{"$set": {"d": "$$NOW"}}], {"d": "x"}),
    "stage removes": Case({"a": {"$exists": True}}, [{"$set": {"a": "$$REMOVE"}}], {"a": 1}),
    "stage removing makes parents": Case(
        {"a": {"$exists": False}}, [{"$set": {"a.b": "$$REMOVE"}}], {}
    ),
    "stage unsets": Case({"a.b": 1}, [{"$unset": "a.b"}], {"a": {"b": 1}}),
    "stage excludes": Case({"a": 1}, [{"$project": {"a": 0}}], {"a": 1}),
    "set after replacing": Case(
        {"a": 1},
        [{"$replaceWith": {"$mergeObjects": ["$$ROOT", {"b": 1}]}}, {"$unset": "a"}],
        {"a": 1},
    ),
}

UNPROVED = {
    "parent stays": Case({"a": {"$exists": True}}, {"$set": {"a.tags": []}}, {"a": {}}),
    "still in range": Case({"v": {"$gt": 1}}, {"$set": {"v": 5}}, {"v": 2}),
    "other path": Case({"a": 1}, {"$set": {"b": 1}}, {"a": 1}),
    "one of a disjunction": Case(
        {"$or": [{"a": 1}, {"b": 1}]}, {"$set": {"a": 2}}, {"a": 1, "b": 1}
    ),
    "child of the set document missing": Case(
        {"a.b": {"$exists": False}}, {"$set": {"a": {}}}, {"a": 1}
    ),
    "unknown may be null": Case({"a": None}, {"$set": {"a": None}}, {}),
    "sub-document may be equal": Case({"a": {"b": 1}}, {"$set": {"a.b": 1}}, {"a": {"b": 1}}),
    "element becomes null": Case({"t.0": {"$exists": True}}, {"$unset": {"t.0": ""}}, {"t": [1]}),
    "null is not missing": Case({"t": None}, {"$unset": {"t.$[]": ""}}, {"t": [None]}),
    "rename of nothing": Case({"b": {"$exists": False}}, {"$rename": {"a": "b"}}, {}),
    "rename of a possible null": Case(
        {"b": {"$exists": False}, "a": None}, {"$rename": {"a": "b"}}, {}
    ),
    "inc within a range": Case({"v": {"$gt": 1}}, {"$inc": {"v": 1}}, {"v": 2}),
    "inc from one to another": Case({"v": {"$in": [1, 2]}}, {"$inc": {"v": 1}}, {"v": 1}),
    "inc changes no type": Case({"v": {"$type": "number"}}, {"$inc": {"v": 1}}, {"v": 1.0}),
    "min keeps null": Case({"n": None}, {"$min": {"n": 2}}, {"n": None}),
    "push nothing": Case({"t": {"$size": 0}}, {"$push": {"t": {"$each": []}}}, {"t": []}),
    "push sliced away": Case(
        {"t": {"$ne": 1}}, {"$push": {"t": {"$each": [1], "$slice": 0}}}, {"t": []}
    ),
    "push unlike": Case({"t": {"$ne": "x"}}, {"$push": {"t": "y"}}, {}),
    "push keeps elements": Case({"t": "x"}, {"$push": {"t": "y"}}, {"t": ["x"]}),
    "pull less": Case({"t": {"$in": ["x", "y"]}}, {"$pull": {"t": "x"}}, {"t": ["y"]}),
    "pull fewer elements": Case(
        {"i": {"$elemMatch": {"q": 1}}}, {"$pull": {"i": {"q": 1, "r": 1}}}, {"i": [{"q": 1}]}
    ),
    "pull leaves missing": Case({"t": {"$exists": False}}, {"$pull": {"t": 1}}, {}),
    "pop": Case({"t": "x"}, {"$pop": {"t": 1}}, {"t": ["x", "x"]}),
    "no elements at all": Case(
        {"i.qty": {"$exists": False}}, {"$set": {"i.$[].qty": 1}}, {"i": []}
    ),
    "first element only": Case({"i": NO_QTY}, {"$set": {"i.$.qty": 1}}, {"i": [{}, {}]}),
    "other filter": Case(
        {"i": NO_QTY}, {"$set": {"i.$[e].qty": 1}}, {"i": [{}]}, [{"e.kind": "a"}]
    ),
    "narrower filter": Case(
        {"i": NO_QTY},
        {"$set": {"i.$[e].qty": 1}},
        {"i": [{}]},
        [{"e.qty": {"$exists": False}, "e.kind": "a"}],
    ),
    "insert only": Case({"a": {"$exists": False}}, {"$setOnInsert": {"a": 1}}, {}),
    "stage copies nothing": Case({"b": {"$exists": False}}, [{"$set": {"b": "$a"}}], {}),
    "stage with an operator of its own": Case(
        {"b": {"$exists": False}}, [{"$set": {"b": {"$getField": "a"}}}], {}
    ),
    "stage null": Case({"b": None}, [{"$set": {"b": {"$concat": ["$a", "x"]}}}], {}),
    "stage may remove": Case(
        {"b": {"$exists": False}}, [{"$set": {"b": {"$cond": ["$a", 1, "$$REMOVE"]}}}], {}
    ),
    "stage defaults to nothing": Case(
        {"b": {"$exists": False}}, [{"$set": {"b": {"$ifNull": ["$a", "$c"]}}}], {}
    ),
    "stage replaces": Case({"a": 1}, [{"$replaceWith": "$$ROOT"}], {"a": 1}),
    "stage includes": Case({"a": {"$exists": False}}, [{"$project": {"a": 1}}], {}),
    "stage loses what it copies": Case(
        {"b": {"$exists": False}, "$or": [{"a": 1}, {"d": 1}]},
        [{"$set": {"a": "$c"}}, {"$set": {"b": "$a"}}],
        {"d": 1},
    ),
    "a later stage undoes": Case(
        {"a": {"$exists": False}}, [{"$set": {"a": 1}}, {"$unset": "a"}], {}
    ),
    "not judged": Case({"$expr": {"$eq": ["$a", 1]}}, {"$set": {"b": 2}}, {"a": 1}),
}


@pytest.fixture(scope="module")
def scratch(client: MongoClient[Raw]) -> Iterator[Collection[Raw]]:
    """One collection for all cases: dropping a database for each would take most of the time."""
    name = f"lazymig_{uuid.uuid4().hex}"
    yield client[name].cases
    client.drop_database(name)


def _concrete(value: Any, chosen: Any) -> Any:
    """Return an update with `chosen` for each ANY_VALUE."""
    if value is ANY_VALUE:
        return chosen
    if isinstance(value, dict):
        return {key: _concrete(item, chosen) for key, item in value.items()}
    if isinstance(value, list):
        return [_concrete(item, chosen) for item in value]
    return value


def _count_after(collection: Collection[Raw], case: Case) -> int:
    """Update one matching document on the server; return how many match afterwards."""
    collection.replace_one({"_id": 1}, case.document, upsert=True)
    result = collection.update_many(
        {"$and": [{"_id": 1}, case.target]},
        _concrete(case.update, "some value"),
        array_filters=case.array_filters,
    )
    assert result.matched_count == 1
    return collection.count_documents(case.target)


@pytest.mark.parametrize("case", PROVED.values(), ids=PROVED)
def test_update_that_ends_its_match_is_proved(case: Case, scratch: Collection[Raw]) -> None:
    """What ends its match is proved to, and does so on the server."""
    check_update(case.update, case.array_filters)
    assert _count_after(scratch, case) == 0
    assert ends_match(case.target, case.update, case.array_filters)


@pytest.mark.parametrize("case", UNPROVED.values(), ids=UNPROVED)
def test_update_that_leaves_a_match_is_never_proved(case: Case, scratch: Collection[Raw]) -> None:
    """Where some document still matches on the server after the update, nothing is proved."""
    check_update(case.update, case.array_filters)
    assert _count_after(scratch, case) == 1
    assert not ends_match(case.target, case.update, case.array_filters)


@pytest.mark.parametrize(
    ("target", "update"),
    [
        ({"a": None}, {"$set": {"a": ANY_VALUE}}),
        ({"a": {"$lt": 3}}, {"$set": {"a": ANY_VALUE}}),
        ({"a.b": {"$exists": False}}, {"$set": {"a": ANY_VALUE}}),
        ({"a": {"$type": "string"}}, {"$set": {"a": ANY_VALUE}}),
        ({"t": "x"}, {"$set": {"t": [ANY_VALUE]}}),
        ({"b": {"$exists": False}}, [{"$set": {"b": ANY_VALUE}}]),
    ],
)
def test_unknown_value_proves_nothing_by_what_it_is(target: Raw, update: Any) -> None:
    """A value that is not known yet proves presence at most, in a pipeline not even that."""
    check_update(update)
    assert not ends_match(target, update)


# --- Generated rules and documents ---------------------------------------------------------

NAMES = ("a", "b", "d", "d.x", "d.y", "d.x.z", "t")
SCALARS: list[Any] = [None, 0, 1, 2, 1.0, 2.5, True, False, "", "x", "1"]
scalars = st.sampled_from(SCALARS)
arrays = st.lists(scalars, max_size=3)
values = st.one_of(scalars, scalars, arrays, st.dictionaries(st.sampled_from("xy"), scalars))
# `d` is the parent of dotted paths: anything but an array. `i` holds sub-documents and scalars.
parents = st.one_of(
    scalars,
    st.fixed_dictionaries(
        {},
        optional={
            "x": st.one_of(scalars, st.fixed_dictionaries({}, optional={"z": values})),
            "y": values,
        },
    ),
)
elements = st.one_of(
    scalars, st.dictionaries(st.sampled_from("qr"), st.one_of(scalars, arrays), max_size=2)
)
documents = st.fixed_dictionaries(
    {},
    optional={"a": values, "b": values, "d": parents, "t": values, "i": st.lists(elements)},
)

ALIASES = ["null", "string", "int", "double", "number", "bool", "object", "array", "date"]


def _operators(comparands: st.SearchStrategy[Any]) -> st.SearchStrategy[Raw]:
    return st.one_of(
        *[st.booleans().map(lambda yes: {"$exists": yes})] * 2,
        st.sampled_from(ALIASES).map(lambda alias: {"$type": alias}),
        st.tuples(st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]), comparands).map(
            lambda pair: dict([pair])
        ),
        st.tuples(
            st.sampled_from(["$in", "$nin", "$all"]), st.lists(comparands, min_size=1, max_size=2)
        ).map(lambda pair: dict([pair])),
        st.sampled_from([{"$size": 0}, {"$size": 1}, {"$regex": "^x"}, {"$mod": [2, 0]}]),
    )


conditions = st.one_of(
    values, _operators(values), _operators(scalars).map(lambda inner: {"$not": inner})
)
element_conditions = st.dictionaries(
    st.sampled_from("qr"), st.one_of(scalars, _operators(scalars)), min_size=1, max_size=2
)
leaves = st.one_of(
    st.tuples(st.sampled_from(NAMES), conditions).map(lambda pair: dict([pair])),
    st.tuples(st.sampled_from(["i.q", "i.r", "i", "t"]), conditions).map(lambda pair: dict([pair])),
    element_conditions.map(lambda inner: {"i": {"$elemMatch": inner}}),
)
targets = st.recursive(
    leaves,
    lambda inner: st.tuples(
        st.sampled_from(["$and", "$or", "$nor"]), st.lists(inner, min_size=1, max_size=2)
    ).map(lambda pair: dict([pair])),
    max_leaves=3,
)

# Mostly values without an array at a parent of dotted paths, as the one assumption has it.
set_values = st.one_of(scalars, st.just(ANY_VALUE), st.just({"x": 1}), st.just({"x": ANY_VALUE}))


def _single(operator: str, paths: Any, arguments: Any) -> st.SearchStrategy[Raw]:
    return st.tuples(paths, arguments).map(lambda pair: {operator: dict([pair])})


plain = st.sampled_from(NAMES)
flat = st.sampled_from(["a", "b", "t"])
numbers = st.sampled_from([-1, 1, 2, 0.5])
operators = st.one_of(
    _single("$set", plain, set_values),
    _single("$set", flat, values),
    _single("$set", st.sampled_from(["i.$[].q", "i.$[].r", "i.$[]", "t.$[]"]), scalars),
    _single("$unset", plain, st.just("")),
    _single("$unset", st.sampled_from(["i.$[].q", "t.0", "t.$[]"]), st.just("")),
    *[_single("$rename", st.sampled_from(["a", "b", "d.x"]), plain)] * 3,
    _single("$inc", plain, numbers),
    _single("$mul", plain, numbers),
    _single("$min", plain, scalars),
    _single("$max", plain, scalars),
    _single("$bit", plain, st.just({"or": 3})),
    _single("$currentDate", plain, st.sampled_from([True, {"$type": "timestamp"}])),
    _single("$push", flat, st.one_of(values, arrays.map(lambda each: {"$each": each}))),
    _single("$addToSet", flat, st.one_of(values, arrays.map(lambda each: {"$each": each}))),
    _single("$pull", flat, st.one_of(scalars, _operators(scalars))),
    _single("$pull", st.just("i"), element_conditions),
    _single("$pullAll", flat, arrays),
    _single("$pop", flat, st.just(1)),
    _single("$setOnInsert", plain, scalars),
)
field_paths = st.sampled_from(["$a", "$b", "$d.x", "$d.y", "$none"])
expressions = st.recursive(
    st.one_of(scalars, field_paths, st.sampled_from(["$$REMOVE", "$$NOW"])),
    lambda inner: st.one_of(
        st.tuples(st.just("$ifNull"), st.tuples(inner, inner).map(list)).map(
            lambda pair: dict([pair])
        ),
        st.tuples(st.just("$cond"), st.tuples(inner, inner, inner).map(list)).map(
            lambda pair: dict([pair])
        ),
        inner.map(lambda one: {"$toString": one}),
        inner.map(lambda one: {"$toBool": one}),
        st.lists(inner, min_size=1, max_size=2).map(lambda some: {"$add": some}),
        st.lists(inner, min_size=1, max_size=2).map(lambda some: {"$concat": some}),
        inner.map(lambda one: {"$literal": one}),
        inner.map(lambda one: {"$mergeObjects": [one]}),
        inner.map(lambda one: {"x": one}),
        inner.map(lambda one: [one]),
    ),
    max_leaves=3,
)
stages = st.one_of(
    _single("$set", plain, expressions),
    _single("$set", plain, expressions),
    _single("$addFields", flat, expressions),
    plain.map(lambda path: {"$unset": path}),
    st.sampled_from([{"$project": {"d.x": 0}}, {"$project": {"a": 1}}, {"$replaceWith": "$d"}]),
)
updates = st.one_of(
    operators,
    operators,
    st.tuples(operators, operators).map(lambda two: {**two[1], **two[0]}),
    st.lists(stages, min_size=1, max_size=3),
)


@st.composite
def rules(draw: st.DrawFn) -> Case:
    """Draw a target and an update; mostly the target asks for what the update writes."""
    kind = draw(st.integers(0, 9))
    if kind == 0:
        condition = draw(element_conditions)
        update = {"$set": {f"i.$[e].{draw(st.sampled_from('qr'))}": draw(scalars)}}
        filters = [{f"e.{name}": inner for name, inner in condition.items()}]
        return Case({"i": {"$elemMatch": condition}}, update, {}, filters)
    if kind == 1:
        return Case(draw(targets), draw(updates), {})
    update = draw(updates)
    paths = st.sampled_from(sorted(written_paths(update) or NAMES))
    asked = draw(st.lists(paths, min_size=1, max_size=2, unique=True))
    target = {path: draw(st.one_of(conditions, _operators(scalars))) for path in asked}
    if draw(st.booleans()):
        target[draw(plain)] = draw(conditions)
    return Case(target, update, {})


def _accepted(update: Any, array_filters: Any) -> bool:
    try:
        check_update(update, array_filters)
    except ValueError:
        return False
    return True


def _update_each(collection: Collection[Raw], case: Case, ids: list[int]) -> set[int]:
    """Update each of the documents on its own; return the ids that the server rejected."""
    if not ids:
        return set()
    requests = [
        UpdateOne(
            {"$and": [{"_id": one}, case.target]}, case.update, False, None, case.array_filters
        )
        for one in ids
    ]
    try:
        collection.bulk_write(requests, ordered=False)
    except BulkWriteError as error:
        return {ids[failure["index"]] for failure in error.details["writeErrors"]}
    return set()


# Most generated rules end no match and never reach the server: 100 would check too few.
EXAMPLES = max(1000, settings().max_examples)


def test_proved_rules_end_their_matches_on_the_server(database: Database[Raw]) -> None:
    """No document still matches after an update that provably ends the match was accepted."""
    seen: Counter[str] = Counter()
    collection = database.c

    @settings(max_examples=EXAMPLES)
    @given(rules(), st.data())
    def holds(rule: Case, data: st.DataObject) -> None:
        if not _accepted(rule.update, rule.array_filters):
            return
        if not ends_match(rule.target, rule.update, rule.array_filters):
            return
        some = data.draw(st.lists(documents, min_size=12, max_size=12), "documents")
        chosen = data.draw(values, "ANY_VALUE")
        collection.delete_many({})
        collection.insert_many([{"_id": number, **one} for number, one in enumerate(some)])
        matching = [one["_id"] for one in collection.find(rule.target, {"_id": 1})]
        case = rule._replace(update=_concrete(rule.update, chosen))
        rejected = _update_each(collection, case, matching)
        still = {one["_id"] for one in collection.find(rule.target, {"_id": 1})}
        assert still <= rejected
        seen["rules"] += 1
        seen["documents"] += len(matching) - len(rejected)
        seen["rules with documents"] += len(matching) > len(rejected)

    holds()
    assert seen["rules with documents"] >= EXAMPLES // 20, seen


def test_written_paths_hold_every_change_on_the_server(database: Database[Raw]) -> None:
    """Whatever top-level field an update changes is the beginning of a written path."""
    seen: Counter[str] = Counter()
    collection = database.c

    @settings(max_examples=EXAMPLES // 2)
    @given(updates, st.lists(documents, min_size=4, max_size=4), values)
    def holds(update: Any, some: list[Raw], chosen: Any) -> None:
        written = written_paths(update) if _accepted(update, None) else None
        if written is None:
            return
        collection.delete_many({})
        before = [{"_id": number, **one} for number, one in enumerate(some)]
        collection.insert_many(before)
        _update_each(collection, Case({}, _concrete(update, chosen), {}), list(range(4)))
        for old, new in zip(before, collection.find().sort("_id"), strict=True):
            changed = {
                key
                for key in {*old, *new}
                if key not in new or key not in old or old[key] != new[key]
            }
            assert changed <= {path.split(".")[0] for path in written}
            seen["changed"] += bool(changed)

    holds()
    assert seen["changed"] >= EXAMPLES // 4, seen
