"""Expressions put together from others, and kept small where a part is known."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from lazymig.query.expressing import Expression, has_type, literal

__all__ = [
    "EMPTY",
    "all_hold",
    "any_holds",
    "chosen",
    "has_type",
    "is_array",
    "is_missing",
    "negated",
    "with_field",
]

EMPTY: Final[Expression] = {"$literal": {}}


def all_hold(parts: Iterable[Expression]) -> Expression:
    """Return that every part is true; later ones are not asked where one is not."""
    kept = [part for part in parts if part is not True]
    if any(part is False for part in kept):
        return False
    if len(kept) < 2:
        return kept[0] if kept else True
    return {"$and": kept}


def any_holds(parts: Iterable[Expression]) -> Expression:
    """Return that some part is true; later ones are not asked where one is."""
    kept = [part for part in parts if part is not False]
    if any(part is True for part in kept):
        return True
    if len(kept) < 2:
        return kept[0] if kept else False
    return {"$or": kept}


def negated(part: Expression) -> Expression:
    """Return that a part, which is true or false, is false."""
    if isinstance(part, bool):
        return not part
    if isinstance(part, dict) and part.keys() == {"$not"}:
        (inner,) = part["$not"]
        return inner
    return {"$not": [part]}


def chosen(condition: Expression, then: Expression, otherwise: Expression) -> Expression:
    """Return one expression where a condition holds, another where it does not."""
    if isinstance(condition, bool):
        return then if condition else otherwise
    if isinstance(then, bool) and isinstance(otherwise, bool):
        if then is otherwise:
            return then
        return condition if then else negated(condition)
    return {"$cond": [condition, then, otherwise]}


def is_missing(value: Expression) -> Expression:
    """Return whether there is no value."""
    return has_type(value, "missing")


def is_array(value: Expression) -> Expression:
    """Return whether a value is an array."""
    return {"$isArray": [value]}


def with_field(document: Expression, name: str, value: Any) -> Expression:
    """Return a sub-document with another value in a field; without it, where that is missing."""
    field: Any = literal(name) if name.startswith("$") else name
    return {"$setField": {"field": field, "input": document, "value": value}}
