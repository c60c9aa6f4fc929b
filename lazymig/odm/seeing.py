"""The doors of a queryset through which a filter goes, rewritten, or after settling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mongoengine.errors import InvalidQueryError, LookUpError, OperationError
from mongoengine.queryset import transform
from pymongo.errors import OperationFailure

from lazymig.odm.joining import NOTHING_PENDING, AsStoredQuerySet
from lazymig.odm.see_through import Sight, View, settled, sight_of, view_of
from lazymig.odm.stored import shown_as_stored
from lazymig.rules.aggregations import aggregated_paths
from lazymig.rules.updates import written_paths

__all__ = ["SeeThroughQuerySet", "update_refusals"]


@contextmanager
def update_refusals() -> Iterator[None]:
    """What MongoDB refuses before an update raises what MongoEngine raises for the update."""
    try:
        yield
    except OperationFailure as exc:
        raise OperationError(f"Update failed ({exc})") from exc


class SeeThroughQuerySet(AsStoredQuerySet):
    """Answers as if every document were migrated: filters are rewritten, other readers settle."""

    _lazymig_seen: tuple[Any, View] | None = None

    # The filter goes out as it is: everything that it may find has been settled.
    _lazymig_settled = False

    # The cursor is only asked for its collection.
    _lazymig_unordered = False

    def explain_migration(self) -> str:
        """Say in plain words what becomes of this queryset's filter while rules are pending."""
        sight = self._lazymig_sight()
        if sight is None:
            return NOTHING_PENDING
        query = super()._query
        view = self._lazymig_view(query, sight)
        names = ", ".join(step.name for step in sight.rewriter.steps)
        lines = [f"Rules that queries see through: {names}."]
        if view.query is query and not view.unseen:
            lines.append(f"None concerns this filter, which is sent as it is: {query!r}")
        else:
            lines.append(f"The filter {query!r} is sent as {dict(view.query)!r}.")
        lines.extend(f"Settled first, because {reason}." for reason in view.unseen)
        paths = self._lazymig_order()
        if paths and sight.writes(paths):
            lines.append(f"Settled first, because it sorts by {', '.join(paths)}.")
        return "\n".join(lines)

    @property
    def _query(self) -> Any:
        query = super()._query
        sight = self._lazymig_sight()
        if sight is None or self._lazymig_settled:
            return query
        seen = self._lazymig_seen
        if seen is None or seen[0] is not query:
            seen = self._lazymig_seen = (query, self._lazymig_view(query, sight))
        view = seen[1]
        if view.unseen:
            reason = f"a query by {', '.join(each.path for each in view.unseen)}"
            settled(self._document, self._collection, view.within, sight, reason)
        return view.query

    @property
    def _cursor(self) -> Any:
        if self._cursor_obj is None and not self._lazymig_unordered:
            if self._where_clause:
                self._lazymig_settle("where()", None)
            else:
                paths = self._lazymig_order()
                if paths:
                    self._lazymig_settle(f"order_by {', '.join(paths)}", paths, written=True)
        return super()._cursor

    def count(self, with_limit_and_skip: bool = False) -> int:
        """Count the documents that match, old ones by what they are about to be."""
        self._lazymig_unordered = not self._where_clause
        try:
            counted: int = super().count(with_limit_and_skip)
        finally:
            self._lazymig_unordered = False
        return counted

    def distinct(self, field: str) -> Any:
        """Return the distinct values of a field."""
        self._lazymig_settle(f"distinct({field!r})", self._lazymig_paths([field]), written=True)
        return super().distinct(field)

    def sum(self, field: str) -> Any:
        """Sum the values of a field."""
        self._lazymig_settle(f"sum({field!r})", self._lazymig_paths([field]), written=True)
        return super().sum(field)

    def average(self, field: str) -> Any:
        """Average the values of a field."""
        self._lazymig_settle(f"average({field!r})", self._lazymig_paths([field]), written=True)
        return super().average(field)

    def aggregate(self, pipeline: Any, *suppl_pipeline: Any, **kwargs: Any) -> Any:
        """Run an aggregation over the documents that match."""
        if not isinstance(pipeline, Mapping):
            pipeline = list(pipeline)
        stages = [pipeline] if isinstance(pipeline, Mapping) else pipeline
        paths = aggregated_paths([*stages, *suppl_pipeline])
        if paths is not None:
            paths = paths.union(path for path, _direction in self._ordering or ())
        self._lazymig_settle("aggregate()", paths, written=True)
        return super().aggregate(pipeline, *suppl_pipeline, **kwargs)

    def map_reduce(self, *args: Any, **kwargs: Any) -> Any:
        """Run a map-reduce over the documents that match."""
        self._lazymig_settle("map_reduce()", None)
        return super(SeeThroughQuerySet, _beside_an_or(self)).map_reduce(*args, **kwargs)

    def exec_js(self, code: Any, *fields: Any, **options: Any) -> Any:
        """Run JavaScript over the documents that match."""
        self._lazymig_settle("exec_js()", None)
        return super().exec_js(code, *fields, **options)

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
        """Update the documents that match, old ones after they have been migrated."""
        queryset = self
        with update_refusals():
            if self._lazymig_sight() is not None and not (self._none or self._empty):
                if upsert:
                    queryset = self._lazymig_for_upsert(self._lazymig_written(update))
                else:
                    self._lazymig_settle("update()", self._lazymig_written(update))
            return super(SeeThroughQuerySet, queryset).update(
                upsert=upsert,
                multi=multi,
                write_concern=write_concern,
                read_concern=read_concern,
                full_result=full_result,
                array_filters=array_filters,
                **update,
            )

    def rewind(self) -> None:
        """Rewind the cursor to its unevaluated state."""
        if self._cursor_obj is not None and self._lazymig_sight() is not None:
            # A new one, for old documents may have come since.
            self._cursor_obj = None
        super().rewind()

    def _clone_into(self, new_qs: Any) -> Any:
        if self._lazymig_settled:
            new_qs._lazymig_settled = True
        super()._clone_into(new_qs)
        if new_qs._cursor_obj is not None and self._lazymig_sight() is not None:
            # What the clone is going to be asked for decides what has to be settled first.
            new_qs._cursor_obj = None
        return new_qs

    def _lazymig_view(self, query: Mapping[str, Any], sight: Sight) -> View:
        return view_of(self._document, query, sight, collation=self._collation is not None)

    def _lazymig_sight(self) -> Sight | None:
        if self._as_pymongo or self._lazymig_stored or shown_as_stored(self._document):
            return None
        return sight_of(self._document)

    def _lazymig_settle(
        self, operation: str, paths: Iterable[str] | None, written: bool = False
    ) -> None:
        """Settle the documents that match, if the operation meets a path that a rule does.

        :param paths: the paths that the operation reads or writes; `None` for any.
        :param written: only paths that rules write matter, for the operation writes none.
        """
        sight = self._lazymig_sight()
        if sight is None or self._none or self._empty or self._lazymig_settled:
            return
        concerned = sight.touches(paths) if paths is None or not written else sight.writes(paths)
        if concerned:
            try:
                query = super()._query
            except Exception:
                # A query that cannot be built: MongoEngine says so in its own turn.
                return
            view = self._lazymig_view(query, sight)
            settled(self._document, self._collection, view.within, sight, operation)

    def _lazymig_for_upsert(self, paths: Iterable[str] | None) -> Any:
        """A clone whose filter goes out as it is, as what an upsert inserts is taken from it.

        :param paths: the paths that the upsert writes; `None` for any.
        """
        sight = self._lazymig_sight()
        query = super()._query
        queryset = self.clone()
        # An equality on `_cls` is what MongoDB writes into the new document.
        narrowed = queryset._lazymig_narrow()
        if sight is not None:
            view = self._lazymig_view(query, sight)
            within = view.within
            if narrowed or view.query is not query or view.unseen or sight.touches(paths):
                # Neither may what will match be overlooked, nor what matches no more be hit.
                either = {"$or": [within, query]} if within is not query and within else within
                settled(self._document, self._collection, either, sight, "an upsert")
            queryset._lazymig_settled = True
        return queryset

    def _lazymig_order(self) -> list[str]:
        """The database paths that the results are sorted by."""
        order = self._ordering
        if order is None and self._document._meta["ordering"]:
            order = self._get_order_by(self._document._meta["ordering"])
        return [path for path, _direction in order or () if path != "_text_score"]

    def _lazymig_paths(self, fields: Iterable[str]) -> list[str]:
        paths = []
        for name in fields:
            dotted = name.replace("__", ".")
            try:
                paths.extend(self._fields_to_dbfields([dotted]))
            except LookUpError:
                paths.append(dotted)
        return paths

    def _lazymig_written(self, update: Mapping[str, Any]) -> frozenset[str] | None:
        if isinstance(update.get("__raw__"), list):
            return None
        return written_paths(transform.update(self._document, **update))


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
