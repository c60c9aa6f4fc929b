"""Updates computed from a document, written only where what the rule read is still stored.

Serves the lazy and the bulk engine. One read and one write for a batch; more only where another
writer was faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import bson
from bson.codec_options import CodecOptions
from pymongo.errors import BulkWriteError, DocumentTooLarge, OperationFailure

from lazymig.engines.access import Raw, by_ids, key_of
from lazymig.engines.computed.computing import Computation, ReadsMore, Write
from lazymig.engines.computed.folding import FEWEST, Fold, Form, fold
from lazymig.engines.computed.outcome import Outcome, PartRefused, Terms, TooSlow
from lazymig.engines.computed.pace import IN_TRANSACTION, SLICE
from lazymig.engines.driver_errors import is_document_error
from lazymig.engines.reading.decoding import BoundedReader, Undecoded, named
from lazymig.engines.refusals import failure_of_server, undecodable
from lazymig.engines.store import Store
from lazymig.errors import MigrationConflict
from lazymig.raw.elements import KeptDocument, fields_of
from lazymig.raw.paths import overlaps
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.repetition import is_repeatable
from lazymig.rules.rule import Evaluation
from lazymig.updates.update import written_paths

__all__ = ["migrate_computed"]

_Result = TypeVar("_Result")

# What a server before MongoDB 5.0 says of the variables of an update: it knows no such field.
_UNKNOWN_LET = frozenset({9, 40415})

# A document that is changed between read and write this often in a row is not read a sixth time
# within one request.
_ATTEMPTS = 5


def migrate_computed(
    store: Store, rule: BoundRule, documents: Sequence[Raw], terms: Terms
) -> Outcome:
    """Apply one rule to each of these documents with the update computed for it.

    :param documents: raw documents as they were read, with the fields of the shard key; their
        reading is checked by the write.
    :raises PartRefused: within a transaction, MongoDB refused an update.
    :raises TooSlow: within a transaction, they cannot be computed in time.
    :raises pymongo.errors.PyMongoError: the connection, the rights, a time limit; document errors
        are in the outcome.
    """
    return _Slices(Computation(store, rule, terms)).run(documents)


class _Slices:
    """The documents of a computation, slice by slice: computed, written, read again if need be.

    `later` are the `_id`s of those of which more has to be read than is held at once.
    """

    def __init__(self, work: Computation) -> None:
        self.work = work
        self.terms = work.terms
        self.store = work.store
        self.outcome = work.outcome
        self.later: list[Any] = []

    def run(self, documents: Sequence[Raw]) -> Outcome:
        outcome, projected = self.outcome, self.terms.projected
        left, nameless = named(documents)
        for each in nameless:
            outcome.refuse(undecodable(self.work.rule, each.stored_id, each.error))
        while (left or self.later) and not outcome.halted:
            if self.terms.pace.is_over:
                outcome.leave([*(document["_id"] for document in left), *self.later])
                break
            if not left:
                asked, self.later = self.later, []
                left, projected = self._read(asked), None
            left = self._migrate(left, projected)
        if self.work.questions and not outcome.halted:
            self._send(self.work.look_again)
        return outcome

    def _send(self, command: Callable[[], _Result]) -> _Result:
        """Send a command in its turn, and in what time is left for it."""
        with self.terms.turn:
            return self.terms.pace.send(command)

    def _read(self, document_ids: Sequence[Any], *, kept: bool = False) -> list[Raw]:
        """As many of these documents as are held at once, whole, if they are still the rule's.

        :param kept: with their bytes, by which they are compared.
        """
        query = self.store.query_of(self.work.rule)
        reader = BoundedReader(self.store, document_ids, query, kept=kept)
        found = self._send(reader.read)
        self.later.extend(reader.left)
        return found

    def _migrate(self, documents: list[Raw], projected: frozenset[str] | None) -> list[Raw]:
        """Do as many of the documents as can be computed in a slice; return the others."""
        work, outcome = self.work, self.outcome
        options = self.store.collection.codec_options
        ids = {key_of(document["_id"]): document["_id"] for document in documents}
        todo, left = documents, list[Raw]()
        for attempt in range(_ATTEMPTS):
            todo, too_late, results = self._compute(todo, projected, again=attempt > 0)
            if attempt:
                outcome.leave(document["_id"] for document in too_late)
            else:
                left = too_late
            writes = [result for result in results if isinstance(result, Write)]
            if any(write.open for write in writes):
                writes = self._send(partial(work.decide, writes, projected))
            projected = None
            if not writes:
                return left
            outcome.lasting |= not all(write.recognizable for write in writes)
            if self.terms.only_repeatable and outcome.lasting:
                outcome.halt(document["_id"] for document in todo)
                return left
            missed, uncertain = self._send(partial(self._write, writes))
            work.written(writes)
            if not missed and not uncertain:
                return left
            previous = {
                write.key: write.evaluation
                for write in writes
                if write.key in uncertain and not write.recognizable
            }
            # What was read is still stored: then the write found it, and was done. If it was not,
            # one may hold what is stored otherwise than as Python has it.
            todo = [
                document
                for document in self._read([ids[key] for key in missed | uncertain], kept=True)
                if (key := key_of(document["_id"])) not in previous
                or not _still_reads(previous[key], document, options)
            ]
        for document in todo:
            self.outcome.failures[key_of(document["_id"])] = MigrationConflict(
                f"what the rule reads was changed {_ATTEMPTS} times while its update was computed; "
                "load the document again, or let the rule read less of it",
                model=work.rule.model_name,
                rule=work.rule.name,
                document_id=document["_id"],
            )
        return left

    def _compute(
        self, documents: list[Raw], projected: frozenset[str] | None, *, again: bool
    ) -> tuple[list[Raw], list[Raw], list[Write | ReadsMore | None]]:
        """The documents that were computed in time, those that were not, and the results."""
        seconds = IN_TRANSACTION if self.terms.all_or_nothing else SLICE
        turns = self.terms.pace.sliced(documents, math.inf if again else seconds)
        results = [self.work.compute(document, projected) for document in turns]
        done, too_late = documents[: len(results)], documents[len(results) :]
        if too_late and self.terms.all_or_nothing:
            raise TooSlow(len(results))
        reads_more = [each.document_id for each in results if isinstance(each, ReadsMore)]
        if reads_more:
            results.extend(self.work.compute(each, None) for each in self._read(reads_more))
        return done, too_late, results

    def _write(self, writes: Sequence[Write]) -> tuple[set[Any], set[Any]]:
        """Write; return the keys of the documents that were not found, and of the uncertain ones.

        A bulk write counts the documents that were found, and does not name them. The missing ones
        can be distinguished afterwards if the update ends its match, or if it may be repeated on
        the same inputs. Any other update is sent alone.
        """
        if self.terms.before_write is not None:
            self.terms.before_write(by_ids([write.document["_id"] for write in writes]))
        singles, doubtful = self._write_folds(writes)
        batch = [
            write
            for write in singles
            if write.variables is None and (write.recognizable or _repeatable(write))
        ]
        if len(batch) == 1 or self.store.is_imitation:
            batch = []
        batched = {write.key for write in batch}
        alone = [write for write in singles if write.key not in batched]
        missed = {write.key for write in alone if self._write_alone(write) is False}
        return missed, doubtful | (self._write_batch(batch) if batch else set())

    def _write_folds(self, writes: Sequence[Write]) -> tuple[list[Write], set[Any]]:
        """Write together what is of one form.

        :return: the writes that are left to be sent by themselves, and the keys of the documents
            of which it is uncertain whether they were found.
        """
        forms: dict[Form, list[Write]] = {}
        for write in writes:
            if write.form is not None:
                forms.setdefault(write.form, []).append(write)
        left = {write.key: write for write in writes}
        uncertain: set[Any] = set()
        for form, group in forms.items():
            folded = None
            if len(group) >= FEWEST:
                updates = [(write.evaluation, write.document) for write in group]
                folded = fold(self.store, self.work.rule, form, updates)
            if folded is None:
                continue
            done, doubtful = self._write_fold(folded, group)
            uncertain |= doubtful
            for key in done | doubtful:
                del left[key]
        alone = (self.work.alone(write) if write.form else write for write in left.values())
        return [write for write in alone if write is not None], uncertain

    def _write_fold(self, folded: Fold, group: Sequence[Write]) -> tuple[set[Any], set[Any]]:
        """The keys of the documents that were written, and of those of which that is uncertain."""
        keys = {write.key for write in group}
        try:
            result = self.store.update_many(folded.query, folded.update, let=folded.variables)
        except (OperationFailure, DocumentTooLarge) as exc:
            if isinstance(exc, OperationFailure) and exc.code in _UNKNOWN_LET:
                return set(), set()
            self._raise_unless_document(exc)
            # It has stopped at one of them, and does not say how many it had written by then.
            found = self.store.aggregate(folded.written, let=folded.variables)
            done = {key_of(document["_id"]) for document in found} & keys
            self.outcome.modified += len(done)
            return done, set()
        self.outcome.modified += result.modified_count
        return (keys, set()) if result.matched_count == len(group) else (set(), keys)

    def _write_alone(self, write: Write) -> bool | None:
        """Return whether the document was found; `None` where its update was refused."""
        evaluation = write.evaluation
        assert write.filter is not None
        try:
            if write.variables is None:
                result = self.store.update_one(
                    write.filter, evaluation.update, evaluation.array_filters
                )
            else:
                # Here an update has a room of its own in the message.
                result = self.store.bulk_write(
                    [write.operation()], ordered=True, let=write.variables or None
                )
        except (OperationFailure, DocumentTooLarge) as exc:
            self._raise_unless_document(exc)
            self._fail(write, exc, exc)
            return None
        self.outcome.modified += result.modified_count
        return bool(result.matched_count)

    def _write_batch(self, batch: Sequence[Write]) -> set[Any]:
        failed: set[int] = set()
        try:
            # A transaction ends with its first refused update.
            result: Any = self.store.bulk_write(
                [write.operation() for write in batch], ordered=self.terms.all_or_nothing
            ).bulk_api_result
        except (OperationFailure, DocumentTooLarge) as exc:
            self._raise_unless_document(exc)
            if not isinstance(exc, BulkWriteError):
                # One of them has made MongoDB refuse the message as a whole.
                return {write.key for write in batch if self._write_alone(write) is False}
            result = exc.details
            for entry in result.get("writeErrors") or []:
                failed.add(entry["index"])
                self._fail(batch[entry["index"]], entry.get("errmsg"), exc)
        self.outcome.modified += result["nModified"]
        if result["nMatched"] == len(batch) - len(failed):
            return set()
        return {write.key for index, write in enumerate(batch) if index not in failed}

    def _raise_unless_document(self, error: OperationFailure | DocumentTooLarge) -> None:
        if not is_document_error(error):
            raise error
        if self.terms.all_or_nothing:
            raise PartRefused from error

    def _fail(self, write: Write, error: Any, cause: Exception) -> None:
        self.outcome.failures[write.key] = failure_of_server(
            self.work.rule, write.document["_id"], error, cause
        )


def _repeatable(write: Write) -> bool:
    """Return whether applying the update to the same inputs once more would change nothing."""
    update = write.evaluation.update
    if not is_repeatable(update):
        return False
    read = write.evaluation.read
    if read is None:
        return True
    if read.read_whole:
        return False
    written = written_paths(update)
    return written is not None and not any(
        overlaps(path, key) for path in written for key in read.keys_read
    )


def _still_reads(evaluation: Evaluation, document: Raw, options: CodecOptions[Any]) -> bool:
    """Return whether what was read is stored, in the very bytes that it was compared by."""
    read = evaluation.read
    return read is None or _inputs(read, document, options) == _inputs(read, read.raw, options)


def _inputs(read: Any, document: Raw, options: CodecOptions[Any]) -> list[bytes]:
    if isinstance(document, Undecoded):
        return [document.data]
    keys = document.keys() if read.read_whole else sorted(read.keys_read)
    if isinstance(document, KeptDocument):
        parts = dict(fields_of(document.data))
        return [parts[key] for key in keys if key in parts]
    return [
        bson.encode({key: document[key]}, codec_options=options) for key in keys if key in document
    ]
