"""The layout of a model's documents: its paths, and one expression for the rows of a document.

MongoDB makes of each document short texts, its rows, one for each field, and counts equal ones; no
document leaves the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

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


class Layout:
    """The places of a model, and how the rows of a document are made.

    :param classes: the classes of the collection, each with the `_cls` values of its documents.
    :param told_apart: whether `_cls` tells them apart; otherwise there is one class.
    :ivar places: all of them, outer ones first.
    :ivar unseen: paths beneath which nothing is looked at, since a class embeds itself there.
    """

    def __init__(
        self,
        classes: Sequence[tuple[ClassFacts, Sequence[str | None]]],
        *,
        told_apart: bool = True,
    ) -> None:
        self.places: list[ModelPath] = []
        self.unseen: list[str] = []
        self._objects = _Objects(self, None, classes)
        self._told_apart = told_apart

    @property
    def roots(self) -> list[ModelPath]:
        """The documents of each class."""
        return [branch.place for branch in self._objects.branches]

    @property
    def expression(self) -> Any:
        """The rows of a document, as an aggregation expression."""
        if not self._told_apart:
            return self._objects.branches[0].expression("$$ROOT", "$")
        return self._objects.expression("$$ROOT", "$")

    def add(
        self,
        role: Literal["field", "item", "object"],
        owner: ClassFacts,
        parent: ModelPath | None,
        facts: FieldFacts | None = None,
        siblings: tuple[str, ...] = (),
        names: tuple[str | None, ...] = (),
    ) -> ModelPath:
        """A new place."""
        place = ModelPath(len(self.places) + 1, role, owner, facts, parent, siblings, names)
        self.places.append(place)
        return place


class _Objects:
    """What holds sub-documents, or the documents themselves: one branch for each class."""

    def __init__(
        self,
        layout: Layout,
        holder: ModelPath | None,
        classes: Sequence[tuple[ClassFacts, Sequence[str | None]]],
    ) -> None:
        # No place has the index 0: it stands for the collection.
        self.index = 0 if holder is None else holder.index
        siblings = tuple(facts.name for facts, _ in classes)
        self.branches = [
            _Branch(layout, layout.add("object", facts, holder, None, siblings, tuple(names)))
            for facts, names in classes
        ]

    def expression(self, document: str, prefix: str) -> Any:
        name = f"{prefix}_cls"
        text = {"$convert": {"input": name, "to": "string", "onError": "", "onNull": ""}}
        return {
            "$switch": {
                "branches": [
                    {
                        "case": {"$in": [{"$ifNull": [name, None]}, {"$literal": [*names]}]},
                        "then": branch.expression(document, prefix),
                    }
                    for branch in self.branches
                    if (names := branch.place.names)
                ],
                "default": [
                    {
                        "$concat": [
                            _row(self.index, _OBJECT, CLASS, ""),
                            {"$substrCP": [text, 0, _LONGEST_VALUE]},
                        ]
                    }
                ],
            }
        }


class _Branch:
    """The documents of one class."""

    def __init__(self, layout: Layout, place: ModelPath) -> None:
        self.place = place
        self.fields = [
            _Value(layout, layout.add("field", place.owner, place, facts))
            for facts in place.owner.fields.values()
        ]
        self.names = [*place.owner.fields, "_cls"]

    def expression(self, document: str, prefix: str) -> Any:
        paths = [(each, f"{prefix}{each.facts.stored}") for each in self.fields]
        parts = [
            [_row(self.place.index, _OBJECT), *(each.row(path) for each, path in paths)],
            *(each.inner(path) for each, path in paths if each.has_inner),
        ]
        if not self.place.owner.lenient:
            parts.append(self._unknown(document))
        return {"$concatArrays": parts}

    def _unknown(self, document: str) -> Any:
        names = {"$literal": self.names}
        row = [
            f"{self.place.index}{SEPARATOR}",
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


class _Value:
    """A field, or the items of a list or map."""

    def __init__(self, layout: Layout, place: ModelPath) -> None:
        assert place.facts is not None
        self.place = place
        self.facts = place.facts
        self.objects: _Objects | None = None
        self.items: _Value | None = None
        if self.facts.container == "embedded":
            self.objects = _objects_in(layout, place)
        elif self.facts.item is not None:
            item = layout.add("item", place.owner, place, self.facts.item)
            self.items = _Value(layout, item)

    @property
    def has_inner(self) -> bool:
        """Whether there are rows beside the value's own."""
        return self.objects is not None or self.items is not None

    def row(self, path: str) -> Any:
        """The value's own row, as an expression."""
        facts, kind = self.facts, {"$type": path}
        start = f"{self.place.index}{SEPARATOR}"
        if facts.usual is None and facts.choices is None:
            return {"$concat": [start, kind]}
        usual = facts.usual or ""
        if facts.choices is None:
            # Most values are of the usual type: the row is then a constant.
            other = {"$concat": [start, kind, self._converts(path, kind)]}
            return {"$cond": [{"$eq": [kind, usual]}, start + usual, other]}
        text = {"$convert": {"input": path, "to": "string", "onError": "", "onNull": ""}}
        outside: Any = {
            "$concat": [
                f"{SEPARATOR}{OUTSIDE}{SEPARATOR}",
                {"$substrCP": [text, 0, _LONGEST_VALUE]},
            ]
        }
        if facts.types is None:
            outside = {"$cond": [{"$in": [kind, _ABSENT]}, "", outside]}
        else:
            outside = {
                "$cond": [{"$in": [kind, sorted(facts.types)]}, outside, self._converts(path, kind)]
            }
        mark = {"$cond": [{"$in": [path, {"$literal": list(facts.choices)}]}, "", outside]}
        return {"$concat": [start, kind, mark]}

    def _converts(self, path: str, kind: Any) -> Any:
        """The mark of a value of another type: what `$convert` would say."""
        facts = self.facts
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

    def inner(self, path: str) -> Any:
        """The other rows, as an expression."""
        found: Any
        there: Any
        if self.objects is not None:
            found = self.objects.expression(path, f"{path}.")
            return {"$cond": [{"$eq": [{"$type": path}, "object"]}, found, []]}
        assert self.items is not None
        name = f"v{self.items.place.index}"
        if self.place.is_map:
            values: Any = {"$objectToArray": path}
            value, there = f"$${name}.v", {"$eq": [{"$type": path}, "object"]}
        else:
            values, value, there = path, f"$${name}", {"$isArray": path}
        row = self.items.row(value)
        if not self.items.has_inner:
            found = {"$setUnion": [{"$map": {"input": values, "as": name, "in": row}}, []]}
            return {"$cond": [there, found, []]}
        rows = {"$concatArrays": [[row], self.items.inner(value)]}
        # Items of one shape are one, before their rows are put together.
        shapes = {"$setUnion": [{"$map": {"input": values, "as": name, "in": rows}}, []]}
        found = {
            "$reduce": {
                "input": shapes,
                "initialValue": [],
                "in": {"$setUnion": ["$$value", "$$this"]},
            }
        }
        return {"$cond": [there, found, []]}


def identifier_in(path: str) -> Any:
    """The `$id` of a DBRef, as an expression that every server version knows."""
    pairs: Any = {
        "$filter": {
            "input": {"$objectToArray": path},
            "cond": {"$eq": ["$$this.k", {"$literal": "$id"}]},
        }
    }
    return {"$let": {"vars": {"id": {"$arrayElemAt": [pairs, 0]}}, "in": "$$id.v"}}


def _objects_in(layout: Layout, place: ModelPath) -> _Objects | None:
    assert place.facts is not None
    classes = place.facts.embedded()
    if not classes:
        return None
    outer = [each.owner.model for each in place.objects]
    if len(outer) >= _DEEPEST or any(
        outer.count(facts.model) >= _MOST_REPEATS for facts in classes
    ):
        layout.unseen.append(place.path)
        return None
    generic = place.facts.label == "GenericEmbeddedDocumentField"
    named: list[tuple[ClassFacts, Sequence[str | None]]] = [
        # MongoEngine takes a document without `_cls` for one of the declared class.
        (facts, (facts.name,) if generic or number else (None, facts.name))
        for number, facts in enumerate(classes)
    ]
    return _Objects(layout, place, named)


def _row(index: int, *parts: str) -> str:
    return SEPARATOR.join((str(index), *parts))
