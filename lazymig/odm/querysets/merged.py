"""The read of stored documents in an order, or by a filter, over the shape that they will have.

One aggregation gives the documents as they are stored; rules are shown on the way, and nothing is
written. Old documents, to which the rules are shown, and all others are two parts of it, so that
each is found by the indexes that it has; or the stages stand in front of everything. Where nothing
is old, which one aggregation finds out on the way, the documents are read as they are.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lazymig.engines.access import all_of
from lazymig.engines.sessions import given_session
from lazymig.odm.querysets.stages_first import Front
from lazymig.rules.rewrite.ordering import Order

__all__ = ["MergedRead", "ShownCursor"]

# The field in which a document is kept as it is stored, through all stages.
_STORED: Final = "__lazymig_stored"

# The field of what stands in front of the documents where one is old.
_OLD: Final = "__lazymig_old"

# Where old documents were met, the next ones are not looked for in vain: for so many seconds.
_LATELY: Final = 10.0

# Where a collection keeps the moment until which that holds.
_MET: Final = "_lazymig_old_until"

_KEEP: Final[Mapping[str, Any]] = {"$set": {_STORED: "$$ROOT"}}

_GIVE_STORED: Final[Mapping[str, Any]] = {
    "$replaceWith": {"$ifNull": [f"${_STORED}", "$$ROOT"]},
}

# A document that somebody migrates between the reading of the two parts is in both of them. The
# first part is that of the old ones: there it is seen for certain.
_ONCE: Final[Sequence[Mapping[str, Any]]] = (
    {"$group": {"_id": "$_id", "first": {"$first": "$$ROOT"}}},
    {"$replaceWith": "$first"},
)


@dataclass(frozen=True, slots=True, eq=False)
class MergedRead:
    """What is asked, and the rules through which it is seen.

    :param collection: the name of the collection.
    :param within: the filter for stored documents, without what is asked of the shown ones.
    :param old: the part of it for the documents to which the rules are shown.
    :param others: what finds all other documents of the result, which are as they will be.
    :param stages: show the rules; `marking`: the same, where some documents have to be settled
        before they can be shown, and are marked.
    :param asked: what is asked of the shown documents.
    :param order: that of the result; empty for none.
    :param stored_order: by which the old documents can be sorted before the stages; None: they
        cannot.
    :param projection: of the documents; `None` for whole ones.
    :param in_front: the stages come in front of all documents, in one part.
    :param looks: it is worth while to look for what is old, and read as it is if nothing is found.
    """

    collection: str
    within: Mapping[str, Any]
    old: Mapping[str, Any]
    others: Mapping[str, Any]
    stages: Sequence[Mapping[str, Any]]
    marking: Sequence[Mapping[str, Any]] | None
    asked: Mapping[str, Any]
    order: Order
    stored_order: Order | None
    projection: Mapping[str, Any] | None
    in_front: bool
    looks: bool

    def front(self, settle: Callable[[], bool]) -> Front:
        """What comes before `pipeline`: how documents are shown.

        :param settle: settles the documents that have to be settled before.
        """
        found = self.within if self.in_front else self.old
        if self.is_sorted_before:
            return Front(found, ())
        marking = None if self.marking is None else [_KEEP, *self.marking]
        return Front(found, [_KEEP, *self.stages], marking, self.asked, settle)

    @property
    def is_sorted_before(self) -> bool:
        """Return whether the old documents are sorted, and cut, before they are shown."""
        return self.stored_order is not None and not self.in_front

    def pipeline(self, skip: int, limit: int) -> list[Mapping[str, Any]]:
        """The stages for a part of the result.

        :param skip: how many documents are left out at its start.
        :param limit: how many there may be after that; 0 for all.
        """
        most = [{"$limit": skip + limit}] if limit else []
        stages: list[Mapping[str, Any]] = [{"$match": self.within if self.in_front else self.old}]
        if not self.in_front:
            stages += [*self._old_part(most), self._union(most), *_ONCE]
        # Without an order MongoDB would hand out what it has found while it looks for more; and a
        # group comes in any order, most of which look odd.
        stages += self._sorted(self.order or [("_id", 1)])
        return [*stages, *self._cut(skip, limit), _GIVE_STORED, *self._projected()]

    def unless_old(self, skip: int, limit: int) -> list[Mapping[str, Any]]:
        """The stages for the same part of the result, read as it is, if no document is old.

        What they give begins with a document of the field `_OLD` if one is: the others are read
        after that was found out, as MongoDB reads what is united.
        """
        found = [
            {"$match": all_of(self.within, self.asked)},
            *self._sorted(self.order),
            *self._cut(skip, limit),
            *self._projected(),
        ]
        return [
            {"$match": self.old},
            {"$limit": 1},
            {"$project": {"_id": 0, _OLD: {"$literal": True}}},
            {"$unionWith": {"coll": self.collection, "pipeline": found}},
        ]

    def counting(self, skip: int, limit: int) -> list[Mapping[str, Any]]:
        """The stages that give the number of documents as `n`; no document if there is none."""
        stages: list[Mapping[str, Any]] = [{"$match": self.within if self.in_front else self.old}]
        if not self.in_front:
            others = [{"$match": self.others}, {"$project": {"_id": 1}}]
            stages.append({"$project": {"_id": 1}})
            stages.append({"$unionWith": {"coll": self.collection, "pipeline": others}})
            stages.append({"$group": {"_id": "$_id"}})
        return [*stages, *self._cut(skip, limit), {"$count": "n"}]

    def _old_part(self, most: list[dict[str, Any]]) -> list[Mapping[str, Any]]:
        if not self.is_sorted_before:
            return [*self._sorted(self.order), *most]
        before = self._sorted(self.stored_order or ())
        return [*before, *most, _KEEP, *self.stages]

    def _union(self, most: list[dict[str, Any]]) -> dict[str, Any]:
        others = [{"$match": self.others}, *self._sorted(self.order), *most]
        return {"$unionWith": {"coll": self.collection, "pipeline": others}}

    def _projected(self) -> list[dict[str, Any]]:
        return [] if self.projection is None else [{"$project": self.projection or {"_id": 1}}]

    @staticmethod
    def _cut(skip: int, limit: int) -> list[dict[str, Any]]:
        skipped = [{"$skip": skip}] if skip else []
        return [*skipped, {"$limit": limit}] if limit else skipped

    @staticmethod
    def _sorted(order: Order) -> list[dict[str, Any]]:
        return [{"$sort": dict(order)}] if order else []


class _Begun:
    """A cursor of an aggregation whose first document was looked at; `None`: it has none."""

    def __init__(self, first: Any, cursor: Any) -> None:
        self._first = first
        self._cursor = cursor

    def __iter__(self) -> Any:
        # Of most cursors each document is asked for: it does not come by here.
        first, self._first = self._first, None
        return self._cursor if first is None else itertools.chain((first,), self._cursor)

    def __enter__(self) -> _Begun:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        self._cursor.close()

    @property
    def alive(self) -> bool:
        return self._first is not None or bool(self._cursor.alive)


class ShownCursor:
    """Takes the place of a queryset's find cursor, which was made, and is never asked.

    That one still has the options of the queryset, and is what a clone gets. All of the result is
    put together before the first document comes, so that no write moves a document in it.

    :param plain: the cursor of MongoEngine's.
    :param read: what is asked in its place.
    :param options: those of the aggregation.
    :param part: how many documents are skipped, and how many there may be; 0 for all.
    :param settle: settles the documents that cannot be shown.
    :param clock: seconds, from any moment on.
    """

    is_merged = True

    def __init__(
        self,
        plain: Any,
        read: MergedRead,
        options: Mapping[str, Any],
        part: tuple[int, int],
        settle: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._plain = plain
        self._read = read
        self._options = dict(options)
        self._part = part
        self._settle = settle
        self._begun: Any = None
        self._closed = False

    def __iter__(self) -> Any:
        if self._closed:
            return iter(())
        if self._begun is None:
            self._begun = self._begin(*self._part)
        return iter(self._begun)

    def __next__(self) -> Any:
        return next(iter(self))

    next = __next__

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, int) or key < 0:
            return self._plain[key]
        with self._begin(self._part[0] + key, 1) as cursor:
            for document in cursor:
                return document
        raise IndexError("no such item for Cursor instance")

    def _begin(self, skip: int, limit: int) -> Any:
        collection = self._plain.collection

        def send(stages: list[Any]) -> Any:
            given = {**given_session(collection), **self._options}
            return collection.aggregate(stages, allowDiskUse=True, **given)

        known, now = vars(collection), self._clock()
        if self._read.looks and known.get(_MET, now) <= now:
            cursor = send(self._read.unless_old(skip, limit))
            first = next(cursor, None)
            if first is None or _OLD not in first:
                return _Begun(first, cursor)
            cursor.close()
            known[_MET] = now + _LATELY
        front = self._read.front(self._settle)
        return front.run(send, self._read.pipeline(skip, limit))

    def clone(self) -> Any:
        """MongoEngine's cursor with the same options, of which another one is made when asked."""
        return self._plain.clone()

    def rewind(self) -> ShownCursor:
        """Begin anew."""
        self.close()
        self._begun, self._closed = None, False
        return self

    def close(self) -> None:
        """Give up the rest of the result."""
        self._closed = True
        if self._begun is not None:
            self._begun.close()

    def max_time_ms(self, max_time_ms: int | None) -> ShownCursor:
        """Limit the time on the server; `None` for no limit."""
        self._plain.max_time_ms(max_time_ms)
        self._options.pop("maxTimeMS", None)
        if max_time_ms is not None:
            self._options["maxTimeMS"] = max_time_ms
        return self

    @property
    def alive(self) -> bool:
        """Return whether there may be more documents."""
        return not self._closed and (self._begun is None or bool(self._begun.alive))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plain, name)
