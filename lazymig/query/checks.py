"""The query operators on one value: each checks its operand once and gives a `Test`.

Answers are True, False or None (unknown). Which operators there are is said in `operators`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from operator import ge, gt, le, lt
from typing import Any, Final, TypeAlias

from bson import DBRef, Decimal128, Int64, ObjectId

from lazymig.query import patterns
from lazymig.query.tree import Compare, Path
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
    "Judge",
    "Test",
    "among",
    "at",
    "equality",
    "equals",
    "is_regex",
    "malformed",
    "of_type",
    "order",
    "own_bracket",
    "pattern",
    "presence",
    "remainder",
    "size",
    "unjudged",
]

Judge: TypeAlias = Callable[[Any], "bool | None"]


@dataclass(frozen=True, slots=True)
class Test:
    """One operator on one value.

    `check` takes a value, `MISSING` or `HIDDEN`. `spreads`: an array at the end of the path
    is tested element by element as well. `judged`: False if MongoDB is always asked about
    some values of BSON types. `kind` and `operand` are for the screens.
    """

    kind: str
    check: Judge
    operand: Any = None
    spreads: bool = True
    judged: bool = True


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


def malformed(path: Path, operator: str, problem: str) -> ValueError:
    """Build the error for a refused query: `problem` says what is wrong; what to do."""
    where = f"{'.'.join(path)!r}: {operator}" if path else operator
    return ValueError(f"{where} {problem}")


@contextmanager
def at(path: Path) -> Iterator[None]:
    """Name a path in the errors of what is asked of the elements there."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{'.'.join(path)!r}: {error}" if path else str(error)) from error


def is_regex(value: Any) -> bool:
    """Return whether `value` is sent to MongoDB as a regular expression."""
    return bracket(value) == REGEX


def own_bracket(value: Any) -> int | None:
    """Return the bracket of a value that is compared within it only; None: it is not, or unknown.

    `MinKey` and `MaxKey` are less and greater than values of every other bracket.
    """
    found = bracket(value)
    return None if found in (MIN_KEY, MAX_KEY) else found


def _frozen(value: Any, path: Path) -> Any:
    """Copy a constant of a query, its containers included, into plain comparable values.

    :raises ValueError: MongoDB cannot store the value.
    """
    if isinstance(value, DBRef):
        value = value.as_doc()
    if isinstance(value, Mapping):
        for name in value:
            if not isinstance(name, str) or "\x00" in name:
                raise malformed(
                    path, repr(name), "is no field name; use a string without null bytes"
                )
        return {str(name): _frozen(item, path) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_frozen(item, path) for item in value]
    if type(value) is datetime:
        return stored_date(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if not -(2**63) <= value < 2**63:
            raise malformed(path, str(value), "has more than 64 bits; use Decimal128")
        return int(value)
    return value


# Leaves all to MongoDB.
_UNJUDGED: Final = Test("unjudged", lambda _: None, judged=False)


def unjudged(_leaf: Compare) -> Test:
    """Give the test of an operator that only MongoDB knows, but for what is missing."""
    return Test("unjudged", lambda value: False if value is MISSING else None, judged=False)


# --- Equality and order -----------------------------------------------------------------


def equality(constant: Any) -> Test:
    """Build the test `{path: constant}`, for a frozen constant."""
    own = bracket(constant)
    if own is None:
        return _UNJUDGED
    if own == NULL:
        return Test("null", _is_null)
    return Test("equal", _equality_check(constant, own), constant)


def _is_null(value: Any) -> bool | None:
    if value is None or value is MISSING:
        return True
    return None if bracket(value) is None else False


def _equality_check(constant: Any, own: int) -> Judge:
    quick = _quick_types(constant)

    def same(value: Any) -> bool | None:
        if type(value) in quick:
            return bool(value == constant)
        theirs = bracket(value)
        if theirs != own:
            return None if theirs is None else False
        try:
            return equal(value, constant)
        except Unjudgeable:
            return None

    return same


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


def order(leaf: Compare) -> Test:
    """Build the test of `$gt`, `$gte`, `$lt` or `$lte`."""
    operator = leaf.operator
    if is_regex(leaf.operand):
        raise malformed(leaf.path, operator, "cannot compare with a regular expression; use $regex")
    constant = _frozen(leaf.operand, leaf.path)
    own = bracket(constant)
    if own is None:
        return _UNJUDGED
    inclusive = operator not in _UNORDERED
    if own == NULL:
        return equality(None) if inclusive else Test("never", _never_known)
    if own in {MIN_KEY, MAX_KEY}:
        beyond = operator[:3] == ("$gt" if own == MIN_KEY else "$lt")
        return Test("extreme", _extreme_check(own, beyond=beyond, inclusive=inclusive))
    if own == NUMBER and is_nan(constant):
        return equality(constant) if inclusive else Test("never", _never_known)
    return Test(operator, _order_check(constant, own, _HOLDS[operator]), constant)


def _never_known(value: Any) -> bool | None:
    return None if bracket(value) is None else False


def _extreme_check(own: int, *, beyond: bool, inclusive: bool) -> Judge:
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


def equals(leaf: Compare) -> Test:
    """Build the test of `$eq`."""
    return equality(_frozen(leaf.operand, leaf.path))


# --- Presence, type, size, remainder ----------------------------------------------------


_PRESENT: Final = Test("exists", lambda value: None if value is HIDDEN else value is not MISSING)


def presence(_leaf: Compare) -> Test:
    """Give the test of `{"$exists": True}`."""
    return _PRESENT


def of_type(leaf: Compare) -> Test:
    """Build the test of `$type`."""
    wanted = list(leaf.operand) if is_array(leaf.operand) else [leaf.operand]
    if not wanted:
        raise malformed(leaf.path, leaf.operator, "names no type; name at least one")
    codes: frozenset[int] = frozenset()
    for item in wanted:
        codes |= _codes_of(item, leaf)
    return Test("type", lambda value: may_have_code(value, codes), codes)


def _codes_of(item: Any, leaf: Compare) -> frozenset[int]:
    if isinstance(item, str):
        if item == "number":
            return frozenset(_NUMBER_CODES)
        if item in TYPE_ALIASES:
            return frozenset({TYPE_ALIASES[item]})
    elif bracket(item) == NUMBER:
        number = _integral(item)
        if number in _TYPE_NUMBERS:
            return frozenset({number})
    problem = f"does not know the type {item!r}; use an alias such as 'string', or 1 to 19"
    raise malformed(leaf.path, leaf.operator, problem)


def _integral(number: Any) -> int | None:
    """Give the int that a number stands for; None if there is none."""
    if bracket(number) != NUMBER:
        return None
    if isinstance(number, Decimal128):
        decimal = number.to_decimal()
        exact = decimal.is_finite() and decimal == decimal.to_integral_value()
        return int(decimal) if exact else None
    return int(number) if math.isfinite(number) and int(number) == number else None


def size(leaf: Compare) -> Test:
    """Build the test of `$size`."""
    wanted = _integral(leaf.operand)
    if wanted is None or not 0 <= wanted < 2**31:
        problem = f"is {leaf.operand!r}; use a whole number from 0"
        raise malformed(leaf.path, leaf.operator, problem)

    def check(value: Any) -> bool | None:
        return len(value) == wanted if is_array(value) else _never_known(value)

    return Test("size", check, wanted, spreads=False)


def _truncated(number: Any) -> int | None:
    """Cut the fraction off a number, if it has 64 bits."""
    if isinstance(number, Decimal128):
        decimal = number.to_decimal()
        whole = int(decimal) if decimal.is_finite() and decimal.adjusted() < 20 else None
    else:
        whole = int(number) if math.isfinite(number) else None
    return whole if whole is not None and -(2**63) <= whole < 2**63 else None


def remainder(leaf: Compare) -> Test:
    """Build the test of `$mod`."""
    pair = list(leaf.operand) if is_array(leaf.operand) else []
    numbers = [_truncated(item) if bracket(item) == NUMBER else None for item in pair]
    if len(numbers) != 2 or numbers[0] is None or numbers[1] is None or not numbers[0]:
        problem = f"is {leaf.operand!r}; use [divisor, remainder], two numbers, divisor not 0"
        raise malformed(leaf.path, leaf.operator, problem)
    divisor, wanted = abs(numbers[0]), numbers[1]

    def check(value: Any) -> bool | None:
        if bracket(value) != NUMBER:
            return _never_known(value)
        dividend = _truncated(value)
        if dividend is None:
            return False
        rest = abs(dividend) % divisor
        return (rest if dividend >= 0 else -rest) == wanted

    return Test("mod", check)


# --- Sets and patterns ------------------------------------------------------------------


def among(leaf: Compare) -> Test:
    """Build the test of `$in`."""
    strings: set[str] = set()
    others: list[Test] = []
    for item in leaf.operand:
        if is_regex(item):
            others.append(pattern(replace(leaf, operand=item)))
            continue
        constant = _frozen(item, leaf.path)
        if type(constant) is str:
            strings.add(constant)
        else:
            others.append(equality(constant))
    check = _membership(frozenset(strings), tuple(test.check for test in others))
    judged = all(test.judged for test in others)
    return Test("in", check, (frozenset(strings), tuple(others)), judged=judged)


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


def pattern(leaf: Compare) -> Test:
    """Build the test of a pattern: a string with `$options`, a `re.Pattern` or a bson `Regex`.

    :raises ValueError: MongoDB refuses the pattern or its options.
    """
    path, operator, options = leaf.path, leaf.operator, leaf.options
    source = patterns.pattern_source(leaf.operand)
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
