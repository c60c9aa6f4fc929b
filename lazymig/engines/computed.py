"""Updates computed from a document, written only where what the rule read is still stored.

Serves the lazy and the bulk engine. One read and one write for a batch; more only where another
writer was faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias

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
    waited_too_long,
)
from lazymig.engines.refusals import sets_no_update, still_matches, would_match
from lazymig.errors import MigrationConflict, MigrationError, MigrationFailed
from lazymig.redaction import without_secrets
from lazymig.rules.discovery import BoundRule
from lazymig.rules.document import ReadDocument
from lazymig.rules.forecast import Forecast
from lazymig.rules.matching import compile_query
from lazymig.rules.repetition import is_repeatable
from lazymig.rules.rule import Evaluation
from lazymig.rules.updates import ANY_UUID, overlaps, read_paths, written_paths

__all__ = [
    "Demand",
    "Outcome",
    "PartRefused",
    "failure_of_rule",
    "failure_of_server",
    "migrate_computed",
]

Demand: TypeAlias = Literal["end", "update", "nothing"]
"""What a rule has to do for each document: end its match, set an update for it, or nothing."""

# A document that is changed between read and write this often in a row is not read a sixth time
# within one request.
_ATTEMPTS = 5


class PartRefused(Exception):
    """MongoDB refused an update within a transaction, which undoes what it had done so far."""


@dataclass(slots=True)
class Outcome:
    """What became of a batch: documents, by the key of their `_id`.

    `lasting`: there was an update after which the rule may find its document again. `halted`: for
    that reason a part was left undone. `unwritten` are those of the failures for which an update
    was not sent, because it would not have done what is demanded.
    """

    matched: set[Any] = field(default_factory=set)
    modified: int = 0
    failures: dict[Any, MigrationError] = field(default_factory=dict)
    unwritten: set[Any] = field(default_factory=set)
    lasting: bool = False
    halted: bool = False

    def refuse(self, error: MigrationError) -> None:
        """Note that a document was left as it is, because its update is not what is demanded."""
        key = key_of(error.document_id)
        self.matched.discard(key)
        self.failures[key] = error
        self.unwritten.add(key)

    def halt(self, document_ids: Iterable[Any]) -> None:
        """Leave these documents undone, whatever was found out about them."""
        self.halted = True
        for document_id in document_ids:
            self.matched.discard(key := key_of(document_id))
            self.failures.pop(key, None)
            self.unwritten.discard(key)


@dataclass(frozen=True, slots=True)
class _ReadsMore:
    """Stands for a document of which the rule reads more than it was given."""

    document_id: Any


@dataclass(frozen=True, slots=True)
class _Write:
    """An update for one document.

    `recognizable`: once it is written, the rule does not find the document any more. `open`: that
    is demanded of it, and not known yet.
    """

    key: Any
    document: Raw
    evaluation: Evaluation
    filter: dict[str, Any]
    recognizable: bool
    open: bool

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
    demand: Demand,
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
    :raises PartRefused: within a transaction, MongoDB refused an update.
    :raises pymongo.errors.PyMongoError: the connection, the rights, a time limit; document errors
        are in the outcome.
    """
    work = _Computation(collection, rule, concern, demand, shard_key, static_update, session)
    outcome = work.outcome
    ids = {key_of(document["_id"]): document["_id"] for document in documents}
    todo = list(documents)
    previous: dict[Any, Evaluation] = {}
    turn = turn or nullcontext()
    for _attempt in range(_ATTEMPTS):
        # What was read is still stored: then the write found it, and was done.
        todo = [
            document
            for document in todo
            if (key := key_of(document["_id"])) not in previous
            or not _still_reads(previous[key], document)
        ]
        results = [work.compute(document, projected) for document in todo]
        reads_more = [result for result in results if isinstance(result, _ReadsMore)]
        if reads_more:
            again = [each.document_id for each in reads_more]
            with turn:
                whole = _read(collection, rule, concern, again, session)
            results.extend(work.compute(document, None) for document in whole)
        writes = [result for result in results if isinstance(result, _Write)]
        if any(write.open for write in writes):
            with turn:
                writes = work.decide(writes, projected)
        projected = None
        if not writes:
            break
        outcome.lasting |= not all(write.recognizable for write in writes)
        if only_repeatable and outcome.lasting:
            outcome.halt(document["_id"] for document in todo)
            return outcome
        with turn:
            if before_write is not None:
                before_write(by_ids([write.document["_id"] for write in writes]))
            missed, uncertain = _send(collection, rule, writes, outcome, session)
        work.written(writes)
        if not missed and not uncertain:
            break
        previous = {
            write.key: write.evaluation
            for write in writes
            if write.key in uncertain and not write.recognizable
        }
        again = [ids[key] for key in missed | uncertain]
        with turn:
            todo = _read(collection, rule, concern, again, session)
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
    if work.questions:
        with turn:
            work.look_again()
    return outcome


def _read(
    collection: Collection[Any],
    rule: BoundRule,
    concern: Raw | None,
    document_ids: Sequence[Any],
    session: Any,
    projection: Raw | None = None,
) -> list[Raw]:
    """Those of the documents that the rule still concerns, whole or projected."""
    found = on_primary(collection).find(
        all_of(by_ids(document_ids), concern, rule.target), projection, **_within(session)
    )
    return list(in_one_answer(found, len(document_ids)))


def _within(session: Any) -> dict[str, Any]:
    return {} if session is None else {"session": session}


class _Computation:
    """One rule, run for one document after the other; what has become of them is in `outcome`.

    `questions` are the `_id`s, by key, of documents of which only a look at them can tell whether
    they still match.
    """

    def __init__(
        self,
        collection: Collection[Any],
        rule: BoundRule,
        concern: Raw | None,
        demand: Demand,
        shard_key: Sequence[str],
        static_update: bool,
        session: Any,
    ) -> None:
        self.collection = collection
        self.rule = rule
        self.concern = concern
        self.demand = demand
        self.shard_key = shard_key
        self.static_update = static_update
        self.session = session
        self.outcome = Outcome()
        self.questions: dict[Any, Any] = {}

    @cached_property
    def _forecast(self) -> Forecast | None:
        """The forecast of what the rule's own target makes of an updated document."""
        declared = self.rule.declared
        if declared.target is None or declared.matcher is None:
            return None
        matcher = declared.matcher
        if self.concern is not None:
            matcher = compile_query(all_of(self.concern, declared.target))
        return Forecast(matcher, self.collection.codec_options)

    def compute(
        self, document: Raw, projected: frozenset[str] | None
    ) -> _Write | _ReadsMore | None:
        """Run the rule for one document; `None` where there is nothing (more) to write."""
        rule, document_id = self.rule, document["_id"]
        key = key_of(document_id)
        try:
            evaluation = rule.evaluate(
                document=None if self.static_update else document, collection=self.collection
            )
        except Exception as exc:
            if projected is not None:
                # It may have missed what was not read.
                return _ReadsMore(document_id)
            self.outcome.failures[key] = failure_of_rule(rule, document_id, exc)
            return None
        if projected is not None and not _covers(projected, rule, evaluation):
            return _ReadsMore(document_id)
        if evaluation.target is None:
            return None
        as_declared = evaluation.target == rule.declared.target
        concerned = as_declared or compile_query(evaluation.target).judge(document)
        if concerned is False:
            return None
        self.outcome.matched.add(key)
        if evaluation.update is None:
            if concerned and self.demand != "nothing":
                self._note_no_update(document_id)
            return None
        # A target that was computed with the update may be another one the next time.
        ends = rule.converges_with(evaluation) and (
            self._forecast is None or not self._forecast.meets_array(document, evaluation.update)
        )
        if ends or self.demand == "nothing" or self._forecast is None:
            return self._write(key, document, evaluation, ends, as_declared)
        if projected is not None and _moves(evaluation.update):
            return _ReadsMore(document_id)
        still = self._forecast.still_matches(document, evaluation.update)
        if still is False:
            foreseen = self._guard(document, evaluation, self._forecast.roots or frozenset())
            return self._write(key, document, evaluation, True, as_declared, foreseen)
        if still and self.demand == "end":
            self.outcome.refuse(would_match(rule, document_id))
            return None
        return self._write(key, document, evaluation, False, as_declared)

    def _note_no_update(self, document_id: Any) -> None:
        if self.rule.by_hand:
            # It may have written by itself.
            self.questions[key_of(document_id)] = document_id
        else:
            self.outcome.refuse(sets_no_update(self.rule, document_id))

    def _write(
        self,
        key: Any,
        document: Raw,
        evaluation: Evaluation,
        ends: bool,
        as_declared: bool,
        guard: Sequence[Raw] | None = None,
    ) -> _Write:
        """The write of an update, with the conditions under which it may be written.

        :param guard: conditions in place of those of the evaluation.
        """
        query = located(document, self.shard_key)
        if self.session is None:
            target = self.rule.target if as_declared else self._narrowed(evaluation.target)
            guard = evaluation.guard() if guard is None else guard
            query = all_of(query, self.concern, target, *guard)
        return _Write(
            key,
            document,
            evaluation,
            query,
            recognizable=ends and as_declared and self.rule.target is not None,
            open=self.demand == "end" and self._forecast is not None and not ends,
        )

    def _narrowed(self, target: Any) -> Any:
        """A computed target, without the documents that the rule leaves to earlier ones."""
        return target if self.rule.plain is None else all_of(target, self.rule.target)

    def _guard(
        self, document: Raw, evaluation: Evaluation, roots: frozenset[str]
    ) -> list[dict[str, Any]]:
        """Conditions under which also these top-level fields are still what was read."""
        read = ReadDocument(document)
        read.keys_read |= roots
        if evaluation.read is not None:
            read.keys_read |= evaluation.read.keys_read
            read.read_whole = evaluation.read.read_whole
        return read.guard()

    def decide(self, writes: Sequence[_Write], projected: frozenset[str] | None) -> list[_Write]:
        """Ask MongoDB, where it can tell without writing, whether updates end their match.

        :return: those writes that do, or may do so.
        :raises PartRefused: within a transaction, MongoDB will refuse an update.
        """
        if is_mongomock(self.collection):
            return list(writes)
        pipelines: dict[bytes, list[_Write]] = {}
        for write in writes:
            if write.open and isinstance(write.evaluation.update, list):
                encoded = bson.encode({"": write.evaluation.update}, codec_options=ANY_UUID)
                pipelines.setdefault(encoded, []).append(write)
        decided: dict[Any, _Write | None] = {}
        for group in pipelines.values():
            for write, still in self._ask(group):
                if still:
                    self.outcome.refuse(would_match(self.rule, write.document["_id"]))
                    decided[write.key] = None
                elif still is False:
                    decided[write.key] = self._foreseen(write, projected)
        found = (decided.get(write.key, write) for write in writes)
        return [write for write in found if write is not None]

    def _ask(self, writes: Sequence[_Write]) -> Iterator[tuple[_Write, bool | None]]:
        """Whether documents would still match after the one update of these writes."""
        ids = [write.document["_id"] for write in writes]
        still = [
            {"$match": all_of(self.concern, self.rule.declared.target)},
            {"$project": {"_id": 1}},
        ]
        stages = [
            {"$match": all_of(by_ids(ids), self.concern, self.rule.target)},
            *writes[0].evaluation.update,
            # MongoDB 6.0.5 moves a condition on a part of what $map makes in front of the $map,
            # which answers for the old document; it moves none out of a $facet.
            {"$facet": {"still": still}},
        ]
        try:
            (answer,) = on_primary(self.collection).aggregate(stages, **_within(self.session))
            keys = {key_of(document["_id"]) for document in answer["still"]}
        except OperationFailure as exc:
            if waited_too_long(exc) or exc.has_error_label("TransientTransactionError"):
                raise
            if self.session is not None:
                raise PartRefused from exc
            if len(writes) == 1:
                # The write will be refused as well, and will say why.
                yield writes[0], None
                return
            for write in writes:
                yield from self._ask([write])
        else:
            for write in writes:
                yield write, write.key in keys

    def _foreseen(self, write: _Write, projected: frozenset[str] | None) -> _Write:
        """A write that ends the match, as long as the document is what it is."""
        read, forecast = read_paths(write.evaluation.update), self._forecast
        as_declared = write.evaluation.target == self.rule.declared.target
        if read is None or forecast is None or forecast.roots is None or not as_declared:
            return write
        roots = forecast.roots | {path.partition(".")[0] for path in read}
        if projected is not None and not roots <= projected:
            return write
        guard = self._guard(write.document, write.evaluation, roots)
        foreseen = self._write(
            write.key, write.document, write.evaluation, True, as_declared, guard
        )
        return replace(foreseen, open=True)

    def written(self, writes: Sequence[_Write]) -> None:
        """Remember the documents of which a look has to tell whether they still match."""
        for write in writes:
            if write.open and write.key not in self.outcome.failures:
                self.questions[write.key] = write.document["_id"]

    def look_again(self) -> None:
        """Find the documents that still match, and put them among the failures."""
        ids = list(self.questions.values())
        found = on_primary(self.collection).find(
            all_of(by_ids(ids), self.concern, self.rule.declared.target),
            {"_id": 1},
            **_within(self.session),
        )
        for document in in_one_answer(found, len(ids)):
            key = key_of(document["_id"])
            if key not in self.outcome.failures:
                self.outcome.failures[key] = still_matches(self.rule, document["_id"])


def _moves(update: Any) -> bool:
    """Whether an update puts what the target does not read where it reads."""
    return isinstance(update, Mapping) and "$rename" in update


def _covers(projected: frozenset[str], rule: BoundRule, evaluation: Evaluation) -> bool:
    """Whether a rule that was given these fields alone has done what it does to the document."""
    read = evaluation.read
    if evaluation.target != rule.declared.target:
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
