"""Queries under a collation, which compares strings otherwise than by their characters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from bson import DBRef

from lazymig.query.operators import OPERATORS, is_expression

__all__ = ["coarsened", "compares_text", "has_text"]

# No collation has a say in what these compare.
_BLIND: Final = frozenset(name for name, row in OPERATORS.items() if row.collation == "blind")

# What is equal by its characters is equal under every collation.
_EQUAL: Final = frozenset(name for name, row in OPERATORS.items() if row.collation == "equal")


def has_text(query: Any) -> bool:
    """Return whether a query compares with strings, so that a collation may change its answer."""
    if isinstance(query, Mapping):
        return any(has_text(value) for name, value in query.items() if name not in _BLIND)
    if isinstance(query, (list, tuple, set, frozenset)):
        return any(map(has_text, query))
    return isinstance(query, (str, DBRef))


# Operators of expressions that compare values of any type.
_COMPARING: Final = frozenset({"$cmp", "$eq", "$gt", "$gte", "$in", "$lt", "$lte", "$ne"})
_COMPARING_MORE: Final = frozenset(
    {"$addToSet", "$indexOfArray", "$max", "$maxN", "$min", "$minN", "$setDifference"}
    | {"$setEquals", "$setIntersection", "$setIsSubset", "$setUnion", "$sortArray"}
    | {"$strcasecmp", "$function", "$accumulator"}
)


def compares_text(expression: Any) -> bool:
    """Return whether an expression, or stages, may compare strings: a collation changes these.

    The names of types are no such strings, since no collation takes one for another.
    """
    if isinstance(expression, Mapping):
        return any(
            name in _COMPARING_MORE
            or (name in _COMPARING and not _is_blind(operand))
            or (name != "$literal" and compares_text(operand))
            for name, operand in expression.items()
        )
    return isinstance(expression, (list, tuple)) and any(map(compares_text, expression))


def _is_blind(operands: Any) -> bool:
    """Return whether one of the values that are compared is known to hold no string."""
    if not isinstance(operands, (list, tuple)):
        return False
    for one in operands:
        if isinstance(one, Mapping):
            if one.keys() <= {"$literal"}:
                if not has_text(one):
                    return True
            elif one.keys() <= _TEXTLESS:
                return True
        elif not isinstance(one, (str, list, tuple)) and not has_text(one):
            return True
    return False


# What these give is no string, or the name of a type.
_TEXTLESS: Final = frozenset({"$indexOfBytes", "$size", "$strLenBytes", "$type"})


def coarsened(query: Mapping[str, Any]) -> dict[str, Any]:
    """The conditions of a query that, under any collation, no document fails which it matches."""
    return {name: value for name, value in query.items() if _holds(name, value)}


def _holds(name: str, value: Any) -> bool:
    if name in ("$and", "$or"):
        return all(_holds(*each) for part in value for each in part.items())
    if name.startswith("$") or not is_expression(value):
        return not name.startswith("$") or not has_text({name: value})
    return all(
        operator in _EQUAL or operator in _BLIND or not has_text(operand)
        for operator, operand in value.items()
    )
