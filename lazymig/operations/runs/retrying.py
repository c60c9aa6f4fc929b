"""Documents in quarantine, tried once more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from bson import ObjectId
from pymongo import WriteConcern
from pymongo.client_session import ClientSession
from pymongo.collection import Collection
from pymongo.errors import DocumentTooLarge, OperationFailure
from pymongo.read_concern import ReadConcern

from lazymig.engines.access import Raw, by_ids, ids_of, key_of, on_primary
from lazymig.engines.bulk import (
    MigrationReport,
    PartRefused,
    Tally,
    Work,
    announce,
    conclude,
    rescue_broken,
)
from lazymig.engines.refusals import failure_of_server, still_matches
from lazymig.errors import MigrationFailed, RuleChanged, RunError
from lazymig.operations.journal.fencing import fenced
from lazymig.operations.journal.journal import Journal, RunEntry
from lazymig.operations.journal.lease import Lease
from lazymig.operations.runs.outlasting import outlast
from lazymig.operations.runs.transactions import (
    MOST_CONFLICTS,
    Contended,
    has_transactions,
    on_its_own,
)
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.plan import Plan
from lazymig.rules.repetition import may_be_repeated, tells_what_is_left

__all__ = ["retry_quarantined"]

_BATCH = 1000

# Writes of the application to the documents of a transaction wait until it ends.
_BATCH_IN_TRANSACTION = 100

# The first pause between two attempts of a transaction, and the longest.
_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.5


def retry_quarantined(
    collection: Collection[Any],
    plan: Plan,
    is_broken: Callable[[Raw], bool],
    run_id: ObjectId,
    journal_name: str,
) -> MigrationReport:
    """Apply to the documents that a run has refused the rule that failed, and the rules behind it.

    Those that succeed leave the quarantine; for the others the new error is kept. What a document
    has in quarantine names the rule to go on with at every moment, so that a retry that was killed
    can be repeated: a rule that must not be applied twice is applied, and the next one is noted, in
    one transaction. On a standalone server and on mongomock there are none: there, a retry that is
    killed between the two may apply such a rule twice to up to 1,000 documents.

    :raises RunNotFound: the journal has no such run over this collection.
    :raises CollectionLocked: a bulk run is at work on the collection.
    :raises RunError: the run has not finished.
    :raises RuleChanged: the run is one of another model, or of a rule that the plan has not.
    :raises MigrationFailed: a rule that writes by itself raised.
    :raises LeaseLost: another run may be at work on the collection.
    :raises pymongo.errors.PyMongoError: the connection or the rights.
    """
    with on_its_own(collection.database, str(collection.full_name), "retry_quarantined"):
        return _retried(collection, plan, is_broken, run_id, journal_name)


def _retried(
    collection: Collection[Any],
    plan: Plan,
    is_broken: Callable[[Raw], bool],
    run_id: ObjectId,
    journal_name: str,
) -> MigrationReport:
    journal = Journal(collection.database, journal_name, codec_options=collection.codec_options)
    entry = journal.read(run_id, collection.name)
    reports = []
    lease = Lease(journal.collection, collection.name, holder={"run": run_id})
    outlast(plan.model_name, lease.acquire)
    try:
        # Before the lease is held, a run or another retry may change what is read here.
        _check_finished(journal, collection, entry)
        failed = journal.quarantined_by_rule(run_id)
        _check_rules(collection, plan, entry, failed)
        outlast(plan.model_name, partial(journal.own, entry))
        # Whoever has taken over the lease before did not know that the run is owned anew.
        outlast(plan.model_name, partial(lease.tell, run=run_id))
        lease.check()
        retry = _Retry(collection, plan, is_broken, journal, entry, lease)
        current: dict[Any, Any] = {}
        for rule in retry.rules:
            current.update((key_of(each), each) for each in failed.get(rule.name, ()))
            if not current:
                continue
            announce(plan, rule, entry.scope)
            started = time.perf_counter()
            tally = Tally()
            for batch in _batches(list(current.values()), retry.batch_size(rule)):
                lease.check()
                tally.add(retry.take(rule, batch))
            for error in tally.errors:
                current.pop(key_of(error.document_id), None)
            seconds = time.perf_counter() - started
            reports.append(conclude(collection, plan, rule, entry.scope, tally, seconds))
    finally:
        lease.release()
    return MigrationReport(
        plan.model_name,
        str(collection.full_name),
        entry.scope,
        tuple(reports),
        "failed" if any(report.errors for report in reports) else "finished",
        run_id,
    )


class _Retry:
    """The rules of a run over some of its documents, and what becomes of their quarantine."""

    def __init__(
        self,
        collection: Collection[Any],
        plan: Plan,
        is_broken: Callable[[Raw], bool],
        journal: Journal,
        entry: RunEntry,
        lease: Lease,
    ) -> None:
        self.collection = collection
        self.lease = lease
        self.fenced = fenced(collection, lease.fence(collection))
        self.plan = plan
        self.is_broken = is_broken
        self.journal = journal
        self.entry = entry
        self.rules = _rules_of(plan, entry)
        self.transactions = has_transactions(collection)

    def batch_size(self, rule: BoundRule) -> int:
        """How many documents are given to `take` at once."""
        return _BATCH_IN_TRANSACTION if self._is_exact(rule) else _BATCH

    def take(self, rule: BoundRule, document_ids: Sequence[Any]) -> Tally:
        """Apply a rule to some documents, and note for each what is left to do.

        What may be done twice outlasts a server that is away.
        """
        take = partial(self._take, rule, document_ids)
        if not self._is_exact(rule) and may_be_repeated(rule, self.entry.scope) is not True:
            return take()
        return outlast(self.plan.model_name, take, pause=self._pause)

    def _pause(self, seconds: float, _until: float) -> bool:
        time.sleep(seconds)
        return not self.lease.taken

    def _take(self, rule: BoundRule, document_ids: Sequence[Any]) -> Tally:
        if not self._is_exact(rule):
            tally = self._apply(rule, document_ids)
            self._note(rule, document_ids, tally)
            return tally
        try:
            return self._in_transaction(rule, document_ids)
        except (PartRefused, Contended) as exc:
            if len(document_ids) > 1:
                # MongoDB does not say in a transaction which document it has refused.
                tally = Tally()
                for document_id in document_ids:
                    tally.add(self._take(rule, [document_id]))
                return tally
            if not isinstance(exc.__cause__, (OperationFailure, DocumentTooLarge)):
                raise
            error = failure_of_server(rule, document_ids[0], exc.__cause__, exc.__cause__)
            tally = Tally(errors=[error])
            self._note(rule, document_ids, tally)
            return tally

    def _is_exact(self, rule: BoundRule) -> bool:
        """Whether a rule is applied, and that is noted, in one transaction."""
        if not self.transactions or (rule.by_hand and self.entry.scope == "bulk"):
            return False
        return may_be_repeated(rule, self.entry.scope) is not True

    def _in_transaction(self, rule: BoundRule, document_ids: Sequence[Any]) -> Tally:
        attempts = 0

        def attempt(session: ClientSession) -> Tally:
            nonlocal attempts
            if attempts >= MOST_CONFLICTS and len(document_ids) > 1:
                raise Contended
            if attempts:
                time.sleep(min(_FIRST_PAUSE * 2**attempts, _LONGEST_PAUSE))
            attempts += 1
            self.lease.check()
            tally = self._apply(rule, document_ids, session)
            self._note(rule, document_ids, tally, session)
            self.journal.touch(self.entry, session)
            return tally

        with self.collection.database.client.start_session() as session:
            tally: Tally = session.with_transaction(
                attempt, ReadConcern("snapshot"), WriteConcern("majority")
            )
        return tally

    def _apply(
        self, rule: BoundRule, document_ids: Sequence[Any], session: ClientSession | None = None
    ) -> Tally:
        scope = self.entry.scope
        work = Work(
            self.collection if session is not None or rule.once is not None else self.fenced,
            self.plan,
            scope,
            by_ids(document_ids),
            session=session,
            most_errors=len(document_ids) + 1,
            is_broken=None if session is not None else self.is_broken,
        )
        tally = Tally()
        if scope == "lazy" and rule.target is None:
            for counted in rescue_broken(work, (rule,), self.is_broken).values():
                tally.add(counted)
            return tally
        tally.add(work.apply(rule))
        # As in a run: elsewhere the target does not tell, or the rule has left them alone.
        if rule.converges is not None and tells_what_is_left(rule, scope) is True:
            refused = {key_of(error.document_id) for error in tally.errors}
            found = ids_of(on_primary(self.collection), work.documents_of(rule.target))
            tally.errors.extend(
                still_matches(rule, document_id)
                for document_id in found
                if key_of(document_id) not in refused
            )
        return tally

    def _note(
        self,
        rule: BoundRule,
        document_ids: Sequence[Any],
        tally: Tally,
        session: ClientSession | None = None,
    ) -> None:
        """Keep the errors, and let the others wait for the next rule, or out of the quarantine.

        In this order: broken off in between, a document is in quarantine twice, but never lost.
        """
        refused = {key_of(error.document_id) for error in tally.errors}
        done = [each for each in document_ids if key_of(each) not in refused]
        self.journal.quarantine(self.entry, rule.name, tally.errors, session)
        behind = self.rules[self.rules.index(rule) + 1 :]
        if behind:
            self.journal.quarantine(
                self.entry,
                behind[0].name,
                [_waiting(behind[0], rule, document_id) for document_id in done],
                session,
            )
        if session is None:
            self.journal.release(self.entry.id, rule.name, done)
            return
        keys = [{"run": self.entry.id, "rule": rule.name, "document_id": each} for each in done]
        self.journal.collection.delete_many({"_id": {"$in": keys}}, session=session)


def _rules_of(plan: Plan, entry: RunEntry) -> Sequence[BoundRule]:
    return plan.bulk if entry.scope == "bulk" else plan.lazy


def _waiting(rule: BoundRule, former: BoundRule, document_id: Any) -> MigrationFailed:
    """What a document has in quarantine between two rules; seen only if the retry breaks off."""
    return MigrationFailed(
        f"a retry has applied {former.name} and was broken off before this rule; retry again",
        model=rule.model_name,
        rule=rule.name,
        document_id=document_id,
    )


def _check_finished(journal: Journal, collection: Collection[Any], entry: RunEntry) -> None:
    """What is left of a run would apply to the retried documents what the retry has applied."""
    if journal.collection.find_one({"_id": entry.id, "state": "finished"}, {"_id": 1}) is not None:
        return
    call = "migrate_all" if entry.scope == "bulk" else "migrate_pending"
    raise RunError(
        f"{entry.model}: run {entry.id} over {collection.full_name} has not finished; go on with "
        f"it by {call}(resume='{entry.id}') first, which leaves alone what is in quarantine, and "
        "retry that then",
        collection=str(collection.full_name),
        run=entry.id,
    )


def _check_rules(
    collection: Collection[Any], plan: Plan, entry: RunEntry, failed: Mapping[str, Sequence[Any]]
) -> None:
    """Whoever has not the rule that failed can migrate nothing, and must release nothing."""
    what: dict[str, Any] = {"collection": str(collection.full_name), "run": entry.id}
    if plan.model_name != entry.model:
        raise RuleChanged(
            f"{plan.model_name}: run {entry.id} over {what['collection']} is one of {entry.model}, "
            f"not of {plan.model_name}; retry it by the handler of {entry.model}",
            **what,
        )
    known = {rule.name for rule in _rules_of(plan, entry)}
    for name in sorted(failed.keys() - known):
        raise RuleChanged(
            f"{plan.model_name}.{name}: run {entry.id} has documents in quarantine for this rule, "
            f"and the handler has no {entry.scope} rule of this name; give the rule its "
            "former name again, or begin a new run in place of a retry",
            **what,
        )


def _batches(document_ids: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    for first in range(0, len(document_ids), size):
        yield document_ids[first : first + size]
