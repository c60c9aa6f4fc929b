"""Does an update end its match: every claim is held against the real server."""

from __future__ import annotations

from typing import Any

import pytest
from bson import Decimal128, MaxKey
from pymongo.collection import Collection
from pymongo.database import Database

from lazymig.raw.encoding import ANY_VALUE
from lazymig.updates.convergence import ends_match
from lazymig.updates.update import check_update
from tests.updates.update_cases import (
    Case,
    Raw,
    concrete,
)

# --- Given rules ---------------------------------------------------------------------------

NO_QTY = {"$elemMatch": {"qty": {"$exists": False}}}

PROVED = {
    "set absent": Case({"a": {"$exists": False}}, {"$set": {"a": 1}}, {}),
    "set null": Case({"a": None}, {"$set": {"a": 1}}, {"a": None}),
    "set class": Case({"_cls": "A.B"}, {"$set": {"_cls": "A.C"}}, {"_cls": "A.B"}),
    "set other type": Case({"a": {"$type": "string"}}, {"$set": {"a": 1}}, {"a": "x"}),
    "set absent, asked with a number": Case(
        {"a": {"$exists": Decimal128("0")}}, {"$set": {"a": 1}}, {}
    ),
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
    "pull by a field's range": Case(
        {"i.q": {"$in": [1, 2]}}, {"$pull": {"i": {"q": {"$in": [1, 2]}}}}, {"i": [{"q": 2}, {}]}
    ),
    "pull equal": Case({"t": "x"}, {"$pull": {"t": {"$eq": "x"}}}, {"t": ["x", "y"]}),
    "pull remainders": Case(
        {"t": {"$mod": [2, 0]}}, {"$pull": {"t": {"$mod": [2, 0]}}}, {"t": [1, 2]}
    ),
    "pull binary": Case({"t": b"x"}, {"$pull": {"t": b"x"}}, {"t": [b"x"]}),
    "pull either": Case(
        {"i": {"$elemMatch": {"$or": [{"q": 1}, {"q": 2}]}}},
        {"$pull": {"i": {"$or": [{"q": 1}, {"q": 2}]}}},
        {"i": [{"q": 1}]},
    ),
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
    "stage sums": Case({"n": {"$exists": False}}, [{"$set": {"n": {"$sum": "$l.n"}}}], {}),
    "stage averages": Case({"n": {"$exists": False}}, [{"$set": {"n": {"$avg": "$l.n"}}}], {}),
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
    "pull scalars, not fields": Case(
        {"i.q": {"$in": [1]}}, {"$pull": {"i": {"$in": [1]}}}, {"i": [{"q": 1}]}
    ),
    "pull exceptions left": Case(
        {"t": "x"}, {"$pull": {"t": {"$in": ["x", "y"], "$ne": "x"}}}, {"t": ["x"]}
    ),
    "pull arrays by order": Case({"t": {"$gt": [1]}}, {"$pull": {"t": {"$gt": [1]}}}, {"t": [2]}),
    "pull arrays by type": Case(
        {"t": {"$type": "array"}}, {"$pull": {"t": {"$type": "array"}}}, {"t": [1]}
    ),
    "pull arrays by size": Case({"t": {"$size": 1}}, {"$pull": {"t": {"$size": 1}}}, {"t": [1]}),
    "pull all that is": Case(
        {"t": {"$exists": True}}, {"$pull": {"t": {"$exists": True}}}, {"t": [1]}
    ),
    "pull by a bound": Case({"t": 3}, {"$pull": {"t": {"$lt": 3}}}, {"t": [3]}),
    "pull any sub-document": Case({"t": {"$gt": 3}}, {"$pull": {"t": {}}}, {"t": [5]}),
    "pull leaves missing": Case({"t": {"$exists": False}}, {"$pull": {"t": 1}}, {}),
    "pop": Case({"t": "x"}, {"$pop": {"t": 1}}, {"t": ["x", "x"]}),
    "no elements at all": Case(
        {"i.qty": {"$exists": False}}, {"$set": {"i.$[].qty": 1}}, {"i": []}
    ),
    "greatest of all is an element": Case(
        {"t": {"$lt": MaxKey()}}, {"$set": {"t.$[]": MaxKey()}}, {"t": [1]}
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


def _count_after(collection: Collection[Raw], case: Case) -> int:
    """Update one matching document on the server; return how many match afterwards."""
    collection.replace_one({"_id": 1}, case.document, upsert=True)
    result = collection.update_many(
        {"$and": [{"_id": 1}, case.target]},
        concrete(case.update, "some value"),
        array_filters=case.array_filters,
    )
    assert result.matched_count == 1
    return collection.count_documents(case.target)


@pytest.mark.parametrize("case", PROVED.values(), ids=PROVED)
def test_update_that_ends_its_match_is_proved(case: Case, scratch: Database[Raw]) -> None:
    """What ends its match is proved to, and does so on the server."""
    check_update(case.update, case.array_filters)
    assert _count_after(scratch.cases, case) == 0
    assert ends_match(case.target, case.update, case.array_filters)


@pytest.mark.parametrize("case", UNPROVED.values(), ids=UNPROVED)
def test_update_that_leaves_a_match_is_never_proved(case: Case, scratch: Database[Raw]) -> None:
    """Where some document still matches on the server after the update, nothing is proved."""
    check_update(case.update, case.array_filters)
    assert _count_after(scratch.cases, case) == 1
    assert not ends_match(case.target, case.update, case.array_filters)


@pytest.mark.parametrize(
    ("target", "update"),
    [
        ({"a": None}, {"$set": {"a": ANY_VALUE}}),
        ({"a": {"$lt": 3}}, {"$set": {"a": ANY_VALUE}}),
        ({"a.b": {"$exists": False}}, {"$set": {"a": ANY_VALUE}}),
        ({"a": {"$type": "string"}}, {"$set": {"a": ANY_VALUE}}),
        ({"t": "x"}, {"$set": {"t": [ANY_VALUE]}}),
        ({"t": {"$in": [1, 2]}}, {"$pull": {"t": {"$in": ANY_VALUE}}}),
        ({"b": {"$exists": False}}, [{"$set": {"b": ANY_VALUE}}]),
        *(
            ({"b": {"$exists": False}}, [{"$set": {"b": {operator: ANY_VALUE}}}])
            for operator in ("$cond", "$switch", "$ifNull", "$dateFromString")
        ),
    ],
)
def test_unknown_value_proves_nothing_by_what_it_is(target: Raw, update: Any) -> None:
    """A value that is not known yet proves presence at most, in a pipeline not even that."""
    check_update(update)
    assert not ends_match(target, update)


@pytest.mark.parametrize(
    "expression",
    [
        {"$cond": 5},
        {"$ifNull": []},
        {"$switch": 5},
        {"$switch": {"default": 1}},
        {"$switch": {"branches": [1], "default": 1}},
    ],
)
def test_a_malformed_expression_proves_nothing(expression: Any) -> None:
    """An expression that the server refuses is no proof, and no failure of lazymig's own."""
    assert not ends_match({"b": {"$exists": False}}, [{"$set": {"b": expression}}])
