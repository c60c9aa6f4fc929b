"""Stale documents shown on mongomock, which cannot compute rules without writing: by copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lazymig.engines.access import Description, Raw, by_ids, key_of
from lazymig.engines.loads.failure import Failure
from lazymig.engines.loads.lazy import find_stale_in
from lazymig.engines.loads.rounds import Reading, Rounds, Stale
from lazymig.engines.loads.shown import Shown
from lazymig.engines.scratch import scratch_like
from lazymig.engines.store import Store
from lazymig.rules.plan import Family

__all__ = ["show_copies"]


def show_copies(
    store: Store,
    documents: Sequence[Raw],
    family: Family,
    reading: Reading,
    stale: Stale,
    *,
    after_error: bool,
) -> list[Raw | Failure | None]:
    """Apply the rules to copies in a collection of its own, and give what these become.

    A rule that asks for `self.collection` is given that of the copies.
    """
    touched = {index for matches in stale.values() for index in matches}
    ids = {key_of(documents[index]["_id"]): documents[index]["_id"] for index in touched}
    copies = list(store.collection.find(by_ids(list(ids.values()))))
    found: list[Raw | Failure | None]
    with scratch_like(store.collection, Description("collection", {}), copies) as scratch:
        other = Store(scratch.collection, unheard=True)
        # What a projection leaves does not show whether a document is stale.
        again = (lambda _: {}) if reading.projection else find_stale_in(other, family)
        rounds = Rounds(other, documents, family, again, reading)
        found = rounds.run(stale, after_error=after_error)
    return [
        Shown(each) if index in touched and isinstance(each, Mapping) else each
        for index, each in enumerate(found)
    ]
