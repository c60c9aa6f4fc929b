"""The store: a collection on behalf of a plan and a session, with what the engines ask of it.

The engines' commands are sent here, so that each joins the session, and what imitates PyMongo is
seen to in one place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pymongo import ReturnDocument, UpdateOne, WriteConcern
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, OperationFailure

from lazymig.engines.access import (
    Raw,
    as_bytes,
    by_ids,
    is_mongomock,
    key_of,
    on_primary,
    tolerant,
    writable,
)
from lazymig.engines.driver_errors import is_document_error
from lazymig.engines.sessions import given_session, is_in_transaction, session_of
from lazymig.query.joining import all_of, any_of
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.plan import Plan

__all__ = ["Store", "Written", "as_applied", "write_each"]


@dataclass(slots=True)
class Written:
    """What single updates did: documents matched and modified; refusals, by position."""

    matched: int = 0
    modified: int = 0
    refused: dict[int, tuple[Any, Exception]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Store:
    """A collection, read on its primary and written with acknowledgement.

    :param class_filter: the query for the documents of a plan; `None` for all.
    :param shard_key: the dotted paths of the shard key, `_id` left out.
    :param session: that of every command; `None` for the one that is bound to the context, if any.
    :param unheard: what is migrated here is thrown away, and announced to nobody.
    """

    collection: Collection[Any]
    class_filter: Raw | None = None
    shard_key: Sequence[str] = ()
    session: Any = None
    unheard: bool = False

    @classmethod
    def of(cls, place: Collection[Any] | Store) -> Store:
        """The store of a collection; a store itself."""
        return place if isinstance(place, Store) else cls(place)

    def for_plan(self, plan: Plan) -> Store:
        """The same for the documents of a plan."""
        return replace(
            self,
            collection=writable(self.collection),
            class_filter=plan.class_filter,
            shard_key=plan.shard_key,
        )

    def with_concern(self, concern: WriteConcern) -> Store:
        """The same with another write concern."""
        return replace(self, collection=self.collection.with_options(write_concern=concern))

    @property
    def _given(self) -> dict[str, Any]:
        """What a command is given besides; an imitation knows no sessions."""
        if self.session is None:
            return given_session(self.collection)
        return {"session": self.session}

    @property
    def is_imitation(self) -> bool:
        """Return whether there is no server, but mongomock or its like: no `$$NOW`, no bulks."""
        return is_mongomock(self.collection)

    @property
    def in_transaction(self) -> bool:
        """Return whether commands are part of a transaction now."""
        return is_in_transaction(self.session or session_of(self.collection))

    @property
    def is_read_only(self) -> bool:
        """Return whether commands join a session at a snapshot."""
        session = self.session or session_of(self.collection)
        return session is not None and bool(session.options.snapshot)

    def query_of(self, rule: BoundRule, document_ids: Sequence[Any] | None = None) -> Raw:
        """The query for the documents of a rule, or for those of them that have these `_id`s."""
        ids = None if document_ids is None else by_ids(document_ids)
        return all_of(ids, self.class_filter, rule.target)

    def locate(self, document: Raw) -> dict[str, Any]:
        """The query for one document, which names its shard, so that no other shard is asked.

        :param document: a raw document with the fields of `location`.
        """
        query = {"_id": {"$eq": document["_id"]}}
        for path in self.shard_key:
            value: Any = document
            for name in path.split("."):
                # MongoDB takes what is missing for null in a shard key.
                value = value.get(name) if isinstance(value, Mapping) else None
            query[path] = {"$eq": value}
        return query

    @property
    def location(self) -> dict[str, Any]:
        """The projection to the fields that `locate` needs."""
        return dict.fromkeys(("_id", *self.shard_key), 1)

    def find(
        self, query: Raw, fields: Raw | None = None, most: int | None = None, **options: Any
    ) -> Any:
        """A cursor over documents that are left as bytes, for `decode` and `take`.

        :param most: the documents that there may be, which are asked for in one answer.
        """
        cursor = as_bytes(on_primary(self.collection)).find(query, fields, **self._given, **options)
        return cursor if most is None else _in_one_answer(cursor, most)

    def find_in_order(self, query: Raw, fields: Raw | None, size: int) -> Any:
        """The same in the order of the `_id`s, so many documents in an answer of the server."""
        cursor = self.find(query, fields).sort("_id", 1)
        return cursor if self.is_imitation else cursor.batch_size(size).allow_disk_use(True)

    def find_ids(self, query: Raw, most: int | None = None, limit: int = 0) -> Any:
        """A cursor over documents that have nothing but their `_id`, as `tolerant` gives it."""
        cursor = tolerant(on_primary(self.collection)).find(
            query, {"_id": 1}, limit=limit, **self._given
        )
        return cursor if most is None else _in_one_answer(cursor, most)

    def keys_matching(self, queries: Sequence[Raw], count: int) -> set[Any]:
        """The keys of the documents, at most `count`, that one of the queries finds."""
        return {key_of(each["_id"]) for each in self.find_ids(any_of(queries), count)}

    def count(self, query: Raw) -> int:
        """The number of documents that a query finds."""
        return on_primary(self.collection).count_documents(query, **self._given)

    def aggregate(self, stages: Sequence[Raw], most: int | None = None, *, let: Any = None) -> Any:
        """A cursor over what a pipeline makes, as `tolerant` gives it.

        :param most: the documents that there may be; they come in one answer, left as bytes.
        """
        reader = on_primary(self.collection)
        options = self._given if let is None else {"let": let, **self._given}
        if most is None:
            return tolerant(reader).aggregate(list(stages), **options)
        return as_bytes(reader).aggregate(list(stages), batchSize=most + 1, **options)

    def find_and_update(self, query: Raw, update: Any, array_filters: Any = None) -> Any:
        """Update one document; return it as it is afterwards, left as bytes for `decode`."""
        given = {} if array_filters is None else {"array_filters": array_filters}
        return as_bytes(self.collection).find_one_and_update(
            query, update, return_document=ReturnDocument.AFTER, **self._given, **given
        )

    def update_one(self, query: Raw, update: Any, array_filters: Any = None) -> Any:
        """PyMongo's `update_one`."""
        return self.collection.update_one(query, update, array_filters=array_filters, **self._given)

    def update_many(
        self, query: Raw, update: Any, array_filters: Any = None, *, let: Any = None
    ) -> Any:
        """PyMongo's `update_many`."""
        options = self._given if let is None else {"let": let, **self._given}
        return self.collection.update_many(query, update, array_filters=array_filters, **options)

    def bulk_write(self, operations: Sequence[Any], *, ordered: bool, let: Any = None) -> Any:
        """PyMongo's `bulk_write`."""
        options = self._given if let is None else {"let": let, **self._given}
        return self.collection.bulk_write(operations, ordered=ordered, **options)


def as_applied(store: Store, rule: BoundRule) -> BoundRule:
    """A rule as a store applies it: an imitation knows few operators of a translated one."""
    return rule.computed if store.is_imitation else rule


def write_each(store: Store, queries: Sequence[Raw], update: Any, array_filters: Any) -> Written:
    """Apply an update to the first document of each query; a refused one stops no other.

    :raises pymongo.errors.PyMongoError: the connection, the rights, a time limit.
    """
    written = Written()
    if store.is_imitation:
        for index, query in enumerate(queries):
            try:
                done = store.update_one(query, update, array_filters)
            except OperationFailure as exc:
                if not is_document_error(exc):
                    raise
                written.refused[index] = exc, exc
                continue
            written.matched += done.matched_count
            written.modified += done.modified_count
        return written
    operations = [UpdateOne(query, update, array_filters=array_filters) for query in queries]
    try:
        result: Any = store.bulk_write(operations, ordered=False).bulk_api_result
    except BulkWriteError as exc:
        if not is_document_error(exc):
            raise
        result = exc.details
        for entry in result.get("writeErrors") or []:
            written.refused[entry["index"]] = entry.get("errmsg"), exc
    written.matched, written.modified = result["nMatched"], result["nModified"]
    return written


def _in_one_answer(cursor: Any, most: int) -> Any:
    """The cursor, which asks for all of its documents at once.

    The server's own first answer holds 101 documents; one that is exactly full leaves the cursor
    open, at the price of one more round trip.
    """
    return cursor if is_mongomock(cursor.collection) else cursor.batch_size(most + 1)
