"""Updates by operators, and documents that they meet often."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from hypothesis import strategies as st

from lazymig.updates.update import check_update

Raw = dict[str, Any]
Values = st.SearchStrategy[Any]

INTEGERS: list[Any] = [
    *(0, 1, -1, 3, 2**31 - 1, -(2**31), 0x55555555, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)),
    *(Int64(0), Int64(1), Int64(-3), Int64(2**31 - 1), 0x5555555555555555),
]
NUMBERS: list[Any] = [
    *INTEGERS,
    *(0.0, -0.0, 1.0, 1.5, 0.1, -2.5, 2.0**53, 1e300, -1e300, 1e308, 5e-324, 123456789.123456789),
    *(float("nan"), float("inf"), float("-inf")),
    *map(Decimal128, ["1", "1.50", "0.1", "0", "-0", "0E+3", "NaN", "Infinity", "-Infinity"]),
    *map(Decimal128, ["2E+3", "9007199254740993", "-2.5", "1E-6176", "9E+6144"]),
    *map(
        Decimal128, ["9999999999999999999999999999999999", "0.3333333333333333333333333333333333"]
    ),
]
OTHERS: list[Any] = [
    *(None, True, False, "", "a", "A", "ab", datetime(2020, 1, 1), Timestamp(1, 1)),
    *(ObjectId("5f0000000000000000000001"), b"x", Binary(b"x", 5), MinKey(), MaxKey()),
    *(Regex("^a"), Regex("a", "i"), Code("a"), Code("a", {}), DBRef("a", 1)),
]
CONTAINERS: list[Any] = [
    *([], [1], [1.0], [[1]], [6], [1, 5], [None], [{}], [{"a": 1}]),
    *({}, {"a": 1}, {"a": 1.0}, {"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": [1, 6]}, {"a": None}),
    *({"$ref": "x", "$id": 1}, {"$ref": "x", "$id": 1, "z": 2}, {"a": {"b": 1}}),
]
VALUES: list[Any] = [*NUMBERS, *OTHERS, *CONTAINERS]


def values_at(name: str, values: Iterable[Any] = VALUES) -> list[Raw]:
    """Documents with each of some values in a field, and one without it."""
    return [{}, *({name: one} for one in values)]


def arrays_at(name: str, *, longest: int, count: int = 40) -> list[Raw]:
    """Documents with arrays of values that are often equal, or nearly so, in a field."""
    chosen = random.Random(longest)
    few = [*(1, 1.0, Int64(1), Decimal128("1.00"), 2, 0.0, -0.0, 0, "a", "A", None), *CONTAINERS]
    return [
        {name: chosen.choices(VALUES if number % 3 else few, k=chosen.randrange(longest))}
        for number in range(count)
    ]


class Case(NamedTuple):
    """An update with its array filters, and documents."""

    update: Raw
    array_filters: list[Raw]
    documents: list[Raw]


CONDITIONS: list[Any] = [
    *({"$gt": 1}, {"$lte": 1}, {"$in": [1, None]}, {"$in": [[6]]}, {"$nin": [1]}, {"$ne": 1}),
    *({"$eq": [6]}, {"$eq": {"a": 1}}, {"$elemMatch": {"$gt": 5}}, {"$elemMatch": {"a": 1}}),
    *({"$exists": True}, {"$exists": False}, {"$type": "array"}, {"$size": 2}, {"$all": [1, 5]}),
    *({"$gt": 1, "$lt": 3}, {"$mod": [2, 0]}, {"$regex": "^a"}, {"$regex": "A", "$options": "i"}),
    *(re.compile("^a"), Regex("^a"), {"$eq": Regex("^a")}, DBRef("x", 1)),
]
"""What is asked of a value, or of an element of an array."""

QUERIES: list[Raw] = [
    *({"$or": [{"a": 1}, {"b": 2}]}, {"$and": [{"a": 1}]}, {"$nor": [{"a": 1}]}, {}, {"a": 1}),
    *({"a": {"$exists": False}}, {"a": {"$gt": 5}}, {"a.0": 1}, {"0": 1}, {"a": None}),
    *({"a": {"$not": {"$gt": 1}}}, {"a": {"$elemMatch": {"$gt": 1}}}, {"b": 2, "a": 1}),
    *({"$ref": "x"}, {"$ref": "x", "$id": 1}, {"a.b": {"$type": "int"}}),
]
"""What is asked of sub-documents."""

_PATHS = [
    *("a", "a", "b", "a.b", "a.b", "b.a", "a.0", "a.1", "a.b.c", "a.0.b", "a.b.0", "c.a.b"),
    *("a.$[]", "a.$[]", "a.$[].b", "a.$[].b.$[]", "b.$[].a", "a.b.$[]", "a.0.$[]", "a.$[].0"),
    *("a.$[i]", "a.$[i]", "a.$[j]", "a.$[i].b", "a.$[j].b", "a.$[j].a", "a.b.$[i]", "a.$[].b.$[j]"),
]
_WHOLE = [0, 1, 2, 3, -1, -2, -4, 1.0, Int64(2**40), Int64(-(2**63)), Decimal128("2")]


def _operands(values: Values) -> dict[str, Values]:
    numbers = st.sampled_from(NUMBERS)
    few = st.lists(values, max_size=3)
    bits = st.dictionaries(
        st.sampled_from(["and", "or", "xor"]), st.sampled_from(INTEGERS), min_size=1, max_size=2
    )
    sorts = st.sampled_from(
        [1, -1, 1.0, {"a": 1}, {"a": -1, "b": 1}, {"a.b": 1}, {"a.0": Int64(1)}]
    )
    modifiers = st.fixed_dictionaries(
        {"$each": few},
        optional={
            "$position": st.sampled_from(_WHOLE),
            "$slice": st.sampled_from(_WHOLE),
            "$sort": sorts,
        },
    )
    asked = st.one_of(
        st.sampled_from(CONDITIONS),
        st.sampled_from(QUERIES),
        st.tuples(st.sampled_from(["$gt", "$lte", "$ne"]), values).map(lambda pair: dict([pair])),
        values.map(lambda value: {"a": value}),
    )
    return {
        "$set": values,
        "$unset": st.just(""),
        "$inc": numbers,
        "$mul": numbers,
        "$min": values,
        "$max": values,
        "$bit": bits,
        "$push": st.one_of(values, modifiers, modifiers),
        "$addToSet": st.one_of(values, few.map(lambda each: {"$each": each})),
        "$pull": st.one_of(values, asked, asked),
        "$pullAll": few,
        "$pop": st.sampled_from([1, -1, 1.0]),
        "$setOnInsert": values,
        "$rename": st.sampled_from(["d", "d.x", "b.d", "c"]),
    }


def _grown(inner: Values) -> Values:
    nested = st.dictionaries(st.sampled_from("aab0c"), inner, min_size=1, max_size=2)
    return st.one_of(
        inner, nested, st.lists(inner, max_size=4), st.lists(nested, min_size=1, max_size=3)
    )


@st.composite
def cases(draw: st.DrawFn, *, documents: int) -> Case:
    """Draw an update of one to three operators, and documents of values that it often meets."""
    theme = draw(
        st.lists(st.sampled_from([*NUMBERS, *OTHERS, *CONTAINERS]), min_size=3, max_size=6)
    )
    values = st.one_of(st.sampled_from(theme), st.sampled_from(theme), st.sampled_from([1, [], {}]))
    deep = _grown(_grown(values))
    operands = _operands(st.one_of(values, values, _grown(values)))
    update: Raw = {}
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        operator = draw(st.sampled_from(sorted(operands)))
        path = draw(st.sampled_from(_PATHS))
        changed = {**update, operator: {**update.get(operator, {}), path: draw(operands[operator])}}
        if _accepted(changed):
            update = changed
    filters = {"i": draw(_filters("i", values)), "j": draw(_filters("j", values))}
    named = repr([*update.values()])
    return Case(
        update or {"$set": {"a": 1}},
        [one for name, one in filters.items() if f"$[{name}]" in named],
        draw(st.lists(_documents(values, deep), min_size=documents, max_size=documents)),
    )


def _documents(values: Values, deep: Values) -> st.SearchStrategy[Raw]:
    """Documents of any shape, and of those that the paths lead through."""
    items = st.dictionaries(st.sampled_from("aab"), values, max_size=2)
    arrays = st.one_of(st.lists(values, max_size=4), st.lists(items, max_size=3))
    within = st.dictionaries(st.sampled_from("aabb"), st.one_of(values, arrays), max_size=2)
    nested = st.lists(st.fixed_dictionaries({"b": arrays}, optional={"a": values}), max_size=3)
    shaped = st.one_of(values, arrays, arrays, within, nested)
    fields = st.one_of(shaped, shaped, shaped, deep)
    return st.dictionaries(st.sampled_from("aaabbc"), fields, max_size=3)


def _accepted(update: Raw) -> bool:
    """Return whether an update is well-formed, whatever its array filters are."""
    filters = [{name: 1} for name in "ij" if f"$[{name}]" in repr(update)]
    try:
        check_update(update, filters or None)
    except ValueError:
        return False
    # Elements are named by positional components alone, or not at all.
    ways: dict[str, set[bool]] = {}
    for path in (path for fields in update.values() for path in fields):
        parts = path.split(".")
        for place, name in enumerate(parts):
            ways.setdefault(".".join(parts[:place]), set()).add(name.startswith("$["))
    return all(len(one) == 1 for one in ways.values())


def _filters(name: str, values: Values) -> st.SearchStrategy[Raw]:
    conditions = st.one_of(
        values,
        st.sampled_from([one for one in CONDITIONS if not isinstance(one, DBRef)]),
        st.tuples(st.sampled_from(["$gt", "$lte", "$ne"]), values).map(lambda pair: dict([pair])),
    )
    single = st.tuples(st.sampled_from([name, f"{name}.a", f"{name}.b", f"{name}.0"]), conditions)
    fields = single.map(lambda pair: dict([pair]))
    groups = st.lists(fields, min_size=1, max_size=2)
    return st.one_of(
        fields,
        fields,
        st.tuples(st.sampled_from(["$and", "$or", "$nor"]), groups).map(lambda pair: dict([pair])),
    )
