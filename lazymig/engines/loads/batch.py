"""The migration of a batch of stale documents by the rules of one plan, within a time limit."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pymongo import WriteConcern
from pymongo.collection import Collection
from pymongo.errors import PyMongoError

from lazymig import signals
from lazymig.engines.access import key_of
from lazymig.engines.computed.pace import slowest
from lazymig.engines.deadline import Deadline
from lazymig.engines.driver_errors import waited_too_long
from lazymig.engines.loads.attempt import Attempt, Job
from lazymig.engines.loads.failure import Failure
from lazymig.engines.once.claim import Held
from lazymig.engines.once.waiting import wait_for
from lazymig.engines.reading.marks import marks_writes
from lazymig.engines.refusal_log import log_refusal
from lazymig.engines.sessions import not_at_a_snapshot, raise_if_aborted
from lazymig.errors import MigrationError, MigrationTimeout
from lazymig.redaction import bare
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.plan import Plan

__all__ = ["BatchMigration", "announce_failure"]

logger = logging.getLogger(__name__)

# What of the time limit may be spent on waiting for documents that others hold, so that there is
# time to say so at its end; and the seconds that one which becomes free then is given anyway.
_WAITING = 0.9
_LEAST = 0.05

# A batch may take half of the time limit. The other half is for its documents one by one, if one
# of them is held; of that half, one document gets this fraction.
_PATIENCE = 5


class BatchMigration:
    """The rules of one plan on the stale documents of a batch: attempts, until the time is over.

    All documents are tried together, and one by one where that takes too long. One that somebody
    else holds for a once rule is waited for when all others are done.

    :param documents: by their index in the batch.
    :param matches: the rules that each of them is known to match.
    """

    def __init__(
        self,
        job: Job,
        documents: Mapping[int, Any],
        matches: Mapping[int, Sequence[BoundRule]],
    ) -> None:
        if job.applied is None and not job.store.unheard and _someone_listens():
            job.applied = {}
        self.job = job
        self.plan = job.plan
        self.documents = documents
        self.matches = matches
        self.keys = {index: key_of(document["_id"]) for index, document in documents.items()}
        self.held: dict[Any, Held] = {}
        self.errors: dict[Any, MigrationError] = {}
        self.hindered: set[Any] = set()
        self.left_alone: set[tuple[Any, str]] = set()
        self.deadline: Deadline

    @property
    def collection(self) -> Collection[Any]:
        """What is written to."""
        return self.job.store.collection

    @property
    def failures(self) -> dict[int, Failure]:
        """What failed, by index in the batch."""
        if not self.errors:
            return {}
        return {
            index: Failure(self.documents[index], self.plan, self.errors[key])
            for index, key in self.keys.items()
            if key in self.errors
        }

    @marks_writes
    def run(self, deadline: Deadline | None = None) -> None:
        """Apply the rules; errors of single documents are in `errors`.

        :param deadline: that of an earlier attempt; without one the time begins now.
        :raises MigrationError: a transaction that the documents are part of is over.
        """
        self.deadline = deadline or Deadline.of(self.collection, self.plan.lazy_timeout)
        self._announce_start()
        if self.job.store.is_read_only:
            for index, key in self.keys.items():
                document_id = self.documents[index]["_id"]
                self.errors[key] = not_at_a_snapshot(self.plan.model_name, document_id)
                self.hindered.add(key)
        elif self.job.store.in_transaction:
            self._work_in_transaction()
        else:
            self._work_in_time()
        self._announce_end()

    def _work_in_time(self) -> None:
        alone = len(self.documents) == 1
        attempt = self._attempt(self.documents, whole=self.job.whole)
        late = attempt.work(self.deadline if alone else self.deadline.part(0.5))
        self._take_in(attempt)
        self.held.update(attempt.held)
        if late is not None or attempt.unfinished:
            attempt.find_left(late)
            if alone or self.deadline.seconds is None:
                self._time_out(attempt.alive, late, waited=attempt.pace.waited)
            else:
                self._work_one_by_one(attempt, late)
        if self.held:
            self._wait_for_held()

    def _work_in_transaction(self) -> None:
        """Do one document after the other: of a batch MongoDB does not say which it has refused.

        And it takes no further command then by which that could be found out.
        """
        # A transaction has a write concern of its own, and MongoDB refuses that of a write.
        self.job = replace(self.job, store=self.job.store.with_concern(WriteConcern()))
        for index in self.documents:
            alone = self._attempt([index], whole=self.job.whole)
            late = alone.work(self.deadline)
            self._take_in(alone)
            left = alone.unfinished if late is None else alone.alive | alone.unfinished
            self._time_out(left, late, waited=alone.pace.waited)
            try:
                if (error := self.errors.get(self.keys[index])) is not None:
                    raise_if_aborted(error)
            except BaseException:
                self.job.applied = None
                self._announce_end()
                raise

    def _attempt(self, indexes: Iterable[int], *, whole: bool) -> Attempt:
        documents = {index: self.documents[index] for index in indexes}
        return Attempt(self.job, documents, self.matches, whole=whole)

    def _take_in(self, attempt: Attempt) -> None:
        """What has become of the documents of an attempt, but for what is held."""
        self.errors.update(attempt.errors)
        self.hindered.update(attempt.hindered)
        self.left_alone.update(attempt.left_alone)

    def _work_one_by_one(self, former: Attempt, late: PyMongoError | None) -> None:
        """Try each document that is left by itself: who holds one does not hold its neighbours."""
        most = (self.deadline.seconds or 0) / 2 / _PATIENCE
        for index, key in self.keys.items():
            if key not in former.alive:
                continue
            if self.job.applied is not None and key not in former.unfinished:
                self.job.applied.pop(key, None)
            is_over = self.deadline.is_over
            alone = self._attempt([index], whole=self.job.whole)
            error = late if is_over else alone.work(self.deadline.at_most(most))
            self._take_in(alone)
            self.held.update(alone.held)
            undone = is_over or error is not None or alone.unfinished
            if undone and key not in self.held:
                self._time_out([key], error, waited=alone.pace.waited)

    def _wait_for_held(self) -> None:
        """Continue with documents that others hold as they become free, in what time is left."""
        deadline = self.deadline.part(_WAITING)

        def go_on(free: Mapping[Any, Held]) -> dict[Any, Held]:
            for key in free:
                del self.held[key]
            held = self._go_on(free)
            self.held.update(held)
            return held

        try:
            errors = wait_for(self.job.store, dict(self.held), deadline, go_on)
        except PyMongoError as exc:
            if not waited_too_long(exc):
                raise
            self._time_out(self.held, exc, waited=True)
        else:
            self.errors.update(errors)

    def _go_on(self, keys: Mapping[Any, Any]) -> dict[Any, Held]:
        """Apply the rules to documents that have been held; return those that are held again."""
        # What was read of them, by whomever, is what they were before.
        again = self._attempt(
            [index for index, key in self.keys.items() if key in keys], whole=False
        )
        late = again.work(self.deadline.at_least(_LEAST))
        self._take_in(again)
        if late is not None or again.unfinished:
            again.find_left(late)
            self._time_out(again.alive, late, waited=again.pace.waited)
        return again.held

    def _time_out(self, keys: Iterable[Any], cause: PyMongoError | None, *, waited: bool) -> None:
        """Give up documents for which time was too short.

        :param waited: a command has waited until the end; otherwise a rule may have been slow.
        """
        limit = self.deadline.limit
        slow = None if waited else slowest(self.job.taken, self.deadline.seconds)
        if slow is not None:
            problem = (
                f"the rule takes {slow.each:.3g} s a document in Python, so {limit} was over "
                "before this one was done; what was computed is stored: load it again, let the "
                "rule take less time, or bring the collection up to date in a bulk run"
            )
        else:
            problem = (
                f"the update waited longer than {limit} allows, probably for a transaction that "
                "holds the document; load it again after that, or outside of the transaction"
            )
        ids = {key: self.documents[index]["_id"] for index, key in self.keys.items()}
        for key in keys:
            error = self.errors[key] = MigrationTimeout(
                problem,
                model=self.plan.model_name,
                rule=None if slow is None else slow.rule,
                document_id=ids[key],
            )
            error.__cause__ = None if cause is None else bare(cause)

    def _announce_start(self) -> None:
        if self.job.store.unheard or not signals.pre_migration.receivers:
            return
        for index, document in self.documents.items():
            signals.announce(
                signals.pre_migration,
                self.plan.doc_class,
                document_id=document["_id"],
                rules=tuple(rule.name for rule in self.matches[index]),
                scope="lazy",
            )

    def _announce_end(self) -> None:
        for error in self.errors.values():
            announce_failure(self.collection, self.plan, error)
        applied = self.job.applied
        if not applied or self.job.store.unheard:
            return
        for index, key in self.keys.items():
            if key in self.errors or key not in applied:
                continue
            document_id, names = self.documents[index]["_id"], tuple(applied[key])
            logger.debug("%s %r: %s", self.plan.model_name, document_id, ", ".join(names))
            signals.announce(
                signals.post_migration,
                self.plan.doc_class,
                document_id=document_id,
                rules=names,
                scope="lazy",
            )


def announce_failure(collection: Collection[Any], plan: Plan, error: MigrationError) -> None:
    """Log the error of a document, and send its signal."""
    log_refusal(logger, collection, error)
    signals.announce(
        signals.migration_failed,
        plan.doc_class,
        document_id=error.document_id,
        rules=(error.rule,) if error.rule else (),
        scope="lazy",
        error=error,
    )


def _someone_listens() -> bool:
    return bool(signals.post_migration.receivers) or logger.isEnabledFor(logging.DEBUG)
