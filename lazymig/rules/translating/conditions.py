"""The conditions of a rule: truth, equality, membership, order, identity, types."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from bson import ObjectId

from lazymig.rules.translating.characters import holds, is_one_of
from lazymig.rules.translating.context import Context
from lazymig.rules.translating.scope import choice, is_type, type_test
from lazymig.rules.translating.symbols import (
    DOCUMENT,
    MISSING,
    NUMBERS,
    PRESENT,
    Computed,
    Constant,
    Left,
    PythonObject,
    Record,
    Row,
    Symbol,
    Types,
    as_computed,
    is_name,
    key_of,
    literal,
)

__all__ = [
    "BOOL",
    "compare",
    "is_instance",
    "is_reference",
    "negated",
    "same_as",
    "truth",
]

BOOL: Final[Types] = frozenset({"bool"})
_STRING: Final[Types] = frozenset({"string"})
_TEXT: Final[Types] = frozenset({"string", "symbol"})
_NOTHING: Final[Types] = frozenset({MISSING, "null", "undefined"})

# What Python has no emptiness of, or an emptiness of its own.
_ODD: Final[Types] = frozenset(
    {"binData", "decimal", "undefined", "symbol", "javascript", "javascriptWithScope", "dbPointer"}
)
_ALWAYS_TRUE: Final[Types] = frozenset({"date", "objectId", "timestamp", "minKey", "maxKey"})

# What compares with others of its kind as in Python, and by nothing that a client can choose.
_COMPARED: Final[Types] = frozenset({"string", "int", "long", "double", "null", "objectId", "date"})

_INSTANCES: Final[Mapping[type, Types]] = {
    str: frozenset({"string", "symbol", "javascript", "javascriptWithScope"}),
    int: frozenset({"int", "long", "bool"}),
    float: frozenset({"double"}),
    bool: BOOL,
    list: frozenset({"array"}),
    tuple: frozenset(),
    set: frozenset(),
    dict: frozenset({"object"}),
    datetime: frozenset({"date"}),
    ObjectId: frozenset({"objectId"}),
    type(None): frozenset({"null", "undefined"}),
}


def negated(test: Computed) -> Computed:
    """Return the opposite of a test."""
    return Computed({"$not": [test.expression]}, BOOL, if_true=test.if_false, if_false=test.if_true)


# --- Truth ----------------------------------------------------------------------------------


def truth(context: Context, symbol: Symbol, node: ast.AST) -> Computed | bool:
    """Return whether a value is true, as `bool()` would."""
    if isinstance(symbol, Constant):
        return bool(symbol.value)
    if isinstance(symbol, (Row, Record)):
        return bool(symbol.items)
    if isinstance(symbol, PythonObject) or symbol is DOCUMENT:
        return True
    value = as_computed(symbol, node)
    if context.types_of(value) <= BOOL:
        return value
    value = context.require(value, PRESENT - _ODD, node)
    empty: list[Any] = [None, False, 0, [], {}]
    full = {"$not": [{"$in": [value.expression, {"$literal": empty}]}]}
    # Under a collation a string of characters that do not count equals the empty one.
    is_text = type_test(value.expression, value.types, _STRING)
    expression = choice(is_text, {"$gt": [{"$strLenBytes": value.expression}, 0]}, full)
    learned = value.types - {"null"}
    if value.types <= _ALWAYS_TRUE:
        return True
    keys = {key_of(value.expression): learned}
    origin = symbol.origin if isinstance(symbol, Computed) else None
    if origin is not None:
        keys[key_of(origin)] = learned
    return Computed(expression, BOOL, if_true=keys)


# --- Equality -------------------------------------------------------------------------------


def same_as(
    context: Context, value: Computed, constants: Sequence[Any], node: ast.AST
) -> Computed | bool:
    """Return whether a value equals one of some constants.

    Strings are compared by their bytes: `$eq` would follow the collation of the collection.
    """
    types = context.types_of(value)
    texts = [one for one in constants if isinstance(one, str)]
    tests: list[tuple[Types, Any]] = []
    if texts and types & _STRING:
        if any("\x00" in one for one in texts):
            raise Left(node, "compares with a string that holds the character NUL")
        matched = is_one_of(value.expression, texts)
        test = type_test(value.expression, types, _STRING)
        tests.append((_STRING, choice(test, matched, False)))
    for one in constants:
        if not isinstance(one, str):
            tests += _equals(value, types, one, node)
    if not tests:
        return False
    expression = tests[0][1] if len(tests) == 1 else {"$or": [test for _, test in tests]}
    learned = frozenset().union(*(each for each, _ in tests)) & types
    keys = {key_of(value.expression): learned}
    if value.origin is not None and None not in constants:
        keys[key_of(value.origin)] = learned
    if_false = {key_of(value.expression): types - {"null", "undefined"}}
    if value.origin is not None:
        if_false[key_of(value.origin)] = if_false[key_of(value.expression)]
    return Computed(expression, BOOL, if_true=keys, if_false=if_false if None in constants else {})


def _equals(value: Computed, types: Types, one: Any, node: ast.AST) -> list[tuple[Types, Any]]:
    """The tests for one constant, each with the types for which it may be true."""
    if one is None:
        nothing = frozenset({"null", "undefined"})
        return [(nothing, is_type(value.expression, nothing))] if types & nothing else []
    if isinstance(one, (bool, int, float)):
        if math.isnan(one):
            raise Left(node, "compares with NaN")
        number = {"$eq": [value.expression, one if not isinstance(one, bool) else int(one)]}
        tests = []
        if types & NUMBERS:
            # Python's numbers equal no Decimal128.
            numbers = type_test(value.expression, types, NUMBERS)
            tests.append((NUMBERS, choice(numbers, number, False)))
        if types & BOOL and one in (0, 1):
            tests.append((BOOL, {"$eq": [value.expression, bool(one)]}))
        return tests
    if isinstance(one, ObjectId):
        return [(frozenset({"objectId"}), {"$eq": [value.expression, one]})]
    raise Left(node, f"compares with a constant of the type {type(one).__name__}")


def _equal(context: Context, left: Symbol, right: Symbol, node: ast.AST) -> Computed | bool:
    if isinstance(left, Constant) and isinstance(right, Constant):
        return bool(left.value == right.value)
    if isinstance(left, Constant):
        left, right = right, left
    if isinstance(left, (Record, Row)) or isinstance(right, (Record, Row)):
        empty = [one for one in (left, right) if isinstance(one, (Record, Row)) and not one.items]
        other = right if empty and empty[0] is left else left
        if empty and isinstance(other, Computed):
            value = context.require(other, PRESENT, node)
            return Computed(
                {"$eq": [value.expression, literal([] if isinstance(empty[0], Row) else {})]}, BOOL
            )
        raise Left(node, "compares containers")
    value = as_computed(left, node)
    if isinstance(right, Constant):
        return same_as(context, _present(context, value, node), [right.value], node)
    one = context.require(left, _COMPARED, node, "compares values other than strings and numbers")
    other_ = context.require(right, _COMPARED, node)
    for each in (one, other_):
        _without_nan(context, each)
    both = {"$eq": [one.expression, other_.expression]}
    if one.types & other_.types & _STRING:
        texts = type_test(one.expression, one.types, _STRING)
        found = {"$eq": [{"$indexOfBytes": [one.expression, other_.expression]}, 0]}
        lengths = {"$eq": [{"$strLenBytes": one.expression}, {"$strLenBytes": other_.expression}]}
        exact = choice(texts, choice(found, lengths, False), True)
        return Computed(choice(both, exact, False), BOOL)
    return Computed(both, BOOL)


def _present(context: Context, value: Computed, node: ast.AST) -> Computed:
    """The value, present, with the field that it was asked of."""
    found = context.present(value, node)
    return Computed(found.expression, found.types, found.items, value.origin)


def _without_nan(context: Context, value: Computed) -> None:
    if "double" in value.types:
        smallest = {"$gte": [value.expression, -math.inf]}
        is_double = type_test(value.expression, value.types, frozenset({"double"}))
        context.scope.require(choice(is_double, smallest, True))


# --- Membership -----------------------------------------------------------------------------


def _contains(context: Context, item: Symbol, owner: Symbol, node: ast.AST) -> Computed | bool:
    if owner is DOCUMENT:
        return _has_key(context, context.field(_name(item, node)))
    if isinstance(owner, Constant) and isinstance(owner.value, (tuple, frozenset)):
        return _among(context, item, list(owner.value), node)
    if isinstance(owner, Row):
        if not all(isinstance(one, Constant) for one in owner.items):
            raise Left(node, "looks into a list of computed values")
        return _among(context, item, [one.value for one in owner.items], node)  # type: ignore[union-attr]
    if isinstance(owner, Record):
        return _among(context, item, list(owner.items), node)
    if isinstance(owner, Constant) or not isinstance(item, Constant):
        raise Left(node, "looks for a computed value in a computed one")
    cases: list[tuple[Types, Callable[[Computed], Symbol]]] = [
        (frozenset({"array"}), lambda value: _as_symbol(_in_list(context, item, value, node))),
    ]
    if isinstance(item.value, str):
        cases.append((_STRING, lambda value: _in_text(item.value, value)))
        if is_name(item.value):
            cases.append((frozenset({"object"}), lambda value: _key_in(context, item, value)))
    found = context.by_type(owner, cases, node, "looks into what is no container")
    if isinstance(found, Constant):
        return bool(found.value)
    return as_computed(found, node)


def _as_symbol(found: Computed | bool) -> Symbol:
    return Constant(found) if isinstance(found, bool) else found


def _name(item: Symbol, node: ast.AST) -> str:
    if not isinstance(item, Constant) or not is_name(item.value):
        raise Left(node, "asks the document for a key that is computed")
    return str(item.value)


def _has_key(context: Context, value: Computed) -> Computed | bool:
    types = context.types_of(value)
    if MISSING not in types:
        return True
    if types == {MISSING}:
        return False
    key = key_of(value.expression)
    return Computed(
        is_type(value.expression, PRESENT),
        BOOL,
        if_true={key: PRESENT},
        if_false={key: frozenset({MISSING})},
    )


def _key_in(context: Context, item: Constant, value: Computed) -> Symbol:
    context.scope.require({"$not": [is_reference(value.expression)]})
    return _as_symbol(_has_key(context, context.member(value, item.value)))


def _in_text(text: str, value: Computed) -> Symbol:
    if not text:
        return Constant(True)
    return Computed(holds(value.expression, text), BOOL)


def _among(context: Context, item: Symbol, constants: list[Any], node: ast.AST) -> Computed | bool:
    if isinstance(item, Constant):
        return item.value in constants
    value = as_computed(item, node)
    return same_as(context, _present(context, value, node), constants, node)


def _in_list(context: Context, item: Constant, value: Computed, node: ast.AST) -> Computed | bool:
    name = context.variable("item")
    found = same_as(context, Computed(f"$${name}"), [item.value], node)
    if isinstance(found, bool):
        return found
    tests = {"$map": {"input": value.expression, "as": name, "in": found.expression}}
    return Computed({"$anyElementTrue": [tests]}, BOOL)


# --- Comparisons ----------------------------------------------------------------------------

_ORDERS: Final[Mapping[type[ast.cmpop], tuple[str, Callable[[Any, Any], bool]]]] = {
    ast.Lt: ("$lt", lambda one, other: one < other),
    ast.LtE: ("$lte", lambda one, other: one <= other),
    ast.Gt: ("$gt", lambda one, other: one > other),
    ast.GtE: ("$gte", lambda one, other: one >= other),
}


def compare(
    context: Context, operator: ast.cmpop, left: Symbol, right: Symbol, node: ast.AST
) -> Computed | bool:
    """Return the answer of one comparison."""
    negative = isinstance(operator, (ast.NotEq, ast.NotIn, ast.IsNot))
    if isinstance(operator, (ast.Eq, ast.NotEq)):
        found = _equal(context, left, right, node)
    elif isinstance(operator, (ast.In, ast.NotIn)):
        found = _contains(context, left, right, node)
    elif isinstance(operator, (ast.Is, ast.IsNot)):
        found = _identical(context, left, right, node)
    else:
        return _ordered(context, operator, left, right, node)
    if not negative:
        return found
    return not found if isinstance(found, bool) else negated(found)


def _identical(context: Context, left: Symbol, right: Symbol, node: ast.AST) -> Computed | bool:
    if isinstance(right, PythonObject) and isinstance(left, PythonObject):
        return left.value is right.value
    if not isinstance(right, Constant) or not (right.value is None or right.value in (True, False)):
        raise Left(node, "compares identities")
    if isinstance(left, Constant):
        return left.value is right.value
    if isinstance(left, (Record, Row, PythonObject)) or left is DOCUMENT:
        return False
    value = _present(context, as_computed(left, node), node)
    if right.value is None:
        return same_as(context, value, [None], node)
    if not context.types_of(value) & BOOL:
        return False
    return Computed(
        {"$eq": [value.expression, right.value]}, BOOL, if_true={key_of(value.expression): BOOL}
    )


def _ordered(
    context: Context, operator: ast.cmpop, left: Symbol, right: Symbol, node: ast.AST
) -> Computed | bool:
    name, judge = _ORDERS[type(operator)]
    if isinstance(left, Constant) and isinstance(right, Constant):
        try:
            return judge(left.value, right.value)
        except TypeError as exc:
            raise Left(node, "compares what has no order") from exc
    reason = "compares other things than numbers by order"
    one = context.require(left, NUMBERS, node, reason)
    other = context.require(right, NUMBERS, node, reason)
    for side, value in ((left, one), (right, other)):
        if not isinstance(side, Constant):
            _without_nan(context, value)
    return Computed({name: [one.expression, other.expression]}, BOOL)


# --- Types ----------------------------------------------------------------------------------


def is_reference(expression: Any) -> Any:
    """Return whether PyMongo reads an object as a DBRef, which is no dict.

    It reads as a dict what has a `$ref` and is no reference, as a JSON schema does.
    """

    def field(name: str, types: Types) -> Any:
        return is_type({"$getField": {"field": literal(name), "input": "$$object"}}, types)

    # The first condition says no for nearly all: the others are not computed for them.
    is_read = [field("$ref", _TEXT), field("$id", PRESENT), field("$db", _TEXT | _NOTHING)]
    return {"$let": {"vars": {"object": expression}, "in": {"$and": is_read}}}


def is_instance(
    context: Context, symbol: Symbol, classes: Sequence[Any], node: ast.AST
) -> Computed | bool:
    """Return the answer of `isinstance`."""
    if any(one not in _INSTANCES for one in classes):
        raise Left(node, "asks for a type that is not translated")
    if isinstance(symbol, Constant):
        return isinstance(symbol.value, tuple(classes))
    if isinstance(symbol, Row):
        return issubclass(symbol.kind, tuple(classes))
    if isinstance(symbol, Record):
        return dict in classes
    value = _present(context, as_computed(symbol, node), node)
    wanted = frozenset().union(*(_INSTANCES[one] for one in classes))
    known = context.types_of(value)
    if not known & wanted:
        return False
    expression = type_test(value.expression, known, wanted)
    if dict in classes and "object" in known:
        reference = choice(
            type_test(value.expression, known, frozenset({"object"})),
            {"$not": [is_reference(value.expression)]},
            True,
        )
        expression = choice(expression, reference, False)
    elif expression is True:
        return True
    keys = [key_of(one) for one in (value.expression, value.origin) if one is not None]
    unlike = known - (wanted - {"object"})
    return Computed(
        expression,
        BOOL,
        if_true={keys[0]: wanted, **dict.fromkeys(keys[1:], wanted)},
        if_false={keys[0]: unlike},
    )
