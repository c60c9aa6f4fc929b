"""A query compiled once to a predicate on raw documents, or a refusal.

The answers are those of MongoDB 6.0's `find` under the simple collation; what cannot be
judged exactly in memory is unknown (None), and MongoDB is asked. BSON undefined, symbol and
DBPointer, all deprecated, are decoded by PyMongo as null, string and DBRef, and judged as such.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lazymig.query.expressions import expression_paths
from lazymig.query.operators import (
    PRESENT,
    VALUE_OPERATORS,
    equality,
    freeze,
    is_expression,
    is_regex,
    malformed,
    regular_expression,
    unjudged_test,
    wants_presence,
)
from lazymig.query.predicates import (
    All,
    AnyOf,
    At,
    Judge,
    Node,
    Not,
    Test,
    Unjudged,
    on_document,
    on_value,
)
from lazymig.query.screens import Screen, screen_of
from lazymig.raw.values import bracket, is_array, is_document

__all__ = ["Matcher", "compile_judge", "compile_query", "query_paths"]

_LOGICAL: Final = ("$and", "$or", "$nor")
_REFERENCE: Final = ("$ref", "$id", "$db")
_UNJUDGED_ON_TOP: Final = frozenset(
    {"$expr", "$jsonSchema", "$text", "$where", "$sampleRate", "$alwaysTrue", "$alwaysFalse"}
)
_ON_TOP_ONLY: Final = frozenset({"$expr", "$text", "$where"})
_UNJUDGED: Final = frozenset(
    {"$bitsAllSet", "$bitsAllClear", "$bitsAnySet", "$bitsAnyClear"}
    | {"$geoWithin", "$geoIntersects", "$within", "$near", "$nearSphere", "$geoNear"}
)
_NEAR_OPTIONS: Final = frozenset({"$maxDistance", "$minDistance"})


@dataclass(frozen=True, slots=True)
class Matcher:
    """A compiled query.

    `judge` takes a raw document and answers whether it matches; None: MongoDB must be asked.
    `screen` takes a batch and gives the indexes of the documents that `judge` might answer
    True or None for: never too few, at times too many. `exact` is False when some part of
    the query is never judged in memory.
    """

    query: Mapping[str, Any]
    judge: Callable[[Mapping[str, Any]], bool | None]
    screen: Callable[[Sequence[Mapping[str, Any]]], list[int]]
    exact: bool


def compile_query(query: Mapping[str, Any]) -> Matcher:
    """Compile a MongoDB query in database field names.

    The query is copied, never changed. A value of a type that is no BSON is allowed: what
    depends on it is unknown.

    Raises:
        ValueError: MongoDB would refuse the query; the message names path and operator.
    """
    tree = _conditions(query, nested=False)
    judge = on_document(tree)
    screen: Screen = screen_of(tree, judge)
    return Matcher(_copied(query), judge, screen, _is_exact(tree))


def compile_judge(query: Mapping[str, Any]) -> Judge:
    """Compile a query to the `judge` of its `Matcher` alone, for a document or two.

    Raises:
        ValueError: MongoDB would refuse the query; the message names path and operator.
    """
    return on_document(_conditions(query, nested=False))


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _copied(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copied(item) for item in value]
    return value


def _is_exact(node: Node) -> bool:
    if isinstance(node, At):
        return node.test.judged
    if isinstance(node, Not):
        return _is_exact(node.part)
    return not isinstance(node, Unjudged) and all(map(_is_exact, node.parts))


# --- Reading a query --------------------------------------------------------------------


def _conditions(query: Any, *, nested: bool) -> Node:
    """Read a query; `nested`: inside `$elemMatch`."""
    if not isinstance(query, Mapping):
        raise ValueError(f"A query is a mapping, not {query!r}; use {{path: condition}}")
    parts = [
        node for name, value in query.items() for node in _condition(name, value, nested=nested)
    ]
    return parts[0] if len(parts) == 1 else All(tuple(parts))


def _condition(name: Any, value: Any, *, nested: bool) -> Iterator[Node]:
    if not isinstance(name, str) or "\x00" in name:
        raise ValueError(f"{name!r} is no path; use a string without null bytes")
    if name == "$comment":
        return
    if name in _LOGICAL:
        yield _logical(name, value, nested=nested)
    elif name in _UNJUDGED_ON_TOP:
        if nested and name in _ON_TOP_ONLY:
            raise malformed("", name, "stands inside $elemMatch; move it to the top of the query")
        yield Unjudged()
    elif name.startswith("$") and name not in _REFERENCE:
        raise malformed("", name, "is no operator at the top of a query; use a path, or $and")
    else:
        yield _field_condition(name, value)


def _logical(name: str, value: Any, *, nested: bool) -> Node:
    if not is_array(value) or not value:
        raise malformed("", name, f"is {value!r}; use a list of at least one query")
    for item in value:
        if not isinstance(item, Mapping):
            raise malformed("", name, f"contains {item!r}; use queries only")
    parts = tuple(_conditions(item, nested=nested) for item in value)
    if name == "$and":
        return All(parts)
    return AnyOf(parts) if name == "$or" else Not(AnyOf(parts))


def _field_condition(path: str, value: Any) -> Node:
    if is_expression(value):
        node = _expression(path, value)
    elif is_regex(value):
        node = At(path, regular_expression(path, "$regex", value))
    else:
        node = At(path, equality(freeze(value, path)))
    # An empty name on the path is cut differently by different parts of the server.
    return node if all(path.split(".")) else Unjudged()


def _expression(path: str, operators: Mapping[str, Any]) -> Node:
    if "$options" in operators and "$regex" not in operators:
        raise malformed(path, "$options", "needs a $regex beside it; add one")
    parts = []
    for operator, operand in operators.items():
        if operator == "$regex":
            parts.append(_regex(path, operand, operators))
        elif operator in _NEAR_OPTIONS and any("ear" in name for name in operators):
            parts.append(At(path, unjudged_test()))
        elif operator != "$options":
            parts.append(_operation(path, operator, operand))
    return parts[0] if len(parts) == 1 else All(tuple(parts))


def _operation(path: str, operator: str, operand: Any) -> Node:
    if operator in VALUE_OPERATORS:
        return At(path, VALUE_OPERATORS[operator](path, operator, operand))
    if operator in _COMPOSED:
        return _COMPOSED[operator](path, operand)
    if operator in _UNJUDGED:
        return At(path, unjudged_test())
    remedy = "use operators only" if not str(operator).startswith("$") else "correct its name"
    raise malformed(path, str(operator), f"is no operator that a path can have; {remedy}")


def _regex(path: str, pattern: Any, operators: Mapping[str, Any]) -> Node:
    options = operators.get("$options")
    if not is_regex(pattern) and not isinstance(pattern, str):
        raise malformed(path, "$regex", f"is {pattern!r}; use a pattern")
    if "$options" in operators and not isinstance(options, str):
        raise malformed(path, "$options", f"is {options!r}; use a string of letters")
    if options is not None and not isinstance(pattern, str) and pattern.flags:
        raise malformed(path, "$options", "stands beside a pattern that has flags; use one of them")
    return At(path, regular_expression(path, "$regex", pattern, options))


def _exists(path: str, operand: Any) -> Node:
    present = At(path, PRESENT)
    return present if wants_presence(operand) else Not(present)


def _not_equal(path: str, operand: Any) -> Node:
    if is_regex(operand):
        raise malformed(path, "$ne", "cannot take a regular expression; use $not")
    return Not(_operation(path, "$eq", operand))


def _not_in(path: str, operand: Any) -> Node:
    return Not(At(path, VALUE_OPERATORS["$in"](path, "$nin", operand)))


def _negation(path: str, operand: Any) -> Node:
    if is_regex(operand):
        return Not(At(path, regular_expression(path, "$not", operand)))
    if not isinstance(operand, Mapping) or not operand:
        raise malformed(path, "$not", f"is {operand!r}; use operators or a regular expression")
    return Not(_expression(path, operand))


def _every(path: str, operand: Any) -> Node:
    if not is_array(operand):
        raise malformed(path, "$all", f"is {operand!r}; use a list")
    if not operand:
        return AnyOf(())
    elements = [
        isinstance(item, Mapping) and next(iter(item), "") == "$elemMatch" for item in operand
    ]
    if elements[0]:
        if not all(isinstance(item, Mapping) and "$elemMatch" in item for item in operand):
            raise malformed(path, "$all", "mixes $elemMatch with values; use one kind")
        return All(tuple(_element(path, item["$elemMatch"]) for item in operand))
    return All(tuple(_every_item(path, item) for item in operand))


def _every_item(path: str, item: Any) -> Node:
    if is_regex(item):
        return At(path, regular_expression(path, "$all", item))
    if is_expression(item) and not _is_reference(item):
        raise malformed(path, "$all", "contains an operator; use values, or $elemMatch only")
    return At(path, equality(freeze(item, path)))


def _is_reference(value: Mapping[str, Any]) -> bool:
    """Say whether MongoDB takes a mapping for (a part of) a DBRef rather than for operators."""
    return not value.keys().isdisjoint(_REFERENCE)


def _element(path: str, operand: Any) -> Node:
    if not isinstance(operand, Mapping):
        raise malformed(path, "$elemMatch", f"is {operand!r}; use a query or operators")
    if is_expression(operand) and not _is_reference(operand) and not _starts_query(operand):
        return At(path, _element_test(_expression(path, operand), on_value))
    return At(path, _element_test(_conditions(operand, nested=True), _on_inner_document))


def _starts_query(operand: Mapping[str, Any]) -> bool:
    first = next(iter(operand))
    return first in _LOGICAL or first in _UNJUDGED_ON_TOP or first == "$comment"


def _on_inner_document(conditions: Node) -> Judge:
    """Build the predicate on an array's element; an array is a document of numbered fields."""
    judge = on_document(conditions)

    def on_inner(value: Any) -> bool | None:
        if is_document(value):
            return judge(value)
        if is_array(value):
            return judge({str(index): item for index, item in enumerate(value)})
        return None if bracket(value) is None else False

    return on_inner


def _element_test(conditions: Node, build: Callable[[Node], Judge]) -> Test:
    matches = build(conditions)

    def check(value: Any) -> bool | None:
        if not is_array(value):
            return None if bracket(value) is None else False
        result: bool | None = False
        for element in value:
            answer = matches(element)
            if answer:
                return True
            if answer is None:
                result = None
        return result

    return Test("element", check, spreads=False, judged=_is_exact(conditions))


_COMPOSED: Final[dict[str, Callable[[str, Any], Node]]] = {
    "$exists": _exists,
    "$ne": _not_equal,
    "$nin": _not_in,
    "$not": _negation,
    "$all": _every,
    "$elemMatch": _element,
}


# --- The paths a query reads ------------------------------------------------------------


class _CannotTell(Exception):
    """The query reads paths that it does not name."""


def query_paths(query: Mapping[str, Any]) -> frozenset[str] | None:
    """Give the dotted paths that a well-formed query reads; None: it does not say which.

    `$where`, `$text`, `$jsonSchema` and expressions over the whole document do not say.
    """
    try:
        return frozenset(_paths(query, ""))
    except _CannotTell:
        return None


def _paths(query: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, value in query.items():
        if name in _LOGICAL:
            for part in value:
                yield from _paths(part, prefix)
        elif name == "$expr":
            named = expression_paths(value)
            if named is None:
                raise _CannotTell
            yield from named
        elif name in {"$where", "$text", "$jsonSchema"}:
            raise _CannotTell
        elif not name.startswith("$") or name in _REFERENCE:
            yield prefix + name
            yield from _inner_paths(prefix + name, value)


def _inner_paths(path: str, condition: Any) -> Iterator[str]:
    if not is_expression(condition):
        return
    for operator, operand in condition.items():
        if operator == "$not":
            yield from _inner_paths(path, operand)
        elif operator == "$all" and is_array(operand):
            for item in operand:
                yield from _inner_paths(path, item)
        elif operator == "$elemMatch" and isinstance(operand, Mapping):
            yield from _paths(operand, path + ".")
            yield from _inner_paths(path, operand)
