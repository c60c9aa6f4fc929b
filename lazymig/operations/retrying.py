"""Documents in quarantine, tried once more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from bson import ObjectId
from pymongo.collection import Collection

from lazymig.engines.access import Raw, by_ids, key_of
from lazymig.engines.bulk import MigrationReport, Tally, Work, announce, conclude, rescue_broken
from lazymig.operations.journal import Journal, RunEntry
from lazymig.operations.lease import Lease
from lazymig.rules.discovery import BoundRule
from lazymig.rules.plan import Plan

__all__ = ["retry_quarantined"]

_BATCH = 1000


def retry_quarantined(
    collection: Collection[Any],
    plan: Plan,
    is_broken: Callable[[Raw], bool],
    run_id: ObjectId,
    journal_name: str,
) -> MigrationReport:
    """Apply to the documents that a run has refused the rule that failed, and the rules behind it.

    Those that succeed leave the quarantine; for the others the new error is kept.

    :raises RunNotFound: the journal has no such run over this collection.
    :raises CollectionLocked: a bulk run is at work on the collection.
    """
    journal = Journal(collection.database, journal_name)
    entry = journal.read(run_id, collection.name)
    rules = plan.bulk if entry.scope == "bulk" else plan.lazy
    failed = journal.quarantined_by_rule(run_id)
    reports = []
    with Lease(journal.collection, collection.name, holder={"run": run_id}):
        current: dict[Any, Any] = {}
        refused = False
        for rule in rules:
            for document_id in failed.get(rule.name, ()):
                current[key_of(document_id)] = document_id
            if not current:
                continue
            announce(plan, rule, entry.scope)
            started = time.perf_counter()
            tally = Tally()
            for batch in _batches(list(current.values())):
                tally.add(_apply(collection, plan, entry, rule, batch, is_broken))
            for error in tally.errors:
                current.pop(key_of(error.document_id), None)
                refused = True
            journal.quarantine(entry, rule.name, tally.errors)
            seconds = time.perf_counter() - started
            reports.append(conclude(collection, plan, rule, entry.scope, tally, seconds))
        for name, document_ids in failed.items():
            again = {
                key_of(error.document_id)
                for report in reports
                if report.name == name
                for error in report.errors
            }
            done = [each for each in document_ids if key_of(each) not in again]
            journal.release(run_id, name, done)
    return MigrationReport(
        plan.model_name,
        str(collection.full_name),
        entry.scope,
        tuple(reports),
        "failed" if refused else "finished",
        run_id,
    )


def _apply(
    collection: Collection[Any],
    plan: Plan,
    entry: RunEntry,
    rule: BoundRule,
    document_ids: Sequence[Any],
    is_broken: Callable[[Raw], bool],
) -> Tally:
    work = Work(
        collection, plan, entry.scope, by_ids(document_ids), most_errors=len(document_ids) + 1
    )
    if entry.scope == "bulk" or rule in plan.starting:
        return work.apply(rule)
    tally = Tally()
    for counted in rescue_broken(work, (rule,), is_broken).values():
        tally.add(counted)
    return tally


def _batches(document_ids: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for first in range(0, len(document_ids), _BATCH):
        yield document_ids[first : first + _BATCH]
