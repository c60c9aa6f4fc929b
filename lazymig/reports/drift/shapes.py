"""The shapes of a collection's documents: one aggregation that counts types, path by path.

The paths are a model's. MongoDB makes of each document short texts, its rows, one for each field,
and counts equal ones; no document leaves the server. What the rows say of a model is another
module's concern.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal

from pymongo.collection import Collection

from lazymig.engines.access import is_mongomock, tolerant
from lazymig.odm.fields import ClassFacts, FieldFacts, bson_type

__all__ = ["Count", "Layout", "Place", "Tally", "tally_of"]

Flag = Literal["", "int", "long", "yes", "no"]

# Between the parts of a row: no name of a field and no number contains it.
_SEPARATOR: Final = "\0"

# Marks of rows that are no types: an unknown field, a value outside of the choices, an unknown
# class, an object.
_UNKNOWN: Final = "?"
_OUTSIDE: Final = "o"
_CLASS: Final = "!"
_OBJECT: Final = "."

# Whether $convert turns a value into one of the field's type.
_FLAGS: Final[Mapping[str, Flag]] = {"i": "int", "l": "long", "y": "yes", "n": "no"}

# A class that embeds itself is followed so often, and no path deeper than this many classes.
_MOST_REPEATS = 2
_DEEPEST = 6

# Names that nobody has declared are kept up to this number for each class, the frequent ones first.
_MOST_UNKNOWN = 1000
_MOST_VALUES = 100
_LONGEST_VALUE = 200

_ABSENT: Final = ("missing", "null", "undefined")


@dataclass(frozen=True, eq=False)
class Place:
    """A field of a class, the items of a list or map, or (`"object"`) the documents of a class.

    :ivar owner: the class that the field belongs to, or that the documents are of.
    :ivar facts: what the model says; `None` for objects.
    :ivar parent: for a field the object that has it, for items their list, for an object the field
        or the items that hold it, `None` for the document itself.
    :ivar siblings: for an object, the names of all classes that may be in its place.
    :ivar names: for an object, the `_cls` values that mark its documents; `None`: there is none.
    """

    index: int
    role: Literal["field", "item", "object"]
    owner: ClassFacts
    facts: FieldFacts | None
    parent: Place | None
    siblings: tuple[str, ...] = ()
    names: tuple[str | None, ...] = ()

    @cached_property
    def path(self) -> str:
        """The path in database names; `[]` stands for the items of a list, `.*` for a map's."""
        outer = "" if self.parent is None else self.parent.path
        if self.role == "object":
            return outer
        if self.role == "item":
            assert self.parent is not None
            return f"{outer}{'.*' if self.parent.is_map else '[]'}"
        assert self.facts is not None
        return f"{outer}.{self.facts.stored}" if outer else self.facts.stored

    @property
    def is_map(self) -> bool:
        """Whether what is here is a map."""
        return self.facts is not None and self.facts.container == "map"

    @cached_property
    def objects(self) -> tuple[Place, ...]:
        """The objects that lead here, from the document itself to the one that has the field."""
        outer = () if self.parent is None else self.parent.objects
        return (*outer, self) if self.role == "object" else outer


@dataclass(slots=True)
class Count:
    """Documents with the same row: their number, and the `_id`s of the first and the last one."""

    documents: int
    ids: tuple[Any, ...]

    def add(self, other: Count) -> None:
        """Take in the documents of another row."""
        self.documents += other.documents
        self.ids = (*self.ids, *other.ids)[:2]


@dataclass
class Tally:
    """What an aggregation has counted; the keys are indexes of places.

    :ivar types: by place and BSON type; `"missing"` counts as one where the object is there.
    :ivar converts: of the values of other types than the field's, those that `$convert` turns into
        one, by place, type and flag.
    :ivar outside: values outside of the choices, by place, BSON type and text.
    :ivar unknown: fields that the class does not know, by object, name and BSON type.
    :ivar classes: unknown `_cls` values of embedded documents, by the place that holds them.
    :ivar left_out: unknown fields that there was no room for, by object.
    """

    types: dict[int, dict[str, Count]] = field(default_factory=dict)
    converts: dict[int, dict[str, dict[Flag, Count]]] = field(default_factory=dict)
    outside: dict[int, dict[tuple[str, str], Count]] = field(default_factory=dict)
    unknown: dict[int, dict[str, dict[str, Count]]] = field(default_factory=dict)
    classes: dict[int, dict[str, Count]] = field(default_factory=dict)
    left_out: dict[int, int] = field(default_factory=dict)

    def documents(self, place: Place) -> int:
        """The documents that have something in a place; for an object those that hold one."""
        counts = self.types.get(place.index, {})
        return sum(count.documents for name, count in counts.items() if name != "missing")

    def add(self, row: str, count: Count) -> None:
        """Take in one row."""
        index, kind, *rest = row.split(_SEPARATOR, 3)
        place = int(index)
        mark = rest[0] if rest else ""
        if mark == _UNKNOWN:
            names = self.unknown.setdefault(place, {})
            _put(names.setdefault(rest[1], {}), kind, count)
            if len(names) > 2 * _MOST_UNKNOWN:
                self._forget(place, names)
            return
        if mark == _CLASS:
            _put(self.classes.setdefault(place, {}), rest[1], count)
            return
        _put(self.types.setdefault(place, {}), kind, count)
        if mark == _OUTSIDE:
            values = self.outside.setdefault(place, {})
            _put(values, (kind, rest[1]), count)
            if len(values) > 2 * _MOST_VALUES:
                self.outside[place] = dict(
                    heapq.nlargest(_MOST_VALUES, values.items(), key=lambda item: item[1].documents)
                )
        elif mark:
            _put(self.converts.setdefault(place, {}).setdefault(kind, {}), _FLAGS[mark], count)

    def finish(self) -> None:
        """Bring what has no bound of its own down to its bound."""
        for place, names in list(self.unknown.items()):
            if len(names) > _MOST_UNKNOWN:
                self._forget(place, names)

    def _forget(self, place: int, names: dict[str, dict[str, Count]]) -> None:
        frequent = heapq.nlargest(
            _MOST_UNKNOWN,
            names.items(),
            key=lambda item: sum(count.documents for count in item[1].values()),
        )
        self.left_out[place] = self.left_out.get(place, 0) + len(names) - len(frequent)
        self.unknown[place] = dict(frequent)


def _put(counts: dict[Any, Count], key: Any, count: Count) -> None:
    known = counts.get(key)
    if known is None:
        counts[key] = Count(count.documents, count.ids)
    else:
        known.add(count)


# --- From a model to rows -----------------------------------------------------------------


class Layout:
    """The places of a model, and how the rows of a document are made.

    :param classes: the classes of the collection, each with the `_cls` values of its documents.
    :param told_apart: whether `_cls` tells them apart; otherwise there is one class.
    :ivar places: all of them, outer ones first.
    :ivar unseen: paths behind which nothing is looked at, since a class embeds itself there.
    """

    def __init__(
        self,
        classes: Sequence[tuple[ClassFacts, Sequence[str | None]]],
        told_apart: bool = True,
    ) -> None:
        self.places: list[Place] = []
        self.unseen: list[str] = []
        self._objects = _Objects(self, None, classes, told_apart)

    @property
    def roots(self) -> list[Place]:
        """The documents of each class."""
        return [branch.place for branch in self._objects.branches]

    @property
    def expression(self) -> Any:
        """The rows of a document, as an aggregation expression."""
        return self._objects.expression("$$ROOT", "$")

    def rows(self, document: Mapping[str, Any]) -> list[str]:
        """The rows of a document as MongoDB makes them, but for what `$convert` would say."""
        return list(self._objects.rows(document))

    def add(
        self,
        role: Literal["field", "item", "object"],
        owner: ClassFacts,
        parent: Place | None,
        facts: FieldFacts | None = None,
        siblings: tuple[str, ...] = (),
        names: tuple[str | None, ...] = (),
    ) -> Place:
        """A new place."""
        place = Place(len(self.places) + 1, role, owner, facts, parent, siblings, names)
        self.places.append(place)
        return place


class _Objects:
    """What holds sub-documents, or the documents themselves: one branch for each class."""

    def __init__(
        self,
        layout: Layout,
        holder: Place | None,
        classes: Sequence[tuple[ClassFacts, Sequence[str | None]]],
        told_apart: bool,
    ) -> None:
        # No place has the index 0: it stands for the collection.
        self.index = 0 if holder is None else holder.index
        self.told_apart = told_apart
        siblings = tuple(facts.name for facts, _ in classes)
        self.branches = [
            _Branch(layout, layout.add("object", facts, holder, None, siblings, tuple(names)))
            for facts, names in classes
        ]

    def expression(self, document: str, prefix: str) -> Any:
        if not self.told_apart:
            return self.branches[0].expression(document, prefix)
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
                            _row(self.index, _OBJECT, _CLASS, ""),
                            {"$substrCP": [text, 0, _LONGEST_VALUE]},
                        ]
                    }
                ],
            }
        }

    def rows(self, document: Mapping[str, Any]) -> Iterator[str]:
        if not self.told_apart:
            yield from self.branches[0].rows(document)
            return
        name = document.get("_cls")
        for branch in self.branches:
            if name in branch.place.names:
                yield from branch.rows(document)
                return
        text = _text_of(name)
        yield _row(self.index, _OBJECT, _CLASS, text[:_LONGEST_VALUE])


class _Branch:
    """The documents of one class."""

    def __init__(self, layout: Layout, place: Place) -> None:
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
            f"{self.place.index}{_SEPARATOR}",
            {"$type": "$$this.v"},
            f"{_SEPARATOR}{_UNKNOWN}{_SEPARATOR}",
            "$$this.k",
        ]
        # MongoDB looks names up in a set for $setIsSubset, and one by one for $in: few documents
        # should have to go on from the first to the second.
        strange = {"$in": ["$$this.k", "$$strange"]}
        strangers: Any = {"$filter": {"input": "$$pairs", "cond": strange}}
        rows = {
            "$let": {
                "vars": {"strange": {"$setDifference": ["$$pairs.k", names]}},
                "in": {"$map": {"input": strangers, "in": {"$concat": row}}},
            }
        }
        return {
            "$let": {
                "vars": {"pairs": {"$objectToArray": document}},
                "in": {"$cond": [{"$setIsSubset": ["$$pairs.k", names]}, [], rows]},
            }
        }

    def rows(self, document: Mapping[str, Any]) -> Iterator[str]:
        yield _row(self.place.index, _OBJECT)
        for each in self.fields:
            yield from each.rows(document.get(each.facts.stored, _MISSING))
        if not self.place.owner.lenient:
            for key, value in document.items():
                if key not in self.names:
                    yield _row(self.place.index, bson_type(value), _UNKNOWN, key)


class _Value:
    """A field, or the items of a list or map."""

    def __init__(self, layout: Layout, place: Place) -> None:
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
        start = f"{self.place.index}{_SEPARATOR}"
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
                f"{_SEPARATOR}{_OUTSIDE}{_SEPARATOR}",
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
        mark: Any = f"{_SEPARATOR}n"
        for flag, to in reversed(list(zip(flags, facts.convert_to, strict=True))):
            converted = {"$convert": {"input": value, "to": to, "onError": None}}
            mark = {"$cond": [{"$ne": [converted, None]}, _SEPARATOR + flag, mark]}
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

    def rows(self, value: Any) -> Iterator[str]:
        """All rows of a value."""
        kind = "missing" if value is _MISSING else bson_type(value)
        facts = self.facts
        outside = (
            facts.choices is not None
            and kind not in _ABSENT
            and (facts.types is None or kind in facts.types)
            and value not in facts.choices
        )
        if outside:
            yield _row(self.place.index, kind, _OUTSIDE, _text_of(value)[:_LONGEST_VALUE])
        else:
            yield _row(self.place.index, kind)
        if self.objects is not None and kind == "object":
            yield from self.objects.rows(value)
        elif self.items is not None and kind == ("object" if self.place.is_map else "array"):
            values = value.values() if self.place.is_map else value
            yield from sorted({row for item in values for row in self.items.rows(item)})


def identifier_in(path: str) -> Any:
    """The `$id` of a DBRef, as an expression that every server version knows."""
    pairs: Any = {
        "$filter": {
            "input": {"$objectToArray": path},
            "cond": {"$eq": ["$$this.k", {"$literal": "$id"}]},
        }
    }
    return {"$let": {"vars": {"id": {"$arrayElemAt": [pairs, 0]}}, "in": "$$id.v"}}


def _objects_in(layout: Layout, place: Place) -> _Objects | None:
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
    return _Objects(layout, place, named, told_apart=True)


def _row(index: int, *parts: str) -> str:
    return _SEPARATOR.join((str(index), *parts))


def _text_of(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (int, float)) else ""


class _Missing:
    """The type of `_MISSING`."""


_MISSING: Final = _Missing()


# --- The count ----------------------------------------------------------------------------


def tally_of(
    collection: Collection[Any], layout: Layout, prefix: Sequence[Mapping[str, Any]]
) -> Tally:
    """Count the rows of the documents, in one aggregation and in bounded memory.

    :param prefix: stages that pick the documents.
    :raises pymongo.errors.PyMongoError: the connection, or the right to read.
    """
    tally = Tally()
    for row, count in _counted(collection, layout, prefix):
        tally.add(row, count)
    tally.finish()
    return tally


def _counted(
    collection: Collection[Any], layout: Layout, prefix: Sequence[Mapping[str, Any]]
) -> Iterable[tuple[str, Count]]:
    if is_mongomock(collection):
        # It knows no $type.
        counts: dict[str, Count] = {}
        for document in collection.aggregate([*prefix]):
            for row in layout.rows(document):
                _put(counts, row, Count(1, (document["_id"],)))
        yield from counts.items()
        return
    pipeline = [
        *prefix,
        {"$project": {"rows": layout.expression}},
        {"$unwind": "$rows"},
        {
            "$group": {
                "_id": "$rows",
                "documents": {"$sum": 1},
                "first": {"$first": "$_id"},
                "last": {"$last": "$_id"},
            }
        },
    ]
    # Rows are equal only if they are the same, whatever the collection's own collation says.
    options: dict[str, Any] = {"allowDiskUse": True, "collation": {"locale": "simple"}}
    with tolerant(collection).aggregate(pipeline, **options) as cursor:
        for found in cursor:
            ids = (found["first"],) if found["documents"] == 1 else (found["first"], found["last"])
            yield found["_id"], Count(found["documents"], ids)
