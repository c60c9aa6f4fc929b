"""LazyMigrationQuerySet: single documents, brought up to date where MongoEngine fetches them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from bson.errors import InvalidBSON

from lazymig.engines.access import all_of, as_bytes, is_mongomock, on_primary
from lazymig.engines.reading.decoding import decode, take
from lazymig.engines.sessions import given_session
from lazymig.errors import MigrationError
from lazymig.odm.loading import LEFT_OUT, DocumentLeftOut, Source, builds_bytes, reading_from
from lazymig.odm.querysets.iterating import IteratingQuerySet
from lazymig.odm.querysets.joining import joins_live
from lazymig.odm.querysets.options import OptionsQuerySet
from lazymig.odm.querysets.seeing import is_positional, update_refusals
from lazymig.odm.versions import (
    MODIFY_ASKS_WHERE,
    MODIFY_OPTIONS,
    UNSENT_BY_MODIFY,
    UNSENT_BY_WRITES,
    WRITES_HAVE_OPTIONS,
)
from lazymig.query.operators import NEAR, holds_any

__all__ = ["LazyMigrationQuerySet"]

# Documents by `_id` that are judged and migrated at once where no cursor sets the pace.
_IN_BULK_BATCH = 1000

# How often modify() looks for the document that it is going to hit before it goes ahead.
_MODIFY_ATTEMPTS = 3

# Conditions with which an upsert is another write than an update.
_NOT_OF_UPSERTS: Final = frozenset({*NEAR, "$expr", "$text", "$where", "_cls"})


@joins_live
class LazyMigrationQuerySet(IteratingQuerySet):
    """What is joined to the querysets of models with rules."""

    _lazymig_live = True

    # Whether get() and first() are MongoEngine's own chains of methods, each of which changes a
    # clone of its own.
    _lazymig_chains_get = False
    _lazymig_chains_first = False
    _lazymig_private = False

    def get(self, *q_objs: Any, **query: Any) -> Any:
        """Retrieve the one matching document.

        :raises DoesNotExist: no document matches.
        :raises MultipleObjectsReturned: more than one does.
        """
        queryset = self.clone()
        queryset._lazymig_lone = True
        queryset._lazymig_private = self._lazymig_chains_get
        return super(LazyMigrationQuerySet, queryset).get(*q_objs, **query)

    def first(self) -> Any:
        """Retrieve the first matching document; `None` if there is none."""
        if not self._lazymig_chains_first:
            return super().first()
        queryset = self.clone()
        queryset._lazymig_private = True
        return super(LazyMigrationQuerySet, queryset).first()

    def clone(self) -> Any:
        """Create a copy of the current queryset."""
        # get() and first() have made a clone that no one else sees; MongoEngine's get() would make
        # four more, and its first() two, which take longer than all that is done here for an
        # up-to-date document.
        return self if self._lazymig_private else super().clone()

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice) or not self._lazymig_migrates() or self._lazymig_is_idle():
            return super().__getitem__(key)
        try:
            with reading_from(self._lazymig_source(lone=True)):
                return super().__getitem__(key)
        except DocumentLeftOut as exc:
            raise IndexError("the document was deleted while it was migrated") from exc
        except InvalidBSON:
            # A rule may yet make it one that can be decoded.
            return self._lazymig_at(key)

    def _lazymig_at(self, index: int) -> Any:
        """The document at an index, decoded by itself."""
        queryset = self.clone()
        queryset._lazymig_private = False
        queryset = queryset.skip((self._skip or 0) + index).limit(1)
        queryset._lazymig_lone = True
        try:
            return next(queryset)
        except StopIteration as exc:
            raise IndexError("no such item for Cursor instance") from exc

    def in_bulk(self, object_ids: Any) -> dict[Any, Any]:
        """Retrieve documents by their ids: a mapping from `_id` to instance."""
        if self._as_pymongo or not self._lazymig_migrates() or self._lazymig_is_idle():
            found: dict[Any, Any] = super().in_bulk(object_ids)
            return found
        if self._cursor_obj is not None:
            bulk: dict[Any, Any] = self._lazymig_without_cursor().in_bulk(object_ids)
            return bulk
        options = self._collection.codec_options
        cursor = as_bytes(self._collection).find(
            {"_id": {"$in": object_ids}}, **given_session(self._collection), **self._cursor_args
        )
        loading = self._lazymig_loading()
        # MongoEngine looks at the ids alone, whatever class they lead to.
        loading = replace(loading, source=replace(loading.source, classes=None))
        documents: dict[Any, Any] = {}
        while raws := take(cursor, options, _IN_BULK_BATCH):
            for key, item in loading.loaded(raws):
                documents[key] = self._get_scalar(item) if self._scalar else item
        return documents

    def modify(self, *arguments: Any, **update: Any) -> Any:
        """Update or remove one document and return it, as MongoEngine's `modify` does.

        The document that is about to be hit is migrated first, so that the update meets, and the
        old image shows, the new shape. That takes one more read, unless one that is up to date can
        be hit.
        """
        update.update(zip(MODIFY_OPTIONS, arguments, strict=False))
        if MODIFY_ASKS_WHERE and self._where_clause:
            # MongoEngine would write it into the filter, which others may have, too.
            asking = self.filter(__raw__={"$where": self._sub_js_fields(self._where_clause)})
            asking._where_clause = None
            return asking.modify(**update)
        if self._cursor_obj is not None:
            return self._lazymig_without_cursor().modify(**update)
        if not (update.get("upsert") or update.get("full_response")):
            if self._lazymig_is_idle():
                return super().modify(**update)
            hit = self._lazymig_modify_up_to_date(**update)
            if hit is not None:
                return None if hit is LEFT_OUT else hit
        return self._lazymig_modify_any(**update)

    def _lazymig_modify_any(self, **update: Any) -> Any:
        """Update or remove a document, which is migrated before; `update` as for `modify`."""
        queryset = self
        source = unhelped = None
        if self._lazymig_migrates():
            if not (self._none or self._empty):
                with self._lazymig_with(UNSENT_BY_MODIFY):
                    queryset, unhelped = self._lazymig_for_modify(**update)
            # The old image is not what is stored any more: it cannot be migrated, only shown.
            source = self._lazymig_source(lone=True) if update.get("new") else None
        try:
            with reading_from(source):
                return super(LazyMigrationQuerySet, queryset).modify(**update)
        except DocumentLeftOut:
            return None
        except Exception as exc:
            if isinstance(unhelped, type(exc)):
                # The same trouble again, which carries no note where the image shows what was.
                raise unhelped from exc
            raise

    def _lazymig_for_modify(self, **update: Any) -> tuple[Any, Exception | None]:
        """Migrate the document that a modify() is about to hit.

        :param update: as for `modify`.
        :return: the clone to be modified; and MongoEngine's own exception if no rule made the
            document loadable.
        """
        changes = {name: one for name, one in update.items() if name not in MODIFY_OPTIONS}
        with update_refusals():
            # It is sent in the order that was asked for alone.
            queryset = self._lazymig_for_read(
                "modify()", (), ordered=bool(self._ordering), lazymig_writing=True
            )
        unhelped = queryset._lazymig_migrate_next()
        with update_refusals():
            positional = self._lazymig_positional(self._lazymig_projection())
            if update.get("upsert"):
                queryset = self._lazymig_for_upsert(*self._lazymig_touched(changes))
            elif positional is not None or is_positional(changes):
                touched = self._lazymig_touched(changes)
                queryset = self._lazymig_for_write("modify()", *touched, positional=True)
        return queryset, unhelped

    def _lazymig_modify_up_to_date(self, **update: Any) -> Any:
        """Update or remove a document that no rule concerns, in one command.

        What is stored of it is what it will be: the filter needs no rewriting.

        :param update: as for `modify`.
        :return: `None` if there is none, or where it cannot be said which ones there are, or which
            one of them it has to be; `LEFT_OUT` if it was deleted after that.
        """
        if self._ordering or not builds_bytes(self._document):
            return None
        queryset = self._lazymig_only_up_to_date(update)
        if queryset is None or self._lazymig_positional(self._lazymig_projection()) is not None:
            return None
        # For an image that cannot be decoded: the update has been done by then.
        queryset._collection_obj = as_bytes(self._collection)
        source = replace(self._lazymig_source(lone=True), image=not update.get("new"))
        try:
            with reading_from(source):
                return super(LazyMigrationQuerySet, queryset).modify(**update)
        except DocumentLeftOut:
            return LEFT_OUT

    def _lazymig_only_up_to_date(self, update: Mapping[str, Any]) -> Any:
        """A clone that updates documents which no rule concerns; its filter is sent as it is.

        `None` where it cannot be said which ones there are.
        """
        if self._none or self._empty or not self._lazymig_migrates():
            return None
        up_to_date = self._lazymig_family().up_to_date
        if up_to_date is None or is_positional(update) or is_mongomock(self._collection):
            return None
        queryset = self.clone()
        queryset._mongo_query = all_of(super(OptionsQuerySet, queryset)._query, up_to_date)
        queryset._lazymig_settled = True
        # The filter holds the former classes already.
        queryset._lazymig_narrow()
        return queryset

    def update(
        self,
        upsert: bool = False,
        multi: bool = True,
        write_concern: Any = None,
        read_concern: Any = None,
        full_result: bool = False,
        array_filters: Any = None,
        **update: Any,
    ) -> Any:
        """Update the documents that match, old ones after they have been migrated.

        An upsert takes one more read, unless a document that is up to date can be hit, and a write
        more if it inserts.

        :raises MigrationError: a document that matches could not be migrated, though a rule reads
            or writes what the update does, and `on_error` is `"raise"`.
        """
        options = {"read_concern": read_concern, "array_filters": array_filters, **update}
        if upsert and update and not multi and write_concern is None:
            hit = self._lazymig_upsert_up_to_date(options, update)
            if hit is not None:
                return hit if full_result else hit.raw_result["n"]
        return super().update(upsert, multi, write_concern, full_result=full_result, **options)

    def _lazymig_upsert_up_to_date(
        self, options: Mapping[str, Any], update: Mapping[str, Any]
    ) -> Any:
        """Update a document that no rule concerns, in one command.

        :param options: those of `update()`, and the update.
        :return: PyMongo's result; `None` if there is none, or where it is another upsert that
            MongoDB would be sent.
        """
        rewrites = self._lazymig_rewrites()
        if rewrites is None or self._lazymig_settled:
            return None
        if WRITES_HAVE_OPTIONS and (self._collation or self._hint not in (-1, None)):
            # Neither may have a say in what is up to date.
            return None
        with update_refusals():
            if not self._lazymig_meets(rewrites, *self._lazymig_touched(update)):
                return None
            queryset = self._lazymig_only_up_to_date(update)
            # MongoEngine sets the class, too, and MongoDB refuses some conditions.
            if queryset is None or holds_any(queryset._mongo_query, _NOT_OF_UPSERTS):
                return None
            if not queryset._collection.write_concern.acknowledged:
                return None
            hit = super(OptionsQuerySet, queryset).update(multi=False, full_result=True, **options)
        return hit if hit.matched_count else None

    def upsert_one(self, write_concern: Any = None, read_concern: Any = None, **update: Any) -> Any:
        """Overwrite or add one document and return it, as MongoEngine's `upsert_one` does.

        The document that is about to be overwritten is migrated first, as in `modify`.
        """
        if self._lazymig_migrates() and not (self._none or self._empty):
            # The update takes no heed of an order.
            queryset = self.order_by()
            with queryset._lazymig_with(UNSENT_BY_WRITES):
                asking = queryset._lazymig_for_read("upsert_one()", (), lazymig_writing=True)
                asking._lazymig_migrate_next()
        return super().upsert_one(write_concern, read_concern, **update)

    def _lazymig_migrate_next(self) -> Exception | None:
        """Migrate the document that the query, in its order, comes to first.

        :return: MongoEngine's own exception, with a note, if no rule made the document loadable.
        """
        collection = self._lazymig_own_collection()
        reader = as_bytes(on_primary(collection))
        source = Source(collection, lone=True)
        loading = replace(self._lazymig_loading(), source=source, asked=None, for_read=False)
        item: Any = None
        options = given_session(collection)
        if self._collation is not None:
            options["collation"] = self._collation
        for _attempt in range(0 if self._lazymig_is_idle() else _MODIFY_ATTEMPTS):
            with update_refusals():
                found = reader.find_one(self._query, sort=self._ordering or None, **options)
            if found is None:
                return None
            raws: list[Any] = [decode(found, collection.codec_options)]
            items = loading.bring_up(raws)
            (item,) = loading.build_all(items)
            if isinstance(item, MigrationError):
                raise item
            if items is raws:
                break
        return item if isinstance(item, Exception) else None

    def _lazymig_without_cursor(self) -> Any:
        """A clone that does what the options of this queryset say, and no cursor."""
        queryset = self.clone()
        queryset._cursor_obj = None
        return queryset
