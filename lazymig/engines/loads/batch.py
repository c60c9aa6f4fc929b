"""The rules of one plan on their way to the stale documents of one batch."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any

from pymongo import UpdateMany, WriteConcern
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, DocumentTooLarge, OperationFailure, PyMongoError

from lazymig import signals
from lazymig.engines.access import (
    Raw,
    all_of,
    by_ids,
    ids_matching,
    is_document_error,
    key_of,
    location_fields,
    on_primary,
    waited_too_long,
    writable,
)
from lazymig.engines.computed.guarded import Outcome, migrate_computed
from lazymig.engines.computed.pace import Pace, Slow, slowest
from lazymig.engines.deadline import Deadline
from lazymig.engines.once.claims import ClaimOutcome, Held, migrate_claimed, wait_for
from lazymig.engines.reading.decoding import BoundedReader, Undecoded, judge
from lazymig.engines.reading.marks import marks_writes
from lazymig.engines.refusal_log import log_refusal
from lazymig.engines.refusals import failure_of_rule, failure_of_server
from lazymig.engines.sessions import (
    in_transaction,
    is_read_only,
    not_at_a_snapshot,
    not_in_a_transaction,
    raise_if_aborted,
)
from lazymig.errors import MigrationError, MigrationTimeout
from lazymig.raw.paths import overlaps
from lazymig.redaction import bare
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.plan import Plan

__all__ = ["Application", "Failure", "announce_failure"]

logger = logging.getLogger(__name__)

# What of the time limit may be spent on waiting for documents that others hold, so that there is
# time to say so at its end; and the seconds that one which becomes free then is given anyway.
_WAITING = 0.9
_LEAST = 0.05

# A batch may take half of the time limit. The other half is for its documents one by one, if one
# of them is held; of that half, one document gets this fraction.
_PATIENCE = 5


@dataclass(frozen=True, slots=True)
class Failure:
    """Stands in a batch for a document that could not be brought up to date."""

    document: Raw
    plan: Plan
    error: MigrationError


@dataclass(frozen=True, slots=True)
class _Queued:
    rule: BoundRule
    condition: Raw
    update: Any
    array_filters: Any

    def for_documents(self, document_ids: Sequence[Any]) -> UpdateMany:
        return UpdateMany(
            all_of(by_ids(document_ids), self.condition),
            self.update,
            array_filters=self.array_filters,
        )


class Application:
    """The rules of one plan on their way to the stale documents of a batch.

    Static rules that end their match are queued and sent as one ordered bulk write with one
    `UpdateMany` each; other rules are written document by document, after what is queued. A
    document for which a rule fails gets no later one. One that somebody else holds for a once rule
    is set aside until all others are done. One for which a rule had no time is `unfinished`, and
    gets no later rule either before it is tried again. `taken` is what rules took in Python.
    `hindered` are documents that could not be written because of the bound session alone.
    """

    def __init__(
        self,
        collection: Collection[Any],
        plan: Plan,
        documents: Mapping[int, Any],
        matches: Mapping[int, Sequence[BoundRule]],
        after_error: bool,
        whole: bool,
        applied: dict[Any, list[str]] | None,
        taken: dict[str, Slow] | None = None,
    ) -> None:
        self.collection = writable(collection)
        self.plan = plan
        self.documents = documents
        self.matches = matches
        self.after_error = after_error
        self.whole = whole
        self.rules = plan.lazy if after_error else plan.starting
        self.ids = {key_of(document["_id"]): document["_id"] for document in documents.values()}
        self.alive = dict(self.ids)
        self.queue: list[_Queued] = []
        self.held: dict[Any, Held] = {}
        self.context: Context | None = None
        self.pace = Pace()
        self.taken = {} if taken is None else taken
        self.unfinished: dict[Any, Any] = {}
        self.wrote = False
        self.written: list[str] | None = []
        self.errors: dict[Any, MigrationError] = {}
        self.hindered: set[Any] = set()
        self.left_alone: set[tuple[Any, str]] = set()
        self.deadline: Deadline
        self.applied = {} if applied is None and _someone_listens() else applied

    @property
    def failures(self) -> dict[int, Failure]:
        """What failed, by index in the batch."""
        return {
            index: Failure(document, self.plan, self.errors[key_of(document["_id"])])
            for index, document in self.documents.items()
            if key_of(document["_id"]) in self.errors
        }

    @marks_writes
    def run(self, deadline: Deadline | None = None) -> None:
        """Apply the rules; errors of single documents are in `errors`.

        :param deadline: that of an earlier attempt; without one the time begins now.
        :raises MigrationError: a transaction that the documents are part of is over.
        """
        self.deadline = deadline or Deadline.of(self.collection, self.plan.lazy_timeout)
        self._announce_start()
        if is_read_only(self.collection):
            for key, document_id in self.ids.items():
                self.errors[key] = not_at_a_snapshot(self.plan.model_name, document_id)
                self.hindered.add(key)
        elif in_transaction(self.collection):
            self._work_in_transaction()
        else:
            self._work_in_time()
        self._announce_end()

    def _work_in_time(self) -> None:
        alone = len(self.documents) == 1
        late = self.work(self.deadline if alone else self.deadline.part(0.5))
        if late is not None or self.unfinished:
            self.find_left(late)
            if alone or self.deadline.seconds is None:
                for key in self.alive:
                    self.time_out(key, late, waited=self.pace.waited)
            else:
                self._work_one_by_one(late)
        if self.held:
            self._wait_for_held()

    def _work_in_transaction(self) -> None:
        """Do one document after the other: of a batch MongoDB does not say which it has refused.

        And it takes no further command then by which that could be found out.
        """
        # A transaction has a write concern of its own, and MongoDB refuses that of a write.
        self.collection = self.collection.with_options(write_concern=WriteConcern())
        for index in self.documents:
            alone = self._part([index], whole=self.whole)
            late = alone.work(self.deadline)
            left = alone.unfinished if late is None else alone.alive | alone.unfinished
            for key in left:
                alone.time_out(key, late, waited=alone.pace.waited)
            self._take_in(alone)
            try:
                for error in alone.errors.values():
                    raise_if_aborted(error)
            except BaseException:
                self.applied = None
                self._announce_end()
                raise

    def work(self, deadline: Deadline) -> PyMongoError | None:
        """Apply the rules in time; return the error of the driver if that ran out."""
        self.context = copy_context()
        self.pace = Pace.within(deadline.left, copy_context(), self.taken)
        try:
            with deadline.within():
                for rule in self.rules:
                    if self.alive:
                        self._apply(rule)
                self.pace.send(self._flush)
        except PyMongoError as exc:
            if not waited_too_long(exc):
                raise
            return exc
        return None

    def _part(self, indexes: Iterable[int], *, whole: bool) -> Application:
        """The same rules for some of the documents.

        :param whole: what was read of them is what they are.
        """
        documents = {index: self.documents[index] for index in indexes}
        part = Application(
            self.collection,
            self.plan,
            documents,
            {index: self.matches[index] for index in documents},
            self.after_error,
            whole,
            self.applied,
            self.taken,
        )
        part.deadline = self.deadline
        return part

    def _take_in(self, part: Application) -> None:
        """What has become of a part, but for what is held."""
        self.errors.update(part.errors)
        self.hindered.update(part.hindered)
        self.left_alone.update(part.left_alone)

    def _work_one_by_one(self, late: PyMongoError | None) -> None:
        """Try each document that is left by itself: who holds one does not hold its neighbours."""
        most = (self.deadline.seconds or 0) / 2 / _PATIENCE
        for index, document in self.documents.items():
            key = key_of(document["_id"])
            if key not in self.alive:
                continue
            if self.applied is not None and key not in self.unfinished:
                self.applied.pop(key, None)
            is_over = self.deadline.is_over
            alone = self._part([index], whole=self.whole)
            error = late if is_over else alone.work(self.deadline.at_most(most))
            self._take_in(alone)
            self.held.update(alone.held)
            undone = is_over or error is not None or alone.unfinished
            if undone and key not in self.held:
                self.time_out(key, error, waited=alone.pace.waited)

    def _wait_for_held(self) -> None:
        """Go on with documents that others hold as they become free, within what time is left."""
        deadline = self.deadline.part(_WAITING)

        def go_on(free: Mapping[Any, Held]) -> dict[Any, Held]:
            for key in free:
                del self.held[key]
            held = self._go_on(free)
            self.held.update(held)
            return held

        try:
            errors = wait_for(self.collection, self.plan.concern, dict(self.held), deadline, go_on)
        except PyMongoError as exc:
            if not waited_too_long(exc):
                raise
            for key in self.held:
                self.time_out(key, exc, waited=True)
        else:
            self.errors.update(errors)

    def _go_on(self, keys: Mapping[Any, Any]) -> dict[Any, Held]:
        """Apply the rules to documents that have been held; return those that are held again."""
        indexes = [
            index for index, document in self.documents.items() if key_of(document["_id"]) in keys
        ]
        # What was read of them, by whomever, is what they were before.
        again = self._part(indexes, whole=False)
        late = again.work(self.deadline.at_least(_LEAST))
        self._take_in(again)
        if late is not None or again.unfinished:
            again.find_left(late)
            for key in again.alive:
                self.time_out(key, late, waited=again.pace.waited)
        return again.held

    def _apply(self, rule: BoundRule) -> None:
        if rule.once is not None:
            self._claim_each(rule)
            return
        if rule.kind != "static" or rule.varies:
            self._write_each(rule, static_update=rule.kind == "static")
            return
        try:
            evaluation = rule.evaluate()
        except Exception as exc:
            for key, document_id in self.alive.items():
                self.errors[key] = failure_of_rule(rule, document_id, exc)
            self.alive.clear()
            return
        if rule.converges_with(evaluation):
            condition = all_of(self.plan.concern, rule.target)
            self._note_applied(rule)
            self.queue.append(_Queued(rule, condition, evaluation.update, evaluation.array_filters))
            self._note_written(rule)
        else:
            self._write_each(rule, static_update=True)

    def _flush(self) -> None:
        if not self.queue or not self.alive:
            self.queue.clear()
            return
        queue, self.queue = self.queue, []
        self.wrote = True
        ids = list(self.alive.values())
        refused = self._send(queue, ids)
        if refused is None:
            return
        first, cause = refused
        if len(ids) == 1:
            self._refuse(queue[first].rule, ids[0], cause)
            return
        # One refused document ends the bulk write: what is left is done document by document.
        for document_id in ids:
            refused = self._send(queue[first:], [document_id])
            if refused is not None:
                self._refuse(queue[first + refused[0]].rule, document_id, refused[1])

    def _send(
        self, queue: Sequence[_Queued], ids: Sequence[Any]
    ) -> tuple[int, OperationFailure | DocumentTooLarge] | None:
        """Send the queue for these documents; return what was refused: position and error."""
        try:
            self.collection.bulk_write([entry.for_documents(ids) for entry in queue], ordered=True)
        except (OperationFailure, DocumentTooLarge) as exc:
            if not is_document_error(exc):
                raise
            errors = exc.details.get("writeErrors") if isinstance(exc, BulkWriteError) else None
            return (errors[0]["index"] if errors else 0), exc
        return None

    def _refuse(self, rule: BoundRule, document_id: Any, cause: Exception) -> None:
        key = key_of(document_id)
        self.errors[key] = failure_of_server(rule, document_id, cause, cause)
        self.alive.pop(key, None)

    def _matching(self, rule: BoundRule, fields: Raw | None = None) -> Iterator[list[Raw]]:
        """The documents that a rule may concern, after what is queued; read again if need be.

        :param fields: a projection that suffices, if they are read.
        :return: none, or lists of some, of which each is made when the one before it is done with.
        """
        self.pace.send(self._flush)
        judged = {} if self.wrote or not self.whole else self._judged(rule)
        if None not in judged.values() and self.whole and not self.wrote:
            found = [self.documents[index] for index, matches in judged.items() if matches]
            if found:
                yield found
            return
        reader = BoundedReader(
            on_primary(self.collection),
            list(self.alive.values()),
            all_of(self.plan.concern, rule.target),
            fields,
        )
        while reader.left:
            if found := reader.read():
                yield found

    def _judged(self, rule: BoundRule) -> dict[int, bool | None]:
        """Whether the documents, as they were read, match; an undetermined rule is asked itself."""
        return {
            index: True if rule.matcher is None else judge(rule.matcher, document)
            for index, document in self.documents.items()
            if key_of(document["_id"]) in self.alive
        }

    def _write_each(self, rule: BoundRule, static_update: bool) -> None:
        """Write a rule document by document: one read, if need be, and one bulk write."""
        for documents in self._matching(rule):
            self.wrote = True
            self._note_written(rule)
            outcome = migrate_computed(
                self.collection,
                rule,
                self.plan.concern,
                documents,
                demand="nothing" if self.after_error else "end",
                shard_key=self.plan.shard_key,
                static_update=static_update,
                pace=self.pace,
            )
            self._take_over(rule, outcome)
            # Of an update that may not end the match nothing is said by the next match.
            ended = set() if outcome.lasting else outcome.matched
            if len(ended) < len(documents):
                keys = {key_of(document["_id"]) for document in documents if "_id" in document}
                self.left_alone.update((key, rule.name) for key in keys - ended)

    def _claim_each(self, rule: BoundRule) -> None:
        """Let a once rule do its work on each document that nobody else is at work on."""
        documents = [
            document
            for some in self._matching(rule, location_fields(self.plan.shard_key))
            for document in some
        ]
        if not documents:
            return
        if in_transaction(self.collection):
            for document in documents:
                key = key_of(document["_id"])
                self.errors[key] = not_in_a_transaction(rule, document["_id"])
                self.hindered.add(key)
                self.alive.pop(key, None)
            return
        self.wrote = True
        self._note_written(rule)
        outcome = ClaimOutcome()
        try:
            migrate_claimed(
                self.collection,
                rule,
                self.plan.concern,
                documents,
                outcome,
                shard_key=self.plan.shard_key,
                context=self.context,
                patience=self.plan.lazy_timeout,
                pace=self.pace,
            )
        finally:
            self._take_over(rule, outcome)
            self.held.update(outcome.held)
            for key in (*outcome.held, *outcome.own):
                self.alive.pop(key, None)

    def _take_over(self, rule: BoundRule, outcome: Outcome) -> None:
        """What became of documents that were written one by one."""
        self.unfinished.update(outcome.unfinished)
        for key in outcome.unfinished:
            self.alive.pop(key, None)
        for key, error in outcome.failures.items():
            self.errors[key] = error
            self.alive.pop(key, None)
        if self.applied is not None:
            for key in outcome.matched - outcome.failures.keys():
                self.applied.setdefault(key, []).append(rule.name)

    def _note_written(self, rule: BoundRule) -> None:
        if self.written is not None:
            self.written = None if rule.writes is None else [*self.written, *rule.writes]

    def _note_applied(self, rule: BoundRule) -> None:
        """Note which documents a queued rule is about to change, if someone wants to know.

        What was judged at the start still holds unless an earlier rule writes what this one reads;
        then MongoDB is asked.
        """
        if self.applied is None:
            return
        independent = (
            self.whole
            and self.written is not None
            and rule.reads is not None
            and not any(overlaps(path, read) for path in self.written for read in rule.reads)
            and not any(isinstance(document, Undecoded) for document in self.documents.values())
        )
        answers = self._judged(rule) if independent else {}
        if independent and None not in answers.values():
            keys = {
                key_of(self.documents[index]["_id"])
                for index, matches in answers.items()
                if matches
            }
        else:
            self.pace.send(self._flush)
            query = all_of(by_ids(list(self.alive.values())), self.plan.concern, rule.target)
            keys = self.pace.send(lambda: ids_matching(self.collection, [query], len(self.alive)))
        for key in keys & self.alive.keys():
            self.applied.setdefault(key, []).append(rule.name)

    def find_left(self, late: PyMongoError | None) -> None:
        """Keep the documents that time was too short for: because of waiting, or of computing."""
        if late is None:
            self.alive.clear()
        else:
            self._keep_stale()
        self.alive.update(self.unfinished)

    def _keep_stale(self) -> None:
        """Leave alone what was done in time; reading is never held up by a write lock."""
        targets = [rule.target for rule in self.rules if rule.target is not None]
        if len(targets) < len(self.rules) or self.after_error:
            return
        ids = list(self.alive.values())
        stale = ids_matching(
            self.collection, [all_of(by_ids(ids), self.plan.concern, {"$or": targets})], len(ids)
        )
        self.alive = {key: self.alive[key] for key in stale & self.alive.keys()}

    def time_out(self, key: Any, cause: PyMongoError | None, *, waited: bool) -> None:
        """Give up a document for which time was too short.

        :param waited: a command has waited until the end; otherwise a rule may have been slow.
        """
        limit = self.deadline.limit
        slow = None if waited else slowest(self.taken, self.deadline.seconds)
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
        error = MigrationTimeout(
            problem,
            model=self.plan.model_name,
            rule=None if slow is None else slow.rule,
            document_id=self.ids[key],
        )
        error.__cause__ = None if cause is None else bare(cause)
        self.errors[key] = error

    def _announce_start(self) -> None:
        if not signals.pre_migration.receivers:
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
        for key, names in (self.applied or {}).items():
            if key in self.errors:
                continue
            logger.debug("%s %r: %s", self.plan.model_name, self.ids[key], ", ".join(names))
            signals.announce(
                signals.post_migration,
                self.plan.doc_class,
                document_id=self.ids[key],
                rules=tuple(names),
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
