"""The doors of a queryset through which a filter goes, rewritten, or after settling."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from mongoengine.errors import LookUpError, OperationError
from mongoengine.queryset import transform
from pymongo.errors import OperationFailure

from lazymig.engines.access import Positional, all_of
from lazymig.engines.labelled import labelled
from lazymig.odm.former import FormerClassesQuerySet
from lazymig.odm.hints import hinted_index, hinted_paths
from lazymig.odm.joining import NOTHING_PENDING
from lazymig.odm.see_through import Sight, View, settled, sight_of, view_of
from lazymig.rules.aggregations import aggregated_paths
from lazymig.rules.positional import is_positional_projection, is_positional_update
from lazymig.rules.updates import written_paths

__all__ = ["SeeThroughQuerySet", "update_refusals"]


@contextmanager
def update_refusals() -> Iterator[None]:
    """What MongoDB refuses before an update raises what MongoEngine raises for the update."""
    try:
        yield
    except OperationFailure as exc:
        raise OperationError(f"Update failed ({exc})") from exc


# MongoDB takes these only at the root of a filter.
_AT_THE_ROOT: Final = frozenset({"$near", "$nearSphere", "$text"})


class SeeThroughQuerySet(FormerClassesQuerySet):
    """Answers as if every document were migrated: filters are rewritten, other readers settle."""

    _lazymig_seen: tuple[Any, View] | None = None

    # The filter goes out as it is: everything that it may find has been settled.
    _lazymig_settled = False

    # Of the documents that the filter finds, those alone that a hinted index holds.
    _lazymig_indexed: Mapping[str, Any] | None = None

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
        if sight is None or self._lazymig_settled or self._lazymig_unasked:
            return query
        if self._lazymig_indexed is not None:
            query = all_of(query, self._lazymig_indexed)
        seen = self._lazymig_seen
        if seen is None or seen[0] is not query:
            seen = self._lazymig_seen = (query, self._lazymig_view(query, sight))
        view = seen[1]
        if view.unseen:
            reason = f"a query by {', '.join(each.path for each in view.unseen)}"
            settled(self._document, self._lazymig_own_collection(), view.within, sight, reason)
        return view.query

    def _lazymig_make_cursor(self) -> Any:
        if self._lazymig_unasked or self._lazymig_sight() is None:
            return super()._lazymig_make_cursor()
        if self._where_clause:
            self._lazymig_settle("where()", None)
        else:
            paths = self._lazymig_order()
            if paths:
                self._lazymig_settle(f"order_by {', '.join(paths)}", paths, written=True)
        if self._loaded_fields and is_positional_projection(super()._cursor_args.get("projection")):
            changes = self._lazymig_as_is("a positional projection", ())
        else:
            changes = {}
        changes = changes or self._lazymig_for_hint(self._hint)
        with self._lazymig_with(changes):
            return super()._lazymig_make_cursor()

    def count(self, with_limit_and_skip: bool = False) -> int:
        """Count the documents that match, old ones by what they are about to be."""
        # Its cursor is only asked for its collection.
        asked = self._cursor_obj is not None and not self._lazymig_handed_on
        with self._lazymig_with({"_lazymig_unasked": True}):
            self._lazymig_handed_on = self._cursor is None
        try:
            with self._lazymig_with(self._lazymig_for_hint(self._hint)):
                counted: int = super().count(with_limit_and_skip)
        finally:
            self._lazymig_handed_on = self._cursor_obj is not None and not asked
        return counted

    def distinct(self, field: str) -> Any:
        """Return the distinct values of a field."""
        self._lazymig_settle(f"distinct({field!r})", self._lazymig_paths([field]), written=True)
        # The command takes neither an order nor a hint.
        with self._lazymig_with({"_hint": -1, "_ordering": []}):
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
            paths = paths.union(_sorted_paths(self._ordering))
        self._lazymig_settle("aggregate()", paths, written=True)
        changes = self._lazymig_for_hint(kwargs.get("hint"))
        if "_hint" in changes:
            del kwargs["hint"]
        with self._lazymig_with(changes):
            return super().aggregate(pipeline, *suppl_pipeline, **kwargs)

    def map_reduce(self, *args: Any, **kwargs: Any) -> Any:
        """Run a map-reduce over the documents that match."""
        self._lazymig_settle("map_reduce()", None)
        return super().map_reduce(*args, **kwargs)

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
                changes = self._lazymig_changes(update)
                if upsert:
                    queryset = self._lazymig_for_upsert(changes, sets_class=True)
                elif is_positional_update(changes):
                    queryset = self._lazymig_for_positional("update()", changes)
                else:
                    self._lazymig_settle("update()", _written_paths(changes))
            return super(SeeThroughQuerySet, queryset).update(
                upsert=upsert,
                multi=multi,
                write_concern=write_concern,
                read_concern=read_concern,
                full_result=full_result,
                array_filters=array_filters,
                **update,
            )

    def _clone_into(self, new_qs: Any) -> Any:
        if self._lazymig_settled:
            new_qs._lazymig_settled = True
        if self._lazymig_indexed is not None:
            new_qs._lazymig_indexed = self._lazymig_indexed
        return super()._clone_into(new_qs)

    def _lazymig_view(self, query: Mapping[str, Any], sight: Sight) -> View:
        return view_of(self._document, query, sight, collation=self._collation is not None)

    def _lazymig_sight(self) -> Sight | None:
        if self._as_pymongo or self._lazymig_shows_stored():
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
            settled(self._document, self._lazymig_own_collection(), view.within, sight, operation)

    def _lazymig_for_upsert(self, changes: Any, sets_class: bool = False) -> Any:
        """A clone whose filter goes out as it is, as what an upsert inserts is taken from it.

        :param changes: what the upsert writes, in MongoDB's terms.
        :param sets_class: MongoEngine adds the class to it, if the filter asks for one.
        """
        queryset = self.clone()
        # An equality on `_cls` is what MongoDB writes into the new document.
        narrowed = queryset._lazymig_narrow()
        paths = _written_paths(changes)
        if (
            sets_class
            and paths is not None
            and "_cls" in super(SeeThroughQuerySet, queryset)._query
        ):
            paths |= {"_cls"}
        queryset._lazymig_as_is("an upsert", None if narrowed else paths)
        queryset._lazymig_settled = True
        return queryset

    def _lazymig_for_positional(self, operation: str, changes: Any) -> Any:
        """A clone whose filter goes out as it is, for the `$` in an update or a projection."""
        queryset = self.clone()
        if queryset._lazymig_as_is(operation, _written_paths(changes)):
            queryset._lazymig_settled = True
        return queryset

    def _lazymig_as_is(self, operation: str, paths: Iterable[str] | None) -> dict[str, Any]:
        """Settle so that the filter may go out as it is, if a rule concerns it or these paths.

        :param paths: the paths that the operation reads or writes besides; `None` for any.
        :return: the attributes of a queryset that sends it so; none if nothing is concerned.
        """
        sight = self._lazymig_sight()
        if sight is None or self._none or self._empty or self._lazymig_settled:
            return {}
        query = super()._query
        view = self._lazymig_view(query, sight)
        if view.query is query and not view.unseen and not sight.touches(paths):
            return {}
        # Neither may what will match be overlooked, nor what matches no more be hit.
        searches = [view.within]
        if view.within is not query and view.within:
            searches = (
                [view.within, query]
                if _holds(query, _AT_THE_ROOT)
                else [{"$or": [view.within, query]}]
            )
        for within in searches:
            settled(self._document, self._lazymig_own_collection(), within, sight, operation)
        return {"_lazymig_settled": True}

    def _lazymig_for_hint(self, hint: Any) -> dict[str, Any]:
        """The attributes of a queryset with which a hinted query finds what it has to find.

        Without its hint it is asked for what the index would hold if all documents were migrated.
        """
        sight = self._lazymig_sight()
        if hint in (-1, None) or sight is None or self._lazymig_settled:
            return {}
        if self._none or self._empty:
            return {}
        paths = hinted_paths(self._document, hint)
        filtered = sight.rewriter.is_concerned(super()._query)
        if paths is not None and not filtered and not sight.writes(paths):
            return {}
        index = hinted_index(self._collection, hint)
        if index is None:
            return {}
        if index.holds is None or self._collation is not None:
            met = index.paths if sight.writes(index.paths) else ()
            return self._lazymig_as_is("a hint of an index that does not hold all documents", met)
        if not sight.writes(index.paths):
            return {}
        return {"_hint": -1, "_lazymig_indexed": index.holds}

    def _lazymig_positional(self, projection: Mapping[str, Any] | None) -> Positional | None:
        """The filter that a projection with `$` takes its elements from."""
        if not is_positional_projection(projection):
            return None
        return Positional(super()._query, self._collation)

    def _lazymig_own_collection(self) -> Any:
        """The collection for lazymig's own commands, which carry the options of the queryset."""
        return labelled(self._collection, self._comment, self._max_time_ms)

    def _lazymig_order(self) -> list[str]:
        """The database paths that the results are sorted by."""
        order = self._ordering
        if order is None and self._document._meta["ordering"]:
            order = self._get_order_by(self._document._meta["ordering"])
        return [path for path in _sorted_paths(order) if path != "_text_score"]

    def _lazymig_paths(self, fields: Iterable[str]) -> list[str]:
        paths = []
        for name in fields:
            dotted = name.replace("__", ".")
            try:
                paths.extend(self._fields_to_dbfields([dotted]))
            except LookUpError:
                paths.append(dotted)
        return paths

    def _lazymig_changes(self, update: Mapping[str, Any]) -> Any:
        """An update in MongoDB's terms; `None` for a pipeline."""
        if isinstance(update.get("__raw__"), list):
            return None
        return transform.update(self._document, **update)


def _written_paths(changes: Any) -> frozenset[str] | None:
    return None if changes is None else written_paths(changes)


def _sorted_paths(order: Any) -> list[str]:
    """The paths of a sort in any of PyMongo's notations; none if it is malformed."""
    if isinstance(order, str):
        return [order]
    if isinstance(order, Mapping):
        return list(order)
    if not isinstance(order, (list, tuple)):
        return []
    return [key if isinstance(key, str) else key[0] for key in order if key]


def _holds(query: Any, operators: frozenset[str]) -> bool:
    """Whether one of these operators stands anywhere in a query."""
    if isinstance(query, Mapping):
        return any(name in operators or _holds(value, operators) for name, value in query.items())
    return isinstance(query, (list, tuple)) and any(_holds(part, operators) for part in query)
