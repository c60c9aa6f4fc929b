"""Rules over a collection or a part of it, in bounded batches; and the report of what was done.

Which part comes when, and what is noted about it, is not decided here.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from bson.errors import InvalidBSON
from pymongo.collection import Collection
from pymongo.errors import DocumentTooLarge, OperationFailure, PyMongoError

from lazymig import signals
from lazymig.engines.access import (
    Raw,
    all_of,
    as_bytes,
    by_ids,
    is_document_error,
    is_mongomock,
    key_of,
    located,
    location_fields,
    on_primary,
    tolerant,
    writable,
    write_each,
)
from lazymig.engines.computed.guarded import Demand, Outcome, PartRefused, migrate_computed
from lazymig.engines.computed.pace import Pace
from lazymig.engines.computed.recursion import was_told
from lazymig.engines.loads.lazy import Failure, refresh, rescue
from lazymig.engines.once.claims import migrate_once
from lazymig.engines.reading.decoding import BoundedReader, named, take
from lazymig.engines.reading.marks import marks_writes
from lazymig.engines.refusals import (
    failure_of_rule,
    failure_of_server,
    still_matches,
    undecodable,
)
from lazymig.errors import MigrationError
from lazymig.raw.elements import StoredValue
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.plan import Family, Plan
from lazymig.rules.repetition import is_repeatable
from lazymig.rules.rule import Evaluation, Scope

__all__ = [
    "MigrationReport",
    "PartRefused",
    "RuleReport",
    "Tally",
    "Work",
    "announce",
    "conclude",
    "is_exact_once_repeated",
    "rescue_all",
    "rescue_broken",
    "writes_alone",
]

logger = logging.getLogger(__name__)

# Documents that are held in memory at once; the size of a bulk write beyond which the time per
# document falls no further (measured in benchmarks/).
_BATCH = 1000

# Fewer documents than these, though there are more, are large ones.
_LARGE_BATCH = 100

# Documents that are rebuilt through the model at once, each batch within `lazy_timeout`.
_RESCUE_BATCH = 100

# Documents of a once rule between two answers of the cursor: effects may be slow, and the server
# closes a cursor that it has not heard of for ten minutes.
_CLAIMED_BATCH = 100

# A rule that fails this often fails for a reason that is not one document's.
_MOST_ERRORS = 1000


@dataclass(frozen=True, slots=True)
class RuleReport:
    """What one rule did to a collection: documents matched and modified, seconds, errors.

    `covered_by` is the run for whose sake it was not applied: that has applied it to the whole
    collection, and its target does not tell to which documents.

    Where `errors` is not empty, the counts may be too low: MongoDB does not tell how many documents
    an update has reached before it refused one.
    """

    name: str
    matched: int
    modified: int
    seconds: float
    errors: tuple[MigrationError, ...] = ()
    covered_by: Any = None


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """What a run did: one `RuleReport` for each rule, in the order in which they ran.

    `state` is `"finished"`, `"stopped"` (somebody asked for it) or `"failed"` (more documents were
    refused than `max_errors` allows); where it is not `"finished"`, `resume=True` goes on with the
    run. `run_id` is the run's `_id` in the journal. The errors are those of the whole run, what it
    had in quarantine before it was resumed included. `reopened` are the names of lazy rules that a
    later one has brought documents back to: another run applies them.

    `nothing_to_resume`: a run was to be gone on with, and there is none that has not finished.
    Nothing was done; the errors are those of what earlier runs have in quarantine.
    """

    model: str
    collection: str
    scope: Scope
    rules: tuple[RuleReport, ...]
    state: Literal["finished", "stopped", "failed"] = "finished"
    run_id: Any = None
    nothing_to_resume: bool = False
    reopened: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether the run has come to its end, and has left no document to any of its rules."""
        return self.state == "finished" and not self.errors and not self.reopened

    @property
    def matched(self) -> int:
        """Documents matched, added up over the rules."""
        return sum(rule.matched for rule in self.rules)

    @property
    def modified(self) -> int:
        """Documents modified, added up over the rules."""
        return sum(rule.modified for rule in self.rules)

    @property
    def seconds(self) -> float:
        """Seconds that all rules took."""
        return sum(rule.seconds for rule in self.rules)

    @property
    def errors(self) -> tuple[MigrationError, ...]:
        """The errors of all rules."""
        return tuple(error for rule in self.rules for error in rule.errors)

    def raise_for_errors(self) -> None:
        """Raise the first error, if there is one.

        :raises MigrationError: the first document that could not be migrated.
        """
        for error in self.errors:
            raise error


@dataclass(slots=True)
class Tally:
    """What has become of documents so far: matched, modified, and the errors of the refused.

    `lasting`: there was an update after which the rule may find its document again. `halted`: for
    that reason a part of them was left undone. `unwritten` are the keys of the refused that no
    update was sent for. `others` has what other rules did to documents that did not load or
    validate, by name. `computing` are the seconds that the rule took in Python.
    """

    matched: int = 0
    modified: int = 0
    errors: list[MigrationError] = field(default_factory=list)
    lasting: bool = False
    halted: bool = False
    unwritten: set[Any] = field(default_factory=set)
    computing: float = 0.0
    others: dict[str, Tally] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Add what another one has counted."""
        self.matched += other.matched
        self.modified += other.modified
        self.errors.extend(other.errors)
        self.lasting |= other.lasting
        self.halted |= other.halted
        self.unwritten |= other.unwritten
        self.computing += other.computing
        for name, tally in other.others.items():
            self.others.setdefault(name, Tally()).add(tally)

    def by_rule(self, name: str) -> dict[str, Tally]:
        """What this rule did, and each other one besides, by name."""
        return {name: self, **self.others}


@dataclass(frozen=True)
class Work:
    """The rules of a plan on the documents of a part of a collection.

    `within` is the query for the part, `None` for all of it; `spared` excepts documents from it.
    `session` is that of an open transaction: then whatever MongoDB refuses raises `PartRefused`.
    `before_write` is called with a query for the documents that are about to be written.
    `most_errors`: the work ends early after so many errors. `only_repeatable`: it may be begun anew
    by someone who does not know what was written, and halts before what would be written twice.
    `is_broken` tells whether a raw document fails to load, or to validate: to one that does, a rule
    that no match starts is applied as a load would do it. `demand` is what a rule has to do for a
    document; by default what those of the scope have to.
    """

    collection: Collection[Any]
    plan: Plan
    scope: Scope
    within: Raw | None = None
    spared: Raw | None = None
    session: Any = None
    before_write: Callable[[Raw], object] | None = None
    most_errors: int = _MOST_ERRORS
    only_repeatable: bool = False
    is_broken: Callable[[Raw], bool] | None = None
    demand: Demand | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "collection", writable(self.collection))

    @property
    def in_session(self) -> dict[str, Any]:
        """What a command of this work is given besides; mongomock knows no sessions."""
        return {} if self.session is None else {"session": self.session}

    def documents_of(self, target: Raw | None) -> dict[str, Any]:
        """The query for a rule's documents."""
        return all_of(self.plan.concern, target, self.within, self.spared)

    @marks_writes
    def apply(self, rule: BoundRule) -> Tally:
        """Apply a rule to every document of this part that it concerns.

        :raises PartRefused: within a transaction, MongoDB refused an update.
        :raises MigrationFailed: a rule that writes by itself raised.
        :raises pymongo.errors.PyMongoError: the connection or the rights; documents that the server
            refuses are in the tally instead.
        """
        tally = Tally()
        if rule.once is not None:
            self._claim(rule, tally)
        elif rule.kind == "static" and not rule.varies:
            evaluation = rule.evaluate(collection=self.collection)
            if self._demand != "end" or rule.converges_with(evaluation):
                self._update_many(rule, evaluation, tally)
            else:
                self._compute(rule, tally)
        elif writes_alone(rule, self.scope):
            self._by_hand(rule, tally)
        else:
            self._compute(rule, tally)
        return tally

    @property
    def _demand(self) -> Demand:
        """Lazy rules have to end their match, or they would be applied again at each load.

        Bulk rules are run on demand, and may be meant to find their documents again.
        """
        return self.demand or ("end" if self.scope == "lazy" else "update")

    def _update_many(self, rule: BoundRule, evaluation: Evaluation, tally: Tally) -> None:
        """One update on the server; document by document only if the server refuses one.

        An update that stops half-way does not tell which documents it has met: only one that
        they may meet again is sent this way, or one that a transaction undoes.
        """
        query = self.documents_of(rule.target)
        if self.session is None and not is_exact_once_repeated(rule, evaluation):
            self._update_each(rule, evaluation, tally)
            return
        if self.before_write is not None:
            self.before_write(query)
        try:
            result = self.collection.update_many(
                query,
                evaluation.update,
                array_filters=evaluation.array_filters,
                **self.in_session,
            )
        except (OperationFailure, DocumentTooLarge) as exc:
            if not is_document_error(exc):
                raise
            if self.session is not None:
                raise PartRefused from exc
            self._update_each(rule, evaluation, tally, announced=True)
            return
        tally.matched += result.matched_count
        tally.modified += result.modified_count

    def _update_each(
        self, rule: BoundRule, evaluation: Evaluation, tally: Tally, announced: bool = False
    ) -> None:
        """The same update, each document by itself, so that one refusal stops no other."""
        for batch in self.stream(rule.target, location_fields(self.plan.shard_key)):
            places: list[dict[str, Any]] = []
            ids: list[Any] = []
            documents, nameless = named(batch)
            tally.errors.extend(undecodable(rule, each.stored_id, each.error) for each in nameless)
            for document in documents:
                try:
                    places.append(located(document, self.plan.shard_key))
                except InvalidBSON as exc:
                    tally.errors.append(undecodable(rule, document["_id"], exc))
                else:
                    ids.append(document["_id"])
            if not places:
                continue
            if self.before_write is not None and not announced:
                self.before_write(by_ids(ids))
            written = write_each(
                self.collection,
                [all_of(place, self.plan.concern, rule.target) for place in places],
                evaluation.update,
                evaluation.array_filters,
            )
            tally.matched += written.matched
            tally.modified += written.modified
            tally.errors.extend(
                failure_of_server(rule, ids[index], text, cause)
                for index, (text, cause) in sorted(written.refused.items())
            )
            if len(tally.errors) >= self.most_errors:
                return

    def _compute(self, rule: BoundRule, tally: Tally) -> None:
        """Stream the matching documents and write each one the update computed for it.

        Two batches are under way at a time, so that one is read and computed while the other is
        written. In a transaction there is one command at a time, and one pre-image at a time.
        """
        paths = _paths_needed(rule, self.plan)
        pace = Pace()
        # By its module's name: a patched one lets the other worker go on, where both are greenlets.
        alone = self.session is None and self.before_write is None
        turn = nullcontext() if alone else threading.Lock()
        work = partial(
            migrate_computed,
            self.collection,
            rule,
            self.plan.concern,
            demand=self._demand,
            shard_key=self.plan.shard_key,
            static_update=rule.kind == "static",
            only_repeatable=self.only_repeatable,
            turn=turn,
            projected=paths,
            session=self.session,
            before_write=self.before_write,
            pace=pace,
        )
        batches = self.stream(
            rule.target,
            None if paths is None else dict.fromkeys(paths, 1),
            turn=turn,
        )
        mend = None
        if self.is_broken is not None and self.scope == "lazy" and not self.plan.starts(rule):
            mend = partial(self._rescue, rule, tally)
        workers = 1 if is_mongomock(self.collection) else 2
        self._count(tally, work, batches, workers, mend)
        tally.computing += pace.seconds

    def _rescue(self, rule: BoundRule, tally: Tally, outcome: Outcome) -> None:
        """Do what a load does to those documents that a rule was not applied to, and is to mend.

        What still matches the rule then stays among the failures, as everywhere.
        """
        assert self.is_broken is not None
        named = (outcome.failures[key].document_id for key in outcome.unwritten)
        ids = [document_id for document_id in named if not isinstance(document_id, StoredValue)]
        reader = BoundedReader(on_primary(self.collection), ids, None)
        while reader.left:
            broken = [each for each in reader.read() if self.is_broken(each)]
            if broken:
                self._rescue_some(rule, tally, outcome, broken)

    def _rescue_some(
        self, rule: BoundRule, tally: Tally, outcome: Outcome, broken: Sequence[Raw]
    ) -> None:
        assert self.is_broken is not None
        counts = rescue_all(self, broken, self.is_broken, rule)
        failed = {key_of(error.document_id) for each in counts.values() for error in each.errors}
        for document in broken:
            key = key_of(document["_id"])
            outcome.unwritten.discard(key)
            del outcome.failures[key]
        query = all_of(by_ids([each["_id"] for each in broken]), self.plan.concern, rule.target)
        for document in tolerant(on_primary(self.collection)).find(query, {"_id": 1}):
            if (key := key_of(document["_id"])) not in failed:
                outcome.failures[key] = still_matches(rule, document["_id"])
        tally.add(counts.pop(rule.name, Tally()))
        tally.add(Tally(others=counts))

    def _claim(self, rule: BoundRule, tally: Tally) -> None:
        """Let a once rule do its work on each matching document, one after the other."""

        def work(batch: list[Raw]) -> Outcome:
            batch, nameless = named(batch)
            outcome = do(batch) if batch else Outcome()
            for document in nameless:
                outcome.refuse(undecodable(rule, document.stored_id, document.error))
            return outcome

        def do(batch: list[Raw]) -> Outcome:
            if self.before_write is not None:
                self.before_write(by_ids([document["_id"] for document in batch]))
            return migrate_once(
                self.collection,
                rule,
                self.plan.concern,
                batch,
                shard_key=self.plan.shard_key,
                pace=pace,
            )

        pace = Pace()
        located_only = location_fields(self.plan.shard_key)
        self._count(tally, work, self.stream(rule.target, located_only, _CLAIMED_BATCH), 1)
        tally.computing += pace.seconds

    def _count(
        self,
        tally: Tally,
        work: Callable[[list[Raw]], Outcome],
        batches: Iterator[list[Raw]],
        workers: int,
        mend: Callable[[Outcome], object] | None = None,
    ) -> None:
        """Do the batches and add up what became of them; none is begun after too many errors.

        :param mend: called with each outcome, to see to what was not written.
        """
        wanted = itertools.takewhile(lambda _: len(tally.errors) < self.most_errors, batches)
        for outcome in _side_by_side(work, wanted, workers):
            if mend is not None:
                mend(outcome)
            tally.matched += len(outcome.matched)
            tally.modified += outcome.modified
            tally.errors.extend(outcome.failures.values())
            tally.lasting |= outcome.lasting
            tally.halted |= outcome.halted
            tally.unwritten |= outcome.unwritten

    def _by_hand(self, rule: BoundRule, tally: Tally) -> None:
        """Let a rule that writes by itself do so, once; count by its target before and after."""
        query = self.documents_of(rule.target)
        before = on_primary(self.collection).count_documents(query)
        if self.before_write is not None:
            self.before_write(query)
        try:
            evaluation = rule.evaluate(collection=self.collection)
        except Exception as exc:
            raise failure_of_rule(rule, None, exc) from exc
        if not evaluation.complete:
            self._compute(rule, tally)
        elif evaluation.update is not None:
            self._update_many(rule, evaluation, tally)
        else:
            after = on_primary(self.collection).count_documents(query)
            tally.matched += before
            tally.modified += max(before - after, 0)
            if after and self._demand == "end":
                reader = tolerant(on_primary(self.collection))
                left = reader.find(query, {"_id": 1}).limit(self.most_errors)
                tally.errors.extend(still_matches(rule, document["_id"]) for document in left)

    def stream(
        self,
        target: Raw | None,
        projection: Raw | None = None,
        size: int = _BATCH,
        turn: AbstractContextManager[Any] | None = None,
    ) -> Iterator[list[Raw]]:
        """The documents of a target in batches, each document once, whatever is written meanwhile.

        Batches are bounded in documents and in bytes. The order by `_id`, which no update changes,
        is what keeps a document from coming up twice.

        :param turn: held while reading.
        """
        turn = turn or nullcontext()
        cursor = as_bytes(on_primary(self.collection)).find(
            self.documents_of(target), projection, **self.in_session
        )
        cursor = cursor.sort("_id", 1)
        if not is_mongomock(self.collection):
            cursor = cursor.batch_size(size).allow_disk_use(True)
        try:
            while True:
                batch: list[Any] = []
                with turn:
                    batch = take(cursor, self.collection.codec_options, size)
                if not batch:
                    return
                yield batch
        finally:
            with turn:
                cursor.close()


def writes_alone(rule: BoundRule, scope: Scope) -> bool:
    """Whether a rule writes by itself, once for all of its documents, without looking at one."""
    return rule.by_hand and (scope == "bulk" or rule.converges is False)


def is_exact_once_repeated(rule: BoundRule, evaluation: Evaluation) -> bool:
    """Whether a static update that broke off half-way may be sent again: nothing is done twice."""
    return is_repeatable(evaluation.update) or rule.converges_with(evaluation)


def _paths_needed(rule: BoundRule, plan: Plan) -> frozenset[str] | None:
    """The top-level fields that a rule needs of a document; `None` where it may be any."""
    if rule.inputs is None or rule.reads is None:
        return None
    needed = (*rule.inputs, *rule.reads, *plan.shard_key, "_id")
    return frozenset(path.partition(".")[0] for path in needed)


def _side_by_side(
    work: Callable[[list[Raw]], Outcome], batches: Iterator[list[Raw]], workers: int
) -> Iterator[Outcome]:
    """The outcomes of the batches, in order; with one worker none is begun before its turn."""
    if workers == 1:
        yield from map(work, batches)
        return
    with ThreadPoolExecutor(workers) as pool:
        running: deque[Future[Outcome]] = deque()
        try:
            for batch in batches:
                running.append(pool.submit(copy_context().run, work, batch))
                # What is large fills the memory without another one beside it.
                most = workers if len(batch) >= _LARGE_BATCH else 1
                del batch
                while len(running) >= most:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        except PyMongoError:
            # What one is refused in a transaction ends the transaction for the other as well.
            for other in running:
                if isinstance(refused := other.exception(), PartRefused):
                    raise refused from None
            raise


def announce(plan: Plan, rule: BoundRule, scope: Scope) -> None:
    """Tell who listens that a rule is about to run."""
    signals.announce(
        signals.pre_migration, plan.doc_class, document_id=None, rules=(rule.name,), scope=scope
    )


def conclude(
    collection: Collection[Any],
    plan: Plan,
    rule: BoundRule,
    scope: Scope,
    tally: Tally,
    seconds: float,
) -> RuleReport:
    """Log and tell what a rule has done."""
    for error in tally.errors:
        logger.log(logging.DEBUG if was_told(error) else logging.ERROR, "%s", error)
        signals.announce(
            signals.migration_failed,
            plan.doc_class,
            document_id=error.document_id,
            rules=(rule.name,),
            scope=scope,
            error=error,
        )
    logger.info(
        "%s.%s on %s: %d matched, %d modified, %d refused in %.1f s",
        plan.model_name,
        rule.name,
        collection.full_name,
        tally.matched,
        tally.modified,
        len(tally.errors),
        seconds,
    )
    signals.announce(
        signals.post_migration,
        plan.doc_class,
        document_id=None,
        rules=(rule.name,),
        scope=scope,
        matched=tally.matched,
        modified=tally.modified,
    )
    return RuleReport(rule.name, tally.matched, tally.modified, seconds, tuple(tally.errors))


def rescue_broken(
    work: Work, rules: Sequence[BoundRule], is_broken: Callable[[Raw], bool]
) -> dict[str, Tally]:
    """Do what a load does to the documents of a part that do not load or validate.

    :param rules: the rules whose documents only that can tell.
    :param is_broken: whether a raw document fails to load, or to validate, through the model.
    :return: what each lazy rule has done, by its name.
    """
    counts = {rule.name: Tally() for rule in work.plan.lazy}
    for documents in work.stream(None):
        broken = [document for document in documents if is_broken(document)]
        for name, tally in rescue_all(work, broken, is_broken, rules[0]).items():
            counts[name].add(tally)
        if sum(len(tally.errors) for tally in counts.values()) >= work.most_errors:
            break
    return counts


def rescue_all(
    work: Work, documents: Sequence[Raw], is_broken: Callable[[Raw], bool], blamed: BoundRule
) -> dict[str, Tally]:
    """Do what a load does to documents that do not load or validate.

    First the rules that a match starts are applied, and if that does not help all lazy rules.

    :param blamed: the rule that has the errors which name none.
    :return: what each lazy rule has done, by its name; those that did nothing are left out.
    """
    family = Family(work.plan, {})
    counts: dict[str, Tally] = {}
    documents, nameless = named(documents)
    if nameless:
        errors: list[MigrationError] = [
            undecodable(blamed, each.stored_id, each.error) for each in nameless
        ]
        counts[blamed.name] = Tally(errors=errors)
    for first in range(0, len(documents), _RESCUE_BATCH):
        batch = documents[first : first + _RESCUE_BATCH]
        if work.before_write is not None:
            work.before_write(by_ids([document["_id"] for document in batch]))
        applied: dict[Any, list[str]] = {}
        fresh = refresh(work.collection, batch, family, applied)
        _count_applied(counts, applied, fresh, blamed)
        broken = [
            document for document in fresh if isinstance(document, Mapping) and is_broken(document)
        ]
        applied.clear()
        rescued = rescue(work.collection, broken, family, applied=applied) if broken else []
        _count_applied(counts, applied, rescued, blamed)
    return counts


def _count_applied(
    counts: dict[str, Tally],
    applied: Mapping[Any, Sequence[str]],
    documents: Sequence[Raw | Failure | None],
    blamed: BoundRule,
) -> None:
    for names in applied.values():
        for name in names:
            tally = counts.setdefault(name, Tally())
            tally.matched += 1
            tally.modified += 1
    for document in documents:
        if isinstance(document, Failure):
            name = document.error.rule or blamed.name
            counts.setdefault(name, Tally()).errors.append(document.error)
