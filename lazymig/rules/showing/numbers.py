"""The results of the operators on numbers, to the type and the last digit.

MongoDB keeps a value that is equal, and of the same type, to what it has computed: `-0.0` stays
where zero is added, and `2E+3` is not written as `2000`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from bson import Decimal128, Int64

from lazymig.query.expressing import Expression, literal
from lazymig.raw.values import is_nan
from lazymig.rules.showing.leaves import NewValue, Unshown
from lazymig.rules.showing.logic import all_hold, any_holds, chosen, has_type, is_missing, negated

__all__ = ["added", "greatest", "least", "multiplied", "with_bits"]

_INTEGERS: Final = ("int", "long")
_NUMBERS: Final = (*_INTEGERS, "double", "decimal")
_INT: Final = range(-(2**31), 2**31)
_LONG: Final = range(-(2**63), 2**63)


def added(value: str, number: Any) -> NewValue:
    """Return what `$inc` leaves: the sum, or the number itself where there is nothing."""
    _check_number("$inc", number)
    if is_nan(number):
        return _no_number(value, number)
    if not isinstance(number, int):
        total = _sum(value, number)
        return _computed(value, total, total, literal(number))
    as_double = _sum(value, float(number))
    as_decimal = _sum(value, Decimal128(str(int(number))))
    other = chosen(has_type(value, "double"), as_double, as_decimal)
    overflows: Expression = False
    if number > 0:
        overflows = {"$gt": [value, Int64(_LONG[-1] - number)]}
    elif number < 0:
        overflows = {"$lt": [value, Int64(_LONG[0] - number)]}
    return _computed(value, {"$add": [value, number]}, other, number, overflows)


def _sum(value: Expression, number: Any) -> Expression:
    """A sum that is no integer.

    `$add` begins with zero, which takes the sign of `-0.0` and the exponent of `2E+3` away, and it
    has more digits of a long and a double than MongoDB has in an update.
    """
    return {"$subtract": [value, _opposite(number)]}


def _opposite(number: Any) -> Any:
    if isinstance(number, Decimal128):
        return Decimal128(number.to_decimal().copy_negate())
    return -number


def multiplied(value: str, number: Any) -> NewValue:
    """Return what `$mul` leaves: the product, as though zero were there where there is nothing."""
    _check_number("$mul", number)
    if is_nan(number):
        return _no_number(value, number)
    product = {"$multiply": [value, number]}
    overflows = has_type(product, "double") if isinstance(number, int) else False
    return _computed(value, product, product, {"$multiply": [0, number]}, overflows)


def _computed(
    value: str,
    of_integer: Expression,
    of_other: Expression,
    of_nothing: Expression,
    overflows: Expression = False,
) -> NewValue:
    """What becomes of a number; MongoDB refuses whatever else is there.

    An integer never becomes an equal number of its type, or it is that anyway.

    :param overflows: whether the result for an integer is one that MongoDB has no integer for.
    """
    is_integer = has_type(value, *_INTEGERS)
    other = chosen(is_missing(value), of_nothing, _unless_equal(of_other, value))
    is_other = has_type(value, "double", "decimal", "missing")
    return NewValue(
        chosen(is_integer, of_integer, other),
        refused=chosen(is_integer, overflows, negated(is_other)),
    )


def _unless_equal(result: Expression, value: str) -> Expression:
    """A result, or the value where it is the same number of the same type."""
    same = all_hold(
        [{"$eq": ["$$result", value]}, {"$eq": [{"$type": "$$result"}, {"$type": value}]}]
    )
    return {"$let": {"vars": {"result": result}, "in": chosen(same, value, "$$result")}}


def _no_number(value: str, nan: Any) -> NewValue:
    """What NaN leaves of a number: itself, with the sign that it has."""
    result = chosen(has_type(value, "decimal"), {"$toDecimal": nan}, nan)
    return NewValue(result, refused=negated(has_type(value, *_NUMBERS, "missing")))


def _check_number(operator: str, number: Any) -> None:
    if isinstance(number, bool) or not isinstance(number, (int, float, Decimal128)):
        raise Unshown(f"gives {operator} what is no number ({number!r})")


# --- The order of values ----------------------------------------------------------------------


def least(value: str, other: Any) -> NewValue:
    """Return what `$min` leaves: the other value where it is less, or nothing is there."""
    return _ordered("$lt", value, other)


def greatest(value: str, other: Any) -> NewValue:
    """Return what `$max` leaves: the other value where it is greater, or nothing is there."""
    return _ordered("$gt", value, other)


def _ordered(comparison: str, value: str, other: Any) -> NewValue:
    wins = any_holds([is_missing(value), {comparison: [literal(other), value]}])
    return NewValue(chosen(wins, literal(other), value))


# --- Bits -------------------------------------------------------------------------------------


def with_bits(value: str, operations: Any) -> NewValue:
    """Return what `$bit` leaves: the operations in turn, on zero where there is nothing."""
    if not isinstance(operations, Mapping) or not operations:
        raise Unshown(f"gives $bit no operations ({operations!r})")
    result: Expression = chosen(is_missing(value), literal(0), value)
    may_be_long = False
    for name, mask in operations.items():
        if name not in ("and", "or", "xor") or isinstance(mask, bool) or not isinstance(mask, int):
            raise Unshown(f"gives $bit what is no operation on integers ({name}: {mask!r})")
        may_be_long = may_be_long or isinstance(mask, Int64) or mask not in _INT
        result = {"$let": {"vars": {"bits": result}, "in": _operated(name, int(mask))}}
    is_long = any_holds([may_be_long, has_type(value, "long")])
    # Numbers that ints and longs have in common, so no conversion fails.
    converted = chosen(is_long, {"$toLong": result}, {"$toInt": result})
    return NewValue(converted, refused=negated(has_type(value, *_INTEGERS, "missing")))


def _operated(name: str, mask: int) -> Expression:
    """An operation on the bits of `$$bits`, by sums: servers before 6.3 have no other way."""
    if name == "and":
        places, if_set, if_clear = _places(~mask), -1, 0
    else:
        places, if_set, if_clear = _places(mask), 0 if name == "or" else -1, 1
    summands = [_weighed(bit, part, if_set, if_clear) for bit, part in places]
    return {"$add": ["$$bits", *summands]}


def _places(mask: int) -> Iterator[tuple[int, int]]:
    """Yield the bits of a mask, from the highest on, each with what it stands for.

    In this order no sum on the way is out of the range of a long. The sign stands for -2^63, whose
    opposite is no long: two halves.
    """
    for bit in reversed(range(64)):
        if mask >> bit & 1:
            yield from [(bit, -(2**62))] * 2 if bit == 63 else [(bit, 2**bit)]


def _weighed(bit: int, part: int, if_set: int, if_clear: int) -> Expression:
    return {"$cond": [_is_set(bit), if_set * part, if_clear * part]}


def _is_set(bit: int) -> Expression:
    if bit == 63:
        return {"$lt": ["$$bits", 0]}
    # It has the sign of the dividend.
    remainder: Expression = "$$bits" if bit == 62 else {"$mod": ["$$bits", 2 ** (bit + 1)]}
    negative = {"$and": [{"$lt": ["$$low", 0]}, {"$gte": ["$$low", -(2**bit)]}]}
    found = {"$or": [{"$gte": ["$$low", 2**bit]}, negative]}
    return {"$let": {"vars": {"low": remainder}, "in": found}}
