"""The layout of a model's documents: its paths, and one expression for the rows of a document.

MongoDB makes of each document short texts, its rows, one for each field, and counts equal ones; no
document leaves the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal, TypeAlias

from lazymig.odm.fields import ClassFacts, FieldFacts
from lazymig.reports.drift.counts import CLASS, OUTSIDE, SEPARATOR, UNKNOWN
from lazymig.reports.drift.model_paths import ModelPath

__all__ = ["Layout", "identifier_in"]

# The mark of an object.
_OBJECT: Final = "."

# A class that embeds itself is followed so often, and no path deeper than this many classes.
_MOST_REPEATS = 2
_DEEPEST = 6

_LONGEST_VALUE = 200

_ABSENT: Final = ("missing", "null", "undefined")

# Classes with the `_cls` values of their documents.
_Classes: TypeAlias = "Sequence[tuple[ClassFacts, Sequence[str | None]]]"
# An object, and the expression for the rows of what is in it.
_Branch: TypeAlias = "tuple[ModelPath, Any]"


class Layout:
    """The places of a model, and how the rows of a document are made.

    :param classes: the classes of the collection, each with the `_cls` values of its documents.
    :param by_class: whether `_cls` distinguishes them; otherwise there is one class.
    :ivar places: all of them, outer ones first.
    :ivar roots: the documents of each class.
    :ivar unseen: paths beneath which nothing is looked at, since a class embeds itself there.
    :ivar expression: the rows of a document, as an aggregation expression.
    """

    def __init__(self, classes: _Classes, *, by_class: bool = True) -> None:
        self.places: list[ModelPath] = []
        self.unseen: list[str] = []
        branches = self._branches(None, classes, "$$ROOT", "$")
        self.roots = [place for place, _rows in branches]
        self.expression = _by_class(None, branches, "$") if by_class else branches[0][1]

    def _add(
        self,
        role: Literal["field", "item", "object"],
        owner: ClassFacts,
        parent: ModelPath | None,
        facts: FieldFacts | None = None,
        siblings: tuple[str, ...] = (),
        names: tuple[str | None, ...] = (),
    ) -> ModelPath:
        # No place has the index 0: it stands for the collection.
        place = ModelPath(len(self.places) + 1, role, owner, facts, parent, siblings, names)
        self.places.append(place)
        return place

    def _branches(
        self, holder: ModelPath | None, classes: _Classes, document: str, prefix: str
    ) -> list[_Branch]:
        """The objects that may be in a place, or in the collection, each with its rows."""
        siblings = tuple(facts.name for facts, _names in classes)
        branches = []
        for facts, names in classes:
            place = self._add("object", facts, holder, None, siblings, tuple(names))
            branches.append((place, self._object(place, document, prefix)))
        return branches

    def _object(self, place: ModelPath, document: str, prefix: str) -> Any:
        rows: list[Any] = [_row(place.index, _OBJECT)]
        parts: list[Any] = [rows]
        for facts in place.owner.fields.values():
            field = self._add("field", place.owner, place, facts)
            path = f"{prefix}{facts.stored}"
            rows.append(_value(field, facts, path))
            inner = self._inner(field, facts, path)
            if inner is not None:
                parts.append(inner)
        if not place.owner.lenient:
            parts.append(_unknown(place, document))
        return {"$concatArrays": parts}

    def _inner(self, place: ModelPath, facts: FieldFacts, path: str) -> Any:
        """The rows beside a value's own, as an expression; `None` if there are none."""
        if facts.container == "embedded":
            classes = self._classes_in(place, facts)
            if classes is None:
                return None
            objects = _by_class(place, self._branches(place, classes, path, f"{path}."), f"{path}.")
            return {"$cond": [{"$eq": [{"$type": path}, "object"]}, objects, []]}
        if facts.item is None:
            return None
        item = self._add("item", place.owner, place, facts.item)
        name = f"v{item.index}"
        values: Any = path
        there: Any = {"$isArray": path}
        value = f"$${name}"
        if place.is_map:
            values = {"$objectToArray": path}
            value, there = f"$${name}.v", {"$eq": [{"$type": path}, "object"]}
        rows: Any = _value(item, facts.item, value)
        inner = self._inner(item, facts.item, value)
        if inner is not None:
            rows = {"$concatArrays": [[rows], inner]}
        # Items of one shape are one, before their rows are put together.
        found: Any = {"$setUnion": [{"$map": {"input": values, "as": name, "in": rows}}, []]}
        if inner is not None:
            union: Any = {"$setUnion": ["$$value", "$$this"]}
            found = {"$reduce": {"input": found, "initialValue": [], "in": union}}
        return {"$cond": [there, found, []]}

    def _classes_in(self, place: ModelPath, facts: FieldFacts) -> _Classes | None:
        """The classes of embedded documents; `None` if they are not looked at."""
        classes = facts.embedded()
        if not classes:
            return None
        outer = [each.owner.model for each in place.objects]
        if len(outer) >= _DEEPEST or any(
            outer.count(each.model) >= _MOST_REPEATS for each in classes
        ):
            self.unseen.append(place.path)
            return None
        generic = facts.label == "GenericEmbeddedDocumentField"
        return [
            # MongoEngine takes a document without `_cls` for one of the declared class.
            (each, (each.name,) if generic or number else (None, each.name))
            for number, each in enumerate(classes)
        ]


def _by_class(holder: ModelPath | None, branches: Sequence[_Branch], prefix: str) -> Any:
    """The rows of the branch that `_cls` names, or one for an unknown class."""
    name = f"{prefix}_cls"
    text = {"$convert": {"input": name, "to": "string", "onError": "", "onNull": ""}}
    unknown = _row(0 if holder is None else holder.index, _OBJECT, CLASS, "")
    return {
        "$switch": {
            "branches": [
                {
                    "case": {"$in": [{"$ifNull": [name, None]}, {"$literal": [*place.names]}]},
                    "then": rows,
                }
                for place, rows in branches
                if place.names
            ],
            "default": [{"$concat": [unknown, {"$substrCP": [text, 0, _LONGEST_VALUE]}]}],
        }
    }


def _unknown(place: ModelPath, document: str) -> Any:
    """The rows of fields that the class does not know."""
    names = {"$literal": [*place.owner.fields, "_cls"]}
    row = [
        f"{place.index}{SEPARATOR}",
        {"$type": "$$this.v"},
        f"{SEPARATOR}{UNKNOWN}{SEPARATOR}",
        "$$this.k",
    ]
    # MongoDB looks names up in a set for $setIsSubset, and one by one for $in: few documents
    # should need the second.
    unknown = {"$in": ["$$this.k", "$$unknown"]}
    fields: Any = {"$filter": {"input": "$$pairs", "cond": unknown}}
    rows = {
        "$let": {
            "vars": {"unknown": {"$setDifference": ["$$pairs.k", names]}},
            "in": {"$map": {"input": fields, "in": {"$concat": row}}},
        }
    }
    return {
        "$let": {
            "vars": {"pairs": {"$objectToArray": document}},
            "in": {"$cond": [{"$setIsSubset": ["$$pairs.k", names]}, [], rows]},
        }
    }


def _value(place: ModelPath, facts: FieldFacts, path: str) -> Any:
    """A value's own row."""
    kind = {"$type": path}
    start = f"{place.index}{SEPARATOR}"
    if facts.usual is None and facts.choices is None:
        return {"$concat": [start, kind]}
    converts = _converts(facts, path, kind)
    if facts.choices is None:
        # Most values are of the usual type: the row is then a constant.
        usual = facts.usual or ""
        other = {"$concat": [start, kind, converts]}
        return {"$cond": [{"$eq": [kind, usual]}, start + usual, other]}
    text = {"$convert": {"input": path, "to": "string", "onError": "", "onNull": ""}}
    cut = {"$substrCP": [text, 0, _LONGEST_VALUE]}
    outside: Any = {"$concat": [f"{SEPARATOR}{OUTSIDE}{SEPARATOR}", cut]}
    if facts.types is None:
        outside = {"$cond": [{"$in": [kind, _ABSENT]}, "", outside]}
    else:
        outside = {"$cond": [{"$in": [kind, sorted(facts.types)]}, outside, converts]}
    mark = {"$cond": [{"$in": [path, {"$literal": list(facts.choices)}]}, "", outside]}
    return {"$concat": [start, kind, mark]}


def _converts(facts: FieldFacts, path: str, kind: Any) -> Any:
    """The mark of a value of another type: what `$convert` would say."""
    if not facts.convert_to or facts.types is None:
        return ""
    value: Any = path
    if facts.is_reference:
        value = {"$cond": [{"$eq": [kind, "object"]}, identifier_in(path), path]}
    flags = ("i", "l") if len(facts.convert_to) > 1 else ("y",)
    mark: Any = f"{SEPARATOR}n"
    for flag, to in reversed(list(zip(flags, facts.convert_to, strict=True))):
        converted = {"$convert": {"input": value, "to": to, "onError": None}}
        mark = {"$cond": [{"$ne": [converted, None]}, SEPARATOR + flag, mark]}
    return {"$cond": [{"$in": [kind, [*sorted(facts.types), *_ABSENT]]}, "", mark]}


def identifier_in(path: str) -> Any:
    """The `$id` of a DBRef, as an expression that every server version knows."""
    pairs: Any = {
        "$filter": {
            "input": {"$objectToArray": path},
            "cond": {"$eq": ["$$this.k", {"$literal": "$id"}]},
        }
    }
    return {"$let": {"vars": {"id": {"$arrayElemAt": [pairs, 0]}}, "in": "$$id.v"}}


def _row(index: int, *parts: str) -> str:
    return SEPARATOR.join((str(index), *parts))
