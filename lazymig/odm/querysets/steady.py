"""The second query for a queryset's documents, which asks for the same once more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mongoengine.queryset import QueryFieldList

from lazymig.engines.access import all_of, by_ids
from lazymig.engines.reading.movement import may_move
from lazymig.odm.querysets.batches import batch_of
from lazymig.rules.plan import Family

if TYPE_CHECKING:
    from lazymig.engines.reading.pinned import Requery

__all__ = ["StepByStep", "may_walk_an_index", "requery_of"]


def may_walk_an_index(queryset: Any, order: Sequence[str]) -> bool:
    """Return whether MongoDB may answer a queryset by an index.

    Without a filter, an order and a hint it walks the documents as they lie there.

    :param order: the database paths that the queryset is sorted by.
    """
    # MongoEngine keeps the filter from which it made the cursor.
    query = queryset._mongo_query
    return bool(order) or queryset._hint != -1 or query is None or bool(query)


def requery_of(queryset: Any, family: Family, order: Sequence[str]) -> Requery | None:
    """How a queryset is asked once more; `None` if no rule moves documents in an index it walks.

    :param order: the database paths that the queryset is sorted by.
    """
    with queryset._lazymig_as_made():
        return _requery_of(queryset, family, order)


def _requery_of(queryset: Any, family: Family, order: Sequence[str]) -> Requery | None:
    query = queryset._query
    rules = [rule for plan in family.plans for rule in (*plan.lazy, *plan.bulk)]
    writes: list[Any] = [rule.writes for rule in rules]
    limits = [plan.lazy_timeout for plan in family.plans if plan.lazy_timeout is not None]
    if not may_move(
        queryset._collection,
        query,
        order,
        None if None in writes else frozenset().union(*writes),
        hinted=queryset._hint != -1,
        limit=min(limits, default=None),
    ):
        return None
    # Only where others write meanwhile.
    from lazymig.engines.reading.pinned import Requery  # noqa: PLC0415

    base = _asked_again(queryset)

    def ids(most: int, answer: int) -> Any:
        again = _asked_again(base)
        again._mongo_query = query
        again._loaded_fields = QueryFieldList(["_id"])
        again._limit = most
        again._batch_size = answer
        return _cursor_of(again)

    def documents(document_ids: Sequence[Any]) -> Any:
        again = _asked_again(base)
        again._mongo_query = all_of(query, by_ids(document_ids))
        again._ordering = []
        # The `_id`s are those that the hint has led to.
        again._hint = -1
        # One more than there are, or the cursor stays open.
        again._batch_size = len(document_ids) + 1
        return _cursor_of(again)

    limit = abs(queryset._limit) if queryset._limit else None
    return Requery(ids, documents, queryset._skip or 0, limit, batch_of(queryset))


def _asked_again(queryset: Any) -> Any:
    """A copy of a queryset whose filter is sent as it is, for the whole of the result."""
    # Not by clone(), which a queryset that nobody else sees answers with itself.
    again = queryset._clone_into(queryset.__class__(queryset._document, queryset._collection_obj))
    again._cursor_obj = None
    again._lazymig_settled = True
    # The filter holds the former classes already.
    again._lazymig_narrow()
    again._limit = again._skip = None
    return again


def _cursor_of(queryset: Any) -> Any:
    cursor = queryset._lazymig_raw_cursor()
    if queryset._max_time_ms is not None:
        # MongoEngine sets it only on a cursor that is there already.
        cursor.max_time_ms(queryset._max_time_ms)
    return cursor


class StepByStep:
    """Stands in for a queryset's cursor where a user's own code takes documents from it."""

    def __init__(self, queryset: Any, cursor: Any) -> None:
        self._queryset = queryset
        self._cursor = cursor

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        queryset = self._queryset
        reader = queryset._lazymig_batches_of(self._cursor).reader
        return reader.take_one(batch_of(queryset), queryset._lazymig_requery)

    next = __next__

    def __getitem__(self, key: Any) -> Any:
        return self._cursor[key]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)
