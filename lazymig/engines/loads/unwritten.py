"""A batch of stale documents, shown as the rules will leave them: nothing is written.

MongoDB computes what static and translated rules make of them, in one aggregation. A rule in Python
is computed here for the document as the rules before it leave it, and its update is computed by
MongoDB for the document in hand. So a document is shown as of the moment at which it was read.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lazymig.engines.access import Raw, key_of
from lazymig.engines.loads.batch import announce_failure
from lazymig.engines.loads.failure import Failure
from lazymig.engines.loads.in_hand import InHand, Staged, send_through
from lazymig.engines.loads.projecting import projection_stages
from lazymig.engines.loads.rounds import Reading, Stale
from lazymig.engines.loads.showing_plan import PlanShowing
from lazymig.engines.loads.shown import Shown
from lazymig.engines.reading.decoding import Undecoded
from lazymig.engines.refusals import failure_of_showing, projection_cannot_be_shown
from lazymig.engines.store import Store
from lazymig.errors import MigrationError, ShowError
from lazymig.rules.plan import Family, Plan

__all__ = ["Unwritten"]

logger = logging.getLogger(__name__)


class Unwritten:
    """The documents of one load, and what each of them is shown as.

    `current` has them in their order: shown, a failure, or `None` where one is gone; those that are
    not stale as they were read. By the key of the `_id`: `held` are the documents in hand, each
    with the plan of `owners` that was at work on it last; `errors` those that failed.
    """

    def __init__(
        self, store: Store, documents: Sequence[Raw], family: Family, reading: Reading
    ) -> None:
        self.store = store
        self.documents = documents
        self.family = family
        self.reading = reading
        self.current: list[Raw | Failure | None] = list(documents)
        self.held: dict[Any, InHand] = {}
        self.owners: dict[Any, Plan] = {}
        self.errors: dict[Any, MigrationError | ShowError] = {}

    def run(self, stale: Stale, *, after_error: bool = False) -> list[Raw | Failure | None]:
        """Show the documents that are stale.

        :raises pymongo.errors.PyMongoError: the connection, the rights.
        """
        places: dict[Any, list[int]] = {}
        for plan, matches in stale.items():
            ids = {key_of(self.documents[index]["_id"]): index for index in matches}
            for index in matches:
                places.setdefault(key_of(self.documents[index]["_id"]), []).append(index)
            showing = PlanShowing(self.store.for_plan(plan), plan, after_error=after_error)
            showing.run_stored([self.documents[index]["_id"] for index in ids.values()])
            self._take(showing)
        if self.family.only is None:
            self._hand_over()
        shown = self._projected()
        for key, indexes in places.items():
            self._log(key, self.documents[indexes[0]]["_id"])
            for index in indexes:
                self.current[index] = self._item(key, shown, self.documents[index])
        return self.current

    def _take(self, showing: PlanShowing) -> None:
        self.held.update(showing.done)
        self.errors.update(showing.errors)
        self.owners.update(dict.fromkeys((*showing.done, *showing.errors), showing.plan))

    def _hand_over(self) -> None:
        """Apply the rules of another class to documents that a rule has handed over to it."""
        done = {key: {plan} for key, plan in self.owners.items()}
        while True:
            moved: dict[Plan, dict[Any, InHand]] = {}
            for key, each in self.held.items():
                plan = self.family.plan_of(each.document)
                if plan is not None and plan not in done[key]:
                    moved.setdefault(plan, {})[key] = each
            if not moved:
                return
            for plan, some in moved.items():
                for key in some:
                    del self.held[key]
                    done[key].add(plan)
                showing = PlanShowing(self.store.for_plan(plan), plan, after_error=False)
                showing.run_in_hand(some.values())
                self._take(showing)

    def _projected(self) -> Mapping[Any, Raw]:
        """The documents with the fields that were asked for, decoded."""
        found: Mapping[Any, InHand] = self.held
        stages = projection_stages(self.reading.projection)
        if stages is None or self.reading.positional is not None:
            for key, each in self.held.items():
                model_name = self.owners[key].model_name
                self.errors[key] = projection_cannot_be_shown(model_name, each.document["_id"])
            return {}
        if stages and self.held:
            answer = send_through(
                self.store, [Staged([each.data for each in self.held.values()])], stages
            )
            found = answer.found
            for key, (document_id, cause) in answer.errors.items():
                model_name = self.owners[key].model_name
                self.errors[key] = failure_of_showing(model_name, document_id, cause)
        return {key: _as_shown(each.document) for key, each in found.items()}

    def _log(self, key: Any, document_id: Any) -> None:
        plan, error = self.owners.get(key), self.errors.get(key)
        if plan is None:
            return
        if isinstance(error, MigrationError):
            announce_failure(self.store.collection, plan, error)
        elif error is None:
            logger.debug(
                "%s %r is shown as its rules will leave it; nothing is written",
                plan.model_name,
                document_id,
            )

    def _item(self, key: Any, shown: Mapping[Any, Raw], stored: Raw) -> Raw | Failure | None:
        if key in self.errors:
            return Failure(stored, self.owners[key], self.errors[key])
        document = shown.get(key)
        return None if document is None else self._with_scores(document, stored)

    def _with_scores(self, document: Raw, stored: Raw) -> Raw:
        """A document with what exists only in the answer to the query for it."""
        if isinstance(document, Undecoded):
            return document
        scores = {name: stored[name] for name in _metadata(self.reading) if name in stored}
        return Shown({**document, **scores}) if scores else document


def _as_shown(document: Raw) -> Raw:
    return document if isinstance(document, Undecoded) else Shown(document)


def _metadata(reading: Reading) -> Iterable[str]:
    for name, value in (reading.projection or {}).items():
        if isinstance(value, Mapping) and "$meta" in value:
            yield name
