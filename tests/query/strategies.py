"""Queries and documents that meet often: few field names, and few values in each case."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from typing import Any

from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.son import SON
from hypothesis import strategies as st

Raw = dict[str, Any]
Values = st.SearchStrategy[Any]
Queries = st.SearchStrategy[Raw]

_DAY = datetime(2020, 1, 1)
_ID = ObjectId("5f0000000000000000000001")

_COMMON: list[Any] = [None, True, False, 0, 1, 2, 1.0, "a", "b", "", "A", [], {}]
_INTEGERS: list[Any] = [0, 1, 2, -1, 3, -3, 7, 2**31, -(2**63), Int64(1), Int64(2), 2**53 + 1]
_DOUBLES: list[Any] = [0.0, -0.0, 1.0, 1.5, 0.1, -2.5, 2.0**53, 1e300]
_DOUBLES += [float("nan"), float("inf"), float("-inf")]
_DECIMALS = [
    Decimal128(text)
    for text in [
        "1",
        "1.50",
        "0.1",
        "-0",
        "NaN",
        "Infinity",
        "-Infinity",
        "2E+3",
        "9007199254740993",
        "-2.5",
        "1E-6176",
    ]
]
_STRINGS = ["a\n", "ab", "ba", "é", "10", " a", "A b", "a.b", "\r", "ß", "a1_", "a\x00b"]
_OTHERS: list[Any] = [
    *(_DAY, _DAY + timedelta(milliseconds=1), _DAY.replace(year=1960)),
    *(_ID, ObjectId("5f0000000000000000000002"), Timestamp(1, 1), Timestamp(1, 2)),
    *(b"", b"a", Binary(b"a", 5), Binary(b"ab", 128), Binary(b"a" * 16, 4), Binary(b"a", 2)),
    *(MinKey(), MaxKey(), Regex("a"), Regex("a", "i"), Regex("b")),
    *(Code("a"), Code("b"), Code("a", {}), Code("a", {"b": 1})),
    *(DBRef("a", 1), DBRef("a", 1, "b"), DBRef("a", _ID), DBRef("b", None)),
]
_ONLY_IN_QUERIES: list[Any] = [
    (_DAY + timedelta(hours=1)).replace(tzinfo=timezone(timedelta(hours=1))),
    _DAY + timedelta(microseconds=1400),
    SON([("$ref", "a"), ("$id", 1)]),
    SON([("b", 1), ("a", 1)]),
    SON([("a", 1), ("b", 1)]),
]
_PATTERNS = [
    *("a", "^a", "a$", "^a$", "", "^$", "[a-c]", "[^a]", "a|b", "(a|b)b", r"\d", r"\W", r"\s"),
    *(".", "a.b", r"a\.b", "a*b?", "a{1,2}", r"\ba\b", "é", "(?i)a", "a(?=b)", "^(?:a|A)$"),
    *(r"\D+", r"\w$", "A"),
]
_FLAGS = [re.RegexFlag(0), re.IGNORECASE, re.DOTALL, re.MULTILINE]
_PATHS = [
    "a",
    "a",
    "a",
    "a",
    "b",
    "b",
    "a.b",
    "a.b",
    "a.b",
    "b.a",
    "a.0",
    "a.1",
    "0",
    "a.b.c",
    "a.0.b",
    "a.b.0",
    "a.0.0",
    "a.a.b",
    "a.$id",
    "a.00",
]
_TYPES: list[Any] = [*range(1, 20), -1, 127, 2.0, Int64(16), "number", "string", "object", "array"]
_TYPES += [
    "int",
    "long",
    "double",
    "decimal",
    "null",
    "bool",
    "date",
    "objectId",
    "binData",
    "regex",
    "minKey",
    "undefined",
]

_scalars = st.one_of(
    *(st.sampled_from(_COMMON) for _ in range(3)),
    *(st.sampled_from(pool) for pool in (_INTEGERS, _DOUBLES, _DECIMALS, _STRINGS)),
    *(st.sampled_from(_OTHERS) for _ in range(2)),
)
_paths = st.sampled_from(_PATHS)
_types = st.sampled_from(_TYPES)
_patterns = st.sampled_from(_PATTERNS)
_regexes = st.builds(re.compile, _patterns, st.sampled_from(_FLAGS))


def _documents(inner: Values, *, largest: int = 2) -> Queries:
    return st.dictionaries(st.sampled_from("aabb0c"), inner, min_size=1, max_size=largest)


def _values(scalars: Values) -> Values:
    """Scalars, and up to three storeys of documents and arrays of them."""

    def grown(inner: Values) -> Values:
        nested = _documents(inner)
        return st.one_of(
            scalars, scalars, nested, st.lists(inner, max_size=3), st.lists(nested, max_size=2)
        )

    return grown(grown(grown(scalars)))


def _one(name: str, operand: Values) -> Queries:
    return operand.map(lambda value: {name: value})


def _operators(constants: Values, inner: Queries | None) -> Queries:
    """Expressions of one operator; those that hold others take them from `inner`."""
    comparable = constants.filter(lambda value: not isinstance(value, Regex))
    members = st.lists(st.one_of(constants, constants, constants, _regexes), max_size=3)
    divisors = st.sampled_from([2, 3, -2, 2.5, Decimal128("3")])
    choices = [
        *(_one(name, comparable) for name in ("$gt", "$gte", "$lt", "$lte", "$ne")),
        _one("$eq", constants),
        _one("$exists", st.booleans()),
        _one("$exists", st.sampled_from([0, 1, None, "", Decimal128("0"), float("nan")])),
        *(_one(name, members) for name in ("$in", "$nin", "$all")),
        _one("$type", _types),
        _one("$type", st.lists(_types, min_size=1, max_size=3)),
        _one("$size", st.sampled_from([0, 1, 2, 1.0, Int64(3)])),
        _one("$mod", st.tuples(divisors, st.sampled_from([0, 1, -1, 1.9])).map(list)),
        _one("$regex", _patterns),
        st.tuples(_patterns, st.sampled_from(["", "i", "s", "is", "m", "x"])).map(
            lambda pair: {"$regex": pair[0], "$options": pair[1]}
        ),
    ]
    if inner is not None:
        choices += [_one("$not", inner), _one("$not", inner), _one("$elemMatch", inner)]
        choices += [_one("$not", _regexes), _one("$all", st.lists(_one("$elemMatch", inner)))]
    return st.one_of(choices)


def _queries(constants: Values) -> Queries:
    flat = _operators(constants, None)
    pairs = st.tuples(flat, flat).map(lambda two: {**two[0], **two[1]}).filter(_keeps_pattern)
    deep = _operators(constants, st.one_of(flat, _operators(constants, flat), pairs))
    leaves = st.dictionaries(_paths, st.one_of(constants, flat), min_size=1, max_size=2)
    inside = _one("$elemMatch", leaves)
    conditions = st.one_of(
        constants, constants, flat, flat, flat, deep, deep, pairs, inside, _regexes
    )
    single = st.dictionaries(_paths, conditions, min_size=1, max_size=1)
    fields = st.dictionaries(_paths, conditions, min_size=1, max_size=2)
    groups = st.lists(fields, min_size=1, max_size=2)
    logical = st.one_of([_one(name, groups) for name in ("$and", "$or", "$nor")])
    within = st.tuples(_paths, _one("$elemMatch", logical)).map(lambda pair: dict([pair]))
    return st.one_of(*(single for _ in range(5)), fields, fields, logical, within)


def _keeps_pattern(expression: Raw) -> bool:
    return "$options" not in expression or "$regex" in expression


# Few scalars, which all that a case draws has in common. Strategies that are made anew for each
# case would take longer than to draw from them: these look up what was drawn.
_theme = st.shared(st.lists(_scalars, min_size=3, max_size=6), key="theme")
# As many numbers as each size of a theme divides: every scalar is as likely as the next one.
_themed = st.tuples(_theme, st.integers(0, 59)).map(
    lambda drawn: drawn[0][drawn[1] % len(drawn[0])]
)
_themed_values = _values(_themed)
_themed_documents = _documents(_themed_values, largest=3)
_themed_queries = _queries(
    st.one_of(_themed, _themed_values, st.sampled_from([None, *_ONLY_IN_QUERIES]))
)


def cases(*, documents: int, queries: int) -> st.SearchStrategy[tuple[list[Raw], list[Raw]]]:
    """Documents without `_id`, and queries, over a few scalars that they share."""
    return st.tuples(
        st.lists(_themed_documents, min_size=documents, max_size=documents),
        st.lists(_themed_queries, min_size=queries, max_size=queries),
    )


_FIELDS = ["$a", "$a", "$b", "$a.b", "$a.b", "$b.a", "$a.0", "$a.b.c", "$none"]
_EXPRESSION_TYPES = ["missing", "null", "array", "object", "string", "int", "double", "bool"]
_COMPARISONS = ["$eq", "$ne", "$gt", "$gte", "$lt", "$lte"]


def _expressions(constants: Values) -> Values:
    """Expressions over the fields of the document, and over `$$this`, an element of an array."""

    def operands(inner: Values) -> Values:
        pairs = st.lists(inner, min_size=2, max_size=2)
        types = st.lists(st.sampled_from(_EXPRESSION_TYPES), min_size=1, max_size=3)
        arrays = st.one_of(
            inner.map(lambda one: {"$cond": [{"$isArray": [one]}, one, [one]]}),
            inner.map(
                lambda one: {
                    "$cond": [{"$eq": [{"$type": one}, "object"]}, {"$objectToArray": one}, []]
                }
            ),
            st.lists(inner, max_size=2),
            inner,
        )
        mapped = st.builds(
            lambda array, one, name: {"$map": {"input": array, "as": name, "in": one}},
            arrays,
            inner,
            st.sampled_from(["this", "e"]),
        )
        return st.one_of(
            st.tuples(st.sampled_from(_COMPARISONS), pairs).map(lambda two: {two[0]: two[1]}),
            st.tuples(st.sampled_from(_COMPARISONS), pairs).map(lambda two: {two[0]: two[1]}),
            st.tuples(inner, types).map(lambda two: {"$in": [{"$type": two[0]}, two[1]]}),
            st.tuples(inner, arrays).map(lambda two: {"$in": list(two)}),
            st.tuples(st.sampled_from(["$and", "$or"]), st.lists(inner, max_size=3)).map(
                lambda two: {two[0]: two[1]}
            ),
            inner.map(lambda one: {"$not": [one]}),
            inner.map(lambda one: {"$type": one}),
            inner.map(lambda one: {"$isArray": [one]}),
            st.tuples(inner, st.sampled_from(["a", "b", {"$literal": "$ref"}])).map(
                lambda two: {"$getField": {"field": two[1], "input": two[0]}}
            ),
            pairs.map(lambda two: {"$ifNull": two}),
            st.lists(inner, min_size=3, max_size=3).map(lambda three: {"$cond": three}),
            st.tuples(st.sampled_from(["$anyElementTrue", "$allElementsTrue"]), mapped).map(
                lambda two: {two[0]: [two[1]]}
            ),
            mapped,
            pairs.map(lambda two: {"$let": {"vars": {"this": two[0]}, "in": two[1]}}),
            st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
        )

    leaves = st.one_of(
        st.sampled_from(_FIELDS),
        st.sampled_from(["$$this", "$$this.b", "$$this.v", "$$this.k", "$$this.v.b", "$$ROOT.a"]),
        constants.map(lambda value: {"$literal": value}),
    )
    bound = operands(operands(operands(leaves)))
    return bound.map(lambda one: {"$let": {"vars": {"this": "$b", "e": "$a"}, "in": one}})


_themed_expressions = _expressions(st.one_of(_themed, _themed_values))


def expression_cases(
    *, documents: int, expressions: int
) -> st.SearchStrategy[tuple[list[Raw], list[Any]]]:
    """Documents without `_id`, and expressions, over a few scalars that they share."""
    return st.tuples(
        st.lists(_themed_documents, min_size=documents, max_size=documents),
        st.lists(_themed_expressions, min_size=expressions, max_size=expressions),
    )
