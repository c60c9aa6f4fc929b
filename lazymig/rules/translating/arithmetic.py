"""The arithmetic of a rule, where MongoDB's numbers and Python's agree.

Whole numbers are computed as 64-bit numbers and stored in as few bits as PyMongo would take. A
result that is an operand of the next operator is wrapped in a conversion: MongoDB would add up
nested sums at once, which rounds otherwise.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from lazymig.rules.translating.characters import DIGITS, require_match
from lazymig.rules.translating.containers import ARRAY
from lazymig.rules.translating.context import Context
from lazymig.rules.translating.scope import choice, type_test
from lazymig.rules.translating.symbols import (
    INTEGERS,
    NUMBERS,
    Computed,
    Constant,
    Left,
    Record,
    Row,
    Symbol,
    Types,
    as_computed,
    is_plain,
)
from lazymig.rules.translating.text import STRING, concatenated, percent

__all__ = ["DOUBLE", "absolute", "binary", "negative", "rounded", "to_float", "to_int", "whole"]

DOUBLE: Final[Types] = frozenset({"double"})
_BOOL: Final[Types] = frozenset({"bool"})

# Whole numbers up to here are exact as doubles.
_EXACT: Final = 2**53
_HALF: Final = 2**31

_FOLDED: Final[Mapping[type[ast.operator], Callable[[Any, Any], Any]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_NAMES: Final[Mapping[type[ast.operator], str]] = {
    ast.Add: "$add",
    ast.Sub: "$subtract",
    ast.Mult: "$multiply",
}


def whole(expression: Any) -> Computed:
    """Return a 64-bit number as PyMongo stores it: in 32 bits where they suffice."""
    small = {"$and": [{"$gte": ["$$whole", -_HALF]}, {"$lte": ["$$whole", _HALF - 1]}]}
    cut = {"$cond": [small, {"$toInt": "$$whole"}, {"$toLong": "$$whole"}]}
    return Computed({"$let": {"vars": {"whole": expression}, "in": cut}}, INTEGERS)


def _within(context: Context, value: Computed, most: int, node: ast.AST) -> None:
    """Require a number in these bounds, which is therefore no NaN."""
    expression = value.expression
    if isinstance(expression, (int, float)):
        if not -most <= expression <= most:
            raise Left(node, "computes with a very large constant")
        return
    context.scope.require({"$and": [{"$gte": [expression, -most]}, {"$lte": [expression, most]}]})


def _long(value: Computed) -> Any:
    return {"$toLong": value.expression}


# --- Operators ------------------------------------------------------------------------------


def binary(
    context: Context, op: ast.operator, left: Symbol, right: Symbol, node: ast.AST
) -> Symbol:
    """Return what a binary operator gives."""
    if isinstance(left, Constant) and isinstance(right, Constant):
        return _folded(op, left.value, right.value, node)
    if isinstance(op, ast.Mod) and isinstance(left, Constant) and isinstance(left.value, str):
        return percent(context, left.value, right, node)
    if isinstance(op, ast.Add):
        return _added(context, left, right, node)
    if isinstance(op, (ast.Sub, ast.Mult)):
        return _numbers(context, _NAMES[type(op)], left, right, node)
    if isinstance(op, ast.Div):
        return _divided(context, left, right, node)
    if isinstance(op, (ast.FloorDiv, ast.Mod)):
        return _floored(context, left, right, node, rest=isinstance(op, ast.Mod))
    if isinstance(op, ast.BitOr) and isinstance(left, Record) and isinstance(right, Record):
        for side in (left, right):
            context.aliases.share(side)
        return Record({**left.items, **right.items})
    raise Left(node, f"has the operator {type(op).__name__}")


def _folded(op: ast.operator, left: Any, right: Any, node: ast.AST) -> Symbol:
    sizes = [one for one in (left, right) if isinstance(one, (str, bytes, tuple))]
    if type(op) not in _FOLDED or (sizes and isinstance(op, ast.Mult)):
        raise Left(node, f"has the operator {type(op).__name__}")
    try:
        found = _FOLDED[type(op)](left, right)
    except (ArithmeticError, TypeError, ValueError) as exc:
        raise Left(node, "computes with constants what raises") from exc
    if not is_plain(found):
        raise Left(node, "computes a constant that cannot be stored")
    return Constant(found)


def _added(context: Context, left: Symbol, right: Symbol, node: ast.AST) -> Symbol:
    if isinstance(left, Row) and isinstance(right, Row) and left.kind is right.kind:
        for side in (left, right):
            context.aliases.share(side)
        return Row((*left.items, *right.items), left.kind)
    one, other = as_computed(left, node), as_computed(right, node)
    known = context.types_of(one) if context.types_of(one) != context.types_of(other) else None
    sides = (context.types_of(one), context.types_of(other))
    makers: list[tuple[Types, Callable[[Computed], Symbol]]] = [
        (STRING, lambda value: concatenated(context, [value, other], node)),
        (NUMBERS, lambda value: _numbers(context, "$add", value, other, node)),
        (ARRAY, lambda value: _joined(context, value, other, node)),
    ]
    del known
    fitting = [(types, make) for types, make in makers if all(types & side for side in sides)]
    if any(isinstance(side, Row) and side.kind is not list for side in (left, right)):
        raise Left(node, "adds up a tuple")
    if not fitting:
        raise Left(node, "adds up what cannot be added")
    return context.by_type(one, fitting, node, "adds up what cannot be added")


def _joined(context: Context, left: Computed, right: Computed, node: ast.AST) -> Symbol:
    other = context.require(right, ARRAY, node, "adds to a list what is none")
    return Computed({"$concatArrays": [left.expression, other.expression]}, ARRAY, fresh=True)


def _pair(
    context: Context, left: Symbol, right: Symbol, node: ast.AST, wanted: Types = NUMBERS
) -> tuple[Computed, Computed]:
    reason = "computes with what is no number"
    if any(isinstance(side, Constant) and isinstance(side.value, bool) for side in (left, right)):
        raise Left(node, "computes with truth values")
    return (
        context.require(left, wanted, node, reason),
        context.require(right, wanted, node, reason),
    )


def _numbers(context: Context, name: str, left: Symbol, right: Symbol, node: ast.AST) -> Symbol:
    """A sum, a difference or a product."""
    one, other = _pair(context, left, right, node)
    return context.with_variable(
        one,
        lambda first: context.with_variable(
            other, lambda second: _computed(context, name, first, second, node), node
        ),
        node,
    )


def _computed(
    context: Context, name: str, one: Computed, other: Computed, node: ast.AST
) -> Computed:
    bounds = [_EXACT, _EXACT]
    if name == "$multiply":
        bounds = [_limit(other), _limit(one)]
    for value, most in zip((one, other), bounds, strict=True):
        _within(context, value, most, node)
    exact = whole({name: [_long(one), _long(other)]})
    near: Any = {name: [one.expression, other.expression]}
    if name == "$add":
        # The server adds to a zero, so that the sum of negative zeros is a positive one.
        opposite = {"$multiply": [{"$toDouble": other.expression}, -1]}
        near = {"$subtract": [one.expression, opposite]}
    return _by_kind(context, [one, other], exact, Computed({"$toDouble": near}, DOUBLE))


def _limit(other: Computed) -> int:
    """The largest factor for which a product with the other one stays in 64 bits."""
    factor = other.expression
    return _EXACT if isinstance(factor, (int, float)) and abs(factor) <= 512 else _HALF


def _by_kind(
    _context: Context, operands: Sequence[Computed], exact: Computed, near: Computed
) -> Computed:
    """The exact result where all operands are whole numbers, else the one of doubles."""
    tests = [type_test(one.expression, one.types, DOUBLE) for one in operands]
    if True in tests:
        return near
    open_ = [test for test in tests if test is not False]
    if not open_:
        return exact
    test = open_[0] if len(open_) == 1 else {"$or": open_}
    return Computed(choice(test, near.expression, exact.expression), NUMBERS)


def _divided(context: Context, left: Symbol, right: Symbol, node: ast.AST) -> Computed:
    one, other = _pair(context, left, right, node)
    for value in (one, other):
        _within(context, value, _EXACT, node)
    _not_zero(context, other, node)
    return Computed({"$toDouble": {"$divide": [one.expression, other.expression]}}, DOUBLE)


def _not_zero(context: Context, divisor: Computed, node: ast.AST) -> None:
    if isinstance(divisor.expression, (int, float)):
        if divisor.expression == 0:
            raise Left(node, "divides by zero")
        return
    context.scope.require({"$ne": [divisor.expression, 0]})


def _floored(
    context: Context, left: Symbol, right: Symbol, node: ast.AST, *, rest: bool
) -> Computed:
    """The whole quotient or the rest of whole numbers, by a positive one."""
    one, other = _pair(context, left, right, node, INTEGERS)
    for value in (one, other):
        _within(context, value, _EXACT, node)
    if isinstance(other.expression, int):
        if other.expression <= 0:
            raise Left(node, "divides by a negative number or zero")
    else:
        context.scope.require({"$gt": [other.expression, 0]})
    by = _long(other)
    # MongoDB's rest has the sign of the dividend.
    positive = {"$mod": [{"$toLong": {"$add": [{"$mod": [_long(one), by]}, by]}}, by]}
    if rest:
        return whole({"$toLong": positive})
    even = {"$toLong": {"$subtract": [_long(one), {"$toLong": positive}]}}
    return whole({"$toLong": {"$divide": [even, by]}})


def negative(context: Context, value: Symbol, node: ast.AST) -> Symbol:
    """Return `-value`."""
    if isinstance(value, Constant) and type(value.value) in (int, float):
        return Constant(-value.value)
    one, _ = _pair(context, value, Constant(1), node)
    _within(context, one, _EXACT, node)
    exact = whole({"$subtract": [{"$toLong": 0}, _long(one)]})
    near = Computed({"$toDouble": {"$multiply": [one.expression, -1]}}, DOUBLE)
    return _by_kind(context, [one], exact, near)


# --- Functions ------------------------------------------------------------------------------


def absolute(context: Context, value: Symbol, node: ast.AST) -> Symbol:
    """Return `abs(value)`."""
    one, _ = _pair(context, value, Constant(1), node)
    _within(context, one, _EXACT, node)
    exact = whole({"$abs": _long(one)})
    return _by_kind(context, [one], exact, Computed({"$abs": one.expression}, DOUBLE))


def rounded(context: Context, value: Symbol, places: int | None, node: ast.AST) -> Symbol:
    """Return `round(value, places)`; both round halves to the even number."""
    one, _ = _pair(context, value, Constant(1), node)
    if places is not None and not 1 <= places <= 4:
        raise Left(node, "rounds to other than one to four places")
    return context.with_variable(one, lambda short: _rounded(context, short, places, node), node)


def _rounded(context: Context, one: Computed, places: int | None, node: ast.AST) -> Computed:
    _within(context, one, _EXACT if places is None else 2**40, node)
    exact = whole(_long(one))
    if places is None:
        near = whole({"$toLong": {"$round": one.expression}})
    else:
        near = Computed({"$round": [one.expression, places]}, DOUBLE)
    return _by_kind(context, [one], exact, near)


def to_int(context: Context, value: Symbol, node: ast.AST) -> Symbol:
    """Return `int(value)`."""
    if isinstance(value, Constant):
        return _converted(int, value, node)

    def of_text(text: Computed) -> Symbol:
        regex = r"\A(?:0|-?[1-9][0-9]{0,17})\z"
        require_match(context.scope, text.expression, regex, 19, DIGITS + "-")
        return whole(_long(text))

    def of_double(number: Computed) -> Symbol:
        _within(context, number, _EXACT, node)
        return whole({"$toLong": {"$trunc": number.expression}})

    return context.by_type(
        value,
        [
            (STRING, of_text),
            (DOUBLE, of_double),
            (INTEGERS, lambda number: whole(_long(number))),
            (_BOOL, lambda flag: Computed({"$cond": [flag.expression, 1, 0]}, frozenset({"int"}))),
        ],
        node,
        "makes a number of what is none",
    )


def to_float(context: Context, value: Symbol, node: ast.AST) -> Symbol:
    """Return `float(value)`."""
    if isinstance(value, Constant):
        return _converted(float, value, node)

    def of_text(text: Computed) -> Symbol:
        regex = r"\A-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,15})?\z"
        require_match(context.scope, text.expression, regex, 32, DIGITS + ".-")
        return Computed({"$toDouble": text.expression}, DOUBLE)

    def of_whole(number: Computed) -> Symbol:
        _within(context, number, _EXACT, node)
        return Computed({"$toDouble": number.expression}, DOUBLE)

    return context.by_type(
        value,
        [
            (STRING, of_text),
            (DOUBLE, lambda number: number),
            (INTEGERS, of_whole),
            (_BOOL, lambda flag: Computed({"$cond": [flag.expression, 1.0, 0.0]}, DOUBLE)),
        ],
        node,
        "makes a number of what is none",
    )


def _converted(kind: Callable[[Any], Any], value: Constant, node: ast.AST) -> Symbol:
    try:
        return Constant(kind(value.value))
    except (TypeError, ValueError, OverflowError) as exc:
        raise Left(node, "converts a constant, which raises") from exc
