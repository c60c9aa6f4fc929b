"""Updates, targets and documents that meet often, and how a test runs them on the server."""

from __future__ import annotations

from typing import Any, NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError

from lazymig.raw.encoding import ANY_VALUE
from lazymig.updates.update import check_update

Raw = dict[str, Any]

# Most generated rules end no match and never reach the server: 100 would check too few.
EXAMPLES = max(1000, settings().max_examples)


class Case(NamedTuple):
    """A rule and one document that matches its target."""

    target: Raw
    update: Any
    document: Raw
    array_filters: list[Raw] | None = None


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


def operators_on(comparands: st.SearchStrategy[Any]) -> st.SearchStrategy[Raw]:
    """Give expressions of one operator that compare with `comparands`."""
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
    values, operators_on(values), operators_on(scalars).map(lambda inner: {"$not": inner})
)
element_conditions = st.dictionaries(
    st.sampled_from("qr"), st.one_of(scalars, operators_on(scalars)), min_size=1, max_size=2
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
    _single("$pull", flat, st.one_of(scalars, operators_on(scalars))),
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


def concrete(value: Any, chosen: Any) -> Any:
    """Return an update with `chosen` for each ANY_VALUE."""
    if value is ANY_VALUE:
        return chosen
    if isinstance(value, dict):
        return {key: concrete(item, chosen) for key, item in value.items()}
    if isinstance(value, list):
        return [concrete(item, chosen) for item in value]
    return value


def accepted(update: Any, array_filters: Any) -> bool:
    """Tell whether an update is well-formed."""
    try:
        check_update(update, array_filters)
    except ValueError:
        return False
    return True


def update_each(collection: Collection[Raw], case: Case, ids: list[int]) -> set[int]:
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
