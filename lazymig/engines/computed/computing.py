"""One rule, computed for one document after the other: what is to be written, and what is refused.

How it is sent to MongoDB is in `computed`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias

import bson
from bson.errors import InvalidBSON
from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.errors import DocumentTooLarge, OperationFailure, PyMongoError

from lazymig.engines.access import (
    Raw,
    all_of,
    by_ids,
    in_one_answer,
    is_mongomock,
    key_of,
    located,
    on_primary,
    tolerant,
    waited_too_long,
)
from lazymig.engines.computed.guards import LARGE, MOST, bytes_of, set_apart
from lazymig.engines.computed.pace import Pace
from lazymig.engines.computed.recursion import AtWork, circular, place_of
from lazymig.engines.outages import is_away
from lazymig.engines.reading.decoding import BoundedReader, Undecoded, judge
from lazymig.engines.refusals import (
    failure_of_rule,
    sets_no_update,
    still_matches,
    too_large,
    undecodable,
    would_match,
)
from lazymig.errors import MigrationError
from lazymig.query.matching import compile_query
from lazymig.raw.encoding import ANY_UUID
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.document import ReadDocument
from lazymig.rules.rule import Evaluation
from lazymig.updates.forecast import Forecast
from lazymig.updates.update import read_paths

__all__ = [
    "Computation",
    "Demand",
    "Outcome",
    "PartRefused",
    "ReadsMore",
    "TooSlow",
    "Write",
    "read_matching",
    "within",
]

Demand: TypeAlias = Literal["end", "update", "nothing"]
"""What a rule has to do for each document: end its match, set an update for it, or nothing."""


class _TooLarge(Exception):
    """A filter and an update have more bytes than a command."""

    def __init__(self, size: int) -> None:
        self.size = size
        super().__init__(size)


class PartRefused(Exception):
    """MongoDB refused an update within a transaction, which undoes what it had done so far."""


class TooSlow(PartRefused):
    """Documents are computed too slowly for one transaction; so many of them were in time."""

    def __init__(self, documents: int) -> None:
        super().__init__(documents)
        self.documents = documents


@dataclass(slots=True)
class Outcome:
    """What became of a batch: documents, by the key of their `_id`.

    `lasting`: there was an update after which the rule may find its document again. `halted`: for
    that reason a part was left undone. `unwritten` are those of the failures for which an update
    was not sent, because it would not have done what is demanded. `unfinished` are those for which
    there was no time, with their `_id`s.
    """

    matched: set[Any] = field(default_factory=set)
    modified: int = 0
    failures: dict[Any, MigrationError] = field(default_factory=dict)
    unwritten: set[Any] = field(default_factory=set)
    unfinished: dict[Any, Any] = field(default_factory=dict)
    lasting: bool = False
    halted: bool = False

    def leave(self, document_ids: Iterable[Any]) -> None:
        """Note that there was no time for these documents."""
        for document_id in document_ids:
            self.matched.discard(key := key_of(document_id))
            self.unfinished[key] = document_id

    def refuse(self, error: MigrationError) -> None:
        """Note that a document was left as it is, because its update is not what is demanded."""
        key = key_of(error.document_id)
        self.matched.discard(key)
        self.failures[key] = error
        self.unwritten.add(key)

    def add(self, other: Outcome) -> None:
        """Add what has become of other documents."""
        self.matched |= other.matched
        self.modified += other.modified
        self.failures.update(other.failures)
        self.unwritten |= other.unwritten
        self.lasting |= other.lasting
        self.halted |= other.halted

    def halt(self, document_ids: Iterable[Any]) -> None:
        """Leave these documents undone, whatever was found out about them."""
        self.halted = True
        for document_id in document_ids:
            self.matched.discard(key := key_of(document_id))
            self.failures.pop(key, None)
            self.unwritten.discard(key)


@dataclass(frozen=True, slots=True)
class ReadsMore:
    """Stands for a document of which the rule reads more than it was given."""

    document_id: Any


@dataclass(frozen=True, slots=True)
class Write:
    """An update for one document.

    `recognizable`: once it is written, the rule does not find the document any more. `open`: that
    is demanded of it, and not known yet. `variables` are those of a command that is large; it is
    sent alone.
    """

    key: Any
    document: Raw
    evaluation: Evaluation
    filter: dict[str, Any]
    recognizable: bool
    open: bool
    variables: Mapping[str, Any] | None = None

    def operation(self) -> UpdateOne:
        """The write as PyMongo takes it."""
        return UpdateOne(
            self.filter, self.evaluation.update, array_filters=self.evaluation.array_filters
        )


def read_matching(
    collection: Collection[Any],
    rule: BoundRule,
    concern: Raw | None,
    document_ids: Sequence[Any],
    session: Any,
) -> BoundedReader:
    """A reader of those of the documents that the rule still concerns, whole."""
    condition = all_of(concern, rule.target)
    return BoundedReader(on_primary(collection), document_ids, condition, session=session)


def within(session: Any) -> dict[str, Any]:
    """What a command within a session is given besides; mongomock knows no sessions."""
    return {} if session is None else {"session": session}


class Computation:
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
        pace: Pace,
    ) -> None:
        self.collection = collection
        self.rule = rule
        self.place = place_of(collection, rule)
        self.concern = concern
        self.demand = demand
        self.shard_key = shard_key
        self.static_update = static_update
        self.session = session
        self.pace = pace
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

    def compute(self, document: Raw, projected: frozenset[str] | None) -> Write | ReadsMore | None:
        """Run the rule for one document; `None` where there is nothing (more) to write."""
        try:
            return self._compute(document, projected)
        except InvalidBSON as exc:
            # The rule has got over it, but what it has read cannot be compared.
            self.outcome.refuse(undecodable(self.rule, document["_id"], exc))
            return None

    def _compute(self, document: Raw, projected: frozenset[str] | None) -> Write | ReadsMore | None:
        rule, document_id = self.rule, document["_id"]
        key = key_of(document_id)
        started = time.perf_counter()
        try:
            with AtWork(self.place, document):
                evaluation = rule.evaluate(
                    document=None if self.static_update else document, collection=self.collection
                )
        except Exception as exc:
            failure = circular(self.place, rule, document_id, exc)
            if failure is not None:
                self.outcome.failures[key] = failure
                return None
            if isinstance(exc, PyMongoError) and self.pace.is_over and waited_too_long(exc):
                # What the rule asks MongoDB for obeys the time limit of the load.
                self.outcome.leave([document_id])
                return None
            if projected is not None:
                # It may have missed what was not read.
                return ReadsMore(document_id)
            self.outcome.failures[key] = failure_of_rule(rule, document_id, exc)
            return None
        finally:
            self.pace.note(rule.name, time.perf_counter() - started)
        if projected is not None and not _covers(projected, rule, evaluation):
            return ReadsMore(document_id)
        if evaluation.target is None:
            return None
        as_declared = evaluation.target == rule.declared.target
        concerned = as_declared or judge(compile_query(evaluation.target), document)
        if concerned is False:
            return None
        self.outcome.matched.add(key)
        if evaluation.update is None:
            if concerned and self.demand != "nothing":
                self._note_no_update(document_id)
            return None
        # A target that was computed with the update may be another one the next time.
        foreseeable = not isinstance(document, Undecoded)
        ends = rule.converges_with(evaluation) and (
            self._forecast is None
            or (foreseeable and not self._forecast.meets_array(document, evaluation.update))
        )
        if ends or self.demand == "nothing" or self._forecast is None:
            return self._write_of(key, document, evaluation, ends, as_declared)
        if projected is not None and _moves(evaluation.update):
            return ReadsMore(document_id)
        still = None
        if foreseeable:
            still = self._forecast.still_matches(document, evaluation.update)
        if still is False:
            foreseen = self._guard(document, evaluation, self._forecast.roots or frozenset())
            return self._write_of(key, document, evaluation, True, as_declared, foreseen)
        if still and self.demand == "end":
            self.outcome.refuse(would_match(rule, document_id))
            return None
        return self._write_of(key, document, evaluation, False, as_declared)

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
        ends: bool,
        as_declared: bool,
        guard: Sequence[Raw] | None = None,
    ) -> Write | None:
        """The write of an update, with the conditions under which it may be written.

        :param guard: conditions in place of those of the evaluation.
        :return: `None` if it cannot be sent; then the document is refused.
        """
        conditions: list[Raw | None] = [located(document, self.shard_key)]
        if self.session is not None:
            guard = ()
        else:
            target = self.rule.target if as_declared else self._narrowed(evaluation.target)
            conditions.extend((self.concern, target))
            guard = evaluation.guard() if guard is None else guard
        try:
            query, variables = self._fitted(conditions, guard, evaluation)
        except _TooLarge as exc:
            self.outcome.refuse(too_large(self.rule, document["_id"], exc.size))
            return None
        except Exception as exc:
            self.outcome.refuse(failure_of_rule(self.rule, document["_id"], exc))
            return None
        return Write(
            key,
            document,
            evaluation,
            query,
            recognizable=ends and as_declared and self.rule.target is not None,
            open=self.demand == "end" and self._forecast is not None and not ends,
            variables=variables,
        )

    def _fitted(
        self, conditions: Sequence[Raw | None], guard: Sequence[Raw], evaluation: Evaluation
    ) -> tuple[dict[str, Any], Mapping[str, Any] | None]:
        """A filter that has room in a command beside its update, with its variables if need be.

        :raises _TooLarge: there is none.
        """
        update, array_filters = evaluation.update, evaluation.array_filters
        query = all_of(*conditions, *guard)
        if bytes_of(self.collection, query, update, array_filters) <= LARGE:
            return query, None
        others, variables = set_apart(guard)
        query = all_of(*conditions, *others)
        size = bytes_of(self.collection, query, update, array_filters)
        if size > MOST:
            raise _TooLarge(size)
        return query, variables

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

    def decide(self, writes: Sequence[Write], projected: frozenset[str] | None) -> list[Write]:
        """Ask MongoDB, where it can tell without writing, whether updates end their match.

        :return: those writes that do, or may do so.
        :raises PartRefused: within a transaction, MongoDB will refuse an update.
        """
        if is_mongomock(self.collection):
            return list(writes)
        pipelines: dict[bytes, list[Write]] = {}
        for write in writes:
            if write.open and isinstance(write.evaluation.update, list):
                encoded = bson.encode({"": write.evaluation.update}, codec_options=ANY_UUID)
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
            (answer,) = tolerant(on_primary(self.collection)).aggregate(
                stages, **within(self.session)
            )
            keys = {key_of(document["_id"]) for document in answer["still"]}
        except (OperationFailure, DocumentTooLarge) as exc:
            if isinstance(exc, OperationFailure) and (
                waited_too_long(exc)
                or is_away(exc)
                or exc.has_error_label("TransientTransactionError")
            ):
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

    def _foreseen(self, write: Write, projected: frozenset[str] | None) -> Write | None:
        """A write that ends the match, as long as the document is what it is."""
        read, forecast = read_paths(write.evaluation.update), self._forecast
        as_declared = write.evaluation.target == self.rule.declared.target
        if read is None or forecast is None or forecast.roots is None or not as_declared:
            return write
        roots = forecast.roots | {path.partition(".")[0] for path in read}
        if projected is not None and not roots <= projected:
            return write
        if isinstance(write.document, Undecoded):
            return write
        guard = self._guard(write.document, write.evaluation, roots)
        foreseen = self._write_of(
            write.key, write.document, write.evaluation, True, as_declared, guard
        )
        return None if foreseen is None else replace(foreseen, open=True)

    def written(self, writes: Sequence[Write]) -> None:
        """Remember the documents of which a look has to tell whether they still match."""
        for write in writes:
            if write.open and write.key not in self.outcome.failures:
                self.questions[write.key] = write.document["_id"]

    def look_again(self) -> None:
        """Find the documents that still match, and put them among the failures."""
        ids = list(self.questions.values())
        found = tolerant(on_primary(self.collection)).find(
            all_of(by_ids(ids), self.concern, self.rule.declared.target),
            {"_id": 1},
            **within(self.session),
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
