"""SeeThroughQuerySet: the operations of a queryset, over documents that are old as yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from mongoengine import signals
from mongoengine.errors import InvalidQueryError, LookUpError, OperationError
from mongoengine.queryset import QuerySet
from pymongo.errors import OperationFailure

from lazymig.engines.access import all_of
from lazymig.engines.sessions import in_given_transaction, is_in_transaction
from lazymig.odm.querysets.joining import NOTHING_PENDING
from lazymig.odm.querysets.rewrites import Need
from lazymig.odm.querysets.rewritten import RewrittenFilter
from lazymig.odm.querysets.settling import sorted_paths
from lazymig.odm.querysets.showing import Read, ShowingQuerySet
from lazymig.odm.versions import UNSENT_BY_WRITES, stages_of
from lazymig.query.aggregations import aggregated_paths, first_alone, gathers, leading_match
from lazymig.query.indexable import branched
from lazymig.query.positional import is_positional_update

__all__ = ["SeeThroughQuerySet", "is_positional", "update_refusals"]


@contextmanager
def update_refusals() -> Iterator[None]:
    """What MongoDB refuses before an update raises what MongoEngine raises for the update."""
    try:
        yield
    except OperationFailure as exc:
        raise OperationError(f"Update failed ({exc})") from exc


class SeeThroughQuerySet(ShowingQuerySet):
    """Answers as if all were migrated: by a rewritten filter, by showing, or after settling."""

    # The cursor is only asked for its collection.
    _lazymig_counting = False

    def explain_migration(self) -> str:
        """Say in plain words what happens when this queryset is iterated while rules are pending.

        Nothing is written: how the filter is sent, by which plan of MongoDB's, what is shown or
        settled first, through which rules, and why; what becomes of an aggregation; and how many
        documents are still old by the rules that concern it, which are counted.
        """
        # Only this call pays for the import.
        from lazymig.odm.querysets.explaining import (  # noqa: PLC0415
            explained_reads,
            explained_rules,
            explained_sight,
            explained_way,
        )

        rewrites = self._lazymig_rewrites()
        if rewrites is None:
            return NOTHING_PENDING
        query = super()._query
        rewritten = self._lazymig_filter(query, rewrites)
        sent = self._lazymig_sent(rewritten)
        lines = [*explained_sight(rewrites)]
        reasons = [str(reason) for reason in rewritten.unseen]
        needs = self._lazymig_needs_of_filter(rewritten)
        for need, verb in (
            (self._lazymig_need_of_where(rewrites), "is asked"),
            (self._lazymig_need_of_order(rewrites, query), "sorts"),
        ):
            if need.rules:
                needs.append(need)
                what = need.operation.replace("order_by ", "by ")
                reasons.append(f"it {verb} {what}")
        is_shown, how = self._lazymig_way_of(rewrites, query) if needs else (False, "")
        if rewritten.query is query and not rewritten.unseen:
            lines.append(f"None concerns this filter, which is sent as it is: {query!r}")
        elif rewritten.unseen and is_shown:
            sent = rewritten.within
            lines.append(
                f"The filter {query!r} is asked of the documents as they are shown. "
                f"Of those stored, {dict(sent)!r} finds the ones that come into question."
            )
        else:
            lines.append(f"The filter {query!r} is sent as {dict(sent)!r}.")
        collection, order = self._lazymig_read_collection(), self._lazymig_ordered()
        parts = self._lazymig_parts(rewrites, query) if is_shown else None
        lines.extend(explained_way(collection, sent, parts, order))
        concerned = rewrites.concerning([query])
        if needs:
            verb = "Shown" if is_shown else "Settled first"
            lines.append(how)
            lines.extend(f"{verb}, because {reason}." for reason in reasons)
            wanted = rewrites.with_dependencies(frozenset().union(*(need.rules for need in needs)))
            verb = verb.removesuffix(" first")
            lines.append(f"{verb} by: {', '.join(rewrites.names(wanted))}.")
            concerned = concerned.union(wanted)
        lines.extend(explained_reads(self._document, collection, rewrites, sorted(concerned)))
        lines.extend(explained_rules(collection, rewrites, sorted(concerned)))
        return "\n".join(lines)

    def up_to_date(self, *fields: str) -> Any:
        """Bring what this queryset finds up to date, for code that reads it past MongoEngine.

        A method of a queryset class that hands the filter to PyMongo by itself, as in
        ``self._collection.find(self._query)``, reads documents as they are stored; so does
        `as_pymongo()`. This call migrates the documents that the filter finds first, by the rules
        that write the fields which are named, asked for or sorted by, and those on which these
        rules depend. All other documents, and rules, are left for later. A limit counts for
        nothing.

        It costs one query for what is old, and the writes for that; no command where no rule is
        concerned. It does nothing where documents are shown as they are stored (`as_stored`,
        `see_through = False`). What is refused is logged, and stays as it is.

        :param fields: as in `only()`; none stands for all fields.
        :return: a clone of the queryset.
        :raises mongoengine.errors.LookUpError: the model has no such field.
        :raises SettleLimitExceeded: more than `settle_limit` are old; nothing was written.
        :raises ShowError: there are some, and reads of the model write nothing
            (`write_on_load = False`, `without_writing`); `aggregate()` shows them instead.
        :raises MigrationError: whether a document can be migrated is not known, as somebody else
            holds it or keeps changing it, and `on_error` is `"raise"`.
        """
        named = self._fields_to_dbfields([field.replace("__", ".") for field in fields])
        # What a class searches for by itself may be anything.
        searches = self._lazymig_searches
        reader = QuerySet(self._document, self._collection) if searches else self.clone()
        reader._as_pymongo = False
        rewrites = reader._lazymig_rewrites()
        if rewrites is not None:
            anything = not fields or self._where_clause
            paths = None if anything else frozenset({*named, *self._lazymig_order()})
            operation = f"up_to_date({', '.join(map(repr, fields))})"
            reader._lazymig_as_is(Need(operation, rewrites.writing(paths)))
        queryset = self.clone()
        if rewrites is not None and not searches:
            queryset._lazymig_left = reader._lazymig_refused
        return queryset

    @property
    def _query(self) -> Any:
        if self._lazymig_given is not None:
            return self._lazymig_given
        query = super()._query
        if self._lazymig_settled or self._lazymig_unasked:
            return query
        rewrites = self._lazymig_rewrites()
        if rewrites is None:
            return query
        if self._lazymig_indexed is not None:
            query = all_of(query, self._lazymig_indexed)
        rewritten = self._lazymig_filter(query, rewrites)
        if rewritten.unseen and not self._lazymig_still:
            self._lazymig_bring_up(query, rewrites, ())
        if self._lazymig_refused is not None or self._lazymig_left is not None:
            return all_of(rewritten.query, self._lazymig_refused, self._lazymig_left)
        return self._lazymig_sent(rewritten)

    def _lazymig_sent(self, rewritten: RewrittenFilter) -> Mapping[str, Any]:
        """A filter in the form in which MongoDB finds the indexes for it."""
        sent = branched(rewritten.query)
        return sent if sent is rewritten.query or not self._lazymig_ordered() else rewritten.query

    @property
    def _cursor(self) -> Any:
        if self._lazymig_counting and (self._cursor_obj is None or self._lazymig_handed_on):
            return self._lazymig_read_collection().find({})
        return super()._cursor

    def _lazymig_make_cursor(self) -> Any:
        if self._lazymig_unasked or self._lazymig_still or self._lazymig_settled:
            return super()._lazymig_make_cursor()
        if self._lazymig_searches and super()._query is None:
            # What the search finds is the filter.
            super()._lazymig_make_cursor()
            self._cursor_obj = None
        rewrites = self._lazymig_rewrites()
        if rewrites is None:
            return super()._lazymig_make_cursor()
        query = super()._query
        needs = [self._lazymig_need_of_order(rewrites, query)]
        shown = self._lazymig_shown_cursor(rewrites, query, needs[0])
        if shown is not None:
            return shown
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
        if self._lazymig_rewrites() is None:
            # It is not asked again whether there is one.
            changes: dict[str, Any] = {"_lazymig_unasked": True}
        else:
            changes = self._lazymig_for_hint(self._hint)
        changes["_lazymig_counting"] = True
        with self._lazymig_with(changes):
            counted: int = super().count(with_limit_and_skip)
        return counted

    def distinct(self, field: str) -> Any:
        """Return the distinct values of a field."""
        return self._lazymig_over("distinct", field, where=True)

    def sum(self, field: str) -> Any:
        """Sum the values of a field."""
        return self._lazymig_over("sum", field, of_model=True, collation=None)

    def average(self, field: str) -> Any:
        """Average the values of a field."""
        return self._lazymig_over("average", field, of_model=True, collation=None)

    def item_frequencies(self, field: str, normalize: bool = False, map_reduce: bool = True) -> Any:
        """Count how often each value of a field, or element of its lists, is there."""
        if not map_reduce:
            return super().item_frequencies(field, normalize, map_reduce)
        return self._lazymig_over(
            "item_frequencies", field, normalize, of_model=True, collation=None
        )

    def _lazymig_over(
        self,
        method: str,
        field: str,
        *arguments: Any,
        where: bool = False,
        of_model: bool = False,
        **options: Any,
    ) -> Any:
        """Call MongoEngine's method for the values of one field, as they will be.

        :param options: what it obeys in place of the queryset's own options.
        """
        if self._lazymig_rewrites(of_model=of_model) is None:
            return getattr(super(), method)(field, *arguments)
        dotted = field.replace("__", ".")
        # To unwind a list, MongoEngine names it by its field.
        paths = {dotted}
        with suppress(LookUpError):
            paths.update(self._fields_to_dbfields([dotted]))
        read = Read(f"{method}({field!r})", frozenset(paths), where=where, of_model=of_model)

        def run(queryset: Any) -> Any:
            # All has been done by now, for what MongoEngine does in its turn by map_reduce() too.
            with queryset._lazymig_with({"_lazymig_still": True}):
                return getattr(super(), method)(field, *arguments)

        return self._lazymig_reading(read, run, **options)

    def aggregate(self, pipeline: Any, *suppl_pipeline: Any, **kwargs: Any) -> Any:
        """Run an aggregation over the documents that match."""
        stages = stages_of(pipeline, suppl_pipeline)
        if stages is None:
            return super().aggregate(pipeline, *suppl_pipeline, **kwargs)
        if not isinstance(pipeline, Mapping):
            # It may be an iterator.
            pipeline = stages[: len(stages) - len(suppl_pipeline)]
        kwargs = self._lazymig_aggregating(kwargs)
        session = kwargs.get("session")
        with in_given_transaction(session):
            if self._lazymig_rewrites() is None:
                return super().aggregate(pipeline, *suppl_pipeline, **kwargs)
        # What a limit lets in depends on documents that are not matched, too.
        cut = self._skip is not None or self._limit is not None
        matched = None if cut else leading_match(stages)
        paths = aggregated_paths(stages if matched is None else stages[1:])
        if paths is not None:
            paths = paths.union(sorted_paths(self._ordering))
        read = Read(
            "aggregate()",
            paths,
            matched=matched,
            # The failure by which it would find what has to be settled ends a transaction; and it
            # comes later where a first batch of nothing is asked for.
            at_once=gathers(stages)
            and not is_in_transaction(session)
            and kwargs.get("batchSize") != 0,
            first=first_alone(stages),
            looks=session is None,
        )
        # MongoEngine hands on what is given here. The time limit of the queryset is none of it.
        given = {"collation": "collation", "max_time_ms": "maxTimeMS", "comment": "comment"}
        options = {name: kwargs.get(option) for name, option in given.items()}

        def run(queryset: Any) -> Any:
            if matched is None or queryset._lazymig_given is None:
                return super().aggregate(pipeline, *suppl_pipeline, **kwargs)
            return super().aggregate(stages[1:], **kwargs)

        obeyed = {f"_{name}": value for name, value in options.items()}
        with in_given_transaction(session), self._lazymig_with(obeyed):
            changes = self._lazymig_for_hint(kwargs.get("hint"))
        if "_lazymig_settled" in changes:
            with in_given_transaction(session):
                queryset = self._lazymig_settled_for(read, options)
                with queryset._lazymig_with(changes):
                    return run(queryset)
        if "_hint" in changes:
            del kwargs["hint"]
        with in_given_transaction(session), self._lazymig_with(changes):
            return self._lazymig_reading(read, run, **options)

    def map_reduce(self, *args: Any, **kwargs: Any) -> Any:
        """Run a map-reduce over the documents that match."""
        if self._lazymig_shown:
            return self._lazymig_frequencies(*args)
        queryset = self
        if not self._lazymig_still:
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
                with self._lazymig_with(UNSENT_BY_WRITES):
                    if upsert:
                        queryset = self._lazymig_for_upsert(*touched, sets_class=True)
                    else:
                        queryset = self._lazymig_for_write(
                            "update()", *touched, positional=is_positional(update)
                        )
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
                # By their rules, referring documents are found for all that a cursor finds.
                refers = bool(self._document._meta.get("delete_rules"))
                with self._lazymig_with({} if refers else UNSENT_BY_WRITES):
                    queryset = self._lazymig_for_write("delete()", (), (), where=refers)
                if queryset is self:
                    queryset = self.clone()
                # In whatever order.
                queryset._ordering = []
            else:
                queryset = self.clone()
                queryset._lazymig_writing = True
        return super(SeeThroughQuerySet, queryset).delete(
            write_concern, _from_doc_delete, cascade_refs
        )

    def _lazymig_read_collection(self) -> Any:
        """The collection as MongoEngine's cursors read it."""
        if self._read_preference is None and self._read_concern is None:
            return self._collection
        return self._collection.with_options(
            read_preference=self._read_preference, read_concern=self._read_concern
        )


def is_positional(update: Mapping[str, Any]) -> bool:
    """Return whether an update of MongoEngine's names the element that its filter has found."""
    return is_positional_update(update.get("__raw__")) or any(
        part in ("S", "$") for key in update for part in key.split("__")
    )


def _signals_deletion(model: Any) -> bool:
    """Return whether MongoEngine deletes document by document, as somebody listens."""
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
    beside = queryset.filter(__raw__={"_id": {"$exists": True}})
    if queryset._lazymig_given is not None:
        beside._lazymig_given = all_of(queryset._lazymig_given, {"_id": {"$exists": True}})
    return beside
