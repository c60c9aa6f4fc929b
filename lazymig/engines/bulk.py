"""Rules over a collection or a part of it, in bounded batches.

Which part comes when, and what is noted about it, is not decided here.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from contextvars import copy_context
from typing import Any

from bson.errors import InvalidBSON
from pymongo.errors import DocumentTooLarge, OperationFailure, PyMongoError

from lazymig.engines.access import Raw, all_of, by_ids, key_of
from lazymig.engines.computed.guarded import migrate_computed
from lazymig.engines.computed.outcome import Demand, Outcome, PartRefused, Terms
from lazymig.engines.computed.pace import Pace
from lazymig.engines.driver_errors import is_document_error
from lazymig.engines.once.claimant import migrate_once
from lazymig.engines.part import Part
from lazymig.engines.reading.decoding import BoundedReader, named
from lazymig.engines.reading.marks import marks_writes
from lazymig.engines.refusals import failure_of_rule, failure_of_server, still_matches, undecodable
from lazymig.engines.report import MigrationReport, RuleReport, Tally, announce, conclude
from lazymig.engines.rescuing import rescue_all, rescue_broken
from lazymig.engines.store import as_applied, write_each
from lazymig.locks import new_lock
from lazymig.raw.elements import StoredValue
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.plan import Plan
from lazymig.rules.repetition import is_repeatable, may_be_repeated, tells_what_is_left
from lazymig.rules.rule import Evaluation, Scope

__all__ = [
    "MigrationReport",
    "PartRefused",
    "RuleReport",
    "Tally",
    "Work",
    "announce",
    "conclude",
    "is_exact_once_repeated",
    "rescue_broken",
    "writes_alone",
]

# Fewer documents than these, though there are more, are large ones.
_LARGE_BATCH = 100

# Documents of a once rule between two answers of the cursor: effects may be slow, and the server
# closes a cursor that it has not heard of for ten minutes.
_CLAIMED_BATCH = 100


class Work(Part):
    """The rules of a plan on the documents of a part of a collection."""

    @marks_writes
    def apply(self, rule: BoundRule) -> Tally:
        """Apply a rule to every document of this part that it concerns.

        :raises PartRefused: within a transaction, MongoDB refused an update.
        :raises MigrationFailed: a rule that writes by itself raised.
        :raises pymongo.errors.PyMongoError: the connection or the rights; documents that the server
            refuses are in the tally instead.
        """
        tally = Tally()
        is_found_again = tells_what_is_left(rule, self.scope) is True
        *exact, rule = as_applied(self.store, rule).halves()
        for half in exact:
            # What it is refused for is not met again: the other half leaves its documents out.
            self._update_many(half, half.evaluate(), tally)
            if is_found_again and tally.matched and tally.matched == self.documents:
                # Nothing is left to read in vain. What has come meanwhile the run looks for.
                return tally
        if rule.once is not None:
            self._claim(rule, tally)
        elif rule.kind == "static" and not rule.varies:
            evaluation = rule.evaluate(collection=self.collection)
            if self._demand != "end" or rule.converges_with(evaluation):
                self._update_many(rule, evaluation, tally)
            else:
                self._compute(rule, tally)
        elif writes_alone(rule, self.scope):
            self._by_hand(rule, tally)
        else:
            self._compute(rule, tally)
        return tally

    @property
    def _demand(self) -> Demand:
        """Lazy rules have to end their match, or they would be applied again at each load.

        Bulk rules are run on demand, and may be meant to find their documents again.
        """
        return self.demand or ("end" if self.scope == "lazy" else "update")

    def _update_many(self, rule: BoundRule, evaluation: Evaluation, tally: Tally) -> None:
        """One update on the server; document by document only if the server refuses one.

        An update that stops half-way does not say which documents it has met: only one that
        they may meet again is sent this way, or one that a transaction undoes.
        """
        query = self.documents_of(rule.target)
        if self.session is None and not is_exact_once_repeated(rule, evaluation):
            self._update_each(rule, evaluation, tally)
            return
        self.announce_write(query)
        try:
            result = self.store.update_many(query, evaluation.update, evaluation.array_filters)
        except (OperationFailure, DocumentTooLarge) as exc:
            if not is_document_error(exc):
                raise
            if self.session is not None:
                raise PartRefused from exc
            self._update_each(rule, evaluation, tally, announced=True)
            return
        tally.matched += result.matched_count
        tally.modified += result.modified_count

    def _update_each(
        self, rule: BoundRule, evaluation: Evaluation, tally: Tally, *, announced: bool = False
    ) -> None:
        """The same update, each document by itself, so that one refusal stops no other."""
        for batch in self.stream(rule.target, self.store.location):
            places: list[dict[str, Any]] = []
            ids: list[Any] = []
            documents, nameless = named(batch)
            tally.errors.extend(undecodable(rule, each.stored_id, each.error) for each in nameless)
            for document in documents:
                try:
                    places.append(self.store.locate(document))
                except InvalidBSON as exc:
                    tally.errors.append(undecodable(rule, document["_id"], exc))
                else:
                    ids.append(document["_id"])
            if not places:
                continue
            if not announced:
                self.announce_write(by_ids(ids))
            query = self.store.query_of(rule)
            written = write_each(
                self.store,
                [all_of(place, query) for place in places],
                evaluation.update,
                evaluation.array_filters,
            )
            tally.matched += written.matched
            tally.modified += written.modified
            tally.errors.extend(
                failure_of_server(rule, ids[index], text, cause)
                for index, (text, cause) in sorted(written.refused.items())
            )
            if len(tally.errors) >= self.most_errors:
                return

    def _compute(self, rule: BoundRule, tally: Tally) -> None:
        """Stream the matching documents and write each one the update computed for it.

        Two batches are under way at a time, so that one is read and computed while the other is
        written. In a transaction there is one command at a time, and one pre-image at a time.
        """
        paths = _paths_needed(rule, self.plan)
        pace = Pace()
        alone = self.session is None and self.before_write is None
        turn = nullcontext() if alone else new_lock()
        terms = Terms(
            self._demand,
            pace,
            paths,
            only_repeatable=self.only_repeatable,
            all_or_nothing=self.session is not None,
            turn=turn,
            may_fold=self._outlasts(rule),
            before_write=self.before_write,
        )
        fields = None if paths is None else dict.fromkeys(paths, 1)
        outcomes = _side_by_side(
            lambda batch: migrate_computed(self.store, rule, batch, terms),
            self._wanted(tally, self.stream(rule.target, fields, turn=turn)),
            1 if self.store.is_imitation else 2,
        )
        may_rescue = self.is_broken and self.scope == "lazy" and not self.plan.starts(rule)
        for outcome in outcomes:
            if may_rescue:
                self._rescue(rule, tally, outcome)
            tally.count(outcome)
        tally.computing += pace.seconds

    def _outlasts(self, rule: BoundRule) -> bool:
        """Return whether a part is begun anew where the connection is lost.

        Not in a transaction, which would end with the first command that an old server refuses.
        """
        known = may_be_repeated(rule, self.scope)
        return self.session is None and (self.only_repeatable if known is None else known)

    def _rescue(self, rule: BoundRule, tally: Tally, outcome: Outcome) -> None:
        """Do what a load does to those documents that a rule was not applied to, but might help.

        What still matches the rule then stays among the failures, as everywhere.
        """
        assert self.is_broken is not None
        named = (outcome.failures[key].document_id for key in outcome.unwritten)
        ids = [document_id for document_id in named if not isinstance(document_id, StoredValue)]
        reader = BoundedReader(self.store, ids, None)
        while reader.left:
            broken = [each for each in reader.read() if self.is_broken(each)]
            if not broken:
                continue
            counts = rescue_all(self, broken, self.is_broken, rule)
            errors = (error for each in counts.values() for error in each.errors)
            failed = {key_of(error.document_id) for error in errors}
            for document in broken:
                key = key_of(document["_id"])
                outcome.unwritten.discard(key)
                del outcome.failures[key]
            query = self.store.query_of(rule, [each["_id"] for each in broken])
            for document in self.store.find_ids(query):
                if (key := key_of(document["_id"])) not in failed:
                    outcome.failures[key] = still_matches(rule, document["_id"])
            tally.add(counts.pop(rule.name, Tally()))
            tally.add(Tally(others=counts))

    def _claim(self, rule: BoundRule, tally: Tally) -> None:
        """Let a once rule do its work on each matching document, one after the other."""
        pace = Pace()
        batches = self.stream(rule.target, self.store.location, _CLAIMED_BATCH)
        for batch in self._wanted(tally, batches):
            documents, nameless = named(batch)
            outcome = Outcome()
            if documents:
                self.announce_write(by_ids([document["_id"] for document in documents]))
                outcome = migrate_once(self.store, rule, documents, pace)
            for each in nameless:
                outcome.refuse(undecodable(rule, each.stored_id, each.error))
            tally.count(outcome)
        tally.computing += pace.seconds

    def _wanted(self, tally: Tally, batches: Iterator[list[Raw]]) -> Iterator[list[Raw]]:
        """The batches, of which none is begun after too many errors."""
        return itertools.takewhile(lambda _: len(tally.errors) < self.most_errors, batches)

    def _by_hand(self, rule: BoundRule, tally: Tally) -> None:
        """Let a rule that writes by itself do so, once; count by its target before and after."""
        query = self.documents_of(rule.target)
        before = self.store.count(query)
        self.announce_write(query)
        try:
            evaluation = rule.evaluate(collection=self.collection)
        except Exception as exc:
            raise failure_of_rule(rule, None, exc) from exc
        if not evaluation.complete:
            self._compute(rule, tally)
        elif evaluation.update is not None:
            self._update_many(rule, evaluation, tally)
        else:
            after = self.store.count(query)
            tally.matched += before
            tally.modified += max(before - after, 0)
            if after and self._demand == "end":
                left = self.store.find_ids(query, limit=self.most_errors)
                tally.errors.extend(still_matches(rule, document["_id"]) for document in left)


def writes_alone(rule: BoundRule, scope: Scope) -> bool:
    """Return whether a rule writes by itself, for all documents at once, looking at none."""
    return rule.by_hand and (scope == "bulk" or rule.converges is False)


def is_exact_once_repeated(rule: BoundRule, evaluation: Evaluation) -> bool:
    """Return whether a static update that broke off half-way may be sent again."""
    return is_repeatable(evaluation.update) or rule.converges_with(evaluation)


def _paths_needed(rule: BoundRule, plan: Plan) -> frozenset[str] | None:
    """The top-level fields that a rule needs of a document; `None` where it may be any."""
    if rule.inputs is None or rule.reads is None:
        return None
    needed = (*rule.inputs, *rule.reads, *plan.shard_key, "_id")
    return frozenset(path.partition(".")[0] for path in needed)


def _side_by_side(
    work: Callable[[list[Raw]], Outcome], batches: Iterator[list[Raw]], workers: int
) -> Iterator[Outcome]:
    """The outcomes of the batches, in order; with one worker none is begun before its turn."""
    if workers == 1:
        yield from map(work, batches)
        return
    with ThreadPoolExecutor(workers) as pool:
        running: deque[Future[Outcome]] = deque()
        try:
            for batch in batches:
                running.append(pool.submit(copy_context().run, work, batch))
                # What is large fills the memory without another one beside it.
                most = workers if len(batch) >= _LARGE_BATCH else 1
                del batch
                while len(running) >= most:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        except PyMongoError:
            # What one is refused in a transaction ends the transaction for the other as well.
            for other in running:
                if isinstance(refused := other.exception(), PartRefused):
                    raise refused from None
            raise
