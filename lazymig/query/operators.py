"""The query operators on one value: each reads its operand once and gives a `Test`.

Operators that contain other operators are put together in matching.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime
from operator import ge, gt, le, lt
from typing import Any, Final

from bson import DBRef, Decimal128, Int64, ObjectId

from lazymig.query import patterns
from lazymig.query.predicates import Judge, Test
from lazymig.raw.values import (
    HIDDEN,
    MAX_KEY,
    MIN_KEY,
    MISSING,
    NULL,
    NUMBER,
    REGEX,
    STRING,
    TYPE_ALIASES,
    Unjudgeable,
    bracket,
    compare,
    equal,
    is_array,
    is_nan,
    may_have_code,
    stored_date,
)

__all__ = [
    "PRESENT",
    "VALUE_OPERATORS",
    "equality",
    "freeze",
    "is_expression",
    "is_regex",
    "malformed",
    "regular_expression",
    "unjudged_test",
    "wants_presence",
]

_NUMBER_CODES: Final = (1, 16, 18, 19)
_TYPE_NUMBERS: Final = frozenset(TYPE_ALIASES.values())
_NATIVE_NUMBERS: Final[frozenset[type]] = frozenset({int, float, Int64})
_ALIKE: Final[tuple[frozenset[type], ...]] = (
    _NATIVE_NUMBERS,
    frozenset({str}),
    frozenset({bool}),
    frozenset({ObjectId}),
)
_UNORDERED: Final = frozenset({"$gt", "$lt"})


def malformed(path: str, operator: str, problem: str) -> ValueError:
    """Build the error for a refused query: `problem` says what is wrong; what to do."""
    where = f"{path!r}: {operator}" if path else operator
    return ValueError(f"{where} {problem}")


def is_regex(value: Any) -> bool:
    """Say whether `value` is sent to MongoDB as a regular expression."""
    return bracket(value) == REGEX


def freeze(value: Any, path: str) -> Any:
    """Copy a constant of a query, its containers included, into plain comparable values.

    Raises:
        ValueError: MongoDB cannot store the value.
    """
    if isinstance(value, DBRef):
        value = value.as_doc()
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str) or "\x00" in name:
                raise ValueError(
                    f"{path!r}: {name!r} is no field name; use a string without null bytes"
                )
        return {str(name): freeze(item, path) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [freeze(item, path) for item in value]
    if type(value) is datetime:
        return stored_date(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if not -(2**63) <= value < 2**63:
            raise ValueError(f"{path!r}: {value} has more than 64 bits; use Decimal128")
        return int(value)
    return value


def unjudged_test() -> Test:
    """Build a test that leaves all to MongoDB."""
    return Test("unjudged", lambda _: None, judged=False)


# --- Equality and order -----------------------------------------------------------------


def equality(constant: Any) -> Test:
    """Build the test `{path: constant}`, for a frozen constant."""
    own = bracket(constant)
    if own is None:
        return unjudged_test()
    if own == NULL:
        return Test("null", _is_null)
    return Test("equal", _equality_check(constant, own), constant)


def _is_null(value: Any) -> bool | None:
    if value is None or value is MISSING:
        return True
    return None if bracket(value) is None else False


def _equality_check(constant: Any, own: int) -> Judge:
    def same(value: Any) -> bool | None:
        theirs = bracket(value)
        if theirs != own:
            return None if theirs is None else False
        try:
            return equal(value, constant)
        except Unjudgeable:
            return None

    quick = _quick_types(constant)

    def quickly_same(value: Any) -> bool | None:
        return value == constant if type(value) in quick else same(value)

    return quickly_same if quick else same


def _quick_types(constant: Any) -> frozenset[type]:
    """Give the types whose values Python compares with `constant` as the server does."""
    for types in _ALIKE:
        if type(constant) in types:
            return frozenset() if types is _NATIVE_NUMBERS and is_nan(constant) else types
    return frozenset()


_HOLDS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "$gt": gt,
    "$gte": ge,
    "$lt": lt,
    "$lte": le,
}


def _order(path: str, operator: str, operand: Any) -> Test:
    if is_regex(operand):
        raise malformed(path, operator, "cannot compare with a regular expression; use $regex")
    constant = freeze(operand, path)
    own = bracket(constant)
    if own is None:
        return unjudged_test()
    inclusive = operator not in _UNORDERED
    if own == NULL:
        return equality(None) if inclusive else Test("never", _never_known)
    if own in {MIN_KEY, MAX_KEY}:
        beyond = operator[:3] == ("$gt" if own == MIN_KEY else "$lt")
        return Test("extreme", _extreme_check(own, beyond, inclusive))
    if own == NUMBER and is_nan(constant):
        return equality(constant) if inclusive else Test("never", _never_known)
    return Test(operator, _order_check(constant, own, _HOLDS[operator]), constant)


def _never_known(value: Any) -> bool | None:
    return None if bracket(value) is None else False


def _extreme_check(own: int, beyond: bool, inclusive: bool) -> Judge:
    def check(value: Any) -> bool | None:
        theirs = bracket(value)
        if theirs is None:
            return None
        return inclusive if theirs == own else beyond

    return check


def _order_check(constant: Any, own: int, holds: Callable[[Any, Any], bool]) -> Judge:
    quick = _quick_types(constant)

    def check(value: Any) -> bool | None:
        if type(value) in quick:
            return holds(value, constant)  # NaN: False, as on the server
        theirs = bracket(value)
        if theirs != own:
            return None if theirs is None else False
        if own == NUMBER and is_nan(value):
            return False
        try:
            return holds(compare(value, constant), 0)
        except Unjudgeable:
            return None

    return check


def _equals(path: str, _operator: str, operand: Any) -> Test:
    return equality(freeze(operand, path))


# --- Presence, type, size, remainder ----------------------------------------------------


def wants_presence(operand: Any) -> bool:
    """Say whether `{"$exists": operand}` asks for presence: any value but false, null and zero."""
    if bracket(operand) == NUMBER:
        return not _is_zero(operand)
    return operand is not None and operand is not False


PRESENT: Final = Test("exists", lambda value: None if value is HIDDEN else value is not MISSING)
"""`{"$exists": True}`."""


def _is_zero(number: Any) -> bool:
    if isinstance(number, Decimal128):
        return number.to_decimal().is_zero()
    return bool(number == 0)


def _type(path: str, operator: str, operand: Any) -> Test:
    wanted = list(operand) if is_array(operand) else [operand]
    if not wanted:
        raise malformed(path, operator, "names no type; name at least one")
    codes: frozenset[int] = frozenset()
    for item in wanted:
        codes |= _codes_of(item, path, operator)
    return Test("type", lambda value: may_have_code(value, codes), codes)


def _codes_of(item: Any, path: str, operator: str) -> frozenset[int]:
    if isinstance(item, str):
        if item == "number":
            return frozenset(_NUMBER_CODES)
        if item in TYPE_ALIASES:
            return frozenset({TYPE_ALIASES[item]})
    elif bracket(item) == NUMBER:
        number = _integral(item)
        if number in _TYPE_NUMBERS:
            return frozenset({number})
    raise malformed(
        path,
        operator,
        f"does not know the type {item!r}; use an alias such as 'string', or 1 to 19",
    )


def _integral(number: Any) -> int | None:
    """Give the int that a number stands for; None if there is none."""
    if bracket(number) != NUMBER:
        return None
    if isinstance(number, Decimal128):
        decimal = number.to_decimal()
        exact = decimal.is_finite() and decimal == decimal.to_integral_value()
        return int(decimal) if exact else None
    return int(number) if math.isfinite(number) and int(number) == number else None


def _size(path: str, operator: str, operand: Any) -> Test:
    size = _integral(operand)
    if size is None or not 0 <= size < 2**31:
        raise malformed(path, operator, f"is {operand!r}; use a whole number from 0")

    def check(value: Any) -> bool | None:
        if is_array(value):
            return len(value) == size
        return _never_known(value)

    return Test("size", check, size, spreads=False)


def _truncated(number: Any) -> int | None:
    """Cut the fraction off a number, if it has 64 bits."""
    if isinstance(number, Decimal128):
        decimal = number.to_decimal()
        whole = int(decimal) if decimal.is_finite() and decimal.adjusted() < 20 else None
    else:
        whole = int(number) if math.isfinite(number) else None
    return whole if whole is not None and -(2**63) <= whole < 2**63 else None


def _mod(path: str, operator: str, operand: Any) -> Test:
    pair = list(operand) if is_array(operand) else []
    numbers = [_truncated(item) if bracket(item) == NUMBER else None for item in pair]
    if len(numbers) != 2 or numbers[0] is None or numbers[1] is None or not numbers[0]:
        raise malformed(
            path, operator, f"is {operand!r}; use [divisor, remainder], two numbers, divisor not 0"
        )
    divisor, remainder = abs(numbers[0]), numbers[1]

    def check(value: Any) -> bool | None:
        if bracket(value) != NUMBER:
            return _never_known(value)
        dividend = _truncated(value)
        if dividend is None:
            return False
        rest = abs(dividend) % divisor
        return (rest if dividend >= 0 else -rest) == remainder

    return Test("mod", check)


# --- Sets and patterns ------------------------------------------------------------------


def _in(path: str, operator: str, operand: Any) -> Test:
    if not is_array(operand):
        raise malformed(path, operator, f"is {operand!r}; use a list")
    strings: set[str] = set()
    others: list[Test] = []
    for item in operand:
        if is_regex(item):
            others.append(regular_expression(path, operator, item))
            continue
        constant = freeze(item, path)
        if is_expression(constant):
            raise malformed(path, operator, "contains an operator; use values, or $or")
        if type(constant) is str:
            strings.add(constant)
        else:
            others.append(equality(constant))
    check = _membership(frozenset(strings), tuple(test.check for test in others))
    judged = all(test.judged for test in others)
    return Test("in", check, (frozenset(strings), tuple(others)), judged=judged)


def is_expression(value: Any) -> bool:
    """Say whether MongoDB takes `value` for operators; a reference (`$ref`, `$id`) is a value."""
    if not isinstance(value, Mapping):
        return False
    first = next(iter(value), "")
    if not isinstance(first, str):
        return False
    return first.startswith("$") and not ("$ref" in value and "$id" in value)


def _membership(strings: frozenset[str], others: tuple[Judge, ...]) -> Judge:
    def check(value: Any) -> bool | None:
        result: bool | None = False
        if type(value) is str:
            if value in strings:
                return True
        elif strings:
            own = bracket(value)
            if own is None:
                result = None
            elif own == STRING and str.__str__(value) in strings:
                return True
        for other in others:
            answer = other(value)
            if answer:
                return True
            if answer is None:
                result = None
        return result

    return check


def regular_expression(path: str, operator: str, pattern: Any, options: str | None = None) -> Test:
    """Build the test of a pattern: a string with `$options`, a `re.Pattern` or a bson `Regex`.

    Raises:
        ValueError: MongoDB refuses the pattern or its options.
    """
    source = patterns.pattern_source(pattern)
    if source is None:
        raise malformed(path, operator, "is not UTF-8; use a pattern of text")
    text, flags = source
    problem = patterns.pattern_problem(text, flags)
    if options is not None:
        problem = patterns.options_problem(options) or problem
        flags |= patterns.flags_of(options)
    if problem:
        raise malformed(path, operator, problem)
    translated = patterns.translate(text, flags)
    linear = translated is not None and translated.is_linear
    return Test("regex", _pattern_check(text, translated), judged=linear)


def _pattern_check(text: str, translated: patterns.Translated | None) -> Judge:
    def check(value: Any) -> bool | None:
        own = bracket(value)
        if own == STRING:
            return None if translated is None else translated.judge(value)
        if own == REGEX:  # equality: the stored flags are not known
            return None if value.pattern == text or type(value.pattern) is not str else False
        return None if own is None else False

    return check


VALUE_OPERATORS: Final[dict[str, Callable[[str, str, Any], Test]]] = {
    "$eq": _equals,
    "$gt": _order,
    "$gte": _order,
    "$lt": _order,
    "$lte": _order,
    "$type": _type,
    "$size": _size,
    "$mod": _mod,
    "$in": _in,
}
