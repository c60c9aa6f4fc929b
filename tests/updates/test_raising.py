"""Where expressions raise nothing, held against MongoDB."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId
from hypothesis import given, settings
from hypothesis import strategies as st
from pymongo.database import Database

from lazymig.updates.raising import computable
from tests.support.broken import broken

Raw = dict[str, Any]

EXAMPLES = max(150, settings().max_examples // 20)

_scalars = st.sampled_from(
    [
        None,
        True,
        0,
        1,
        -3,
        2.5,
        Int64(-(2**63)),
        Decimal128("NaN"),
        "",
        "a",
        "12",
        " b ",
        ObjectId(),
        "2024-07-01 20:00",
        "2024-07-01T20:00:00Z",
        "31.06.2024",
    ]
)
_values: Any = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abk"), inner, max_size=2)
    ),
    max_leaves=4,
)
_documents = st.dictionaries(st.sampled_from("abc"), _values, max_size=3)
_paths = st.sampled_from(["$a", "$b", "$c", "$a.b", "$a.a", "$$ROOT.a"])
_texts = st.sampled_from(["x", "a", ""])


def _operators(inner: Any) -> Any:
    def of(names: str, argument: Any) -> Any:
        return st.tuples(st.sampled_from(names.split()), argument).map(lambda pair: dict([pair]))

    pairs = st.lists(inner, min_size=2, max_size=2)
    elements = st.one_of(inner, st.sampled_from(["$$this", "$$this.a", {"$toInt": "$$this"}]))
    body = st.one_of(
        elements, of("$mergeObjects", st.tuples(elements, st.just({"z": 1})).map(list))
    )
    one = "$size $toLower $toUpper $strLenCP $first $last $reverseArray $objectToArray $toInt"
    one += " $toString $toDate $toObjectId $toDouble $toLong $toDecimal $toBool $floor $ceil $not"
    types = st.sampled_from(["array", "object", "string", "int", "missing"])
    asked = st.one_of(
        of("$isArray", _paths),
        st.tuples(st.sampled_from(["$eq", "$ne"]), _paths, types).map(
            lambda three: {three[0]: [{"$type": three[1]}, three[2]]}
        ),
        inner,
    )
    return st.one_of(
        of(one, inner),
        of(one, inner),
        of("$add $subtract $multiply $concat $concatArrays $mergeObjects $eq $lt $cmp", pairs),
        of("$in $ifNull $and $or", pairs),
        of("$divide $mod $round $arrayElemAt $slice", st.tuples(inner, st.just(2)).map(list)),
        of("$split", st.tuples(inner, _texts).map(list)),
        of("$trim", st.fixed_dictionaries({"input": inner}, optional={"chars": st.just("a")})),
        of("$cond", st.tuples(asked, inner, inner).map(list)),
        of("$map", st.fixed_dictionaries({"input": inner, "in": body})),
        of("$filter", st.fixed_dictionaries({"input": inner, "cond": body})),
        of("$let", st.fixed_dictionaries({"vars": st.just({"this": "$a"}), "in": body})),
        of("$unsetField", st.fixed_dictionaries({"field": st.just("a"), "input": inner})),
        of(
            "$setField",
            st.fixed_dictionaries({"field": st.just("a"), "input": inner, "value": inner}),
        ),
        of(
            "$arrayToObject",
            st.builds(
                lambda source, value: {
                    "$map": {
                        "input": {"$objectToArray": source},
                        "as": "this",
                        "in": {"k": "$$this.k", "v": value},
                    }
                },
                inner,
                st.sampled_from(["$$this.v", "$$this.v.a", {"$toInt": "$$this.v"}, 1]),
            ),
        ),
        of(
            "$convert",
            st.fixed_dictionaries(
                {"input": inner, "to": st.sampled_from(["int", "date", 7, "decimal"])},
                optional={"onError": inner, "onNull": inner},
            ),
        ),
        of(
            "$dateFromString",
            st.fixed_dictionaries(
                {"dateString": inner},
                optional={
                    "timezone": st.sampled_from(["Europe/Rome", "+02:00", "UTC"]),
                    "format": st.sampled_from(
                        ["%d.%m.%Y", "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S%z"]
                    ),
                    "onError": inner,
                    "onNull": inner,
                },
            ),
        ),
        of("$getField", st.fixed_dictionaries({"field": st.just("a"), "input": inner})),
        st.dictionaries(st.sampled_from("ab"), inner, min_size=1, max_size=2),
    )


_expressions: Any = st.recursive(st.one_of(_paths, _paths, st.just(3)), _operators, max_leaves=5)


ENTRIES: Raw = {
    "$arrayToObject": {
        "$map": {
            "input": {"$objectToArray": "$a"},
            "as": "entry",
            "in": {
                "k": "$$entry.k",
                "v": {
                    "$let": {
                        "vars": {"this": "$$entry.v"},
                        "in": {
                            "$cond": [
                                {"$eq": [{"$type": "$$this"}, "object"]},
                                {"$mergeObjects": ["$$this", {"b": 1}]},
                                "$$this",
                            ]
                        },
                    }
                },
            },
        }
    }
}


def test_nothing_is_raised_where_it_says_so(database: Database[Raw]) -> None:
    """An expression raises for no document of which it is said; what says it, for none at all."""
    seen: Counter[str] = Counter()

    @settings(deadline=None, max_examples=EXAMPLES)
    @given(
        st.lists(_documents, min_size=12, max_size=12),
        st.lists(_expressions, min_size=6, max_size=6),
    )
    def check(documents: list[Raw], expressions: list[Any]) -> None:
        database.t.delete_many({})
        database.t.insert_many([{"_id": number, **one} for number, one in enumerate(documents)])
        for expression in expressions:
            where = computable(expression)
            if where is None:
                seen["unknown"] += 1
                continue
            seen["everywhere"] += where is True
            stages: list[Raw] = [{"$project": {"_id": {"$add": ["$_id", 0]}, "where": where}}]
            if where is True:
                stages = [{"$project": {"_id": 1, "where": {"$literal": True}}}]
            found = [one["_id"] for one in database.t.aggregate(stages) if one["where"]]
            seen["somewhere"] += where is not True and bool(found)
            matched = {"$match": {"_id": {"$in": found}}}
            list(database.t.aggregate([matched, {"$project": {"value": expression}}]))

    check()
    assert seen["everywhere"] >= EXAMPLES
    assert seen["somewhere"] >= EXAMPLES // 2
    assert seen["unknown"] <= 4 * EXAMPLES


def test_what_is_no_text_raises_nothing(database: Database[Raw]) -> None:
    """Strings that are not UTF-8 make no exception."""
    everyday = [{"a": "b", "b": [{"a": "1"}]}, {"a": {"b": "a"}, "b": "2020-01-01"}, {"a": ["a"]}]
    database.t.insert_many(broken(everyday))

    @settings(deadline=None, max_examples=EXAMPLES)
    @given(_expressions)
    def check(expression: Any) -> None:
        where = computable(expression)
        if where is not None:
            value = {"$ne": [{"$type": expression}, "none"]}
            database.t.count_documents({"$expr": {"$cond": [where, value, False]}})

    check()


@pytest.mark.parametrize(
    "expression",
    [
        "$a",
        {"$cond": [{"$isArray": "$a"}, {"$map": {"input": "$a", "in": "$$this.b"}}, "$a"]},
        {
            "$map": {
                "input": {"$cond": [{"$isArray": ["$a"]}, "$a", []]},
                "as": "one",
                "in": {
                    "$cond": [
                        {"$eq": [{"$type": "$$one"}, "object"]},
                        {"$mergeObjects": ["$$one", {"n": "$$one.qty", "qty": "$$REMOVE"}]},
                        "$$one",
                    ]
                },
            }
        },
        {"$ifNull": ["$a", "none"]},
        {
            "$anyElementTrue": [
                {
                    "$map": {
                        "input": {"$cond": [{"$isArray": ["$a"]}, "$a", []]},
                        "in": {"$eq": ["$$this", 1]},
                    }
                }
            ]
        },
        {"$convert": {"input": "$a", "to": "int", "onError": None}},
        {"$dateFromString": {"dateString": "$a", "timezone": "Europe/Rome", "onError": "$b"}},
        {"$cond": [{"$eq": [{"$type": "$a"}, "object"]}, ENTRIES, "$a"]},
    ],
)
def test_what_is_guarded_raises_nowhere(expression: Any) -> None:
    """A condition around an operator that it suits leaves nothing to ask."""
    assert computable(expression) is True


@pytest.mark.parametrize(
    "expression",
    [
        *("$$NOW", {"$rand": {}}, {"$function": {}}, {"$toInt": "x"}, {"$size": 3}),
        *({"$getField": "a"}, {"$convert": {"input": "$a", "to": "$b", "onError": 1}}),
        {"$convert": {"input": "$a", "to": True, "onError": 1}},
        {"$dateFromString": {"dateString": "$a", "timezone": "Europe/Rom", "onError": 1}},
        {"$dateFromString": {"dateString": "$a", "timezone": "$b", "onError": 1}},
        {"$dateFromString": {"dateString": "$a", "format": "%Q", "onError": 1}},
        {"$dateFromString": {"dateString": "2024"}},
    ],
)
def test_what_varies_or_always_raises_is_not_known(expression: Any) -> None:
    """Of an expression that gives another value tomorrow, or never one, nothing is said."""
    assert computable(expression) is None
