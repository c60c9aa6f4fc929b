"""IteratingQuerySet: documents are brought up to date as they come from the cursor."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from mongoengine.queryset.queryset import ITER_CHUNK_SIZE

from lazymig.engines.access import is_mongomock
from lazymig.engines.reading.steady import SteadyReader
from lazymig.odm.loading import (
    Build,
    DocumentLeftOut,
    Loading,
    Source,
    asked_for,
    asks_for_all,
    builder_of,
    may_rescue,
    reading_from,
)
from lazymig.odm.marks import marking
from lazymig.odm.plans import family_of, root_of
from lazymig.odm.querysets.batches import Batches
from lazymig.odm.querysets.ordered import OrderedQuerySet
from lazymig.odm.querysets.steady import StepByStep, may_walk_an_index, requery_of
from lazymig.odm.sealed import family_in
from lazymig.rules.plan import Family

if TYPE_CHECKING:
    from lazymig.engines.reading.pinned import Requery

__all__ = ["IteratingQuerySet"]

# So many documents come in one answer, if they are not too large for it. To decode them here takes
# as much again as PyMongo takes.
_FEW: Final = 100


class IteratingQuerySet(OrderedQuerySet):
    """Hands out the documents of its cursor from `Batches`, and knows how they are loaded."""

    _lazymig_of_cursor = (
        "_lazymig_batches",
        "_lazymig_handed_on",
        "_lazymig_made",
        "_lazymig_seen",
    )

    # Whether the user's class has a __next__ of its own, which has to be called.
    _lazymig_own_next = False

    _lazymig_batches: Batches | None = None
    _lazymig_stepping = False

    def __next__(self) -> Any:
        if not self._lazymig_iterates():
            return super().__next__()
        if self._lazymig_own_next:
            return self._lazymig_next_by_user()
        if self._none or self._empty:
            raise StopIteration
        document = self._lazymig_held().next(self)
        return self._get_scalar(document) if self._scalar else document

    def _populate_cache(self) -> None:
        # What next() would do a hundred times, without what it would find out anew each time.
        if self._scalar or self._lazymig_own_next or self._as_pymongo:
            super()._populate_cache()
            return
        if self._result_cache is None:
            self._result_cache = []
        if self._none or self._empty:
            self._has_more = False
        if not self._has_more:
            return
        full = len(self._result_cache) + ITER_CHUNK_SIZE
        try:
            if not (self._lazymig_reads_stored() and self._lazymig_fill_stored(full)):
                self._lazymig_held().fill(self._result_cache, full, self)
        except StopIteration:
            self._has_more = False

    def _lazymig_fill_stored(self, full: int) -> bool:
        """Append instances to the cache until it is full, as they are stored.

        :return: whether they are to be shown so by the cursor, which may have been made just now.
        """
        cursor = self._cursor
        if not self._lazymig_made.stored:
            return False
        build = partial(self._document._from_son, _auto_dereference=self._auto_dereference)
        cache = self._result_cache
        while len(cache) < full:
            cache.append(build(next(cursor)))
        return True

    def _lazymig_held(self) -> Batches:
        """The batches of the cursor, be it one that count(), rewind() or others have begun."""
        held = self._lazymig_batches
        if held is None or held.cursor is not self._cursor_obj:
            decoded = self._lazymig_are_few()
            with self._lazymig_with({"_lazymig_decoded": True} if decoded else {}):
                cursor = self._lazymig_raw_cursor()
            held = self._lazymig_batches_of(cursor, decoded=decoded)
        return held

    def _lazymig_are_few(self) -> bool:
        """Return whether a cursor has to be made, and one answer has all of its documents."""
        if self._cursor_obj is not None and not self._lazymig_handed_on:
            return False
        limit = abs(self._limit or 0)
        few = 0 < limit <= _FEW and self._batch_size is None
        return few and not is_mongomock(self._collection)

    def _lazymig_batches_of(self, cursor: Any, *, decoded: bool = False) -> Batches:
        held = self._lazymig_batches
        if held is None or held.cursor is not cursor:
            held = Batches(cursor, self._lazymig_reader_of(cursor), decoded=decoded)
            self._lazymig_batches = held
        return held

    def _lazymig_reader_of(self, cursor: Any) -> SteadyReader:
        # What is sorted, or put together, as a whole is read before any of it is handed out.
        exposed = not hasattr(cursor, "is_merged") and may_walk_an_index(
            self, self._lazymig_order()
        )
        return SteadyReader(cursor, self._collection, exposed=exposed)

    def _lazymig_anew(self, cursor: Any) -> tuple[Any, SteadyReader]:
        """A cursor that leaves its documents as bytes, in place of one that does not."""
        cursor.close()
        self._lazymig_handed_on = True
        again = self._lazymig_raw_cursor()
        return again, self._lazymig_reader_of(again)

    def _lazymig_requery(self) -> Requery | None:
        return requery_of(self, self._lazymig_family(), self._lazymig_order())

    @property
    def _cursor(self) -> Any:
        cursor = self._cursor_obj
        # Each document that is not migrated comes by here.
        if cursor is None or self._lazymig_handed_on:
            cursor = super()._cursor
        return StepByStep(self, cursor) if self._lazymig_stepping else cursor

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
        self._lazymig_batches = None

    # How documents are loaded

    def _lazymig_migrates(self) -> bool:
        return not (self._as_pymongo or self._lazymig_shows_stored())

    def _lazymig_iterates(self) -> bool:
        """Return whether the documents of the cursor are migrated."""
        return not (self._as_pymongo or self._lazymig_reads_stored())

    def _lazymig_family(self) -> Family:
        """The plans of the collection, without the rules that are sealed at this moment."""
        family = family_in(self._document, self._collection, self._read_preference)
        assert family is not None, "a live queryset class belongs to a model with rules"
        return family

    def _lazymig_loading(self) -> Loading:
        family = self._lazymig_family()
        asked = asked_for(family, self._lazymig_projection())
        build: Build = partial(builder_of(self._document), _auto_dereference=self._auto_dereference)
        if asks_for_all(family, asked):
            build = marking(build, self._collection)
        return Loading(family, self._lazymig_source(), build, asked, for_read=True)

    def _lazymig_projection(self) -> Mapping[str, Any] | None:
        """The projection as the user asked for it; `None` for whole documents."""
        fields = self._lazymig_carried_fields
        if not fields and not self._search_text:
            return None
        with self._lazymig_with({"_loaded_fields": fields}):
            projection: Mapping[str, Any] | None = super()._cursor_args.get("projection")
        return projection

    def _lazymig_hides_id(self) -> bool:
        fields = self._lazymig_carried_fields
        if not fields or fields.as_dict().get("_id") != 0 or not self._lazymig_iterates():
            return False
        # A cursor outlasts what is known of seals.
        family, projection = family_of(self._document), self._lazymig_projection()
        assert family is not None, "a live queryset class belongs to a model with rules"
        return bool(asked_for(family, projection)) or may_rescue(family, projection)

    @property
    def _cursor_args(self) -> dict[str, Any]:
        arguments: dict[str, Any] = super()._cursor_args
        if "projection" in arguments and self._lazymig_hides_id():
            # A document is migrated by its `_id`; `Loading` takes it out again.
            projection = {k: v for k, v in arguments["projection"].items() if k != "_id"}
            if projection:
                arguments["projection"] = projection
            else:
                # For PyMongo an empty projection asks for the `_id` alone.
                del arguments["projection"]
        return arguments

    def _lazymig_source(self, *, lone: bool = False) -> Source:
        classes = None
        if self._cls_query and root_of(self._document) is not self._document:
            classes = frozenset(self._document._subclasses)
        fields = self._lazymig_carried_fields
        projection = positional = None
        if fields or self._search_text:
            with self._lazymig_with({"_loaded_fields": fields}):
                projection = self._cursor_args.get("projection")
            positional = self._lazymig_positional(projection)
        collection = self._lazymig_own_collection()
        if self._read_preference is not None:
            # What is read from a secondary may be older than a seal.
            collection = collection.with_options(read_preference=self._read_preference)
        return Source(
            collection,
            projection,
            self._lazymig_hides_id(),
            lone or self._lazymig_lone,
            classes,
            positional,
        )
