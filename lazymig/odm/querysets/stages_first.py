"""Collections whose aggregations begin with the stages that show documents as they will be.

MongoEngine builds its commands as ever. What is put in front of them, and that `distinct` is an
aggregation then, is seen to where PyMongo would send them.

Where a few documents are known to be old, the stages stand before these alone. The two parts are
told apart by `_id`, which no write changes: whatever is migrated meanwhile, each document is read
by exactly one of them, and the stages leave a migrated one as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import bson
from bson.code import Code
from bson.codec_options import DEFAULT_CODEC_OPTIONS
from bson.raw_bson import RawBSONDocument
from pymongo import ReadPreference
from pymongo.collection import Collection
from pymongo.errors import OperationFailure
from pymongo.read_concern import ReadConcern

from lazymig.engines.access import all_of, by_ids, not_by_ids, recast
from lazymig.engines.sessions import given_session
from lazymig.query.aggregations import reads_parts, starts_in_order
from lazymig.query.distinct import distinct_stages
from lazymig.raw.values import Unjudgeable
from lazymig.rules.showing.stages import MARK

__all__ = ["Front", "ModelOver", "frequencies", "showing_collection", "unshown"]

# What MongoDB fails to convert where a document has to be settled before it is shown.
_TRAPPED: Final = "lazymig settles first: "
_CONVERSION_FAILURE: Final = 241

# So often it settles for one read, while others store more of what has to be settled.
_MOST_SETTLED: Final = 5

unshown: Final[Mapping[str, Any]] = {f"{MARK}.unshown": {"$exists": True}}
"""The condition on the documents that stages have marked, as they have to be settled first."""

_TRAP: Final = RawBSONDocument(
    bson.encode(
        {
            "$match": {
                "$expr": {
                    "$cond": [
                        {"$eq": [{"$type": f"${MARK}.unshown"}, "missing"]},
                        True,
                        {"$toInt": {"$concat": [_TRAPPED, f"${MARK}.unshown"]}},
                    ]
                }
            }
        }
    )
)

# MongoDB asks the conditions of a later `$match` first, and of what fails these nothing else.
_BARRIER: Final[Mapping[str, Any]] = {"$limit": 2**63 - 1}


@dataclass(frozen=True, slots=True, eq=False)
class Front:
    """What stands in front of a pipeline.

    :param query: the filter that MongoEngine puts first; it stays first.
    :param stages: those that come next, none of which marks a document.
    :param marking: the same, with marks, where the pipeline may meet documents that have to be
        settled before: it fails at the first one, and nothing has been handed out by then. None: it
        meets none.
    :param asked: what is asked of the documents afterwards.
    :param settle: settles what was met; returns whether any of that was refused.
    :param few: the `_id`s of all documents that the stages may change, where these are few; empty:
        it is not known which ones they are.
    """

    query: Mapping[str, Any]
    stages: Sequence[Mapping[str, Any]]
    marking: Sequence[Mapping[str, Any]] | None = None
    asked: Mapping[str, Any] | None = None
    settle: Callable[[], bool] | None = None
    few: Sequence[Any] = ()

    def before(self, pipeline: Sequence[Any], *, trapped: bool = False) -> list[Any]:
        """A pipeline of MongoEngine's with all of that in its front."""
        place = self._place(pipeline)
        return [*pipeline[:place], *self.showing(trapped=trapped), *pipeline[place:]]

    def _place(self, pipeline: Sequence[Any]) -> int:
        return 1 if pipeline and pipeline[0] == {"$match": self.query} else 0

    def showing(self, *, trapped: bool) -> list[Any]:
        """The stages after which there are documents of today's shape, and those asked for."""
        stages: list[Any] = list((self.marking or ()) if trapped else self.stages)
        if self.asked and trapped:
            stages.append({"$match": {"$or": [unshown, self.asked]}})
        elif self.asked:
            stages.append({"$match": self.asked})
        if trapped:
            stages += [_TRAP, _BARRIER]
        return stages

    def is_apart(self, pipeline: Sequence[Any]) -> bool:
        """Return whether the few old documents are read apart from all others for a pipeline."""
        return bool(self.few) and reads_parts(pipeline[self._place(pipeline) :])

    def apart(self, name: str, pipeline: Sequence[Any], *, trapped: bool) -> list[Any]:
        """The pipeline with the stages before the few old documents alone, which come last.

        :param name: the collection.
        """
        own = pipeline[self._place(pipeline) :]
        # An index may give the start of an order.
        start = own[:2] if starts_in_order(own) else []
        old = [{"$match": self.old}, *self.showing(trapped=trapped), *start]
        return [
            {"$match": self.others},
            *start,
            {"$unionWith": {"coll": name, "pipeline": old}},
            *own,
        ]

    @property
    def old(self) -> Mapping[str, Any]:
        """The query for the few old documents."""
        return all_of(self.query, by_ids(self.few))

    @property
    def others(self) -> Mapping[str, Any]:
        """The query for all other documents."""
        return all_of(self.query, not_by_ids(self.few))

    def run(self, send: Callable[[list[Any]], Any], pipeline: Sequence[Any]) -> Any:
        """Send a pipeline, again whenever there was something to settle before."""
        return self.tried(lambda one, *, trapped: send(one.before(pipeline, trapped=trapped)))

    def tried(self, send: Callable[..., Any]) -> Any:
        """Send what is trapped or not, again whenever there was something to settle before.

        :param send: is handed what stands in front, and whether it is to be `trapped`.
        """
        front = self
        if self.marking is not None and self.settle is not None:
            for _ in range(_MOST_SETTLED):
                try:
                    return send(front, trapped=True)
                except OperationFailure as exc:
                    if exc.code != _CONVERSION_FAILURE or _TRAPPED not in str(exc):
                        raise
                # Others may store what has to be settled, too, until it is sent again, or what is
                # not among the few.
                front = replace(self, few=())
                if self.settle():
                    break
        # What is still in the way was refused, and is shown as it is stored.
        return send(front, trapped=False)


class _ShowingCollection(Collection[Any]):
    """A collection whose aggregations, and distinct values, are of documents as they are shown."""

    _lazymig_front: Front

    def with_options(self, *args: Any, **options: Any) -> Any:
        """Return the same collection with other options, still showing."""
        return showing_collection(super().with_options(*args, **options), self._lazymig_front)

    def aggregate(self, pipeline: Any, *args: Any, **options: Any) -> Any:
        """PyMongo's `aggregate`, which may use the disk: the stages hide indexes from a sort."""
        options.setdefault("allowDiskUse", True)

        def send(front: Front, *, trapped: bool) -> Any:
            given = options
            if front.is_apart(pipeline):
                stages = front.apart(self.name, pipeline, trapped=trapped)
                if not front.query and not starts_in_order(pipeline):
                    # All are read: to exclude `_id`s, MongoDB would walk the index of all others.
                    given = {"hint": {"$natural": 1}, **options}
            else:
                stages = front.before(pipeline, trapped=trapped)
            return super(_ShowingCollection, self).aggregate(stages, *args, **given)

        return self._lazymig_front.tried(send)

    def distinct(self, key: str, *args: Any, **options: Any) -> list[Any]:
        """PyMongo's `distinct`, in the order of the values."""
        query = options.pop("query", None) or {}
        front = self._lazymig_front
        shown: Any = self
        if front.few and query == front.query:
            # Only where something is old, and little.
            from lazymig.odm.querysets.few_values import distinct_apart  # noqa: PLC0415

            with suppress(Unjudgeable):
                plain = partial(super().distinct, key, *args, **options)
                send = partial(super().aggregate, **options)
                return distinct_apart(self, key, front, send, plain)
            shown = showing_collection(self, replace(front, few=()))
        stages: list[Any] = [{"$match": query}] if query else []
        stages += distinct_stages(key)
        # An aggregation has the options of the command by the same names.
        return [each["_id"] for each in shown.aggregate(stages, *args, **options)]


def showing_collection(collection: Any, front: Front) -> Any:
    """Return a PyMongo collection with this in front of its aggregations."""
    again = recast(collection, _ShowingCollection)
    again.__dict__["_lazymig_front"] = front
    return again


class ModelOver:
    """A model whose own collection is another one, for what MongoEngine reads of that alone."""

    def __init__(self, model: Any, collection: Any) -> None:
        self._model = model
        self._collection = collection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def _get_collection(self) -> Any:
        return self._collection


def frequencies(collection: Any, query: Mapping[str, Any], map_function: str) -> Iterable[Any]:
    """Count the keys that a map function of MongoEngine's emits, as its map-reduce does.

    :param map_function: JavaScript that calls `emit(key, 1)`, and has no scope.
    :return: documents, each with a key as its `_id`, and the number as its `value`.
    """
    emitted = f"""function(document) {{
        var keys = [];
        var emit = function(key, value) {{ keys.push(key); }};
        ({map_function.strip()}).call(document);
        return keys;
    }}"""
    keys = {"$function": {"body": Code(emitted), "args": ["$$ROOT"], "lang": "js"}}
    # As a database command it has no options but its own.
    collection = collection.with_options(
        DEFAULT_CODEC_OPTIONS, ReadPreference.PRIMARY, read_concern=ReadConcern()
    )
    stages: list[Any] = [{"$match": query}] if query else []
    stages += [
        {"$project": {"_id": 0, "keys": keys}},
        {"$unwind": "$keys"},
        {"$group": {"_id": "$keys", "value": {"$sum": 1}}},
    ]
    found: Iterable[Any] = collection.aggregate(stages, **given_session(collection))
    return found
