"""One rule, computed for one document after the other: what is to be written, and what is refused.

How it is sent to MongoDB is in `guarded`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bson.errors import InvalidBSON
from pymongo import UpdateOne
from pymongo.errors import DocumentTooLarge, OperationFailure, PyMongoError

from lazymig.engines.access import Raw, all_of, key_of
from lazymig.engines.computed.folding import Form, form_of
from lazymig.engines.computed.guards import LARGE, MOST, bytes_of, set_apart
from lazymig.engines.computed.outcome import Outcome, PartRefused, Terms
from lazymig.engines.computed.recursion import AtWork, circular, place_of
from lazymig.engines.driver_errors import is_away, is_transient, waited_too_long
from lazymig.engines.reading.decoding import Undecoded, judge
from lazymig.engines.refusals import (
    failure_of_rule,
    sets_no_update,
    still_matches,
    too_large,
    undecodable,
    would_match,
)
from lazymig.engines.store import Store
from lazymig.locks import cached_property
from lazymig.query.matching import compile_query
from lazymig.raw.encoding import stored_bytes
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.document import ReadDocument
from lazymig.rules.rule import Evaluation
from lazymig.updates.forecast import Forecast
from lazymig.updates.update import read_paths

__all__ = [
    "Computation",
    "ReadsMore",
    "Write",
]


class _TooLarge(Exception):
    """A filter and an update have more bytes than a command."""

    def __init__(self, size: int) -> None:
        self.size = size
        super().__init__(size)


@dataclass(frozen=True, slots=True)
class ReadsMore:
    """Stands for a document of which the rule reads more than it was given."""

    document_id: Any


@dataclass(frozen=True, slots=True)
class Write:
    """An update for one document.

    `recognizable`: once it is written, the rule does not find the document any more. `open`: that
    is demanded of it, and not known yet. `reading` is what has to be as it was read. With a `form`
    it may be sent with others; what is sent by itself has a `filter`. `variables` are those of a
    command that is large; it is sent alone.
    """

    key: Any
    document: Raw
    evaluation: Evaluation
    reading: ReadDocument | None
    recognizable: bool
    open: bool
    form: Form | None = None
    filter: dict[str, Any] | None = None
    variables: Mapping[str, Any] | None = None

    def operation(self) -> UpdateOne:
        """The write as PyMongo takes it."""
        assert self.filter is not None
        return UpdateOne(
            self.filter, self.evaluation.update, array_filters=self.evaluation.array_filters
        )


class Computation:
    """One rule, run for one document after the other; what has become of them is in `outcome`.

    `questions` are the `_id`s, by key, of documents of which only a look at them shows whether they
    still match.
    """

    def __init__(self, store: Store, rule: BoundRule, terms: Terms) -> None:
        self.store = store
        self.rule = rule
        self.terms = terms
        self.pace = terms.pace
        self.place = place_of(store.collection, rule)
        self.outcome = Outcome()
        self.questions: dict[Any, Any] = {}
        # Of a shard key the documents of a fold may have different values.
        self._may_fold = terms.may_fold and not store.is_imitation and not store.shard_key

    @cached_property
    def _forecast(self) -> Forecast | None:
        """The forecast of what the rule's own target makes of an updated document."""
        declared = self.rule.declared
        if declared.target is None or declared.matcher is None:
            return None
        matcher = declared.matcher
        if self.store.class_filter is not None:
            matcher = compile_query(self.store.query_of(declared))
        return Forecast(matcher, self.store.collection.codec_options)

    def compute(self, document: Raw, projected: frozenset[str] | None) -> Write | ReadsMore | None:
        """Run the rule for one document; `None` where there is nothing (more) to write."""
        try:
            found = self._evaluate(document, projected)
            if not isinstance(found, Evaluation):
                return found
            return self._judge(document, found, projected)
        except InvalidBSON as exc:
            # The rule has got over it, but what it has read cannot be compared.
            self.outcome.refuse(undecodable(self.rule, document["_id"], exc))
            return None

    def _evaluate(
        self, document: Raw, projected: frozenset[str] | None
    ) -> Evaluation | ReadsMore | None:
        """What the rule sets for the document; `None` where it fails."""
        rule, document_id = self.rule, document["_id"]
        started = time.perf_counter()
        try:
            with AtWork(self.place, document):
                # A static rule reads no document: it is evaluated for each without one.
                evaluation = rule.evaluate(
                    document=None if rule.kind == "static" else document,
                    collection=self.store.collection,
                )
        except Exception as exc:
            failure = circular(self.place, rule, document_id, exc)
            if failure is None:
                if isinstance(exc, PyMongoError) and self.pace.is_over and waited_too_long(exc):
                    # What the rule asks MongoDB for obeys the time limit of the load.
                    self.outcome.leave([document_id])
                    return None
                if projected is not None:
                    # It may have missed what was not read.
                    return ReadsMore(document_id)
                failure = failure_of_rule(rule, document_id, exc)
            self.outcome.failures[key_of(document_id)] = failure
            return None
        finally:
            self.pace.note(rule.name, time.perf_counter() - started)
        if projected is not None and not _covers(projected, rule, evaluation):
            return ReadsMore(document_id)
        return evaluation

    def _judge(
        self, document: Raw, evaluation: Evaluation, projected: frozenset[str] | None
    ) -> Write | ReadsMore | None:
        """The write of what the rule has set, if it does what is demanded, or may do so."""
        rule, demand, document_id = self.rule, self.terms.demand, document["_id"]
        if evaluation.target is None:
            return None
        concerned: bool | None = self._is_declared(evaluation)
        if not concerned:
            concerned = judge(compile_query(evaluation.target), document)
        if concerned is False:
            return None
        self.outcome.matched.add(key := key_of(document_id))
        if evaluation.update is None:
            if concerned and demand != "nothing":
                self._note_no_update(document_id)
            return None
        # A target that was computed with the update may be another one the next time.
        forecast, foreseeable = self._forecast, not isinstance(document, Undecoded)
        ends = rule.converges_with(evaluation) and (
            forecast is None
            or (foreseeable and not forecast.meets_array(document, evaluation.update))
        )
        if ends or demand == "nothing" or forecast is None:
            return self._write_of(key, document, evaluation, ends=ends)
        if projected is not None and _moves(evaluation.update):
            return ReadsMore(document_id)
        still = forecast.still_matches(document, evaluation.update) if foreseeable else None
        if still is False:
            reading = self._reading(document, evaluation, forecast.roots or frozenset())
            return self._write_of(key, document, evaluation, ends=True, reading=reading)
        if still and demand == "end":
            self.outcome.refuse(would_match(rule, document_id))
            return None
        return self._write_of(key, document, evaluation, ends=False)

    def _note_no_update(self, document_id: Any) -> None:
        if self.rule.by_hand:
            # It may have written by itself.
            self.questions[key_of(document_id)] = document_id
        else:
            self.outcome.refuse(sets_no_update(self.rule, document_id))

    def _write_of(
        self,
        key: Any,
        document: Raw,
        evaluation: Evaluation,
        *,
        ends: bool,
        reading: ReadDocument | None = None,
    ) -> Write | None:
        """The write of an update, with what has to hold for it to be written.

        :param reading: in place of that of the evaluation.
        :return: `None` if it cannot be sent; then the document is refused.
        """
        as_declared = self._is_declared(evaluation)
        recognizable = ends and as_declared and self.rule.target is not None
        # In a transaction, what was read is what is stored.
        kept = None if self.terms.all_or_nothing else reading or evaluation.read
        write = Write(
            key,
            document,
            evaluation,
            kept,
            recognizable=recognizable,
            open=self.terms.demand == "end" and self._forecast is not None and not ends,
            form=form_of(document, evaluation, kept) if recognizable and self._may_fold else None,
        )
        return write if write.form is not None else self.alone(write)

    def alone(self, write: Write) -> Write | None:
        """The write with a filter of its own; `None` if it cannot be sent, as for `_write_of`."""
        evaluation, document = write.evaluation, write.document
        conditions: list[Raw | None] = [self.store.locate(document)]
        guard: Sequence[Raw] = ()
        if not self.terms.all_or_nothing:
            as_declared = self._is_declared(evaluation)
            target = self.rule.target if as_declared else self._narrowed(evaluation.target)
            conditions.extend((self.store.class_filter, target))
            guard = () if write.reading is None else write.reading.guard()
        try:
            query, variables = self._fitted(conditions, guard, evaluation)
        except _TooLarge as exc:
            self.outcome.refuse(too_large(self.rule, document["_id"], exc.size))
            return None
        except Exception as exc:
            self.outcome.refuse(failure_of_rule(self.rule, document["_id"], exc))
            return None
        return replace(write, form=None, filter=query, variables=variables)

    def _fitted(
        self, conditions: Sequence[Raw | None], guard: Sequence[Raw], evaluation: Evaluation
    ) -> tuple[dict[str, Any], Mapping[str, Any] | None]:
        """A filter that has room in a command beside its update, with its variables if need be.

        :raises _TooLarge: there is no room.
        """
        update, array_filters = evaluation.update, evaluation.array_filters
        query = all_of(*conditions, *guard)
        if bytes_of(self.store, query, update, array_filters) <= LARGE:
            return query, None
        others, variables = set_apart(guard)
        query = all_of(*conditions, *others)
        size = bytes_of(self.store, query, update, array_filters)
        if size > MOST:
            raise _TooLarge(size)
        return query, variables

    def _is_declared(self, evaluation: Evaluation) -> bool:
        return bool(evaluation.target == self.rule.declared.target)

    def _narrowed(self, target: Any) -> Any:
        """A computed target, without the documents that the rule leaves to earlier ones."""
        return target if self.rule.plain is None else all_of(target, self.rule.target)

    def _reading(
        self, document: Raw, evaluation: Evaluation, roots: frozenset[str]
    ) -> ReadDocument:
        """What the rule has read, and these top-level fields besides."""
        read = ReadDocument(document)
        read.keys_read |= roots
        if evaluation.read is not None:
            read.keys_read |= evaluation.read.keys_read
            read.read_whole = evaluation.read.read_whole
        return read

    def decide(self, writes: Sequence[Write], projected: frozenset[str] | None) -> list[Write]:
        """Ask MongoDB, where it can say so without writing, whether updates end their match.

        :return: those writes that do, or may do so.
        :raises PartRefused: within a transaction, MongoDB will refuse an update.
        """
        if self.store.is_imitation:
            return list(writes)
        pipelines: dict[bytes, list[Write]] = {}
        for write in writes:
            if write.open and isinstance(write.evaluation.update, list):
                encoded = stored_bytes(write.evaluation.update)
                pipelines.setdefault(encoded, []).append(write)
        decided: dict[Any, Write | None] = {}
        for group in pipelines.values():
            for write, still in self._ask(group):
                if still:
                    self.outcome.refuse(would_match(self.rule, write.document["_id"]))
                    decided[write.key] = None
                elif still is False:
                    decided[write.key] = self._foreseen(write, projected)
        found = (decided.get(write.key, write) for write in writes)
        return [write for write in found if write is not None]

    def _ask(self, writes: Sequence[Write]) -> Iterator[tuple[Write, bool | None]]:
        """Say whether documents would still match after the one update of these writes."""
        ids = [write.document["_id"] for write in writes]
        still = [{"$match": self.store.query_of(self.rule.declared)}, {"$project": {"_id": 1}}]
        stages = [
            {"$match": self.store.query_of(self.rule, ids)},
            *writes[0].evaluation.update,
            # MongoDB 6.0.5 moves a condition on a part of what $map makes in front of the $map,
            # which answers for the old document; it moves none out of a $facet.
            {"$facet": {"still": still}},
        ]
        try:
            (answer,) = self.store.aggregate(stages)
            keys = {key_of(document["_id"]) for document in answer["still"]}
        except (OperationFailure, DocumentTooLarge) as exc:
            if isinstance(exc, OperationFailure) and (
                waited_too_long(exc) or is_away(exc) or is_transient(exc)
            ):
                raise
            if self.terms.all_or_nothing:
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

    def _foreseen(self, write: Write, projected: frozenset[str] | None) -> Write | None:
        """A write that ends the match, as long as the document is what it is."""
        read, forecast = read_paths(write.evaluation.update), self._forecast
        if read is None or forecast is None or forecast.roots is None:
            return write
        if isinstance(write.document, Undecoded) or not self._is_declared(write.evaluation):
            return write
        roots = forecast.roots | {path.partition(".")[0] for path in read}
        if projected is not None and not roots <= projected:
            return write
        reading = self._reading(write.document, write.evaluation, roots)
        foreseen = self._write_of(
            write.key, write.document, write.evaluation, ends=True, reading=reading
        )
        return None if foreseen is None else replace(foreseen, open=True)

    def written(self, writes: Sequence[Write]) -> None:
        """Remember the documents of which a look has to show whether they still match."""
        for write in writes:
            if write.open and write.key not in self.outcome.failures:
                self.questions[write.key] = write.document["_id"]

    def look_again(self) -> None:
        """Find the documents that still match, and put them among the failures."""
        ids = list(self.questions.values())
        query = self.store.query_of(self.rule.declared, ids)
        for document in self.store.find_ids(query, len(ids)):
            key = key_of(document["_id"])
            if key not in self.outcome.failures:
                self.outcome.failures[key] = still_matches(self.rule, document["_id"])


def _moves(update: Any) -> bool:
    """Return whether an update puts what the target does not read where it reads."""
    return isinstance(update, Mapping) and "$rename" in update


def _covers(projected: frozenset[str], rule: BoundRule, evaluation: Evaluation) -> bool:
    """Return whether a rule that was given these fields alone has done what it always does."""
    read = evaluation.read
    if evaluation.target != rule.declared.target:
        return False
    return read is None or (not read.read_whole and read.keys_read <= projected)
