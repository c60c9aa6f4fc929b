"""A query as an aggregation expression that answers the same about a value which is given as one.

The expressions are total: they raise for no document, so that one may stand in an `$expr` beside
conditions which MongoDB tests later. What cannot be said exactly so is not said at all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any, Final, TypeAlias

from bson import Int64, Regex

from lazymig.query import patterns
from lazymig.query.checks import is_regex
from lazymig.query.operators import asks_elements
from lazymig.query.predicates import test_of
from lazymig.query.tree import And, Compare, Denial, Node, Not, Or
from lazymig.raw.values import (
    ARRAY,
    BINARY,
    BOOL,
    CODE,
    DATE,
    DOCUMENT,
    MAX_KEY,
    MIN_KEY,
    NULL,
    NUMBER,
    OBJECT_ID,
    SCOPED_CODE,
    STRING,
    TIMESTAMP,
    TYPE_NAMES,
    bracket,
    is_nan,
)

__all__ = ["Expression", "depth_of", "expressed", "has_type", "is_there", "literal"]

Expression: TypeAlias = Any
"""An aggregation expression, as PyMongo takes it."""

# MongoDB takes documents of up to 200 levels; the query that an expression stands in has some, too.
_DEEPEST: Final = 140
# Each index on a path doubles what is below it.
_MOST_INDEXES: Final = 4
# What is asked below a parent is written twice, for arrays and for others: the latter is computed
# several times as fast so. That doubles at each parent; above so many, it is written once.
_MOST_REPEATED: Final = 2

_TYPES: Final[Mapping[int, tuple[str, ...]]] = {
    NUMBER: ("int", "double", "long", "decimal"),
    STRING: ("string", "symbol"),
    DOCUMENT: ("object",),
    ARRAY: ("array",),
    BINARY: ("binData",),
    OBJECT_ID: ("objectId",),
    BOOL: ("bool",),
    DATE: ("date",),
    TIMESTAMP: ("timestamp",),
    CODE: ("javascript",),
    SCOPED_CODE: ("javascriptWithScope",),
}
"""The aliases of the types of each bracket whose values can be greater or less than another."""

_NOTHING: Final = ["missing", "null", "undefined"]
_EMPTY: Final[Expression] = {"$literal": {}}


class _Inexpressible(Exception):
    """No exact and total expression is known."""


def expressed(node: Node, root: str) -> Expression | None:
    """Return what a query asks, as an expression that gives true or false for every document.

    :param root: an expression that gives a document, and is a variable, such as `$$ROOT`.
    :return: None where no exact and total expression is known, or the query is malformed.

    In strings that are not UTF-8, which MongoEngine cannot read, a pattern is compared by bytes.
    """
    try:
        found = _Writer().question(node, root)
    except (_Inexpressible, ValueError):
        return None
    return found if depth_of(found) <= _DEEPEST else None


def literal(value: Any) -> Expression:
    """Return the expression that gives a value, whatever is in it."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return {"$literal": value}


def depth_of(value: Any) -> int:
    """Return how many documents and arrays lie one in the other."""
    if isinstance(value, Mapping):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, (list, tuple)):
        return 1 + max(map(depth_of, value), default=0)
    return 0


class _Writer:
    """The writing of one query; each variable has a name of its own."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def question(self, node: Node, value: str) -> Expression:
        """A query on the document, or the element of an array, that a variable holds."""
        if isinstance(node, Compare):
            if not node.path:
                return self.check(node, value)
            indexes = sum(name.isdecimal() for name in node.path[1:])
            if indexes > _MOST_INDEXES:
                raise _Inexpressible
            return self._in_document(node, value, 0)
        if isinstance(node, (Denial, Not)):
            return {"$not": [self.question(node.part, value)]}
        if isinstance(node, (And, Or)):
            parts = [self.question(part, value) for part in node.parts]
            return {"$and" if isinstance(node, And) else "$or": parts}
        raise _Inexpressible

    def any_of(self, array: Expression, build: Callable[[str], Expression]) -> Expression:
        """Whether something holds for an element of an array."""
        name = self._name()
        mapped = {"$map": {"input": array, "as": name, "in": build(f"$${name}")}}
        return {"$anyElementTrue": [mapped]}

    def bound(self, value: Expression, build: Callable[[str], Expression]) -> Expression:
        """An expression over a value that is computed once."""
        if isinstance(value, str):
            return build(value)
        name = self._name()
        return {"$let": {"vars": {name: value}, "in": build(f"$${name}")}}

    def _name(self) -> str:
        return f"v{next(self._numbers)}"

    # --- The way of a path: see `predicates` --------------------------------------------

    def _in_document(self, leaf: Compare, document: str, place: int) -> Expression:
        value = _field(document, leaf.path[place])
        if place + 1 == len(leaf.path):
            return self.bound(value, lambda end: self._at_end(leaf, end))
        return self.bound(value, lambda here: self._below(leaf, here, place + 1))

    def _below(self, leaf: Compare, value: str, place: int) -> Expression:
        def within(one: str) -> Expression:
            return self._in_document(leaf, one, place)

        documents = _only_types(value, self._name(), ["object"])
        # What has no fields, and is in no array, has no such field either.
        if len(leaf.path) - place <= _MOST_REPEATED:
            answer = _if_array(value, self.any_of(documents, within), within(value))
        else:
            alone = {"$cond": [has_type(value, "object"), [value], [_EMPTY]]}
            answer = self.any_of(_if_array(value, documents, alone), within)
        index = _index(leaf.path[place])
        if index is None:
            return answer
        element = {"$arrayElemAt": [value, index]}
        by_index = self.bound(element, lambda one: self._named(leaf, one, place + 1))
        return {"$or": [answer, _if_array(value, by_index, otherwise=False)]}

    def _named(self, leaf: Compare, element: str, place: int) -> Expression:
        if place == len(leaf.path):
            return {"$cond": [is_there(element), self.check(leaf, element), False]}
        goes_on = has_type(element, "object", "array")
        return {"$cond": [goes_on, self._below(leaf, element, place), False]}

    def _at_end(self, leaf: Compare, value: str) -> Expression:
        answer = self.check(leaf, value)
        if leaf.operator == "$exists" or not test_of(leaf).spreads:
            return answer
        elements = self.any_of(_array_or_none(value), lambda one: self.check(leaf, one))
        return {"$or": [answer, elements]}

    # --- The operators on one value: see `checks` ---------------------------------------

    def check(self, leaf: Compare, value: str) -> Expression:
        """What a question asks of one value, which may be missing; its elements are not looked at.

        :raises ValueError: MongoDB would refuse the operand.
        """
        test_of(leaf)
        if leaf.inner is not None:
            return self._element(leaf, leaf.inner, value)
        build = _CHECKS.get(leaf.operator)
        if build is None:
            raise _Inexpressible
        return build(leaf, value)

    def _element(self, leaf: Compare, inner: Node, value: str) -> Expression:
        array = _array_or_none(value)
        if asks_elements(leaf.operand):
            return self.any_of(array, lambda one: self.question(inner, one))
        # An array in an array is a document of numbered fields.
        places = {index for name in _first_names(inner) if (index := _index(name)) is not None}

        def fields(one: str) -> Expression:
            if not places:
                return _if_array(one, _EMPTY, one)
            numbered = {str(place): {"$arrayElemAt": [one, place]} for place in sorted(places)}
            return _if_array(one, numbered, one)

        containers = _only_types(array, self._name(), ["object", "array"])
        return self.any_of(
            containers,
            lambda one: self.bound(fields(one), lambda each: self.question(inner, each)),
        )


def _first_names(node: Node) -> Iterator[str]:
    if isinstance(node, Compare):
        yield from node.path[:1]
    elif isinstance(node, (Denial, Not)):
        yield from _first_names(node.part)
    elif isinstance(node, (And, Or)):
        for part in node.parts:
            yield from _first_names(part)


def _index(name: str) -> int | None:
    """Return which element of an array a name stands for; None for none that an array can have."""
    if not (name.isdecimal() and name.isascii()) or len(name) > 9:
        return None
    return int(name) if str(int(name)) == name else None


def _field(document: str, name: str) -> Expression:
    if name.startswith("$"):
        return {"$getField": {"field": {"$literal": name}, "input": document}}
    return f"{document}.{name}"


def has_type(value: Expression, *names: str) -> Expression:
    """Return whether a value has one of these types; `missing` is one."""
    if len(names) == 1:
        return {"$eq": [{"$type": value}, names[0]]}
    return {"$in": [{"$type": value}, list(names)]}


def is_there(value: Expression) -> Expression:
    """Return whether there is a value; null is one."""
    return {"$ne": [{"$type": value}, "missing"]}


def _only_types(array: Expression, name: str, names: list[str]) -> Expression:
    condition = has_type(f"$${name}", *names)
    return {"$filter": {"input": array, "as": name, "cond": condition}}


def _if_array(value: str, then: Expression, otherwise: Expression) -> Expression:
    return {"$cond": [{"$isArray": [value]}, then, otherwise]}


def _array_or_none(value: str) -> Expression:
    return _if_array(value, value, [])


# --- One value ----------------------------------------------------------------------------


def _equal(constant: Any, value: str) -> Expression:
    own = bracket(constant)
    if own is None:
        raise _Inexpressible
    return has_type(value, *_NOTHING) if own == NULL else {"$eq": [value, literal(constant)]}


def _equals(leaf: Compare, value: str) -> Expression:
    return _equal(leaf.operand, value)


def _among(leaf: Compare, value: str) -> Expression:
    plain: list[Any] = []
    answers: list[Expression] = []
    for one in leaf.operand:
        own = bracket(one)
        if is_regex(one):
            answers.append(_pattern_found(one, None, value))
        elif own is None or own == NULL:
            answers.append(_equal(one, value))
        else:
            plain.append(one)
    if plain:
        answers.append({"$in": [value, {"$literal": plain}]})
    return answers[0] if len(answers) == 1 else {"$or": answers}


def _ordered(leaf: Compare, value: str) -> Expression:
    constant, operator = leaf.operand, leaf.operator
    own = bracket(constant)
    inclusive = operator in ("$gte", "$lte")
    if own == NULL or (own == NUMBER and is_nan(constant)):
        return _equal(constant, value) if inclusive else False
    if own in (MIN_KEY, MAX_KEY):
        beyond = operator[:3] == ("$gt" if own == MIN_KEY else "$lt")
        name = "minKey" if own == MIN_KEY else "maxKey"
        return {"$cond": [has_type(value, name), inclusive, beyond]}
    names = _TYPES.get(own) if own is not None else None
    if names is None:
        raise _Inexpressible
    answer: Expression = {operator: [value, literal(constant)]}
    if own == NUMBER and operator in ("$lt", "$lte"):
        # NaN is the least of all numbers to an expression, and none to a query.
        answer = {"$and": [answer, {"$ne": [value, float("nan")]}]}
    return {"$and": [has_type(value, *names), answer]}


def _present(_leaf: Compare, value: str) -> Expression:
    return is_there(value)


def _of_type(leaf: Compare, value: str) -> Expression:
    return has_type(value, *(TYPE_NAMES[code] for code in sorted(test_of(leaf).operand)))


def _of_size(leaf: Compare, value: str) -> Expression:
    return _if_array(value, {"$eq": [{"$size": value}, test_of(leaf).operand]}, otherwise=False)


def _remainder(leaf: Compare, value: str) -> Expression:
    divisor, wanted = (_whole(one) for one in leaf.operand)
    whole = {"$trunc": [value]}
    fits = {"$and": [{"$gte": [whole, Int64(-(2**63))]}, {"$lt": [whole, 2.0**63]}]}
    answer = {"$eq": [{"$mod": [{"$toLong": whole}, Int64(divisor)]}, Int64(wanted)]}
    is_number = has_type(value, *_TYPES[NUMBER])
    return {"$cond": [is_number, {"$cond": [fits, answer, False]}, False]}


def _whole(number: Any) -> int:
    """Cut the fraction off a number of `$mod`."""
    if not isinstance(number, (int, float)):
        raise _Inexpressible
    return int(number)


# --- Patterns -----------------------------------------------------------------------------

# `$regexMatch` raises for strings that are not UTF-8; a text is found by its bytes.
_LITERAL: Final = re.compile(
    r"(?P<start>\^?)(?P<text>(?:[^\\^$.|?*+()\[\]{}]|\\[^0-9A-Za-z])*)(?P<end>\$?)", re.ASCII
)


def _pattern(leaf: Compare, value: str) -> Expression:
    return _pattern_found(leaf.operand, leaf.options, value)


def _pattern_found(pattern: Any, options: str | None, value: str) -> Expression:
    source = patterns.pattern_source(pattern)
    if source is None:
        raise _Inexpressible
    text, flags = source
    flags |= patterns.flags_of(options or "")
    ignores_case = bool(flags & re.IGNORECASE)
    if flags & ~(re.UNICODE | re.IGNORECASE) or (ignores_case and not text.isascii()):
        raise _Inexpressible
    parts = _LITERAL.fullmatch(text)
    if parts is None:
        raise _Inexpressible
    wanted = re.sub(r"\\(.)", r"\1", parts["text"], flags=re.DOTALL)
    starts, ends = bool(parts["start"]), bool(parts["end"])
    if ignores_case:
        found = _text_found(wanted.lower(), "$$t", starts=starts, ends=ends)
        found = {"$let": {"vars": {"t": _in_small_letters(value)}, "in": found}}
    else:
        found = _text_found(wanted, value, starts=starts, ends=ends)
    if isinstance(pattern, str):
        pattern = Regex(pattern, flags)
    is_stored = {"$eq": [value, {"$literal": pattern}]}
    return {"$cond": [has_type(value, "string"), found, is_stored]}


def _in_small_letters(value: Expression) -> Expression:
    """Return a text as it is compared with one of ASCII letters whose case does not matter."""
    for letter, plain in (("\u212a", "k"), ("\u017f", "s")):
        value = {"$replaceAll": {"input": value, "find": letter, "replacement": plain}}
    return {"$toLower": value}


def _text_found(text: str, value: str, *, starts: bool, ends: bool) -> Expression:
    if not ends:
        index = {"$indexOfBytes": [value, {"$literal": text}]}
        return {"$eq": [index, 0]} if starts else {"$gte": [index, 0]}
    length = {"$strLenBytes": value}
    answers: list[Expression] = []
    for ending in (text, f"{text}\n"):  # `$` also stands before the last line break
        size = len(ending.encode())
        first = {"$max": [0, {"$subtract": [length, size]}]}
        index = {"$indexOfBytes": [value, {"$literal": ending}, first]}
        answers.append({"$eq": [index, 0]} if starts else {"$gte": [index, 0]})
    return {"$or": answers}


_CHECKS: Final[Mapping[str, Callable[[Compare, str], Expression]]] = {
    "$eq": _equals,
    "$in": _among,
    "$gt": _ordered,
    "$gte": _ordered,
    "$lt": _ordered,
    "$lte": _ordered,
    "$exists": _present,
    "$type": _of_type,
    "$size": _of_size,
    "$mod": _remainder,
    "$regex": _pattern,
}
