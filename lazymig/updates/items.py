"""The items of an embedded list as aggregation expressions: which are old, and what they become.

What is written here is total: it raises for no document, unless what the user computes does. An
item is `$$this`; what stands on the way to it is mapped over, in lists and in sub-documents alike,
as MongoDB follows a dotted path in a query.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

from bson import Decimal128, Int64, ObjectId

from lazymig.query.checks import own_bracket
from lazymig.query.operators import OPERATORS
from lazymig.query.tree import And, Compare, Node, Not, Or
from lazymig.raw.values import TYPE_ALIASES, TYPE_NAMES, is_nan

__all__ = ["ANY_KEY", "any_item", "changed_items", "condition_of", "is_absent", "is_stored"]

ANY_KEY: Final = "*"
"""The component of a path that stands for every key of a map."""

Expression: TypeAlias = Any

_NUMBERS: Final = ("int", "long", "double", "decimal")
# The types of the values that both a query and an expression compare alike.
_COMPARED: Final[Mapping[tuple[type, ...], tuple[str, ...]]] = {
    (bool,): ("bool",),
    (int, float, Int64, Decimal128): _NUMBERS,
    (str,): ("string",),
    (datetime,): ("date",),
    (ObjectId,): ("objectId",),
}
_ORDERS: Final = frozenset({"$gt", "$gte", "$lt", "$lte"})


# --- The way to the items ---------------------------------------------------------------


def changed_items(root: str, steps: Sequence[str], changed: Expression) -> Expression:
    """Return the value of a top-level field with its items changed; missing if it is missing.

    :param root: the field.
    :param steps: the components of the path below it.
    :param changed: what becomes of `$$this`, be it an item or not.
    """
    return _changed(f"${root}", steps, changed, 0)


def any_item(root: str, steps: Sequence[str], condition: Expression) -> Expression:
    """Return whether there is an item of which a condition on `$$this` is true."""
    return _any(f"${root}", steps, condition, entry=False, depth=0)


def _changed(value: str, steps: Sequence[str], changed: Expression, depth: int) -> Expression:
    if not steps:
        return _if(_is_array(value), _map(value, "this", changed), value)
    element = f"each{depth}"
    within = _changed_within(f"$${element}", steps, changed, depth)
    elements = _map(value, element, _if(_is_document(f"$${element}"), within, f"$${element}"))
    document = _changed_within(value, steps, changed, depth)
    return _if(_is_array(value), elements, _if(_is_document(value), document, value))


def _changed_within(
    document: str, steps: Sequence[str], changed: Expression, depth: int
) -> Expression:
    """Return what becomes of a sub-document, be it one with a field or a map."""
    step, rest = steps[0], steps[1:]
    if step != ANY_KEY:
        inner = _changed(f"{document}.{step}", rest, changed, depth + 1)
        return {"$mergeObjects": [document, {step: inner}]}
    entry = f"entry{depth}"
    value = f"$${entry}.v"
    if rest:
        inner = _changed(value, rest, changed, depth + 1)
    else:
        # An entry is an item itself, or a list of items.
        lone = {"$let": {"vars": {"this": value}, "in": changed}}
        inner = _if(_is_array(value), _map(value, "this", changed), lone)
    entries = _map({"$objectToArray": document}, entry, {"k": f"$${entry}.k", "v": inner})
    return {"$arrayToObject": entries}


def _any(
    value: str, steps: Sequence[str], condition: Expression, *, entry: bool, depth: int
) -> Expression:
    alone: Expression = [value] if steps or entry else []
    array = _if(_is_array(value), value, alone)
    if not steps:
        return _any_of(array, "this", condition)
    element = f"each{depth}"
    document = f"$${element}"
    step, rest = steps[0], steps[1:]
    if step == ANY_KEY:
        inner = _any(f"$$entry{depth}.v", rest, condition, entry=not rest, depth=depth + 1)
        found = _any_of({"$objectToArray": document}, f"entry{depth}", inner)
    else:
        found = _any(f"{document}.{step}", rest, condition, entry=False, depth=depth + 1)
    return _any_of(array, element, _if(_is_document(document), found, otherwise=False))


def _map(array: Expression, name: str, inner: Expression) -> Expression:
    return {"$map": {"input": array, "as": name, "in": inner}}


def _any_of(array: Expression, name: str, condition: Expression) -> Expression:
    return {"$anyElementTrue": [_map(array, name, condition)]}


def _if(condition: Expression, then: Expression, otherwise: Expression) -> Expression:
    return {"$cond": [condition, then, otherwise]}


def _is_array(value: str) -> Expression:
    return {"$isArray": [value]}


def _is_document(value: str) -> Expression:
    return {"$eq": [{"$type": value}, "object"]}


# --- The conditions on an item ----------------------------------------------------------


def is_stored(value: str) -> Expression:
    """Return whether an expression gives something; null is something."""
    return {"$ne": [{"$type": value}, "missing"]}


def is_absent(value: str) -> Expression:
    """Return whether an expression gives nothing."""
    return {"$eq": [{"$type": value}, "missing"]}


def condition_of(query: Node) -> Expression:
    """Return a query on a sub-document as an expression over `$$this`.

    :param query: a tree whose paths are names of fields.
    :raises ValueError: it asks for what has no exact equal; the text says for what.
    """
    if isinstance(query, Compare):
        return _compared(query)
    if isinstance(query, Not):
        return {"$not": [condition_of(query.part)]}
    if isinstance(query, (And, Or)):
        operator = "$and" if isinstance(query, And) else "$or"
        return {operator: [condition_of(part) for part in query.parts]}
    raise ValueError("uses an operator that no expression says exactly")


def _compared(leaf: Compare) -> Expression:
    if len(leaf.path) != 1:
        raise ValueError(f"names {'.'.join(leaf.path)!r}, which is no field of the item itself")
    value = f"$$this.{leaf.path[0]}"
    if leaf.operator == "$exists":
        return is_stored(value)
    test = _test(leaf)
    elements = _if(_is_array(value), value, [])
    return {"$or": [test(value), _any_of(elements, "value", test("$$value"))]}


def _test(leaf: Compare) -> Callable[[str], Expression]:
    """Return what a question asks of one value, which is no array to look into."""
    if leaf.operator == "$type":
        types = _types_named(leaf.operand)
        return lambda value: {"$in": [{"$type": value}, types]}
    if leaf.operator == "$eq":
        return _equal(leaf.operand)
    if leaf.operator == "$in" and isinstance(leaf.operand, (list, tuple)):
        tests = [_equal(one) for one in leaf.operand]
        return lambda value: {"$or": [test(value) for test in tests]}
    if leaf.operator in _ORDERS:
        bound = leaf.operand
        types = list(_compared_types(bound))
        if "bool" in types or is_nan(bound):
            raise ValueError(f"uses {leaf.operator} with {bound!r}")

        def ordered(value: str) -> Expression:
            asked = [{"$in": [{"$type": value}, types]}, {leaf.operator: [value, _literal(bound)]}]
            if "int" in types:
                # To an expression it is less than every number, to a query not.
                asked.append({"$ne": [value, float("nan")]})
            return {"$and": asked}

        return ordered
    known = sorted(name for name in OPERATORS if name in {*_ORDERS, "$exists", "$type", "$in"})
    raise ValueError(f"uses {leaf.operator}; use values, {', '.join(known)}, $and, $or, $not")


def _equal(constant: Any) -> Callable[[str], Expression]:
    if constant is None:
        return lambda value: {"$in": [{"$type": value}, ["missing", "null", "undefined"]]}
    _compared_types(constant)
    return lambda value: {"$eq": [value, _literal(constant)]}


def _literal(constant: Any) -> Expression:
    return {"$literal": constant}


def _compared_types(constant: Any) -> tuple[str, ...]:
    if own_bracket(constant) is not None:
        for types, names in _COMPARED.items():
            if isinstance(constant, types):
                return names
    raise ValueError(f"compares with {constant!r}; use numbers, strings, booleans, dates and ids")


def _types_named(operand: Any) -> list[str]:
    names: list[str] = []
    for one in operand if isinstance(operand, (list, tuple)) else [operand]:
        if one == "number":
            names.extend(_NUMBERS)
        elif isinstance(one, str) and one in TYPE_ALIASES:
            names.append(one)
        elif not isinstance(one, (str, bool)) and one in TYPE_NAMES:
            names.append(TYPE_NAMES[int(one)])
        else:
            raise ValueError(f"asks for the $type {one!r}, which MongoDB does not know")
    return names
