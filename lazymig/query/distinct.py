"""The stages that give the distinct values of a path, as the command `distinct` does."""

from __future__ import annotations

from typing import Any, Final

from lazymig.query.expressing import Expression, literal

__all__ = ["distinct_stages"]

# No array has so many elements.
_TOO_LONG: Final = 10


def distinct_stages(path: str) -> list[dict[str, Any]]:
    """Return stages after which each distinct value of a path is the `_id` of one document.

    The elements of an array at the end of the path are values of their own. On its way the elements
    of arrays are gone into, those of arrays in arrays are not; a number is the index of one. What
    is missing is no value. They come in their order.
    """
    return [
        {"$project": {"_id": 0, "value": _values(path)}},
        {"$unwind": "$value"},
        {"$group": {"_id": "$value"}},
        {"$sort": {"_id": 1}},
    ]


def _values(path: str) -> Expression:
    """All values of a path in one array."""
    first, *names = path.split(".")
    if not names and not first.startswith("$"):
        field = f"${first}"
        there = {"$cond": [{"$eq": [{"$type": field}, "missing"]}, [], [field]]}
        return {"$cond": [{"$isArray": [field]}, field, there]}
    values = _fields(["$$ROOT"], first)
    for name in names:
        values = _stepped(values, name)
    return _joined(values, _if_array("$$this", ["$$this"]))


def _stepped(values: Expression, name: str) -> Expression:
    """What lies in values at the next name."""
    if name.isascii() and name.isdecimal():
        known = str(int(name)) == name and len(name) < _TOO_LONG
        element = {"$slice": ["$$this", int(name), 1]} if known else []
        return _joined(values, _if_array(element, _fields(["$$this"], name)))
    return _joined(values, _fields(_if_array("$$this", ["$$this"]), name))


def _if_array(array: Expression, other: Expression) -> Expression:
    return {"$cond": [{"$isArray": ["$$this"]}, array, other]}


def _fields(values: Expression, name: str) -> Expression:
    """The values of a field in those of some values that have it."""
    field: Expression = f"$$one.{name}"
    if name.startswith("$"):
        field = {"$getField": {"field": literal(name), "input": "$$one"}}
    has = {
        "$and": [
            {"$eq": [{"$type": "$$one"}, "object"]},
            {"$ne": [{"$type": field}, "missing"]},
        ]
    }
    owners = {"$filter": {"input": values, "as": "one", "cond": has}}
    return {"$map": {"input": owners, "as": "one", "in": field}}


def _joined(values: Expression, parts: Expression) -> Expression:
    """The elements of the arrays that an expression over `$$this` makes of some values."""
    joined = {"$concatArrays": ["$$value", parts]}
    return {"$reduce": {"input": values, "initialValue": [], "in": joined}}
