"""Updates computed from a document, written only where what the rule read is still stored.

Serves the lazy and the bulk engine. One read and one write for a batch; more only where another
writer was faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import bson
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, DocumentTooLarge, OperationFailure

from lazymig.engines.access import Raw, by_ids, is_document_error, is_mongomock, key_of
from lazymig.engines.computed.computing import (
    Computation,
    Demand,
    Outcome,
    PartRefused,
    ReadsMore,
    TooSlow,
    Write,
    read_matching,
    within,
)
from lazymig.engines.computed.pace import IN_TRANSACTION, SLICE, Pace
from lazymig.engines.reading.decoding import Undecoded, named
from lazymig.engines.refusals import failure_of_server, undecodable
from lazymig.errors import MigrationConflict
from lazymig.raw.encoding import ANY_UUID
from lazymig.raw.paths import overlaps
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.repetition import is_repeatable
from lazymig.rules.rule import Evaluation
from lazymig.updates.update import written_paths

__all__ = [
    "Demand",
    "Outcome",
    "PartRefused",
    "TooSlow",
    "migrate_computed",
]

_Result = TypeVar("_Result")

# A document that is changed between read and write this often in a row is not read a sixth time
# within one request.
_ATTEMPTS = 5


def migrate_computed(
    collection: Collection[Any],
    rule: BoundRule,
    concern: Raw | None,
    documents: Sequence[Raw],
    *,
    demand: Demand,
    shard_key: Sequence[str] = (),
    static_update: bool = False,
    only_repeatable: bool = False,
    turn: AbstractContextManager[Any] | None = None,
    projected: frozenset[str] | None = None,
    session: Any = None,
    before_write: Callable[[Raw], object] | None = None,
    pace: Pace | None = None,
) -> Outcome:
    """Apply one rule to each of these documents with the update computed for it.

    :param documents: whole raw documents as they were read; their reading is checked by the write.
    :param demand: what the rule has to do. An update of which it is known that it leaves the match
        where it has to end it is not written; where that cannot be known, the document is asked for
        afterwards. Documents for which the rule does not do it are among the failures.
    :param shard_key: the paths of the model's shard key, which the documents carry.
    :param static_update: the rule reads no document; it is evaluated for each without one.
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
    :param pace: how long documents may be computed; those of a slice are written before the next
        one is begun.
    :raises PartRefused: within a transaction, MongoDB refused an update.
    :raises TooSlow: within a transaction, they cannot be computed in time.
    :raises pymongo.errors.PyMongoError: the connection, the rights, a time limit; document errors
        are in the outcome.
    """
    pace = pace or Pace()
    work = Computation(collection, rule, concern, demand, shard_key, static_update, session, pace)
    outcome = work.outcome
    commands = _Commands(work, turn or nullcontext(), before_write)
    left, nameless = named(documents)
    for each in nameless:
        outcome.refuse(undecodable(rule, each.stored_id, each.error))
    later: list[Any] = []
    while (left or later) and not outcome.halted:
        if pace.is_over:
            outcome.leave([*(document["_id"] for document in left), *later])
            break
        if not left:
            asked, later = later, []
            left, projected = commands.read(asked, later), None
        left = _migrate_slice(work, commands, left, only_repeatable, projected, later)
    if work.questions and not outcome.halted:
        commands.send(work.look_again)
    return outcome


@dataclass(frozen=True, slots=True)
class _Commands:
    """How commands are sent for a computation: in its turn, and in what time is left for them."""

    work: Computation
    turn: AbstractContextManager[Any]
    before_write: Callable[[Raw], object] | None

    def send(self, command: Callable[[], _Result]) -> _Result:
        with self.turn:
            return self.work.pace.send(command)

    def read(self, document_ids: Sequence[Any], later: list[Any]) -> list[Raw]:
        """As many of these documents as are held at once; the `_id`s of the others come later."""
        work = self.work
        reader = read_matching(work.collection, work.rule, work.concern, document_ids, work.session)
        found = self.send(reader.read)
        later.extend(reader.left)
        return found

    def write(self, writes: Sequence[Write]) -> tuple[set[Any], set[Any]]:
        work = self.work

        def write() -> tuple[set[Any], set[Any]]:
            if self.before_write is not None:
                self.before_write(by_ids([write.document["_id"] for write in writes]))
            return _send(work.collection, work.rule, writes, work.outcome, work.session)

        return self.send(write)


def _migrate_slice(
    work: Computation,
    commands: _Commands,
    documents: Sequence[Raw],
    only_repeatable: bool,
    projected: frozenset[str] | None,
    later: list[Any],
) -> list[Raw]:
    """Do as many of the documents as can be computed in a slice; return the others.

    :param later: is given the `_id`s of those of which more has to be read than is held at once.
    """
    outcome, rule = work.outcome, work.rule
    ids = {key_of(document["_id"]): document["_id"] for document in documents}
    todo, left = list(documents), list[Raw]()
    previous: dict[Any, Evaluation] = {}
    for attempt in range(_ATTEMPTS):
        # What was read is still stored: then the write found it, and was done.
        todo = [
            document
            for document in todo
            if (key := key_of(document["_id"])) not in previous
            or not _still_reads(previous[key], document)
        ]
        seconds = SLICE if work.session is None else IN_TRANSACTION
        turns = work.pace.sliced(todo, math.inf if attempt else seconds)
        results = [work.compute(document, projected) for document in turns]
        todo, too_late = todo[: len(results)], todo[len(results) :]
        if too_late and work.session is not None:
            raise TooSlow(len(results))
        if attempt:
            outcome.leave(document["_id"] for document in too_late)
        else:
            left = too_late
        reads_more = [each.document_id for each in results if isinstance(each, ReadsMore)]
        if reads_more:
            whole = commands.read(reads_more, later)
            results.extend(work.compute(document, None) for document in whole)
        writes = [result for result in results if isinstance(result, Write)]
        if any(write.open for write in writes):
            writes = commands.send(partial(work.decide, writes, projected))
        projected = None
        if not writes:
            break
        outcome.lasting |= not all(write.recognizable for write in writes)
        if only_repeatable and outcome.lasting:
            outcome.halt(document["_id"] for document in todo)
            break
        missed, uncertain = commands.write(writes)
        work.written(writes)
        if not missed and not uncertain:
            break
        previous = {
            write.key: write.evaluation
            for write in writes
            if write.key in uncertain and not write.recognizable
        }
        todo = commands.read([ids[key] for key in missed | uncertain], later)
    else:
        for document in todo:
            key = key_of(document["_id"])
            outcome.failures[key] = MigrationConflict(
                f"what the rule reads was changed {_ATTEMPTS} times while its update was computed; "
                "load the document again, or let the rule read less of it",
                model=rule.model_name,
                rule=rule.name,
                document_id=document["_id"],
            )
    return left


def _send(
    collection: Collection[Any],
    rule: BoundRule,
    writes: Sequence[Write],
    outcome: Outcome,
    session: Any,
) -> tuple[set[Any], set[Any]]:
    """Write; return the keys of the documents that were not found, and of the uncertain ones.

    A bulk write tells how many documents were found, not which. The missing ones can be told
    from the others afterwards if the update ends its match, or if it may be repeated on the same
    inputs. Any other update is sent alone.
    """
    batch = [
        write
        for write in writes
        if write.variables is None and (write.recognizable or _repeatable(write))
    ]
    if len(batch) == 1 or is_mongomock(collection):
        batch = []
    batched = {write.key for write in batch}
    missed: set[Any] = set()
    for write in writes:
        if write.key in batched:
            continue
        if _send_alone(collection, rule, write, outcome, session) is False:
            missed.add(write.key)
    uncertain = _send_batch(collection, rule, batch, outcome, session) if batch else set()
    return missed, uncertain


def _send_alone(
    collection: Collection[Any], rule: BoundRule, write: Write, outcome: Outcome, session: Any
) -> bool | None:
    """Whether the document was found; `None` where its update was refused."""
    try:
        if write.variables is None:
            result: Any = collection.update_one(
                write.filter,
                write.evaluation.update,
                array_filters=write.evaluation.array_filters,
                **within(session),
            )
        else:
            # Here an update has a room of its own in the message.
            result = collection.bulk_write(
                [write.operation()], let=write.variables or None, **within(session)
            )
    except (OperationFailure, DocumentTooLarge) as exc:
        if not is_document_error(exc):
            raise
        if session is not None:
            raise PartRefused from exc
        outcome.failures[write.key] = failure_of_server(rule, write.document["_id"], exc, exc)
        return None
    outcome.modified += result.modified_count
    return bool(result.matched_count)


def _send_batch(
    collection: Collection[Any],
    rule: BoundRule,
    batch: Sequence[Write],
    outcome: Outcome,
    session: Any,
) -> set[Any]:
    failed: dict[int, Any] = {}
    try:
        result: Any = collection.bulk_write(
            [write.operation() for write in batch],
            # A transaction ends with its first refused update.
            ordered=session is not None,
            **within(session),
        ).bulk_api_result
    except (OperationFailure, DocumentTooLarge) as exc:
        if not is_document_error(exc):
            raise
        if session is not None:
            raise PartRefused from exc
        if not isinstance(exc, BulkWriteError):
            # One of them has made MongoDB refuse the message as a whole.
            return {
                write.key
                for write in batch
                if _send_alone(collection, rule, write, outcome, None) is False
            }
        result = exc.details
        failed = {entry["index"]: entry for entry in result.get("writeErrors") or []}
        for index, entry in failed.items():
            write = batch[index]
            outcome.failures[write.key] = failure_of_server(
                rule, write.document["_id"], entry.get("errmsg"), exc
            )
    outcome.modified += result["nModified"]
    if result["nMatched"] == len(batch) - len(failed):
        return set()
    return {write.key for index, write in enumerate(batch) if index not in failed}


def _repeatable(write: Write) -> bool:
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
    if isinstance(document, Undecoded):
        return document.data
    keys = document.keys() if read.read_whole else sorted(read.keys_read)
    return bson.encode(
        {key: document[key] for key in keys if key in document}, codec_options=ANY_UUID
    )
