"""A part of a collection, with the terms on which the rules of a plan are applied to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final

from pymongo.collection import Collection

from lazymig.engines.access import Raw, all_of, indexable_in
from lazymig.engines.computed.outcome import Demand
from lazymig.engines.reading.decoding import take
from lazymig.engines.store import Store
from lazymig.rules.plan import Plan
from lazymig.rules.rule import Scope

__all__ = ["Part"]

# Documents that are held in memory at once; the size of a bulk write beyond which the time per
# document falls no further (measured in benchmarks/).
_BATCH: Final = 1000

# A rule that fails this often fails for a reason that is not one document's.
_MOST_ERRORS: Final = 1000


@dataclass(frozen=True)
class Part:
    """A part of a collection, and the rules of a plan for it.

    `within` is the query for the part, `None` for all of it; `spared` excepts documents from it.
    `session` is that of an open transaction: then whatever MongoDB refuses raises `PartRefused`.
    `before_write` is called with a query for the documents that are about to be written.
    `most_errors`: the work ends early after so many errors. `only_repeatable`: it may be begun anew
    by someone who does not know what was written, and halts before what would be written twice.
    `is_broken` says whether a raw document fails to load, or to validate: to one that does, a rule
    that no match starts is applied as a load would do it. `demand` is what a rule has to do for a
    document; by default what those of the scope have to. `documents`: how many the part has, those
    that no rule concerns included, as far as that is known.
    """

    collection: Collection[Any]
    plan: Plan
    scope: Scope
    within: Raw | None = None
    spared: Raw | None = None
    session: Any = None
    before_write: Callable[[Raw], object] | None = None
    most_errors: int = _MOST_ERRORS
    only_repeatable: bool = False
    is_broken: Callable[[Raw], bool] | None = None
    demand: Demand | None = None
    documents: int | None = None
    store: Store = field(init=False)

    def __post_init__(self) -> None:
        store = Store(self.collection, session=self.session).for_plan(self.plan)
        object.__setattr__(self, "store", store)
        object.__setattr__(self, "collection", store.collection)

    def documents_of(self, target: Raw | None) -> dict[str, Any]:
        """The query for a rule's documents.

        That for a whole collection is worded for the indexes of the rules; a part has that of the
        `_id`.
        """
        query = all_of(self.store.class_filter, target, self.within, self.spared)
        return query if self.within else dict(indexable_in(self.collection, query))

    def announce_write(self, query: Raw) -> None:
        """Say that the documents of a query are about to be written."""
        if self.before_write is not None:
            self.before_write(query)

    def stream(
        self,
        target: Raw | None,
        projection: Raw | None = None,
        size: int = _BATCH,
        turn: AbstractContextManager[Any] | None = None,
    ) -> Iterator[list[Raw]]:
        """The documents of a target in batches, each document once, whatever is written meanwhile.

        Batches are bounded in documents and in bytes. The order by `_id`, which no update changes,
        is what keeps a document from coming up twice.

        :param turn: held while reading.
        """
        turn = turn or nullcontext()
        cursor = self.store.find_in_order(self.documents_of(target), projection, size)
        try:
            while True:
                batch: list[Any] = []
                with turn:
                    batch = take(cursor, self.collection.codec_options, size)
                if not batch:
                    return
                yield batch
        finally:
            with turn:
                cursor.close()
