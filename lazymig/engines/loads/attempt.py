"""An attempt at the rules of one plan, for documents of a batch, within some time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pymongo.errors import BulkWriteError, DocumentTooLarge, OperationFailure, PyMongoError

from lazymig.engines.access import Raw, all_of, by_ids, key_of
from lazymig.engines.computed.guarded import migrate_computed
from lazymig.engines.computed.outcome import Outcome, Terms
from lazymig.engines.computed.pace import Pace, Slow
from lazymig.engines.deadline import Deadline
from lazymig.engines.driver_errors import is_document_error, waited_too_long
from lazymig.engines.loads.merging import Queued, merged
from lazymig.engines.once.claim import Held
from lazymig.engines.once.claimant import ClaimOutcome, migrate_claimed
from lazymig.engines.reading.decoding import BoundedReader, Undecoded, judge
from lazymig.engines.refusals import failure_of_rule, failure_of_server
from lazymig.engines.sessions import not_in_a_transaction
from lazymig.engines.store import Store, as_applied
from lazymig.errors import MigrationError
from lazymig.raw.paths import overlaps
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.plan import Plan

__all__ = ["Attempt", "Job"]


@dataclass(slots=True)
class Job:
    """The rules of one plan, for a batch of documents.

    `after_error`: all lazy rules are tried, because the documents do not load or are not valid.
    `whole`: what was read of them is what they are. `applied` is filled with the names of the rules
    by the key of the `_id`, if someone wants to know. `taken` is what rules took in Python.
    """

    store: Store
    plan: Plan
    after_error: bool = False
    whole: bool = False
    applied: dict[Any, list[str]] | None = None
    taken: dict[str, Slow] = field(default_factory=dict)

    @property
    def rules(self) -> Sequence[BoundRule]:
        """The rules to apply, in order."""
        return self.plan.lazy if self.after_error else self.plan.starting


class Attempt:
    """The rules of a job on their way to some documents.

    Static rules that end their match are queued and sent as one ordered bulk write with one
    `UpdateMany` each, or with one for several that have nothing to do with each other. Other rules
    are written document by document, after what is queued. A document for which a rule fails gets
    no later one; no more does one that somebody else holds for a once rule, which is `held`, and
    one for which a rule had no time, which is `unfinished`.
    `hindered` are documents that could not be written because of the bound session alone;
    `left_alone` those whose match a rule has seen and not ended.

    :param documents: by their index in the batch.
    :param matches: the rules that each of them is known to match.
    :param whole: what was read of them is what they are.
    """

    def __init__(
        self,
        job: Job,
        documents: Mapping[int, Any],
        matches: Mapping[int, Sequence[BoundRule]],
        *,
        whole: bool,
    ) -> None:
        self.job = job
        self.store = job.store
        self.documents = documents
        self.matches = matches
        self.whole = whole
        self.alive = {key_of(each["_id"]): each["_id"] for each in documents.values()}
        self.queue: list[Queued] = []
        self.pace = Pace()
        self.wrote = False
        self.written: list[str] | None = []
        self.held: dict[Any, Held] = {}
        self.unfinished: dict[Any, Any] = {}
        self.errors: dict[Any, MigrationError] = {}
        self.hindered: set[Any] = set()
        self.left_alone: set[tuple[Any, str]] = set()

    def work(self, deadline: Deadline) -> PyMongoError | None:
        """Apply the rules in time; return the error of the driver if that ran out."""
        self.pace = Pace.within(deadline.left, self.job.taken, self.job.plan.lazy_timeout)
        try:
            with deadline.within():
                for rule in self.job.rules:
                    if self.alive:
                        self._apply(as_applied(self.store, rule))
                self.pace.send(self._flush)
        except PyMongoError as exc:
            if not waited_too_long(exc):
                raise
            return exc
        return None

    def find_left(self, late: PyMongoError | None) -> None:
        """Keep the documents that time was too short for: because of waiting, or of computing."""
        if late is None:
            self.alive.clear()
        elif not self.job.after_error and all(rule.target is not None for rule in self.job.rules):
            # What was done in time is left alone; reading is never held up by a write lock.
            ids = list(self.alive.values())
            query = all_of(by_ids(ids), self.job.plan.query_of_any(self.job.rules))
            try:
                stale = self.store.keys_matching([query], len(ids))
            except PyMongoError as exc:
                # No time to ask, either: what is not known to be done has to be loaded again.
                if not waited_too_long(exc):
                    raise
            else:
                self.alive = {key: self.alive[key] for key in stale & self.alive.keys()}
        self.alive.update(self.unfinished)

    def _apply(self, rule: BoundRule) -> None:
        if rule.once is not None:
            self._claim_each(rule)
            return
        if rule.kind != "static" or rule.varies:
            self._write_each(rule)
            return
        try:
            evaluation = rule.evaluate()
        except Exception as exc:
            for key, document_id in self.alive.items():
                self.errors[key] = failure_of_rule(rule, document_id, exc)
            self.alive.clear()
            return
        if rule.converges_with(evaluation):
            self._note_applied(rule)
            self.queue.append(Queued(rule, evaluation.update, evaluation.array_filters))
            self._note_written(rule)
        else:
            self._write_each(rule)

    def _flush(self) -> None:
        queue, self.queue = self.queue, []
        if not queue or not self.alive:
            return
        as_read = self.whole and not self.wrote
        self.wrote = True
        if as_read and self._send_merged(queue):
            return
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

    def _send_merged(self, queue: Sequence[Queued]) -> bool:
        """Write the documents by as few updates as can be; return whether all were found.

        What was written then matches no more, so that the rules may follow one by one.
        """
        if self.store.is_imitation or self.store.in_transaction:
            # A refusal would end the transaction before it is known whose it is.
            return False
        alive = {
            index: each
            for index, each in self.documents.items()
            if key_of(each["_id"]) in self.alive
        }
        matches = [self.matches.get(index, ()) for index in alive]
        together = merged(self.store, queue, list(alive.values()), matches)
        if together is None:
            return False
        updates, count = together
        if not updates:
            return True
        try:
            result = self.store.bulk_write(updates, ordered=False)
        except (OperationFailure, DocumentTooLarge) as exc:
            if not is_document_error(exc):
                raise
            return False
        return bool(result.matched_count == count)

    def _send(
        self, queue: Sequence[Queued], ids: Sequence[Any]
    ) -> tuple[int, OperationFailure | DocumentTooLarge] | None:
        """Send the queue for these documents; return what was refused: position and error."""
        try:
            self.store.bulk_write(
                [entry.for_documents(self.store, ids) for entry in queue], ordered=True
            )
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
        if self.whole and not self.wrote:
            judged = self._judged(rule)
            if None not in judged.values():
                found = [self.documents[index] for index, matches in judged.items() if matches]
                if found:
                    yield found
                return
        ids = list(self.alive.values())
        reader = BoundedReader(self.store, ids, self.store.query_of(rule), fields)
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

    def _write_each(self, rule: BoundRule) -> None:
        """Write a rule document by document: one read, if need be, and one bulk write."""
        after_error = self.job.after_error
        terms = Terms("nothing" if after_error else "end", self.pace, may_fold=not after_error)
        for documents in self._matching(rule):
            self.wrote = True
            self._note_written(rule)
            outcome = migrate_computed(self.store, rule, documents, terms)
            self._take_over(rule, outcome)
            # Of an update that may not end the match nothing is said by the next match.
            ended = set() if outcome.lasting else outcome.matched
            if len(ended) < len(documents):
                keys = {key_of(document["_id"]) for document in documents if "_id" in document}
                self.left_alone.update((key, rule.name) for key in keys - ended)

    def _claim_each(self, rule: BoundRule) -> None:
        """Let a once rule do its work on each document that nobody else is at work on."""
        documents = [each for some in self._matching(rule, self.store.location) for each in some]
        if not documents:
            return
        if self.store.in_transaction:
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
            migrate_claimed(self.store, rule, documents, outcome, self.pace)
        finally:
            self._take_over(rule, outcome)
            self.held.update(outcome.held)
            for key in (*outcome.held, *outcome.own):
                self.alive.pop(key, None)

    def _take_over(self, rule: BoundRule, outcome: Outcome) -> None:
        """What became of documents that were written one by one."""
        self.unfinished.update(outcome.unfinished)
        self.errors.update(outcome.failures)
        for key in (*outcome.unfinished, *outcome.failures):
            self.alive.pop(key, None)
        if self.job.applied is not None:
            for key in outcome.matched - outcome.failures.keys():
                self.job.applied.setdefault(key, []).append(rule.name)

    def _note_written(self, rule: BoundRule) -> None:
        if self.written is not None:
            self.written = None if rule.writes is None else [*self.written, *rule.writes]

    def _note_applied(self, rule: BoundRule) -> None:
        """Note which documents a queued rule is about to change, if someone wants to know.

        What was judged at the start still holds unless an earlier rule writes what this one reads;
        then MongoDB is asked.
        """
        if self.job.applied is None:
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
            query = self.store.query_of(rule, list(self.alive.values()))
            keys = self.pace.send(lambda: self.store.keys_matching([query], len(self.alive)))
        for key in keys & self.alive.keys():
            self.job.applied.setdefault(key, []).append(rule.name)
