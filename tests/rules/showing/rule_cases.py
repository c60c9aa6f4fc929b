"""Rules of all kinds, one after the other, and documents of all shapes that they meet."""

from __future__ import annotations

from typing import Any, NamedTuple

from bson import Int64
from hypothesis import strategies as st

from lazymig.updates.update import check_update
from tests.updates.update_cases import concrete, operators_on
from tests.updates.update_cases import operators as plain_operators

Raw = dict[str, Any]


class Rule(NamedTuple):
    """A target and an update."""

    target: Raw
    update: Any


def one(key: Any, value: Any) -> Any:
    """Give mappings of one drawn key and one drawn value."""
    return st.tuples(key, value).map(lambda pair: dict([pair]))


SCALARS: list[Any] = [None, 0, 1, 1, 2, 1.0, Int64(1), True, "x", "x", ""]
scalars = st.sampled_from(SCALARS)
_small = st.one_of(scalars, scalars, st.just({}), st.just([]))
# `d` and `d.x` are the parents of dotted paths; anything may be there.
_deep: Any = st.recursive(
    st.one_of(scalars, scalars, st.just({}), st.just([])),
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from(["x", "y", "z", "0"]), inner, max_size=3),
        st.lists(inner, max_size=3),
    ),
    max_leaves=6,
)
_parents = st.one_of(
    st.fixed_dictionaries(
        {},
        optional={
            "x": st.one_of(_deep, st.fixed_dictionaries({}, optional={"z": _small, "y": _small})),
            "y": _small,
            "0": _small,
        },
    ),
    _deep,
)
_items = st.lists(st.one_of(st.dictionaries(st.sampled_from("qr"), _small), _small), max_size=3)
documents = st.fixed_dictionaries(
    {},
    optional={
        "a": st.one_of(_small, _deep),
        "b": _small,
        "d": _parents,
        "i": _items,
        "t": st.lists(scalars, max_size=3),
        "_cls": st.sampled_from(["A", "A.B"]),
    },
)

PATHS = ["a", "b", "c", "d", "d.x", "d.y", "d.x.z", "d.0", "d.x.0", "i.q", "i", "t", "_cls"]
_leaves = st.one_of(
    one(st.sampled_from(PATHS), st.one_of(scalars, operators_on(scalars), operators_on(_small))),
    one(st.sampled_from(PATHS), one(st.just("$exists"), st.booleans())),
    st.just({"i": {"$elemMatch": {"q": {"$exists": True}}}}),
    st.sampled_from(
        [
            {"$expr": {"$eq": ["$a", "$b"]}},
            {"$expr": {"$gt": ["$d.x", 1]}},
            {"$expr": {"$ne": [{"$type": "$$ROOT.d"}, "object"]}},
        ]
    ),
)
targets: Any = st.one_of(
    st.just({}),
    _leaves,
    st.tuples(_leaves, _leaves).map(lambda two: {"$and": list(two)}),
    one(st.sampled_from(["$or", "$nor"]), st.lists(_leaves, min_size=1, max_size=2)),
)

_operators = st.one_of(
    plain_operators.map(lambda update: concrete(update, 7)),
    one(st.just("$rename"), one(st.sampled_from(PATHS), st.sampled_from(PATHS))),
    one(st.just("$set"), one(st.sampled_from(PATHS), _deep)),
    one(st.just("$unset"), one(st.sampled_from(PATHS), st.just(""))),
    one(
        st.sampled_from(["$inc", "$push", "$addToSet", "$min"]),
        one(st.sampled_from(PATHS), st.sampled_from([1, 2])),
    ),
)

_named = st.sampled_from(["$a", "$b", "$c", "$d", "$d.x", "$d.x.z", "$i.q", "$t", "$$ROOT.b"])
_each = {"$map": {"input": "$t", "in": {"v": "$$this"}}}
expressions: Any = st.recursive(
    st.one_of(
        scalars,
        _named,
        _named,
        st.just("$$REMOVE"),
        _deep.map(lambda value: {"$literal": value}),
        st.sampled_from(
            [
                {"$cond": [{"$isArray": ["$t"]}, _each, "$t"]},
                {"$size": "$t"},
                {"$toString": "$a"},
                {"$toInt": "$b"},
                {"$mergeObjects": ["$d", {"y": "$b"}]},
                {"$objectToArray": "$$ROOT"},
            ]
        ),
    ),
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=2).map(lambda two: {"$ifNull": two}),
        st.lists(inner, min_size=3, max_size=3).map(lambda three: {"$cond": three}),
        st.lists(inner, min_size=2, max_size=2).map(lambda two: {"$concat": two}),
        st.lists(inner, min_size=2, max_size=2).map(lambda two: {"$add": two}),
        inner.map(lambda value: {"x": value}),
        inner.map(lambda value: [value, 1]),
    ),
    max_leaves=3,
)
_places = st.sampled_from([*PATHS, "e.f", "i.q.x"])
stages: Any = st.one_of(
    *[one(st.sampled_from(["$set", "$addFields"]), one(_places, expressions))] * 4,
    st.builds(
        lambda first, second: {"$set": {"d.x": first, "d.y.z": second}}, expressions, expressions
    ),
    one(st.just("$unset"), _places),
    st.just({"$unset": ["a", "d.x", "i.q"]}),
    st.just({"$project": {"d.x": 0, "b": 0}}),
    st.sampled_from(
        [
            {"$replaceWith": "$d"},
            {"$replaceWith": {"$mergeObjects": ["$$ROOT", {"c": "$a"}]}},
            {"$replaceRoot": {"newRoot": {"_id": "$_id", "a": "$b", "d": "$d"}}},
            {"$replaceWith": {"a": "$d.x"}},
        ]
    ),
)


def _accepted(update: Any) -> bool:
    try:
        check_update(update)
    except ValueError:
        return False
    return True


updates: Any = st.one_of(
    _operators,
    st.tuples(_operators, _operators).map(lambda two: {**two[1], **two[0]}),
    st.lists(stages, min_size=1, max_size=3),
).filter(_accepted)

rules = st.lists(st.builds(Rule, targets, updates), min_size=1, max_size=4)
