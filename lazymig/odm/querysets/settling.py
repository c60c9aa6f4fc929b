"""SettlingQuerySet: the filter of a queryset, rewritten, and what has to be settled before.

To settle documents is to migrate them first: those that an operation meets, where no filter over
stored shapes says exactly what it asks for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any
from uuid import UUID

from bson import ObjectId
from mongoengine.queryset import transform

from lazymig.engines.access import all_of
from lazymig.engines.reading.labelled import labelled
from lazymig.engines.settling import Search, find_refused
from lazymig.odm.querysets.former import FormerClassesQuerySet
from lazymig.odm.querysets.hints import HintedIndex, hinted_index, hinted_paths
from lazymig.odm.querysets.rewrites import (
    Need,
    Rewrites,
    bring_up,
    rewrites_in,
)
from lazymig.odm.querysets.rewritten import RewrittenFilter, rewritten_filter
from lazymig.odm.schema import field_path, untouched_collection
from lazymig.rules.dependencies import Paths
from lazymig.updates.update import read_paths, written_paths

__all__ = ["SettlingQuerySet", "sorted_paths"]


class SettlingQuerySet(FormerClassesQuerySet):
    """Rewrites filters, and settles what a rewritten one cannot find."""

    _lazymig_of_clones = (
        *FormerClassesQuerySet._lazymig_of_clones,
        "_lazymig_keys",
        "_lazymig_left",
        "_lazymig_of_model",
        "_lazymig_settled",
        "_lazymig_still",
        "_lazymig_writing",
    )

    _lazymig_seen: tuple[Any, Rewrites, RewrittenFilter] | None = None

    # The filter is sent unchanged: everything that it may find has been settled.
    _lazymig_settled = False

    # Nothing is settled any more: it has been, or what is asked only looks at the filter.
    _lazymig_still = False

    # What is read is about to be written, by this queryset or a clone.
    _lazymig_writing = False

    # MongoEngine reads the model's own collection, whatever using() says.
    _lazymig_of_model = False

    # Documents that were refused, and whose old shape the filter does not find.
    _lazymig_refused: Mapping[str, Any] | None = None

    # Those of them that up_to_date() has met.
    _lazymig_left: Mapping[str, Any] | None = None

    # The keys of order_by(), by their database paths.
    _lazymig_keys: Mapping[str, str] = MappingProxyType({})

    def _clone_into(self, new_qs: Any) -> Any:
        if self._lazymig_still:
            new_qs._lazymig_refused = self._lazymig_refused
        return super()._clone_into(new_qs)

    def _get_order_by(self, keys: Iterable[str]) -> Any:
        keys = list(keys)
        order = super()._get_order_by(keys)
        written = [key[1:] if key[0] in "+-" else key for key in keys if key]
        self._lazymig_keys = {
            path: key for (path, _direction), key in zip(order, written, strict=True)
        }
        return order

    def _lazymig_filter(self, query: Mapping[str, Any], rewrites: Rewrites) -> RewrittenFilter:
        seen = self._lazymig_seen
        # A rule may be sealed, or unsealed, at any moment.
        if seen is None or seen[0] is not query or seen[1] is not rewrites:
            rewritten = rewritten_filter(
                self._document, query, rewrites, collation=self._collation is not None
            )
            seen = self._lazymig_seen = (query, rewrites, rewritten)
        return seen[2]

    def _lazymig_rewrites(self, *, of_model: bool = False) -> Rewrites | None:
        if self._as_pymongo or self._lazymig_shows_stored():
            return None
        if self._lazymig_searches and super()._query is None:
            return None
        collection = self._collection
        if of_model or self._lazymig_of_model:
            collection = untouched_collection(self._document)
        return rewrites_in(self._document, collection, self._read_preference)

    def _lazymig_bring_up(
        self,
        query: Mapping[str, Any],
        rewrites: Rewrites,
        needs: Iterable[Need],
        *,
        writes: bool = False,
        matched: Mapping[str, Any] | None = None,
    ) -> None:
        """Settle the documents that match, if the filter or what is done with them needs it.

        :param query: MongoEngine's own filter.
        :param matched: what is asked besides of the documents that the filter finds, as it stands.
        :param writes: the operation is a write, which may not hit a refused document.
        """
        self._lazymig_refused = None
        own = rewritten = self._lazymig_filter(query, rewrites)
        if matched:
            query = all_of(query, matched)
            rewritten = self._lazymig_filter(query, rewrites)
        needs = [need for need in needs if need.rules]
        needs.extend(self._lazymig_needs_of_filter(rewritten))
        if not needs:
            return
        collection = self._collection
        if self._lazymig_of_model:
            collection = untouched_collection(self._document)
        queries = [rewritten.within]
        # Neither may what will match be overlooked, nor what matches no more be hit.
        if matched:
            queries.append(all_of(own.within, matched))
        elif self._lazymig_settled and rewritten.within is not query:
            queries.append(query)
        search = Search(
            self._collation, None if writes else self._max_time_ms or None, self._comment
        )
        # The time limit is one of reads.
        collection = labelled(collection, self._comment, search.max_time_ms)
        refused = bring_up(
            self._document,
            collection,
            queries,
            rewrites,
            needs,
            search,
            for_write=writes or self._lazymig_writing,
        )
        if not refused:
            return
        # They are what they are stored as, so the filter finds them, or not, as it is.
        found = find_refused(collection, refused, query, self._collation)
        for key in found:
            if writes and refused[key].plan.on_error == "raise":
                raise refused[key].error
        missed = [refused[key].document_id for key in refused.keys() - found.keys()]
        if missed:
            self._lazymig_refused = {"_id": {"$nin": missed}}

    def _lazymig_for_read(
        self,
        operation: str,
        paths: Paths,
        *,
        where: bool = False,
        ordered: bool = False,
        of_model: bool = False,
        matched: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """A clone for one operation that reads, for which everything has been settled.

        :param paths: the paths that it reads; `None` for any.
        :param matched: what it asks besides of the documents that it reads on.
        :param where: it heeds `where()`.
        :param ordered: it heeds the order.
        :param of_model: MongoEngine reads the model's own collection for it.
        :param options: what it obeys in place of the queryset's own options.
        """
        rewrites = self._lazymig_rewrites(of_model=of_model)
        if rewrites is None or self._none or self._empty:
            return self
        if not (where or ordered or rewrites.writing(paths)) and self._lazymig_asks_as_is(rewrites):
            return self
        queryset = self.clone()
        for name, value in options.items():
            setattr(queryset, f"_{name}", value)
        queryset._lazymig_of_model = of_model
        query = None
        with suppress(Exception):
            # Of a query that cannot be built MongoEngine says so in its own turn.
            query = super(SettlingQuerySet, queryset)._query
        if query is not None and not self._lazymig_settled:
            needs = [Need(operation, rewrites.writing(paths))]
            if where:
                needs.append(queryset._lazymig_need_of_where(rewrites))
            if ordered:
                needs.append(queryset._lazymig_need_of_order(rewrites, query))
            queryset._lazymig_bring_up(query, rewrites, needs, matched=matched)
        queryset._lazymig_still = True
        return queryset

    def _lazymig_asks_as_is(self, rewrites: Rewrites) -> bool:
        """Return whether no rule concerns the filter."""
        with suppress(Exception):
            # Of a query that cannot be built MongoEngine says so in its own turn.
            return not rewrites.rewriter.is_concerned(super()._query)
        return False

    def _lazymig_meets(self, rewrites: Rewrites, written: Paths, read: Paths) -> bool:
        """Return whether a rule concerns a write, or its filter."""
        need = _need_of_write(rewrites, "", written, read)
        return bool(need.rules) or not self._lazymig_asks_as_is(rewrites)

    def _lazymig_for_write(
        self,
        operation: str,
        written: Paths,
        read: Paths,
        *,
        where: bool = False,
        positional: bool = False,
    ) -> Any:
        """A clone for a write, for which everything has been settled.

        It is the queryset itself where no rule is concerned.

        :param written: the paths that it writes; `None` for any.
        :param read: the paths that it computes from; `None` for any.
        :param where: it heeds `where()`.
        :param positional: its `$` stands for an array element that the filter has found. MongoDB
            takes none from a condition below an `$or`, so the filter is sent as it is.
        """
        rewrites = self._lazymig_rewrites()
        if rewrites is None:
            return self
        needs = [_need_of_write(rewrites, operation, written, read)]
        if where:
            needs.append(self._lazymig_need_of_where(rewrites))
        hinted = self._lazymig_hinted(self._hint)
        if hinted is not None:
            needs.append(Need(f"{operation} by a hint", hinted[1]))
        as_is = positional or hinted is not None
        if not (as_is or any(need.rules for need in needs)) and self._lazymig_asks_as_is(rewrites):
            return self
        queryset = self.clone()
        if as_is:
            for name, value in queryset._lazymig_as_is(*needs, writes=True).items():
                setattr(queryset, name, value)
            return queryset
        query = super(SettlingQuerySet, queryset)._query
        queryset._lazymig_bring_up(query, rewrites, needs, writes=True)
        queryset._lazymig_still = True
        return queryset

    def _lazymig_for_upsert(self, written: Paths, read: Paths, *, sets_class: bool = False) -> Any:
        """A clone whose filter is sent unchanged, as what an upsert inserts is taken from it.

        :param written: the paths that the upsert writes; `None` for any.
        :param read: the paths that it computes from; `None` for any.
        :param sets_class: MongoEngine sets the class too, if the filter asks for one.
        """
        rewrites = self._lazymig_rewrites()
        hinted = self._lazymig_hinted(self._hint)
        queryset = self.clone()
        # An equality on `_cls` is what MongoDB writes into the new document.
        narrowed = queryset._lazymig_narrow()
        query = super(SettlingQuerySet, queryset)._query
        if sets_class and written is not None and "_cls" in query:
            written = {*written, "_cls"}
        if rewrites is not None:
            queryset._lazymig_settled = True
            filtering = rewrites.concerning([query])
            if narrowed:
                filtering |= rewrites.writing(("_cls",))
            if hinted is not None:
                filtering |= hinted[1]
            needs = [
                _need_of_write(rewrites, "an upsert", written, read),
                Need("an upsert", filtering),
            ]
            queryset._lazymig_bring_up(query, rewrites, needs, writes=True)
        return queryset

    def _lazymig_hinted(self, hint: Any) -> tuple[HintedIndex, frozenset[int]] | None:
        """A hinted index that does not hold all documents, and the rules that write its paths.

        `None` where it holds all, or no rule matters to what it finds.
        """
        if hint in (-1, None) or self._none or self._empty or self._lazymig_settled:
            return None
        rewrites = self._lazymig_rewrites()
        if rewrites is None:
            return None
        paths = hinted_paths(self._document, hint)
        filtering = rewrites.concerning([super()._query])
        if paths is not None and not filtering and not rewrites.writing(paths):
            return None
        index = hinted_index(self._collection, hint)
        return None if index is None else (index, rewrites.writing(index.paths))

    def _lazymig_as_is(self, *needs: Need, writes: bool = False) -> dict[str, Any]:
        """Settle so that the filter may be sent unchanged, if a rule concerns it or the operation.

        :param needs: those of the operation, at least one.
        :return: the attributes of a queryset that sends it so; none if no rule is concerned.
        """
        rewrites = self._lazymig_rewrites()
        if rewrites is None or self._none or self._empty or self._lazymig_settled:
            return {}
        query = super()._query
        all_needs = [*needs, Need(needs[0].operation, rewrites.concerning([query]))]
        if not any(one.rules for one in all_needs):
            return {}
        changes = {"_lazymig_settled": True}
        if not self._lazymig_still:
            with self._lazymig_with(changes):
                self._lazymig_bring_up(query, rewrites, all_needs, writes=writes)
        return changes

    def _lazymig_needs_of_filter(self, rewritten: RewrittenFilter) -> list[Need]:
        if not rewritten.unseen:
            return []
        names = dict.fromkeys(self._lazymig_name_of(each.path) for each in rewritten.unseen)
        operation = f"a query by {', '.join(names)}"
        return [Need(operation, rewritten.opaque, old=rewritten.old)]

    def _lazymig_need_of_where(self, rewrites: Rewrites) -> Need:
        # Nobody knows what JavaScript reads.
        return Need("where()", rewrites.writing(None) if self._where_clause else frozenset())

    def _lazymig_need_of_order(self, rewrites: Rewrites, query: Mapping[str, Any]) -> Need:
        paths = None if _finds_one(query) else self._lazymig_order()
        if not paths:
            return Need("order_by", frozenset())
        rules = rewrites.writing(paths)
        if not rules:
            return Need("order_by", rules)
        concerned = [path for path in paths if rewrites.writing((path,))]
        return Need(f"order_by {', '.join(map(self._lazymig_name_of, concerned))}", rules)

    def _lazymig_order(self) -> list[str]:
        """The database paths that the results are sorted by."""
        return sorted_paths(self._lazymig_ordered())

    def _lazymig_ordered(self) -> Any:
        """The order of the results, the model's own if no other is given, as PyMongo takes it."""
        order = self._ordering
        if order is None and self._document._meta["ordering"]:
            order = self._get_order_by(self._document._meta["ordering"])
        return order

    def _lazymig_name_of(self, path: str) -> str:
        """A database path as the user wrote it, or would write it."""
        return self._lazymig_keys.get(path) or field_path(self._document, path)

    def _lazymig_touched(self, update: Mapping[str, Any]) -> tuple[Paths, Paths]:
        """The paths that an update writes, and those that it computes from; `None` for any."""
        raw = update.get("__raw__")
        changes = raw if isinstance(raw, list) else transform.update(self._document, **update)
        try:
            return written_paths(changes), read_paths(changes)
        except (AttributeError, TypeError, ValueError):
            # No update: MongoDB says so in its own turn.
            return None, None


def _need_of_write(rewrites: Rewrites, operation: str, written: Paths, read: Paths) -> Need:
    rules = rewrites.using(written) | rewrites.writing(read)
    return Need(operation, rules, rewrites.asking(written))


def sorted_paths(order: Any) -> list[str]:
    """The database paths of an order, in any form that PyMongo takes."""
    if isinstance(order, str):
        return [order]
    keys = (key if isinstance(key, str) else key[0] for key in order or ())
    return [path for path in keys if path != "_text_score"]


def _finds_one(query: Mapping[str, Any]) -> bool:
    """Return whether a filter names one `_id`, so that there is nothing to be sorted."""
    return type(query.get("_id")) in (ObjectId, str, int, UUID)
