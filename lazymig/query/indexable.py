"""Queries worded so that MongoDB can answer them by partial indexes.

MongoDB uses a partial index only where the query, word for word, asks for all that the filter of
the index does; and no filter may hold `{"$exists": false}` or `$not`. What is said here besides
follows from what the query says already, so it finds the same documents.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from bson import ObjectId

from lazymig.query.operators import is_expression, wants_presence
from lazymig.raw.values import TYPE_ALIASES, TYPE_NAMES

__all__ = ["branched", "implied_types", "indexable", "worded_paths"]

_NUMBERS: Final = frozenset({"double", "int", "long", "decimal"})

# What is of another type than these, and in no array, has nothing in it.
_WITHIN: Final = frozenset(
    {"array", "dbPointer", "javascriptWithScope", "object", "symbol", "undefined"}
)

# What an element has, and a question for one of these, the elements have by their dotted path.
_FOR_ELEMENTS: Final = frozenset({"$eq", "$gt", "$gte", "$in", "$lt", "$lte", "$type"})
_PLAIN: Final = (bool, bytes, datetime, float, int, ObjectId, str)


def indexable(
    query: Mapping[str, Any],
    paths: Collection[str] | None = None,
    *,
    by_class: bool = True,
    types: bool = True,
) -> Mapping[str, Any]:
    """Return a query that finds the same documents and says what filters of partial indexes do.

    - `{x: {"$exists": False}}` becomes `{x: {"$exists": False, "$eq": None}}`. On a dotted path
      that would leave out documents with arrays, so nothing is said there.
    - `{x: {"$exists": True, "$not": {"$type": "int"}}}` gets the `$type` of all other types.
    - `{x: {"$elemMatch": {"y": 1}}}` gets `{"x.y": 1}` beside it.
    - `{x: {"$type": "string", "$not": {"$type": "array"}}}` gets `{"x.0": None}` beside it: a list
      of strings is of the type, too, and would stay in an index whose filter asks for that alone.
    - A condition on `_cls` beside an `$or` comes into its branches, too: MongoDB looks at each
      branch alone.

    :param paths: those of which one of the first four is said; `None` for all.
    :param by_class: say the last.
    :param types: say the second and the fourth; an imitation of MongoDB may not know these.
    :return: the same object if there is nothing to say.
    """
    return _Wording(paths, by_class=by_class, types=types).query(query, None)


def branched(query: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a query that finds the same documents by an `$or` alone, if its branches have classes.

    MongoDB plans each branch by itself where there is nothing beside an `$or`. Otherwise it tries
    ten choices of indexes for the branches, and for a branch with a condition on `_cls` every index
    that begins with it is a choice. Not for a sorted query: an index that gives the order may need
    the condition on `_cls` beside the `$or`.

    :param query: as `indexable` has worded it.
    :return: the same object if that cannot be said.
    """
    classes, parts = query.get("_cls"), query.get("$or")
    if len(query) != 2 or not isinstance(parts, list) or not _names_classes(classes):
        return query
    given = [isinstance(part, Mapping) and part.get("_cls") == classes for part in parts]
    return {"$or": parts} if all(given) else query


def worded_paths(query: Mapping[str, Any]) -> frozenset[str]:
    """Return the paths of which `indexable` says more than a query does."""
    wording = _Wording(None, by_class=False, types=True)
    wording.query(query, None)
    return frozenset(wording.worded)


class _Wording:
    """One query on its way."""

    def __init__(self, paths: Collection[str] | None, *, by_class: bool, types: bool) -> None:
        self.paths = paths
        self.types = types
        self.by_class = by_class
        self.worded: set[str] = set()

    def query(self, query: Mapping[str, Any], classes: Any) -> Mapping[str, Any]:
        """The query, worded.

        :param classes: the condition on `_cls` that is given.
        """
        own = query.get("_cls")
        if self.by_class and _names_classes(own):
            classes = own
        changes: dict[str, Any] = {}
        for name, value in query.items():
            if name in ("$and", "$or"):
                parts = self._parts(name, value, classes)
                if parts is not None:
                    changes[name] = parts
            elif not name.startswith("$") and is_expression(value):
                more = self._implied(name, value)
                if more:
                    changes[name] = {**value, **more}
                changes.update(
                    {path: each for path, each in self._beside(name, value) if path not in query}
                )
        return {**query, **changes} if changes else query

    def _parts(self, name: str, value: Any, classes: Any) -> list[Any] | None:
        if not isinstance(value, (list, tuple)):
            return None
        parts = [self.query(part, classes) if isinstance(part, Mapping) else part for part in value]
        if name == "$or" and classes is not None:
            parts = [_of_class(part, classes) for part in parts]
        same = all(part is before for part, before in zip(parts, value, strict=True))
        return None if same else parts

    def _wants(self, path: str) -> bool:
        wanted = self.paths is None or path in self.paths
        if wanted:
            self.worded.add(path)
        return wanted

    def _implied(self, path: str, condition: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return operators that hold where a condition does, unless it says them already."""
        if "$exists" not in condition:
            return None
        if not wants_presence(condition["$exists"]):
            if "." in path or "$eq" in condition or not self._wants(path):
                return None
            return {"$eq": None}
        denied = condition.get("$not") if self.types else None
        if "$type" in condition or not isinstance(denied, Mapping) or denied.keys() != {"$type"}:
            return None
        others = _other_types(denied["$type"])
        return {"$type": others} if others and self._wants(path) else None

    def _beside(self, path: str, condition: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Yield conditions on dotted paths that hold where an element is found, or no array is."""
        if self.types and _is_lone(path, condition) and self._wants(f"{path}.0"):
            yield f"{path}.0", None
        inner = condition.get("$elemMatch")
        if not isinstance(inner, Mapping) or is_expression(inner):
            return
        for name, value in inner.items():
            found = None if name.startswith("$") else _of_elements(value)
            if found is not None and self._wants(f"{path}.{name}"):
                yield f"{path}.{name}", found


def _of_elements(condition: Any) -> Any:
    if isinstance(condition, _PLAIN):
        return condition
    if not is_expression(condition):
        return None
    kept = {
        name: value
        for name, value in condition.items()
        if (name == "$type" and not isinstance(value, Mapping))
        or (name == "$exists" and value is True)
        or (name in _FOR_ELEMENTS and isinstance(value, _PLAIN))
    }
    return kept or None


def _names_classes(condition: Any) -> bool:
    if is_expression(condition):
        return set(condition) <= {"$in", "$eq"}
    return isinstance(condition, str)


def _of_class(part: Any, classes: Any) -> Any:
    if not isinstance(part, Mapping) or "_cls" in part:
        return part
    return {"_cls": classes, **part}


def implied_types(condition: Any, others: Any) -> bool:
    """Return whether a `$type` is what `indexable` has said for the opposite of another one.

    :param condition: the operand of the `$type`.
    :param others: that of the other one. Where it names arrays, their elements may be of the types
        that are asked for.
    """
    denied = _types_named(others)
    return denied is not None and "array" not in denied and condition == _other_types(others)


def _is_lone(path: str, condition: Mapping[str, Any]) -> bool:
    """Return whether values of certain types are asked for, and no arrays that hold them."""
    denied = condition.get("$not")
    if "$type" not in condition or not isinstance(denied, Mapping) or denied.keys() != {"$type"}:
        return False
    asked, excluded = _types_named(condition["$type"]), _types_named(denied["$type"])
    if not asked or excluded is None or any(part.isdigit() for part in path.split(".")):
        return False
    return asked.isdisjoint(_WITHIN) and "array" in excluded


def _other_types(types: Any) -> list[str]:
    """Return the types that a value is of if it is of none of these; nothing if that is unknown."""
    denied = _types_named(types)
    return [] if denied is None else [name for name in TYPE_ALIASES if name not in denied]


def _types_named(types: Any) -> set[str] | None:
    """Return the names of the types that a `$type` asks for; `None` if that is unknown."""
    given = types if isinstance(types, (list, tuple)) else [types]
    named: set[str] = set()
    for one in given:
        if one == "number":
            named |= _NUMBERS
        elif isinstance(one, str) and one in TYPE_ALIASES:
            named.add(one)
        elif type(one) is int and one in TYPE_NAMES:
            named.add(TYPE_NAMES[one])
        else:
            return None
    return named
