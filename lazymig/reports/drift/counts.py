"""The counts of a collection's rows: how many documents have which type at which path.

A row is a short text that MongoDB makes of a document for one path, see `layout`.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pymongo.collection import Collection

from lazymig.engines.access import tolerant
from lazymig.reports.drift.model_paths import ModelPath

__all__ = [
    "CLASS",
    "COUNTED",
    "OUTSIDE",
    "SEPARATOR",
    "UNKNOWN",
    "Count",
    "Flag",
    "RowCounts",
    "count_rows",
    "counted",
    "merge",
]

Flag = Literal["", "int", "long", "yes", "no"]

SEPARATOR: Final = "\0"
"""Between the parts of a row: no name of a field and no number contains it."""

# Marks of rows that are no types: an unknown field, a value outside of the choices, an unknown
# class.
UNKNOWN: Final = "?"
OUTSIDE: Final = "o"
CLASS: Final = "!"

# Whether $convert turns a value into one of the field's type.
_FLAGS: Final[Mapping[str, Flag]] = {"i": "int", "l": "long", "y": "yes", "n": "no"}

# Names that nobody has declared are kept up to this number for each class, the frequent ones first.
_MOST_UNKNOWN = 1000
_MOST_VALUES = 100


@dataclass(slots=True)
class Count:
    """Documents with the same row: their number, and the `_id`s of the first and the last one."""

    documents: int
    ids: tuple[Any, ...]

    def add(self, other: Count) -> None:
        """Add the documents of another row."""
        self.documents += other.documents
        self.ids = (*self.ids, *other.ids)[:2]


@dataclass
class RowCounts:
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

    def documents(self, place: ModelPath) -> int:
        """The documents that have something in a place; for an object those that hold one."""
        counts = self.types.get(place.index, {})
        return sum(count.documents for name, count in counts.items() if name != "missing")

    def add(self, row: str, count: Count) -> None:
        """Take in one row."""
        index, kind, *rest = row.split(SEPARATOR, 3)
        place = int(index)
        mark = rest[0] if rest else ""
        if mark == UNKNOWN:
            names = self.unknown.setdefault(place, {})
            merge(names.setdefault(rest[1], {}), {kind: count})
            if len(names) > 2 * _MOST_UNKNOWN:
                self._forget(place, names)
            return
        if mark == CLASS:
            merge(self.classes.setdefault(place, {}), {rest[1]: count})
            return
        merge(self.types.setdefault(place, {}), {kind: count})
        if mark == OUTSIDE:
            values = self.outside.setdefault(place, {})
            merge(values, {(kind, rest[1]): count})
            if len(values) > 2 * _MOST_VALUES:
                self.outside[place] = dict(
                    heapq.nlargest(_MOST_VALUES, values.items(), key=lambda item: item[1].documents)
                )
        elif mark:
            converts = self.converts.setdefault(place, {}).setdefault(kind, {})
            merge(converts, {_FLAGS[mark]: count})

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


def merge(counts: dict[Any, Count], others: Mapping[Any, Count]) -> None:
    """Take other counts in."""
    for key, count in others.items():
        known = counts.get(key)
        if known is None:
            counts[key] = Count(count.documents, count.ids)
        else:
            known.add(count)


COUNTED: Final[Mapping[str, Any]] = {
    "documents": {"$sum": 1},
    "first": {"$first": "$_id"},
    "last": {"$last": "$_id"},
}
"""What a `$group` collects for `counted`."""


def counted(group: Mapping[str, Any]) -> Count:
    """The count of a group's documents."""
    first, last = group["first"], group["last"]
    return Count(group["documents"], (first,) if group["documents"] == 1 else (first, last))


def count_rows(
    collection: Collection[Any], rows: Any, prefix: Sequence[Mapping[str, Any]]
) -> RowCounts:
    """Count the rows of the documents, in one aggregation and in bounded memory.

    :param rows: an expression for the rows of a document, see `Layout.expression`.
    :param prefix: stages that pick the documents.
    :raises pymongo.errors.PyMongoError: the connection, or the right to read.
    """
    group = {"_id": "$rows", **COUNTED}
    pipeline = [*prefix, {"$project": {"rows": rows}}, {"$unwind": "$rows"}, {"$group": group}]
    found = RowCounts()
    # Rows are equal only if they are the same, whatever the collection's own collation says.
    options: dict[str, Any] = {"allowDiskUse": True, "collation": {"locale": "simple"}}
    with tolerant(collection).aggregate(pipeline, **options) as cursor:
        for each in cursor:
            found.add(each["_id"], counted(each))
    found.finish()
    return found
