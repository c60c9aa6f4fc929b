"""Updates computed from a document, written only where what the rule read is still stored.

Serves the lazy and the bulk engine. One read and one write for a batch; more only where another
writer was faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
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
from lazymig.rules.discovery import BoundRule
from lazymig.rules.matching import compile_query
from lazymig.rules.repetition import is_repeatable
from lazymig.rules.rule import Evaluation
from lazymig.rules.updates import overlaps, written_paths

__all__ = ["Outcome", "migrate_computed"]

# A document that is changed between read and write this often in a row is not read a sixth time
# within one request.
_ATTEMPTS = 5


@dataclass(slots=True)
class Outcome:
    """What became of a batch: documents, by the key of their `_id`."""

    matched: set[Any] = field(default_factory=set)
    modified: int = 0
    failures: dict[Any, MigrationError] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Write:
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
    turn: AbstractContextManager[Any] | None = None,
) -> Outcome:
    """Apply one rule to each of these documents with the update computed for it.

    :param documents: whole raw documents as they were read; their reading is checked by the write.
    :param only_converging: leave a document alone if its update would not end the match.
    :param shard_key: the paths of the model's shard key, which the documents carry.
    :param static_update: the rule reads no document; it is applied document by document because its
        update does not end its match.
    :param turn: held while writing, by callers that compute several batches at once.
    :raises pymongo.errors.PyMongoError: the connection, the rights, a time limit; document errors
        are in the outcome.
    """
    outcome = Outcome()
    ids = {key_of(document["_id"]): document["_id"] for document in documents}
    todo = list(documents)
    previous: dict[Any, Evaluation] = {}
    for _attempt in range(_ATTEMPTS):
        writes = []
        for document in todo:
            key = key_of(document["_id"])
            if key in previous and _still_reads(previous[key], document):
                # What was read is still stored, so the write found it, and was done.
                continue
            write = _compute(
                collection,
                rule,
                concern,
                key,
                document,
                outcome,
                only_converging,
                shard_key,
                static_update,
            )
            if write is not None:
                writes.append(write)
        if not writes:
            return outcome
        with turn or nullcontext():
            missed, uncertain = _send(collection, rule, writes, outcome)
        if not missed and not uncertain:
            return outcome
        previous = {
            write.key: write.evaluation
            for write in writes
            if write.key in uncertain and not write.recognizable
        }
        again = [ids[key] for key in missed | uncertain]
        found = on_primary(collection).find(all_of(by_ids(again), concern, rule.target))
        todo = list(in_one_answer(found, len(again)))
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


def _compute(
    collection: Collection[Any],
    rule: BoundRule,
    concern: Raw | None,
    key: Any,
    document: Raw,
    outcome: Outcome,
    only_converging: bool,
    shard_key: Sequence[str],
    static_update: bool,
) -> _Write | None:
    """Run the rule for one document; `None` where there is nothing (more) to write."""
    try:
        evaluation = rule.evaluate(
            document=None if static_update else document, collection=collection
        )
    except Exception as exc:
        outcome.failures[key] = failure_of_rule(rule, document["_id"], exc)
        return None
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
    return _Write(
        key,
        document,
        evaluation,
        all_of(located(document, shard_key), concern, evaluation.target, *evaluation.guard()),
        recognizable=converges,
    )


def failure_of_rule(rule: BoundRule, document_id: Any, error: Exception) -> MigrationFailed:
    """The error for a rule method that raised."""
    failure = MigrationFailed(
        f"the rule raised {type(error).__name__}: {error}; mend the rule, or narrow its target",
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
    collection: Collection[Any], rule: BoundRule, writes: Sequence[_Write], outcome: Outcome
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
            )
        except OperationFailure as exc:
            if not is_document_error(exc):
                raise
            outcome.failures[write.key] = failure_of_server(rule, write.document["_id"], exc, exc)
            continue
        outcome.modified += result.modified_count
        if not result.matched_count:
            missed.add(write.key)
    uncertain = _send_batch(collection, rule, batch, outcome) if batch else set()
    return missed, uncertain


def _send_batch(
    collection: Collection[Any], rule: BoundRule, batch: Sequence[_Write], outcome: Outcome
) -> set[Any]:
    failed: dict[int, Any] = {}
    try:
        result: Any = collection.bulk_write(
            [write.operation() for write in batch], ordered=False
        ).bulk_api_result
    except BulkWriteError as exc:
        result = exc.details
        failed = {entry["index"]: entry for entry in result.get("writeErrors") or []}
        if not is_document_error(exc):
            raise
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
    return bson.encode({key: document[key] for key in keys if key in document})
