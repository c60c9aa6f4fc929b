"""The doors of a queryset through which a filter goes, rewritten, or after settling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any
from uuid import UUID

from bson import ObjectId
from mongoengine import signals
from mongoengine.errors import InvalidQueryError, LookUpError, OperationError
from mongoengine.queryset import transform
from pymongo.errors import OperationFailure

from lazymig.engines.access import all_of
from lazymig.engines.reading.labelled import labelled
from lazymig.engines.settling import Search, find_refused
from lazymig.odm.querysets.joining import NOTHING_PENDING
from lazymig.odm.querysets.options import OptionsQuerySet
from lazymig.odm.querysets.rewrites import (
    Need,
    Rewrites,
    RewrittenFilter,
    bring_up,
    rewrites_of,
    rewritten_filter,
)
from lazymig.odm.schema import field_path
from lazymig.query.aggregations import aggregated_paths
from lazymig.query.positional import is_positional_update
from lazymig.updates.update import read_paths, written_paths

__all__ = ["SeeThroughQuerySet", "is_positional", "update_refusals"]


@contextmanager
def update_refusals() -> Iterator[None]:
    """What MongoDB refuses before an update raises what MongoEngine raises for the update."""
    try:
        yield
    except OperationFailure as exc:
        raise OperationError(f"Update failed ({exc})") from exc


class SeeThroughQuerySet(OptionsQuerySet):
    """Answers as if every document were migrated: filters are rewritten, other readers settle."""

    _lazymig_of_clones = (
        *OptionsQuerySet._lazymig_of_clones,
        "_lazymig_keys",
        "_lazymig_of_model",
        "_lazymig_settled",
        "_lazymig_still",
    )

    _lazymig_seen: tuple[Any, RewrittenFilter] | None = None

    # The filter goes out as it is: everything that it may find has been settled.
    _lazymig_settled = False

    # Nothing is settled any more: it has been, or what is asked only looks at the filter.
    _lazymig_still = False

    # The cursor is only asked for its collection.
    _lazymig_counting = False

    # MongoEngine reads the model's own collection, whatever using() says.
    _lazymig_of_model = False

    # Documents that were refused, and whose old shape the filter does not find.
    _lazymig_refused: Mapping[str, Any] | None = None

    # The keys of order_by(), by their database paths.
    _lazymig_keys: Mapping[str, str] = MappingProxyType({})

    def explain_migration(self) -> str:
        """Say in plain words what happens when this queryset is iterated while rules are pending.

        Nothing is written: how the filter is sent, what is settled first, by which rules, and why.
        """
        rewrites = self._lazymig_rewrites()
        if rewrites is None:
            return NOTHING_PENDING
        query = super()._query
        rewritten = self._lazymig_filter(query, rewrites)
        names = ", ".join(step.name for step in rewrites.rewriter.steps)
        lines = [f"Rules that queries see through: {names}."]
        if rewritten.query is query and not rewritten.unseen:
            lines.append(f"None concerns this filter, which is sent as it is: {query!r}")
        else:
            lines.append(f"The filter {query!r} is sent as {dict(rewritten.query)!r}.")
        lines.extend(f"Settled first, because {reason}." for reason in rewritten.unseen)
        needs = self._lazymig_needs_of_filter(rewritten, rewrites)
        for need, verb in (
            (self._lazymig_need_of_where(rewrites), "is asked"),
            (self._lazymig_need_of_order(rewrites, query), "sorts"),
        ):
            if need.rules:
                needs.append(need)
                what = need.operation.replace("order_by ", "by ")
                lines.append(f"Settled first, because it {verb} {what}.")
        if needs:
            wanted = frozenset().union(*(need.rules for need in needs))
            names = ", ".join(rewrites.names(rewrites.with_dependencies(wanted)))
            lines.append(f"Settled by: {names}.")
        return "\n".join(lines)

    @property
    def _query(self) -> Any:
        query = super()._query
        rewrites = self._lazymig_rewrites()
        if rewrites is None or self._lazymig_settled or self._lazymig_unasked:
            return query
        if self._lazymig_indexed is not None:
            query = all_of(query, self._lazymig_indexed)
        rewritten = self._lazymig_filter(query, rewrites)
        if rewritten.unseen and not self._lazymig_still:
            self._lazymig_bring_up(query, rewrites, ())
        if self._lazymig_refused is not None:
            return all_of(rewritten.query, self._lazymig_refused)
        return rewritten.query

    @property
    def _cursor(self) -> Any:
        if self._lazymig_counting and (self._cursor_obj is None or self._lazymig_handed_on):
            return self._lazymig_read_collection().find({})
        return super()._cursor

    def _lazymig_make_cursor(self) -> Any:
        rewrites = self._lazymig_rewrites()
        if (
            rewrites is None
            or self._lazymig_unasked
            or self._lazymig_still
            or self._lazymig_settled
        ):
            return super()._lazymig_make_cursor()
        query = super()._query
        needs = [self._lazymig_need_of_order(rewrites, query)]
        if self._where_clause:
            needs.append(self._lazymig_need_of_where(rewrites))
        self._lazymig_bring_up(query, rewrites, needs)
        changes = self._lazymig_for_projection() or self._lazymig_for_hint(self._hint)
        self._lazymig_changes = changes
        with self._lazymig_with({"_lazymig_still": True, **changes}):
            return super()._lazymig_make_cursor()

    def explain(self) -> Any:
        """Return MongoDB's plan for this queryset's filter as it is sent; nothing is written."""
        queryset = self.clone()
        queryset._lazymig_still = True
        changes = queryset._lazymig_for_projection() or queryset._lazymig_for_hint(queryset._hint)
        with queryset._lazymig_with(changes):
            return super(SeeThroughQuerySet, queryset).explain()

    def count(self, with_limit_and_skip: bool = False) -> int:
        """Count the documents that match, old ones by what they are about to be."""
        changes = self._lazymig_for_hint(self._hint)
        if self._lazymig_rewrites() is not None:
            changes["_lazymig_counting"] = True
        with self._lazymig_with(changes):
            counted: int = super().count(with_limit_and_skip)
        return counted

    def distinct(self, field: str) -> Any:
        """Return the distinct values of a field."""
        queryset = self._lazymig_for_read(
            f"distinct({field!r})", self._lazymig_paths([field]), where=True
        )
        return super(SeeThroughQuerySet, queryset).distinct(field)

    def sum(self, field: str) -> Any:
        """Sum the values of a field."""
        queryset = self._lazymig_for_read(
            f"sum({field!r})", self._lazymig_paths([field]), collation=None, of_model=True
        )
        return super(SeeThroughQuerySet, queryset).sum(field)

    def average(self, field: str) -> Any:
        """Average the values of a field."""
        queryset = self._lazymig_for_read(
            f"average({field!r})", self._lazymig_paths([field]), collation=None, of_model=True
        )
        return super(SeeThroughQuerySet, queryset).average(field)

    def aggregate(self, pipeline: Any, *suppl_pipeline: Any, **kwargs: Any) -> Any:
        """Run an aggregation over the documents that match."""
        if not isinstance(pipeline, Mapping):
            pipeline = list(pipeline)
        stages = [pipeline] if isinstance(pipeline, Mapping) else pipeline
        paths = aggregated_paths([*stages, *suppl_pipeline])
        if paths is not None:
            paths = paths.union(_sorted_paths(self._ordering))
        changes = self._lazymig_for_hint(kwargs.get("hint"))
        if "_hint" in changes:
            del kwargs["hint"]
        queryset = self._lazymig_for_read(
            "aggregate()",
            paths,
            # MongoEngine hands on what is given here, and nothing that the queryset holds.
            collation=kwargs.get("collation"),
            max_time_ms=kwargs.get("maxTimeMS"),
            comment=kwargs.get("comment"),
        )
        with queryset._lazymig_with(changes):
            return super(SeeThroughQuerySet, queryset).aggregate(
                pipeline, *suppl_pipeline, **kwargs
            )

    def map_reduce(self, *args: Any, **kwargs: Any) -> Any:
        """Run a map-reduce over the documents that match."""
        queryset = self._lazymig_for_read("map_reduce()", None, collation=None, of_model=True)
        return super(SeeThroughQuerySet, _beside_an_or(queryset)).map_reduce(*args, **kwargs)

    def exec_js(self, code: Any, *fields: Any, **options: Any) -> Any:
        """Run JavaScript over the documents that match."""
        queryset = self._lazymig_for_read("exec_js()", None, collation=None, of_model=True)
        return super(SeeThroughQuerySet, queryset).exec_js(code, *fields, **options)

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

        :raises MigrationError: a document that matches could not be migrated, though a rule reads
            or writes what the update does, and `on_error` is `"raise"`.
        """
        queryset = self
        with update_refusals():
            if self._lazymig_rewrites() is not None and not (self._none or self._empty):
                touched = self._lazymig_touched(update)
                if upsert:
                    queryset = self._lazymig_for_upsert(*touched, sets_class=True)
                elif is_positional(update):
                    queryset = self._lazymig_for_positional("update()", *touched)
                else:
                    queryset = self._lazymig_for_write("update()", *touched)
            return super(SeeThroughQuerySet, queryset).update(
                upsert=upsert,
                multi=multi,
                write_concern=write_concern,
                read_concern=read_concern,
                full_result=full_result,
                array_filters=array_filters,
                **update,
            )

    def delete(
        self, write_concern: Any = None, _from_doc_delete: bool = False, cascade_refs: Any = None
    ) -> Any:
        """Delete the documents that match, old ones by what they are about to be.

        :raises MigrationError: a document that matches could not be migrated, though the filter
            asks for what a rule computes, and `on_error` is `"raise"`.
        """
        queryset = self
        if self._lazymig_rewrites() is not None and not (self._none or self._empty):
            one_by_one = self._skip or self._limit or _signals_deletion(self._document)
            if _from_doc_delete or not one_by_one:
                rules = self._document._meta.get("delete_rules")
                queryset = self._lazymig_for_write("delete()", (), (), where=bool(rules))
                # Referring documents are found for all that match: in whatever order.
                queryset._ordering = []
        return super(SeeThroughQuerySet, queryset).delete(
            write_concern, _from_doc_delete, cascade_refs
        )

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
        if seen is None or seen[0] is not query:
            rewritten = rewritten_filter(
                self._document, query, rewrites, collation=self._collation is not None
            )
            seen = self._lazymig_seen = (query, rewritten)
        return seen[1]

    def _lazymig_rewrites(self) -> Rewrites | None:
        if self._as_pymongo or self._lazymig_shows_stored():
            return None
        return rewrites_of(self._document)

    def _lazymig_read_collection(self) -> Any:
        """The collection as MongoEngine's cursors read it."""
        if self._read_preference is None and self._read_concern is None:
            return self._collection
        return self._collection.with_options(
            read_preference=self._read_preference, read_concern=self._read_concern
        )

    # What is settled, and why

    def _lazymig_bring_up(
        self,
        query: Mapping[str, Any],
        rewrites: Rewrites,
        needs: Iterable[Need],
        *,
        writes: bool = False,
    ) -> None:
        """Settle the documents that match, if the filter or what is done with them needs it.

        :param query: MongoEngine's own filter.
        :param writes: the operation is a write, which may not hit a refused document.
        """
        self._lazymig_refused = None
        rewritten = self._lazymig_filter(query, rewrites)
        needs = [need for need in needs if need.rules]
        needs.extend(self._lazymig_needs_of_filter(rewritten, rewrites))
        if not needs:
            return
        collection = self._collection
        if self._lazymig_of_model:
            collection = self._document._get_db()[self._document._get_collection_name()]
        queries = [rewritten.within]
        if self._lazymig_settled and rewritten.within is not query:
            # Neither may what will match be overlooked, nor what matches no more be hit.
            queries.append(query)
        search = Search(
            self._collation, None if writes else self._max_time_ms or None, self._comment
        )
        # The time limit is one of reads.
        collection = labelled(collection, self._comment, search.max_time_ms)
        refused = bring_up(self._document, collection, queries, rewrites, needs, search)
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

    def _lazymig_settle(
        self,
        operation: str,
        paths: Iterable[str] | None,
        *,
        where: bool = False,
        ordered: bool = False,
    ) -> None:
        """Settle the documents that match for an operation that reads.

        :param paths: the paths that it reads; `None` for any.
        :param where: it heeds `where()`.
        :param ordered: it heeds the order.
        """
        rewrites = self._lazymig_rewrites()
        if rewrites is None or self._none or self._empty or self._lazymig_settled:
            return
        try:
            query = super()._query
        except Exception:
            # A query that cannot be built: MongoEngine says so in its own turn.
            return
        needs = [Need(operation, rewrites.writing(None if paths is None else tuple(paths)))]
        if where:
            needs.append(self._lazymig_need_of_where(rewrites))
        if ordered:
            needs.append(self._lazymig_need_of_order(rewrites, query))
        self._lazymig_bring_up(query, rewrites, needs)

    def _lazymig_for_read(
        self,
        operation: str,
        paths: Iterable[str] | None,
        *,
        where: bool = False,
        ordered: bool = False,
        of_model: bool = False,
        **options: Any,
    ) -> Any:
        """A clone for one operation that reads, for which everything has been settled.

        :param paths: the paths that it reads; `None` for any.
        :param where: it heeds `where()`.
        :param ordered: it heeds the order.
        :param of_model: MongoEngine reads the model's own collection for it.
        :param options: what it obeys in place of the queryset's own options.
        """
        if self._lazymig_rewrites() is None or self._none or self._empty:
            return self
        queryset = self.clone()
        for name, value in options.items():
            setattr(queryset, f"_{name}", value)
        queryset._lazymig_of_model = of_model
        queryset._lazymig_settle(operation, paths, where=where, ordered=ordered)
        queryset._lazymig_still = True
        return queryset

    def _lazymig_for_write(
        self,
        operation: str,
        written: Iterable[str] | None,
        read: Iterable[str] | None,
        *,
        where: bool = False,
    ) -> Any:
        """A clone for a write, for which everything has been settled.

        :param written: the paths that it writes; `None` for any.
        :param read: the paths that it computes from; `None` for any.
        """
        rewrites = self._lazymig_rewrites()
        queryset = self.clone()
        if not where:
            # Writes are sent without a collation.
            queryset._collation = None
        if rewrites is not None:
            query = super(SeeThroughQuerySet, queryset)._query
            needs = [_need_of_write(rewrites, operation, written, read)]
            if where:
                needs.append(queryset._lazymig_need_of_where(rewrites))
            queryset._lazymig_bring_up(query, rewrites, needs, writes=True)
            queryset._lazymig_still = True
        return queryset

    def _lazymig_for_upsert(
        self,
        written: Iterable[str] | None,
        read: Iterable[str] | None = (),
        *,
        sets_class: bool = False,
    ) -> Any:
        """A clone whose filter goes out as it is, as what an upsert inserts is taken from it.

        :param written: the paths that the upsert writes; `None` for any.
        :param read: the paths that it computes from; `None` for any.
        :param sets_class: MongoEngine sets the class too, if the filter asks for one.
        """
        rewrites = self._lazymig_rewrites()
        queryset = self.clone()
        queryset._collation = None
        # An equality on `_cls` is what MongoDB writes into the new document.
        narrowed = queryset._lazymig_narrow()
        query = super(SeeThroughQuerySet, queryset)._query
        if sets_class and written is not None and "_cls" in query:
            written = {*written, "_cls"}
        if rewrites is not None:
            queryset._lazymig_settled = True
            filtering = rewrites.concerning([query])
            if narrowed:
                filtering |= rewrites.writing(("_cls",))
            needs = [
                _need_of_write(rewrites, "an upsert", written, read),
                Need("an upsert", filtering),
            ]
            queryset._lazymig_bring_up(query, rewrites, needs, writes=True)
        return queryset

    def _lazymig_for_positional(
        self, operation: str, written: Iterable[str] | None, read: Iterable[str] | None
    ) -> Any:
        """A clone for a write whose `$` stands for an array element that the filter has found.

        MongoDB takes no element from a condition below an `$or`, so the filter is sent as it is.
        """
        rewrites = self._lazymig_rewrites()
        queryset = self.clone()
        queryset._collation = None
        if rewrites is not None:
            need = _need_of_write(rewrites, operation, written, read)
            for name, value in queryset._lazymig_as_is(need, writes=True).items():
                setattr(queryset, name, value)
        return queryset

    def _lazymig_needs_of_filter(
        self, rewritten: RewrittenFilter, rewrites: Rewrites
    ) -> list[Need]:
        if not rewritten.unseen:
            return []
        names = dict.fromkeys(self._lazymig_name_of(each.path) for each in rewritten.unseen)
        return [Need(f"a query by {', '.join(names)}", rewrites.concerning(rewritten.apart))]

    def _lazymig_need_of_where(self, rewrites: Rewrites) -> Need:
        # Nobody knows what JavaScript reads.
        return Need("where()", rewrites.writing(None) if self._where_clause else frozenset())

    def _lazymig_need_of_order(self, rewrites: Rewrites, query: Mapping[str, Any]) -> Need:
        paths = None if _finds_one(query) else self._lazymig_order()
        if not paths:
            return Need("order_by", frozenset())
        rules = rewrites.writing(tuple(paths))
        if not rules:
            return Need("order_by", rules)
        concerned = [path for path in paths if rewrites.writing((path,))]
        return Need(f"order_by {', '.join(map(self._lazymig_name_of, concerned))}", rules)

    def _lazymig_order(self) -> list[str]:
        """The database paths that the results are sorted by."""
        order = self._ordering
        if order is None and self._document._meta["ordering"]:
            order = self._get_order_by(self._document._meta["ordering"])
        return _sorted_paths(order)

    def _lazymig_name_of(self, path: str) -> str:
        """A database path as the user wrote it, or would write it."""
        return self._lazymig_keys.get(path) or field_path(self._document, path)

    def _lazymig_paths(self, fields: Iterable[str]) -> list[str]:
        paths = []
        for name in fields:
            dotted = name.replace("__", ".")
            try:
                paths.extend(self._fields_to_dbfields([dotted]))
            except LookUpError:
                paths.append(dotted)
        return paths

    def _lazymig_touched(
        self, update: Mapping[str, Any]
    ) -> tuple[frozenset[str] | None, frozenset[str] | None]:
        """The paths that an update writes, and those that it computes from; `None` for any."""
        raw = update.get("__raw__")
        changes = raw if isinstance(raw, list) else transform.update(self._document, **update)
        try:
            return written_paths(changes), read_paths(changes)
        except (AttributeError, TypeError, ValueError):
            # No update: MongoDB says so in its own turn.
            return None, None


def _need_of_write(
    rewrites: Rewrites, operation: str, written: Iterable[str] | None, read: Iterable[str] | None
) -> Need:
    changed = None if written is None else tuple(written)
    rules = rewrites.using(changed) | rewrites.writing(None if read is None else tuple(read))
    return Need(operation, rules, rewrites.asking(changed))


def is_positional(update: Mapping[str, Any]) -> bool:
    """Whether an update, in MongoEngine's terms, names the element that its filter has found."""
    return is_positional_update(update.get("__raw__")) or any(
        part in ("S", "$") for key in update for part in key.split("__")
    )


def _sorted_paths(order: Any) -> list[str]:
    """The database paths of an order, in any form that PyMongo takes."""
    if isinstance(order, str):
        return [order]
    keys = (key if isinstance(key, str) else key[0] for key in order or ())
    return [path for path in keys if path != "_text_score"]


def _finds_one(query: Mapping[str, Any]) -> bool:
    """Whether a filter names one `_id`, so that there is nothing to be sorted."""
    return type(query.get("_id")) in (ObjectId, str, int, UUID)


def _signals_deletion(model: Any) -> bool:
    """Whether MongoEngine deletes document by document, as somebody listens."""
    return bool(signals.signals_available) and bool(
        signals.pre_delete.has_receivers_for(model) or signals.post_delete.has_receivers_for(model)
    )


def _beside_an_or(queryset: Any) -> Any:
    """The same documents, by a filter that is more than an `$or` alone.

    MongoDB 6.0.5 reads some filters of a mapReduce wrongly that are an `$or` alone.
    """
    try:
        alone = queryset._query.keys() == {"$or"}
    except InvalidQueryError:
        return queryset  # MongoEngine raises it in its turn
    if not alone:
        return queryset
    return queryset.filter(__raw__={"_id": {"$exists": True}})
