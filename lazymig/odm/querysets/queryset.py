"""LazyMigrationQuerySet: the doors through which MongoEngine's queryset hands out documents."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from bson.errors import InvalidBSON
from mongoengine.queryset.queryset import ITER_CHUNK_SIZE

from lazymig.engines.access import as_bytes, on_primary
from lazymig.engines.loads.lazy import Failure
from lazymig.engines.reading.decoding import decode, take
from lazymig.engines.reading.pinned import Requery
from lazymig.engines.reading.steady import SteadyReader
from lazymig.errors import MigrationError
from lazymig.odm.loading import (
    LEFT_OUT,
    Build,
    DocumentLeftOut,
    Source,
    asked_for,
    asks_for_all,
    bring_up,
    builder_of,
    load_batch,
    may_rescue,
    reading_from,
)
from lazymig.odm.marks import marking
from lazymig.odm.plans import family_of, root_of
from lazymig.odm.querysets.joining import joins_live
from lazymig.odm.querysets.seeing import SeeThroughQuerySet, is_positional, update_refusals
from lazymig.odm.querysets.steady import StepByStep, batch_of, may_walk_an_index, requery_of
from lazymig.rules.plan import Family, Plan

__all__ = ["LazyMigrationQuerySet"]

# Documents by `_id` that are judged and migrated at once where no cursor sets the pace.
_IN_BULK_BATCH = 1000

# How often modify() looks for the document that it is going to hit before it goes ahead.
_MODIFY_ATTEMPTS = 3


@joins_live
class LazyMigrationQuerySet(SeeThroughQuerySet):
    """Brings documents up to date as they come from the cursor, a batch at a time.

    Raw documents wait in `_lazymig_ready` once their batch has been judged. A batch with trouble in
    it is built as a whole; its instances and exceptions wait in `_lazymig_prepared`. A batch
    during whose judgement the connection broke waits in `_lazymig_unjudged` for the next try.
    `_lazymig_reader` sees to it that the cursor gives each document once.
    """

    _lazymig_live = True
    _lazymig_of_cursor = (
        "_lazymig_asked",
        "_lazymig_builder",
        "_lazymig_cursor",
        "_lazymig_handed_on",
        "_lazymig_made",
        "_lazymig_prepared",
        "_lazymig_reader",
        "_lazymig_ready",
        "_lazymig_seen",
        "_lazymig_unjudged",
    )

    # Whether the user's class has a __next__ of its own, which has to be called.
    _lazymig_own_next = False

    # Whether get() and first() are MongoEngine's own chains of methods, each of which changes a
    # clone of its own.
    _lazymig_chains_get = False
    _lazymig_chains_first = False
    _lazymig_private = False

    # Made for each batch, not for each document; whenever documents are ready it is there.
    _lazymig_builder: Any = None
    _lazymig_cursor: Any = None
    _lazymig_reader: SteadyReader | None = None
    _lazymig_stepping = False
    _lazymig_unjudged: list[dict[str, Any]] | None = None
    _lazymig_ready: deque[dict[str, Any]] | None = None
    _lazymig_prepared: deque[Any] | None = None
    _lazymig_asked: tuple[Mapping[Plan, Plan] | None] | None = None

    # Iteration, and whatever is built on it

    def __next__(self) -> Any:
        if not self._lazymig_iterates():
            return super().__next__()
        if self._lazymig_own_next:
            return self._lazymig_next_by_user()
        if self._none or self._empty:
            raise StopIteration
        document = self._lazymig_next()
        return self._get_scalar(document) if self._scalar else document

    def _populate_cache(self) -> None:
        # What next() would do a hundred times, without what it would find out anew each time.
        if self._scalar or self._lazymig_own_next or not self._lazymig_iterates():
            super()._populate_cache()
            return
        if self._result_cache is None:
            self._result_cache = []
        if not self._has_more:
            return
        if self._none or self._empty:
            self._has_more = False
            return
        cache = self._result_cache
        full = len(cache) + ITER_CHUNK_SIZE
        validates = self._lazymig_family().validates
        try:
            while len(cache) < full:
                ready = self._lazymig_ready
                if ready and not validates and self._lazymig_cursor is self._cursor_obj:
                    self._lazymig_build_into(cache, ready, full, self._lazymig_builder)
                if len(cache) < full:
                    cache.append(self._lazymig_next())
        except StopIteration:
            self._has_more = False

    @staticmethod
    def _lazymig_build_into(
        cache: list[Any], ready: deque[dict[str, Any]], full: int, build: Build
    ) -> None:
        """Build until the cache or the batch ends, or a document fails, which is left in place."""
        for _ in range(min(full - len(cache), len(ready))):
            try:
                cache.append(build(ready[0]))
            except Exception:
                # _lazymig_next meets it again, and rescues it with the rest of the batch.
                return
            ready.popleft()

    def _lazymig_next(self) -> Any:
        """The next instance; raises the exception that stands in its place, or StopIteration."""
        while True:
            if self._lazymig_cursor is not self._cursor_obj:
                # count(), rewind() and others have begun a new cursor.
                self._lazymig_forget()
            if self._lazymig_prepared:
                item = self._lazymig_prepared.popleft()
                if isinstance(item, Exception):
                    raise item
                if item is not LEFT_OUT:
                    return item
            elif not self._lazymig_ready:
                self._lazymig_fetch()
            elif self._lazymig_family().validates:
                self._lazymig_prepare()
            else:
                try:
                    document = self._lazymig_builder(self._lazymig_ready[0])
                except Exception:
                    # The rest of the batch is built with it, so that documents that fail for the
                    # same reason are rescued together.
                    self._lazymig_prepare()
                    continue
                self._lazymig_ready.popleft()
                return document

    def _lazymig_fetch(self) -> None:
        """Take a batch from the cursor and bring it up to date; raises StopIteration at the end."""
        raws = self._lazymig_unjudged
        if raws is None:
            reader = self._lazymig_reader
            if reader is not None and reader.has_ended and reader.cursor is self._cursor_obj:
                raise StopIteration
            reader = self._lazymig_reader_of(self._lazymig_raw_cursor())
            raws = reader.take(batch_of(self), self._lazymig_requery)
            if not raws:
                raise StopIteration
            self._lazymig_cursor = self._cursor_obj
            self._lazymig_unjudged = raws
        self._lazymig_builder = self._lazymig_build()
        source = self._lazymig_source()
        items = bring_up(source, raws, self._lazymig_family(), self._lazymig_asked_for())
        self._lazymig_unjudged = None
        if items is raws:
            self._lazymig_ready = deque(raws)
        else:
            present: Any = [item for item in items if item is not None]
            self._lazymig_ready = deque(present)
            if any(isinstance(item, Failure) for item in present):
                self._lazymig_prepare()
        if source.hide_id and self._lazymig_ready:
            self._lazymig_prepare()

    def _lazymig_reader_of(self, cursor: Any) -> SteadyReader:
        reader = self._lazymig_reader
        if reader is None or reader.cursor is not cursor:
            exposed = may_walk_an_index(self, self._lazymig_order())
            reader = self._lazymig_reader = SteadyReader(cursor, self._collection, exposed=exposed)
        return reader

    def _lazymig_requery(self) -> Requery | None:
        return requery_of(self, self._lazymig_family(), self._lazymig_order())

    @property
    def _cursor(self) -> Any:
        cursor = super()._cursor
        return StepByStep(self, cursor) if self._lazymig_stepping else cursor

    def _lazymig_prepare(self) -> None:
        """Build the whole batch that is ready, with rescues."""
        batch = list(self._lazymig_ready or ())
        family, source = self._lazymig_family(), self._lazymig_source()
        items = load_batch(family, source, batch, self._lazymig_builder, judged=True)
        self._lazymig_ready = None
        self._lazymig_prepared = deque(items)

    def _lazymig_forget(self) -> None:
        self._lazymig_asked = None
        self._lazymig_unjudged = None
        self._lazymig_ready = None
        self._lazymig_prepared = None
        self._lazymig_reader = None
        self._lazymig_cursor = self._cursor_obj

    def _lazymig_next_by_user(self) -> Any:
        """The user's own __next__, each document by itself."""
        while True:
            source = self._lazymig_source()
            self._lazymig_stepping = self._lazymig_raw = True
            try:
                with reading_from(source):
                    return super().__next__()
            except DocumentLeftOut:
                continue
            finally:
                self._lazymig_stepping = self._lazymig_raw = False

    def rewind(self) -> None:
        """Rewind the cursor to its unevaluated state."""
        with self._lazymig_with({"_lazymig_raw": self._lazymig_migrates()}):
            super().rewind()
        self._lazymig_forget()

    # The other doors

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
        if isinstance(key, slice) or not self._lazymig_migrates():
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
        if self._as_pymongo or not self._lazymig_migrates():
            found: dict[Any, Any] = super().in_bulk(object_ids)
            return found
        if self._cursor_obj is not None:
            bulk: dict[Any, Any] = self._lazymig_without_cursor().in_bulk(object_ids)
            return bulk
        options = self._collection.codec_options
        cursor = as_bytes(self._collection).find({"_id": {"$in": object_ids}}, **self._cursor_args)
        # MongoEngine looks at the ids alone, whatever class they lead to.
        source = replace(self._lazymig_source(), classes=None)
        family = self._lazymig_family()
        asked, build = self._lazymig_asked_for(), self._lazymig_build()
        documents: dict[Any, Any] = {}
        while raws := take(cursor, options, _IN_BULK_BATCH):
            items = load_batch(family, source, raws, build, asked=asked)
            for stored, item in zip(raws, items, strict=True):
                if isinstance(item, Exception):
                    raise item
                if item is not LEFT_OUT:
                    documents[stored["_id"]] = self._get_scalar(item) if self._scalar else item
        return documents

    def modify(
        self,
        upsert: bool = False,
        full_response: bool = False,
        remove: bool = False,
        new: bool = False,
        array_filters: Any = None,
        **update: Any,
    ) -> Any:
        """Update or remove one document and return it, as MongoEngine's `modify` does.

        The document that is about to be hit is migrated first, so that the update meets, and the
        old image shows, the new shape. That takes one more read.
        """
        if self._cursor_obj is not None:
            return self._lazymig_without_cursor().modify(
                upsert, full_response, remove, new, array_filters, **update
            )
        queryset = self
        source = unhelped = None
        if self._lazymig_migrates():
            if not (self._none or self._empty):
                with update_refusals():
                    queryset = self._lazymig_for_read(
                        "modify()",
                        (),
                        # It is sent without a collation, and in the order that was asked for alone.
                        ordered=bool(self._ordering),
                        collation=None,
                    )
                unhelped = queryset._lazymig_migrate_next()
            # The old image is not what is stored any more: it cannot be migrated, only shown.
            source = self._lazymig_source(lone=True) if new else None
            if not (self._none or self._empty):
                with update_refusals():
                    positional = self._lazymig_positional(self._lazymig_projection())
                    if upsert:
                        queryset = self._lazymig_for_upsert(*self._lazymig_touched(update))
                    elif positional is not None or is_positional(update):
                        touched = self._lazymig_touched(update)
                        queryset = self._lazymig_for_positional("modify()", *touched)
        try:
            with reading_from(source):
                return super(LazyMigrationQuerySet, queryset).modify(
                    upsert=upsert,
                    full_response=full_response,
                    remove=remove,
                    new=new,
                    array_filters=array_filters,
                    **update,
                )
        except DocumentLeftOut:
            return None
        except Exception as exc:
            if isinstance(unhelped, type(exc)):
                # The same trouble again, which carries no note where the image shows what was.
                raise unhelped from exc
            raise

    def upsert_one(self, write_concern: Any = None, read_concern: Any = None, **update: Any) -> Any:
        """Overwrite or add one document and return it, as MongoEngine's `upsert_one` does.

        The document that is about to be overwritten is migrated first, as in `modify`.
        """
        if self._lazymig_migrates() and not (self._none or self._empty):
            # The update takes no heed of an order.
            queryset = self.order_by()._lazymig_for_read("upsert_one()", (), collation=None)
            queryset._lazymig_migrate_next()
        return super().upsert_one(write_concern, read_concern, **update)

    def _lazymig_migrate_next(self) -> Exception | None:
        """Migrate the document that the query, in its order, comes to first.

        :return: MongoEngine's own exception, with a note, if no rule made the document loadable.
        """
        collection, family = self._lazymig_own_collection(), self._lazymig_family()
        source, reader = Source(collection, lone=True), as_bytes(on_primary(collection))
        item: Any = None
        for _attempt in range(_MODIFY_ATTEMPTS):
            with update_refusals():
                found = reader.find_one(self._query, sort=self._ordering or None)
            if found is None:
                return None
            raws: list[Any] = [decode(found, collection.codec_options)]
            items = bring_up(source, raws, family, None)
            (item,) = load_batch(family, source, items, self._lazymig_build(), judged=True)
            if isinstance(item, MigrationError):
                raise item
            if items is raws:
                break
        return item if isinstance(item, Exception) else None

    # What the doors share

    def _lazymig_without_cursor(self) -> Any:
        """A clone that does what the options of this queryset say, and no cursor."""
        queryset = self.clone()
        queryset._cursor_obj = None
        return queryset

    def _lazymig_migrates(self) -> bool:
        return not (self._as_pymongo or self._lazymig_shows_stored())

    def _lazymig_iterates(self) -> bool:
        """Whether the documents of the cursor are migrated."""
        return not (self._as_pymongo or self._lazymig_reads_stored())

    def _lazymig_family(self) -> Family:
        family = family_of(self._document)
        assert family is not None, "a live queryset class belongs to a model with rules"
        return family

    def _lazymig_build(self) -> Build:
        build = partial(builder_of(self._document), _auto_dereference=self._auto_dereference)
        if asks_for_all(self._lazymig_family(), self._lazymig_asked_for()):
            return marking(build, self._collection)
        return build

    def _lazymig_asked_for(self) -> Mapping[Plan, Plan] | None:
        if self._lazymig_asked is None:
            projection = self._lazymig_projection()
            self._lazymig_asked = (asked_for(self._lazymig_family(), projection),)
        return self._lazymig_asked[0]

    def _lazymig_projection(self) -> Mapping[str, Any] | None:
        fields = self._lazymig_carried_fields
        if not fields and not self._search_text:
            return None
        with self._lazymig_with({"_loaded_fields": fields}):
            projection: Mapping[str, Any] | None = super()._cursor_args.get("projection")
        return projection

    def _lazymig_hides_id(self) -> bool:
        fields = self._lazymig_carried_fields
        if not fields or fields.as_dict().get("_id") != 0:
            return False
        return self._lazymig_iterates() and (
            bool(self._lazymig_asked_for())
            or may_rescue(self._lazymig_family(), self._lazymig_projection())
        )

    @property
    def _cursor_args(self) -> dict[str, Any]:
        arguments: dict[str, Any] = super()._cursor_args
        if "projection" in arguments and self._lazymig_hides_id():
            # A document is migrated by its `_id`; _shown() takes it out again.
            projection = {k: v for k, v in arguments["projection"].items() if k != "_id"}
            if projection:
                arguments["projection"] = projection
            else:
                # For PyMongo an empty projection asks for the `_id` alone.
                del arguments["projection"]
        return arguments

    def _lazymig_source(self, lone: bool = False) -> Source:
        classes = None
        if self._cls_query and root_of(self._document) is not self._document:
            classes = frozenset(self._document._subclasses)
        fields = self._lazymig_carried_fields
        projection = positional = None
        if fields or self._search_text:
            with self._lazymig_with({"_loaded_fields": fields}):
                projection = self._cursor_args.get("projection")
            positional = self._lazymig_positional(projection)
        return Source(
            self._lazymig_own_collection(),
            projection,
            self._lazymig_hides_id(),
            lone or self._lazymig_lone,
            classes,
            positional,
        )
