"""Rules over a whole collection, in bounded batches; and the report of what was done."""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from threading import Lock
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from lazymig import signals
from lazymig.engines.access import (
    Raw,
    all_of,
    is_document_error,
    is_mongomock,
    key_of,
    located,
    location_fields,
    on_primary,
    writable,
    write_each,
)
from lazymig.engines.claims import migrate_once, release_expired
from lazymig.engines.computed import (
    Outcome,
    failure_of_rule,
    failure_of_server,
    migrate_computed,
)
from lazymig.engines.lazy import Failure, rescue
from lazymig.errors import MigrationError
from lazymig.rules.discovery import BoundRule
from lazymig.rules.plan import Family, Plan
from lazymig.rules.repetition import is_repeatable
from lazymig.rules.rule import Evaluation, Scope

__all__ = ["MigrationReport", "RuleReport", "run_bulk", "run_pending", "settle"]

logger = logging.getLogger(__name__)

# Documents that are held in memory at once; the size of a bulk write beyond which the time per
# document falls no further (measured in benchmarks/).
_BATCH = 1000

# Documents that are rebuilt through the model at once, each batch within `lazy_timeout`.
_RESCUE_BATCH = 100

# Documents of a once rule between two answers of the cursor: effects may be slow, and the server
# closes a cursor that it has not heard of for ten minutes.
_CLAIMED_BATCH = 100

# A rule that fails this often fails for a reason that is not one document's.
_MOST_ERRORS = 1000


@dataclass(frozen=True, slots=True)
class RuleReport:
    """What one rule did to a collection: documents matched and modified, seconds, errors.

    Where `errors` is not empty, the counts may be too low: MongoDB does not tell how many documents
    an update has reached before it refused one.
    """

    name: str
    matched: int
    modified: int
    seconds: float
    errors: tuple[MigrationError, ...] = ()


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """What a run did: one `RuleReport` for each rule, in the order in which they ran.

    `complete` is false when the run was stopped because too many documents were refused.
    """

    model: str
    collection: str
    scope: Scope
    rules: tuple[RuleReport, ...]
    complete: bool = True

    @property
    def matched(self) -> int:
        """Documents matched, added up over the rules."""
        return sum(rule.matched for rule in self.rules)

    @property
    def modified(self) -> int:
        """Documents modified, added up over the rules."""
        return sum(rule.modified for rule in self.rules)

    @property
    def seconds(self) -> float:
        """Seconds that all rules took."""
        return sum(rule.seconds for rule in self.rules)

    @property
    def errors(self) -> tuple[MigrationError, ...]:
        """The errors of all rules; at most 1,000."""
        return tuple(error for rule in self.rules for error in rule.errors)

    def raise_for_errors(self) -> None:
        """Raise the first error, if there is one.

        :raises MigrationError: the first document that could not be migrated.
        """
        for error in self.errors:
            raise error


@dataclass(slots=True)
class _Tally:
    matched: int = 0
    modified: int = 0
    errors: list[MigrationError] = field(default_factory=list)


class _Run:
    """One run of the rules of a plan over a collection."""

    def __init__(
        self,
        collection: Collection[Any],
        plan: Plan,
        scope: Scope,
        within: Raw | None = None,
    ) -> None:
        self.within = within
        self.collection = writable(collection)
        self.plan = plan
        self.scope = scope
        self.reports: list[RuleReport] = []
        self.refused: dict[Any, Any] = {}

    @property
    def stopped(self) -> bool:
        return len(self.refused) >= _MOST_ERRORS

    def report(self) -> MigrationReport:
        return MigrationReport(
            self.plan.model_name,
            str(self.collection.full_name),
            self.scope,
            tuple(self.reports),
            complete=not self.stopped,
        )

    def documents_of(self, target: Raw | None) -> dict[str, Any]:
        """The query for a rule's documents; a refused document gets no later rule."""
        spared = {"_id": {"$nin": list(self.refused.values())}} if self.refused else None
        return all_of(self.plan.concern, target, self.within, spared)

    def carry_out(self, rule: BoundRule, work: Callable[[BoundRule, _Tally], None]) -> None:
        """Run one rule, count, log and announce it."""
        announcement: dict[str, Any] = {
            "document_id": None,
            "rules": (rule.name,),
            "scope": self.scope,
        }
        signals.pre_migration.send(self.plan.doc_class, **announcement)
        tally = _Tally()
        started = time.perf_counter()
        work(rule, tally)
        self.finish(rule, tally, time.perf_counter() - started)
        signals.post_migration.send(
            self.plan.doc_class, matched=tally.matched, modified=tally.modified, **announcement
        )

    def finish(self, rule: BoundRule, tally: _Tally, seconds: float) -> None:
        for error in tally.errors:
            self.refused[key_of(error.document_id)] = error.document_id
            logger.error("%s", error)
            signals.migration_failed.send(
                self.plan.doc_class,
                document_id=error.document_id,
                rules=(rule.name,),
                scope=self.scope,
                error=error,
            )
        self.reports.append(
            RuleReport(rule.name, tally.matched, tally.modified, seconds, tuple(tally.errors))
        )
        logger.info(
            "%s.%s on %s: %d matched, %d modified, %d refused in %.1f s",
            self.plan.model_name,
            rule.name,
            self.collection.full_name,
            tally.matched,
            tally.modified,
            len(tally.errors),
            seconds,
        )

    def apply(self, rule: BoundRule, tally: _Tally) -> None:
        """Apply a rule to every document that it concerns."""
        if rule.once is not None:
            self.claim(rule, tally)
        elif rule.kind == "static":
            evaluation = rule.evaluate(collection=self.collection)
            if self.scope == "bulk" or rule.converges_with(evaluation):
                self.update_many(rule, evaluation, tally)
        elif rule.by_hand and self.scope == "bulk":
            self.by_hand(rule, tally)
        else:
            self.compute(rule, tally)

    def update_many(self, rule: BoundRule, evaluation: Evaluation, tally: _Tally) -> None:
        """One update on the server; document by document only if the server refuses one.

        An update that stops half-way does not tell which documents it has met: only one that
        they may meet again is sent this way.
        """
        if not (is_repeatable(evaluation.update) or rule.converges_with(evaluation)):
            self.update_each(rule, evaluation, tally)
            return
        try:
            result = self.collection.update_many(
                self.documents_of(rule.target),
                evaluation.update,
                array_filters=evaluation.array_filters,
            )
        except OperationFailure as exc:
            if not is_document_error(exc):
                raise
            self.update_each(rule, evaluation, tally)
            return
        tally.matched += result.matched_count
        tally.modified += result.modified_count

    def update_each(self, rule: BoundRule, evaluation: Evaluation, tally: _Tally) -> None:
        """The same update, each document by itself, so that one refusal stops no other."""
        for batch in self.stream(rule.target, location_fields(self.plan.shard_key)):
            ids = [document["_id"] for document in batch]
            written = write_each(
                self.collection,
                [
                    all_of(located(document, self.plan.shard_key), self.plan.concern, rule.target)
                    for document in batch
                ],
                evaluation.update,
                evaluation.array_filters,
            )
            tally.matched += written.matched
            tally.modified += written.modified
            tally.errors.extend(
                failure_of_server(rule, ids[index], text, cause)
                for index, (text, cause) in sorted(written.refused.items())
            )
            if len(tally.errors) + len(self.refused) >= _MOST_ERRORS:
                return

    def compute(self, rule: BoundRule, tally: _Tally) -> None:
        """Stream the matching documents and write each one the update computed for it.

        A batch is read and computed while the one before it is written; there is one write at a
        time.
        """
        work = partial(
            migrate_computed,
            self.collection,
            rule,
            self.plan.concern,
            only_converging=self.scope == "lazy",
            shard_key=self.plan.shard_key,
            turn=Lock(),
        )
        workers = 1 if is_mongomock(self.collection) else 2
        self.count(tally, _side_by_side(work, self.stream(rule.target), workers))

    def claim(self, rule: BoundRule, tally: _Tally) -> None:
        """Let a once rule do its work on each matching document, one after the other."""
        work = partial(
            migrate_once,
            self.collection,
            rule,
            self.plan.concern,
            shard_key=self.plan.shard_key,
        )
        located_only = location_fields(self.plan.shard_key)
        self.count(tally, map(work, self.stream(rule.target, located_only, _CLAIMED_BATCH)))
        if self.within is None:
            release_expired(self.collection, rule, self.plan.concern)

    def count(self, tally: _Tally, outcomes: Iterable[Outcome]) -> None:
        """Add up what became of batches, until there are too many errors."""
        for outcome in outcomes:
            tally.matched += len(outcome.matched)
            tally.modified += outcome.modified
            tally.errors.extend(outcome.failures.values())
            if len(tally.errors) + len(self.refused) >= _MOST_ERRORS:
                return

    def by_hand(self, rule: BoundRule, tally: _Tally) -> None:
        """Let a rule that writes by itself do so, once; count by its target before and after."""
        query = self.documents_of(rule.target)
        before = on_primary(self.collection).count_documents(query)
        try:
            evaluation = rule.evaluate(collection=self.collection)
        except Exception as exc:
            raise failure_of_rule(rule, None, exc) from exc
        if not evaluation.complete:
            self.compute(rule, tally)
        elif evaluation.update is not None:
            self.update_many(rule, evaluation, tally)
        else:
            after = on_primary(self.collection).count_documents(query)
            tally.matched += before
            tally.modified += max(before - after, 0)

    def stream(
        self, target: Raw | None, projection: Raw | None = None, size: int = _BATCH
    ) -> Iterator[list[Raw]]:
        """The documents of a target in batches, each document once, whatever is written meanwhile.

        The order by `_id`, which no update changes, is what keeps a document from coming up twice.
        """
        cursor = on_primary(self.collection).find(self.documents_of(target), projection)
        cursor = cursor.sort("_id", 1).batch_size(size)
        if hasattr(cursor, "allow_disk_use"):
            cursor = cursor.allow_disk_use(True)
        with cursor:
            while batch := list(itertools.islice(cursor, size)):
                yield batch


def _side_by_side(
    work: Callable[[list[Raw]], Outcome], batches: Iterator[list[Raw]], workers: int
) -> Iterator[Outcome]:
    """The outcomes of the batches, in order; with one worker none is begun before its turn."""
    if workers == 1:
        yield from map(work, batches)
        return
    with ThreadPoolExecutor(workers) as pool:
        running: deque[Future[Outcome]] = deque()
        for batch in batches:
            running.append(pool.submit(work, batch))
            if len(running) == workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


def run_bulk(collection: Collection[Any], plan: Plan) -> MigrationReport:
    """Apply the bulk rules of a plan, in order, to the whole collection.

    :raises MigrationFailed: a rule that writes by itself raised.
    :raises pymongo.errors.PyMongoError: the connection or the rights; documents that the server
        refuses are in the report instead.
    """
    run = _Run(collection, plan, "bulk")
    for rule in plan.bulk:
        run.carry_out(rule, run.apply)
        if run.stopped:
            break
    return run.report()


def run_pending(
    collection: Collection[Any], plan: Plan, is_broken: Callable[[Raw], bool]
) -> MigrationReport:
    """Apply the lazy rules of a plan to the whole collection, as though each document were loaded.

    :param is_broken: whether a raw document fails to load or to validate through the model; asked
        only where there are rules that nothing else can start.
    :raises pymongo.errors.PyMongoError: as in `run_bulk`.
    """
    run = _Run(collection, plan, "lazy")
    for rule in plan.starting:
        run.carry_out(rule, run.apply)
        if run.stopped:
            return run.report()
    started_by_errors = [rule for rule in plan.lazy if rule not in plan.starting]
    if started_by_errors:
        _rescue_broken(run, started_by_errors, is_broken)
    order = {rule.name: position for position, rule in enumerate(plan.lazy)}
    run.reports.sort(key=lambda report: order[report.name])
    return run.report()


def settle(collection: Collection[Any], plan: Plan, within: Raw | None) -> MigrationReport:
    """Apply the rules that a match starts to the documents that a query finds.

    :param within: a query that holds for a document before, while and after it is brought up to
        date; `None` for all documents.
    :raises pymongo.errors.PyMongoError: as in `run_bulk`.
    """
    run = _Run(collection, plan, "lazy", within)
    for rule in plan.starting:
        run.carry_out(rule, run.apply)
        if run.stopped:
            break
    return run.report()


def _rescue_broken(run: _Run, rules: Sequence[BoundRule], is_broken: Callable[[Raw], bool]) -> None:
    started = time.perf_counter()
    targets = [rule.target for rule in rules]
    some: Raw | None = None
    if all(target is not None for target in targets):
        some = {"$or": targets} if len(targets) > 1 else targets[0]
    family = Family(run.plan, {})
    applied: dict[Any, list[str]] = {}
    counts = {rule.name: _Tally() for rule in run.plan.lazy}
    for documents in run.stream(some):
        broken = [document for document in documents if is_broken(document)]
        for first in range(0, len(broken), _RESCUE_BATCH):
            batch = broken[first : first + _RESCUE_BATCH]
            applied.clear()
            outcome = rescue(run.collection, batch, family, applied=applied)
            for names in applied.values():
                for name in names:
                    counts[name].matched += 1
                    counts[name].modified += 1
            for result in outcome:
                if isinstance(result, Failure):
                    name = result.error.rule or rules[0].name
                    counts[name].errors.append(result.error)
    seconds = time.perf_counter() - started
    for rule in rules:
        run.finish(rule, counts[rule.name], seconds / len(rules))
