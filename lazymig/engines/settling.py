"""The documents of an operation, settled: brought up to date before it runs.

They are found by their `_id`s first, and the filter is not asked again: half-way through the rules
it need not hold.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import bson
from pymongo.collection import Collection

from lazymig.engines.access import Raw, all_of, bounded, by_ids, key_of
from lazymig.engines.loads.failover import outlast_failover
from lazymig.engines.reading.labelled import labelled
from lazymig.engines.store import Store
from lazymig.errors import MigrationError, MigrationFailed
from lazymig.query.collations import coarsened, has_text
from lazymig.query.indexable import branched
from lazymig.query.joining import any_of
from lazymig.query.operators import NEAR
from lazymig.raw.encoding import ANY_UUID
from lazymig.rules.plan import Plan

if TYPE_CHECKING:
    from lazymig.engines.loads.batch import BatchMigration

__all__ = [
    "Found",
    "Search",
    "Unsettled",
    "find_old",
    "find_refused",
    "id_batches",
    "rules_matching",
    "settle",
]

# Documents that are brought up to date at once, each batch within `lazy_timeout`: where one of them
# is refused, its neighbours are written one by one.
_BATCH = 100

# And the most bytes of their `_id`s, which each update of a batch names.
_BATCH_BYTES = 1_000_000

# `_id`s that are asked about at once.
_ASKED = 1000

# The branches for old documents into each of which a query comes.
_MOST_BRANCHES: Final = 10

# What MongoDB takes in no `$or`, or only beside branches that have indexes.
_ALONE: Final = frozenset({*NEAR, "$text"})

Found = dict[Any, Any]
"""`_id`s by their keys."""


@dataclass(frozen=True, slots=True)
class Search:
    """What the user of an operation has set for its reads, and what reads on its behalf obey."""

    collation: Any = None
    max_time_ms: int | None = None
    comment: Any = None

    def find(self, collection: Collection[Any], query: Raw, limit: int = 0) -> Iterator[Any]:
        """The `_id`s of the documents that a query finds on the primary."""
        place = labelled(collection, self.comment, self.max_time_ms)
        cursor = Store(place).find_ids(query, limit=limit)
        if self.collation is not None:
            cursor = cursor.collation(self.collation)
        return (document["_id"] for document in cursor)


@dataclass(frozen=True, slots=True)
class Unsettled:
    """A document that could not be brought up to date."""

    document_id: Any
    plan: Plan
    error: MigrationError


def find_old(
    collection: Collection[Any],
    old: Raw,
    queries: Iterable[Raw],
    limit: int | None,
    search: Search,
) -> Found:
    """The documents of some queries that are old.

    :param old: the query for those that rules have to change.
    :param limit: no more than one more than these are looked for; `None` for all.
    :raises pymongo.errors.PyMongoError: the connection, the rights, the time of the search is over,
        or a query is invalid.
    """
    found: Found = {}
    for query in _together(list(queries)):
        most = 0 if limit is None else limit + 1
        if search.collation is None or not has_text(old):
            batches: Iterable[Iterable[Any]] = [
                search.find(collection, _old_among(query, old), limit=most)
            ]
        else:
            # The query is asked under the collation of the operation, the targets never are.
            wider = search.find(collection, all_of(query, coarsened(old)))
            batches = _exactly(collection, wider, old)
        for document_id in itertools.chain.from_iterable(batches):
            found[key_of(document_id)] = document_id
            if limit is not None and len(found) > limit:
                return found
    return found


def _old_among(query: Raw, old: Raw) -> Raw:
    """What is old of a query; where targets name classes, by branches that are planned alone."""
    branches = _branches(old)
    named = all("_cls" in branch for branch in branches)
    if not 1 < len(branches) <= _MOST_BRANCHES or not named or _stands_alone(query):
        return all_of(query, old)
    return any_of([_of_query(branch, query) for branch in branches])


def _branches(query: Raw) -> list[Raw]:
    parts = branched(query)
    if parts.keys() != {"$or"}:
        return [query]
    return [branch for part in parts["$or"] for branch in _branches(part)]


def _of_query(branch: Raw, query: Raw) -> Raw:
    if query.get("_cls") == branch["_cls"]:
        query = {name: value for name, value in query.items() if name != "_cls"}
    return all_of(branch, query)


def _together(queries: Sequence[Raw]) -> Sequence[Raw]:
    """The queries as one, where MongoDB takes them as branches of an `$or`: one look is enough."""
    apart = len(queries) == 1 or any(map(_stands_alone, queries))
    return queries if apart else [any_of(queries)]


def _stands_alone(query: Any) -> bool:
    if isinstance(query, Mapping):
        own = not _ALONE.isdisjoint(query)
        return own or any(map(_stands_alone, query.values()))
    return isinstance(query, (list, tuple)) and any(map(_stands_alone, query))


def _exactly(
    collection: Collection[Any], ids: Iterator[Any], query: Raw
) -> Iterator[Iterable[Any]]:
    while batch := list(itertools.islice(ids, _ASKED)):
        yes = Store(collection).keys_matching([all_of(by_ids(batch), query)], len(batch))
        yield [document_id for document_id in batch if key_of(document_id) in yes]


def rules_matching(collection: Collection[Any], plan: Plan, found: Found) -> tuple[str, ...]:
    """The names of the starting rules that match one of these documents now."""
    store = Store(collection).for_plan(plan)
    batches = list(id_batches(found.values(), _ASKED))
    return tuple(
        rule.name
        for rule in plan.starting
        if any(True for ids in batches for _ in store.find_ids(store.query_of(rule, ids), limit=1))
    )


def settle(collection: Collection[Any], work: Iterable[tuple[Plan, Found]]) -> dict[Any, Unsettled]:
    """Apply the starting rules of plans, in order, to documents.

    :param work: plans with those of their starting rules that matter, each with its documents.
    :return: the documents that were refused, by key; they get no later rule.
    :raises MigrationError: whether a document can be migrated is not known, as somebody else holds
        it or keeps changing it, or nothing can be written in the bound session, and `on_error` is
        `"raise"`.
    :raises pymongo.errors.PyMongoError: the connection or the rights.
    """
    refused: dict[Any, Unsettled] = {}
    for plan, found in work:
        ids = [document_id for key, document_id in found.items() if key not in refused]
        for batch in id_batches(ids, _BATCH):
            migration = outlast_failover(
                collection, [plan], partial(_apply, collection, plan, batch)
            )
            for index, failure in migration.failures.items():
                key = key_of(batch[index])
                unknown = not isinstance(failure.error, MigrationFailed)
                if plan.on_error == "raise" and (unknown or key in migration.hindered):
                    # At once: there may be as long a wait in each of the other batches.
                    raise failure.error
                refused[key] = Unsettled(batch[index], plan, failure.refusal)
    return refused


def _apply(collection: Collection[Any], plan: Plan, batch: Sequence[Any]) -> BatchMigration:
    """The starting rules of a plan, applied to a batch of `_id`s."""
    # Only a process that meets an old document pays for the imports.
    from lazymig.engines.loads.attempt import Job  # noqa: PLC0415
    from lazymig.engines.loads.batch import BatchMigration  # noqa: PLC0415

    documents = {index: {"_id": document_id} for index, document_id in enumerate(batch)}
    job = Job(Store(collection).for_plan(plan), plan)
    migration = BatchMigration(job, documents, dict.fromkeys(documents, plan.starting))
    migration.run()
    return migration


def id_batches(ids: Iterable[Any], most: int) -> Iterator[list[Any]]:
    """`_id`s in parts, each of which finds room in one command.

    :param most: there are no more in a part.
    """
    return bounded(ids, _size_of, most=most, most_bytes=_BATCH_BYTES)


def _size_of(document_id: Any) -> int:
    return len(bson.encode({"_id": document_id}, codec_options=ANY_UUID))


def find_refused(
    collection: Collection[Any], refused: Mapping[Any, Unsettled], query: Raw, collation: Any
) -> Found:
    """Those of the refused documents that a query finds as they are stored."""
    search = Search(collation)
    found: Found = {}
    ids = [refusal.document_id for refusal in refused.values()]
    for first in range(0, len(ids), _ASKED):
        some = by_ids(ids[first : first + _ASKED])
        for document_id in search.find(collection, all_of(some, query)):
            found[key_of(document_id)] = document_id
    return found
