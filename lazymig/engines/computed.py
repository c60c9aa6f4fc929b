"""Updates computed from a document, written only where what the rule read is still stored.

Serves the lazy and the bulk engine. One read and one write for a batch; more only where another
writer was faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import bson
from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, OperationFailure

from lazymig.engines.access import (
    Raw,
    all_of,
    by_ids,
    in_one_answer,
    is_document_error,
    is_mongomock,
    key_of,
    located,
    on_primary,
)
from lazymig.errors import MigrationConflict, MigrationError, MigrationFailed
from lazymig.redaction import without_secrets
from lazymig.rules.discovery import BoundRule
from lazymig.rules.matching import compile_query
from lazymig.rules.repetition import is_repeatable
from lazymig.rules.rule import Evaluation
from lazymig.rules.updates import ANY_UUID, overlaps, written_paths

__all__ = [
    "Outcome",
    "PartRefused",
    "failure_of_rule",
    "failure_of_server",
    "migrate_computed",
]

# A document that is changed between read and write this often in a row is not read a sixth time
# within one request.
_ATTEMPTS = 5


class PartRefused(Exception):
    """MongoDB refused an update within a transaction, which undoes what it had done so far."""


@dataclass(slots=True)
class Outcome:
    """What became of a batch: documents, by the key of their `_id`.

    `lasting`: there was an update after which the rule may find its document again. `halted`: for
    that reason a part was left undone.
    """

    matched: set[Any] = field(default_factory=set)
    modified: int = 0
    failures: dict[Any, MigrationError] = field(default_factory=dict)
    lasting: bool = False
    halted: bool = False

    def halt(self, document_ids: Iterable[Any]) -> None:
        """Leave these documents undone, whatever was found out about them."""
        self.halted = True
        for document_id in document_ids:
            self.matched.discard(key := key_of(document_id))
            self.failures.pop(key, None)


@dataclass(frozen=True, slots=True)
class _ReadsMore:
    """Stands for a document of which the rule reads more than it was given."""

    document_id: Any


@dataclass(frozen=True, slots=True)
class _Write:
    """An update for one document.

    `recognizable`: once it is written, the rule does not find the document any more.
    """

    key: Any
    document: Raw
    evaluation: Evaluation
    filter: dict[str, Any]
    recognizable: bool

    def operation(self) -> UpdateOne:
        return UpdateOne(
            self.filter, self.evaluation.update, array_filters=self.evaluation.array_filters
        )


def migrate_computed(
    collection: Collection[Any],
    rule: BoundRule,
    concern: Raw | None,
    documents: Sequence[Raw],
    *,
    only_converging: bool,
    shard_key: Sequence[str] = (),
    static_update: bool = False,
    only_repeatable: bool = False,
    turn: AbstractContextManager[Any] | None = None,
    projected: frozenset[str] | None = None,
    session: Any = None,
    before_write: Callable[[Raw], object] | None = None,
) -> Outcome:
    """Apply one rule to each of these documents with the update computed for it.

    :param documents: whole raw documents as they were read; their reading is checked by the write.
    :param only_converging: leave a document alone if its update would not end the match.
    :param shard_key: the paths of the model's shard key, which the documents carry.
    :param static_update: the rule reads no document; it is applied document by document because its
        update does not end its match.
    :param only_repeatable: the work may be begun anew by someone who does not know what was
        written: halt before an update that would then be written twice.
    :param turn: held while reading and writing, by callers that compute several batches at once
        and must not send two commands at a time.
    :param projected: the top-level fields that the documents were read with, `None` for all. A
        document of which the rule reads more is read again, whole.
    :param session: that of an open transaction in which the documents were read. What was read is
        what is stored then, or the write ends the transaction; so the `_id` is filter enough,
        which the server finds in half of the time. A refused update raises `PartRefused`.
    :param before_write: called with a query for the documents that are about to be written.
    :raises PartRefused: within a transaction, MongoDB refused an update.
    :raises pymongo.errors.PyMongoError: the connection, the rights, a time limit; document errors
        are in the outcome.
    """
    outcome = Outcome()
    ids = {key_of(document["_id"]): document["_id"] for document in documents}
    todo = list(documents)
    previous: dict[Any, Evaluation] = {}
    turn = turn or nullcontext()
    compute = partial(
        _compute,
        collection,
        rule,
        concern,
        outcome,
        only_converging,
        shard_key,
        static_update,
        session is not None,
    )
    for _attempt in range(_ATTEMPTS):
        # What was read is still stored: then the write found it, and was done.
        todo = [
            document
            for document in todo
            if (key := key_of(document["_id"])) not in previous
            or not _still_reads(previous[key], document)
        ]
        results = [compute(document, projected) for document in todo]
        reads_more = [result for result in results if isinstance(result, _ReadsMore)]
        if reads_more:
            again = [each.document_id for each in reads_more]
            with turn:
                whole = _read(collection, rule, concern, again, session)
            results.extend(compute(document, None) for document in whole)
        writes = [result for result in results if isinstance(result, _Write)]
        projected = None
        if not writes:
            return outcome
        outcome.lasting |= not all(write.recognizable for write in writes)
        if only_repeatable and outcome.lasting:
            outcome.halt(document["_id"] for document in todo)
            return outcome
        with turn:
            if before_write is not None:
                before_write(by_ids([write.document["_id"] for write in writes]))
            missed, uncertain = _send(collection, rule, writes, outcome, session)
        if not missed and not uncertain:
            return outcome
        previous = {
            write.key: write.evaluation
            for write in writes
            if write.key in uncertain and not write.recognizable
        }
        again = [ids[key] for key in missed | uncertain]
        todo = _read(collection, rule, concern, again, session)
    for document in todo:
        key = key_of(document["_id"])
        outcome.failures[key] = MigrationConflict(
            f"what the rule reads was changed {_ATTEMPTS} times while its update was computed; "
            "load the document again, or let the rule read less of it",
            model=rule.model_name,
            rule=rule.name,
            document_id=document["_id"],
        )
    return outcome


def _read(
    collection: Collection[Any],
    rule: BoundRule,
    concern: Raw | None,
    document_ids: Sequence[Any],
    session: Any,
) -> list[Raw]:
    """Those of the documents that the rule still concerns, whole."""
    found = on_primary(collection).find(
        all_of(by_ids(document_ids), concern, rule.target), **_within(session)
    )
    return list(in_one_answer(found, len(document_ids)))


def _within(session: Any) -> dict[str, Any]:
    return {} if session is None else {"session": session}


def _compute(
    collection: Collection[Any],
    rule: BoundRule,
    concern: Raw | None,
    outcome: Outcome,
    only_converging: bool,
    shard_key: Sequence[str],
    static_update: bool,
    in_transaction: bool,
    document: Raw,
    projected: frozenset[str] | None,
) -> _Write | _ReadsMore | None:
    """Run the rule for one document; `None` where there is nothing (more) to write."""
    key = key_of(document["_id"])
    try:
        evaluation = rule.evaluate(
            document=None if static_update else document, collection=collection
        )
    except Exception as exc:
        if projected is not None:
            # It may have missed what was not read.
            return _ReadsMore(document["_id"])
        outcome.failures[key] = failure_of_rule(rule, document["_id"], exc)
        return None
    if projected is not None and not _covers(projected, rule, evaluation):
        return _ReadsMore(document["_id"])
    if evaluation.target is None:
        return None
    if (
        evaluation.target != rule.target
        and compile_query(evaluation.target).judge(document) is False
    ):
        return None
    outcome.matched.add(key)
    if evaluation.update is None:
        return None
    converges = rule.converges_with(evaluation)
    if only_converging and not converges:
        outcome.matched.discard(key)
        return None
    query = located(document, shard_key)
    if not in_transaction:
        query = all_of(query, concern, evaluation.target, *evaluation.guard())
    # A target that was computed with the update may be another one the next time.
    recognizable = converges and rule.target is not None and evaluation.target == rule.target
    return _Write(key, document, evaluation, query, recognizable)


def _covers(projected: frozenset[str], rule: BoundRule, evaluation: Evaluation) -> bool:
    """Whether a rule that was given these fields alone has done what it does to the document."""
    read = evaluation.read
    if evaluation.target != rule.target:
        return False
    return read is None or (not read.read_whole and read.keys_read <= projected)


def failure_of_rule(rule: BoundRule, document_id: Any, error: Exception) -> MigrationFailed:
    """The error for a rule method that raised."""
    failure = MigrationFailed(
        f"the rule raised {type(error).__name__}: {without_secrets(str(error))}; mend the rule, or "
        "narrow its target",
        model=rule.model_name,
        rule=rule.name,
        document_id=document_id,
    )
    failure.__cause__ = error
    return failure


def failure_of_server(
    rule: BoundRule, document_id: Any, error: Any, cause: Exception
) -> MigrationFailed:
    """The error for an update that MongoDB refused for one document."""
    failure = MigrationFailed(
        f"MongoDB refused the update: {error}; mend the document or the rule",
        model=rule.model_name,
        rule=rule.name,
        document_id=document_id,
    )
    failure.__cause__ = cause
    return failure


def _send(
    collection: Collection[Any],
    rule: BoundRule,
    writes: Sequence[_Write],
    outcome: Outcome,
    session: Any,
) -> tuple[set[Any], set[Any]]:
    """Write; return the keys of the documents that were not found, and of the uncertain ones.

    A bulk write tells how many documents were found, not which. The missing ones can be told
    from the others afterwards if the update ends its match, or if it may be repeated on the same
    inputs. Any other update is sent alone.
    """
    batch = [write for write in writes if write.recognizable or _repeatable(write)]
    if len(batch) == 1 or is_mongomock(collection):
        batch = []
    batched = {write.key for write in batch}
    missed: set[Any] = set()
    for write in writes:
        if write.key in batched:
            continue
        try:
            result = collection.update_one(
                write.filter,
                write.evaluation.update,
                array_filters=write.evaluation.array_filters,
                **_within(session),
            )
        except OperationFailure as exc:
            if not is_document_error(exc):
                raise
            if session is not None:
                raise PartRefused from exc
            outcome.failures[write.key] = failure_of_server(rule, write.document["_id"], exc, exc)
            continue
        outcome.modified += result.modified_count
        if not result.matched_count:
            missed.add(write.key)
    uncertain = _send_batch(collection, rule, batch, outcome, session) if batch else set()
    return missed, uncertain


def _send_batch(
    collection: Collection[Any],
    rule: BoundRule,
    batch: Sequence[_Write],
    outcome: Outcome,
    session: Any,
) -> set[Any]:
    failed: dict[int, Any] = {}
    try:
        result: Any = collection.bulk_write(
            [write.operation() for write in batch],
            # A transaction ends with its first refused update.
            ordered=session is not None,
            **_within(session),
        ).bulk_api_result
    except BulkWriteError as exc:
        result = exc.details
        failed = {entry["index"]: entry for entry in result.get("writeErrors") or []}
        if not is_document_error(exc):
            raise
        if session is not None:
            raise PartRefused from exc
        for index, entry in failed.items():
            write = batch[index]
            outcome.failures[write.key] = failure_of_server(
                rule, write.document["_id"], entry.get("errmsg"), exc
            )
    outcome.modified += result["nModified"]
    if result["nMatched"] == len(batch) - len(failed):
        return set()
    return {write.key for index, write in enumerate(batch) if index not in failed}


def _repeatable(write: _Write) -> bool:
    """Whether applying the update to the same inputs once more would change nothing."""
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


def _still_reads(evaluation: Evaluation, document: Raw) -> bool:
    read = evaluation.read
    return read is None or _inputs(read, document) == _inputs(read, read.raw)


def _inputs(read: Any, document: Raw) -> bytes:
    keys = document.keys() if read.read_whole else sorted(read.keys_read)
    return bson.encode(
        {key: document[key] for key in keys if key in document}, codec_options=ANY_UUID
    )
