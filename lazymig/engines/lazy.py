"""A batch of raw documents, brought up to date in MongoDB and read again.

Knows neither MongoEngine nor how documents are built from what it returns.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pymongo
from pymongo import UpdateMany
from pymongo.collection import Collection
from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError

from lazymig import signals
from lazymig.engines.access import (
    Raw,
    all_of,
    by_ids,
    is_document_error,
    key_of,
    on_primary,
    waited_too_long,
    writable,
)
from lazymig.engines.computed import failure_of_rule, failure_of_server, migrate_computed
from lazymig.errors import MigrationError, MigrationTimeout
from lazymig.rules.discovery import BoundRule
from lazymig.rules.plan import Family, Plan, overlaps

__all__ = ["Failure", "refresh", "refresh_partial", "rescue"]

logger = logging.getLogger(__name__)

# The rules that a document starts, by its index in the batch, for each plan.
_Stale = Mapping[Plan, Mapping[int, Sequence[BoundRule]]]


@dataclass(frozen=True, slots=True)
class Failure:
    """Stands in a batch for a document that could not be brought up to date."""

    document: Raw
    plan: Plan
    error: MigrationError


def refresh(
    collection: Collection[Any], documents: Sequence[Raw], family: Family
) -> Sequence[Raw | Failure | None]:
    """Bring the whole documents of a batch up to date.

    :param documents: raw documents as they came from `collection`, not projected.
    :return: the same object if nothing was stale. Otherwise, for each document, its fresh
        contents, a `Failure` if it could not be migrated, `None` if it is gone.
    :raises pymongo.errors.PyMongoError: the connection, the rights; nothing is half-done then.
    """
    stale = _find_stale(collection, documents, family)
    if not stale:
        return documents

    def stale_again(batch: Sequence[Raw]) -> _Stale:
        return _find_stale(collection, batch, family)

    return _bring_up(collection, documents, family, stale, stale_again, projection=None)


def refresh_partial(
    collection: Collection[Any],
    documents: Sequence[Raw],
    family: Family,
    asked: Mapping[Plan, Plan],
    projection: Mapping[str, Any] | None,
) -> Sequence[Raw | Failure | None]:
    """Bring the projected documents of a batch up to date; MongoDB says which are stale.

    :param documents: raw documents with `_id`.
    :param asked: for each plan of the family that the projection concerns, the same plan with
        the rules to ask for.
    :param projection: the projection of `documents`, used again for what is read anew.
    :return: as `refresh` does.
    """

    def find_stale(batch: Sequence[Raw]) -> _Stale:
        return _ask_for_stale(collection, batch, family, asked)

    stale = find_stale(documents)
    if not stale:
        return documents
    return _bring_up(collection, documents, family, stale, find_stale, projection)


def rescue(
    collection: Collection[Any],
    documents: Sequence[Raw],
    family: Family,
    projection: Mapping[str, Any] | None = None,
    applied: dict[Any, list[str]] | None = None,
) -> list[Raw | Failure | None]:
    """Try all lazy rules, in order, on documents that could not be loaded or are not valid.

    :param documents: raw documents with `_id`.
    :param projection: the projection of `documents`, if any.
    :param applied: filled with the names of the rules that were applied, by key of the `_id`.
    :return: as `refresh` does; never the same object.
    """
    failing = {
        plan: dict.fromkeys(range(len(documents)) if indexes is None else indexes, plan.lazy)
        for plan, indexes in family.split(documents)
    }

    def stale_again(batch: Sequence[Raw]) -> _Stale:
        return {} if projection else _find_stale(collection, batch, family)

    return _bring_up(collection, documents, family, failing, stale_again, projection, True, applied)


def _find_stale(collection: Collection[Any], documents: Sequence[Raw], family: Family) -> _Stale:
    """The rules that start, judged in memory; MongoDB is asked once for what cannot be judged."""
    stale: dict[Plan, dict[int, list[BoundRule]]] = {}
    questions: list[tuple[Plan, int, BoundRule]] = []
    for plan, among in family.split(documents):
        certain, open_questions = plan.judge(documents, among)
        if certain:
            stale[plan] = certain
        for index, rules in open_questions.items():
            if index not in certain:
                questions.extend((plan, index, rule) for rule in rules)
    if questions:
        by_rule: dict[BoundRule, list[int]] = {}
        plan_of_rule: dict[BoundRule, Plan] = {}
        for plan, index, rule in questions:
            by_rule.setdefault(rule, []).append(index)
            plan_of_rule[rule] = plan
        yes = _matching(
            collection,
            [
                all_of(by_ids([documents[index]["_id"] for index in indexes]), rule.target)
                for rule, indexes in by_rule.items()
            ],
        )
        for plan, index, rule in questions:
            if key_of(documents[index]["_id"]) in yes:
                stale.setdefault(plan, {}).setdefault(index, []).append(rule)
    return stale


def _ask_for_stale(
    collection: Collection[Any],
    documents: Sequence[Raw],
    family: Family,
    asked: Mapping[Plan, Plan],
) -> _Stale:
    groups = [
        (plan, range(len(documents)) if among is None else among)
        for plan, among in family.split(documents)
        if plan in asked
    ]
    queries = [
        all_of(
            by_ids([documents[index]["_id"] for index in indexes]),
            plan.concern,
            {"$or": [rule.target for rule in asked[plan].starting]},
        )
        for plan, indexes in groups
    ]
    if not queries:
        return {}
    yes = _matching(collection, queries)
    stale = {}
    for plan, indexes in groups:
        found = {
            index: asked[plan].starting
            for index in indexes
            if key_of(documents[index]["_id"]) in yes
        }
        if found:
            stale[plan] = found
    return stale


def _matching(collection: Collection[Any], queries: Sequence[Raw]) -> set[Any]:
    query = queries[0] if len(queries) == 1 else {"$or": list(queries)}
    found = on_primary(collection).find(query, {"_id": 1})
    return {key_of(document["_id"]) for document in found}


def _bring_up(
    collection: Collection[Any],
    documents: Sequence[Raw],
    family: Family,
    stale: _Stale,
    find_stale: Callable[[Sequence[Raw]], _Stale],
    projection: Mapping[str, Any] | None,
    after_error: bool = False,
    applied: dict[Any, list[str]] | None = None,
) -> list[Raw | Failure | None]:
    """Apply, read again, and once more where a rule has handed a document to another class."""
    current: list[Raw | Failure | None] = list(documents)
    done: dict[int, set[Plan]] = {}
    for _round in range(len(family.plans) + 1):
        failures: dict[int, Failure] = {}
        touched: list[int] = []
        for plan, matches in stale.items():
            touched.extend(matches)
            batch = {index: current[index] for index in matches}
            application = _Application(
                collection, plan, batch, matches, after_error, projection is None, applied
            )
            application.run()
            failures.update(application.failures)
            for index in matches:
                done.setdefault(index, set()).add(plan)
        _read_again(collection, current, touched, projection)
        for index, failure in failures.items():
            if current[index] is not None:
                current[index] = failure
        if projection is None and not after_error:
            _warn_of_matches(current, stale)
        # After the first round the rules have been tried on an error; what is left is matching.
        after_error = False
        stale = _handed_over(current, touched, family, done, find_stale)
        if not stale:
            break
    return current


def _warn_of_matches(current: Sequence[Raw | Failure | None], stale: _Stale) -> None:
    """Say once for each rule that it matches a document which it has just been applied to.

    The proof that a rule ends its match takes the parents of a dotted path for sub-documents.
    """
    for plan, matches in stale.items():
        documents = [doc for index in matches if isinstance(doc := current[index], Mapping)]
        certain, _ = plan.judge(documents)
        for position, rules in certain.items():
            for rule in rules:
                if rule.name not in plan.warned:
                    plan.warned.add(rule.name)
                    logger.warning(
                        "%s.%s still matches after it was applied (_id: %r), so it is applied at "
                        "each load; let its update end the match of its target",
                        plan.model_name,
                        rule.name,
                        documents[position]["_id"],
                    )


def _read_again(
    collection: Collection[Any],
    current: list[Raw | Failure | None],
    indexes: Sequence[int],
    projection: Mapping[str, Any] | None,
) -> None:
    """Put the stored contents in place of the documents at these indexes; None where deleted."""
    wanted: dict[int, Any] = {}
    for index in indexes:
        document = current[index]
        assert isinstance(document, Mapping)
        wanted[index] = document["_id"]
    metadata = {
        key: value
        for key, value in (projection or {}).items()
        if isinstance(value, Mapping) and "$meta" in value
    }
    fields = {key: value for key, value in (projection or {}).items() if key not in metadata}
    found = {
        key_of(document["_id"]): document
        for document in on_primary(collection).find(
            by_ids(list({key_of(_id): _id for _id in wanted.values()}.values())), fields or None
        )
    }
    for index, document_id in wanted.items():
        fresh = found.get(key_of(document_id))
        stored = current[index]
        if fresh is not None and metadata and isinstance(stored, Mapping):
            # A text score exists only in the answer to the text query.
            fresh = {**fresh, **{key: stored[key] for key in metadata if key in stored}}
        current[index] = fresh


def _handed_over(
    current: Sequence[Raw | Failure | None],
    touched: Sequence[int],
    family: Family,
    done: Mapping[int, set[Plan]],
    find_stale: Callable[[Sequence[Raw]], _Stale],
) -> _Stale:
    """The documents that obey the rules of another class now, and match one of them."""
    if family.only is not None:
        return {}
    moved = []
    for index in touched:
        document = current[index]
        if isinstance(document, Mapping):
            plan = family.plan_of(document)
            if plan is not None and plan not in done[index]:
                moved.append((index, document))
    if not moved:
        return {}
    stale = find_stale([document for _, document in moved])
    return {
        plan: {moved[position][0]: rules for position, rules in matches.items()}
        for plan, matches in stale.items()
    }


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


class _Application:
    """The rules of one plan on their way to the stale documents of a batch.

    Static rules that end their match are queued and sent as one ordered bulk write with one
    `UpdateMany` each; other rules are written document by document, after what is queued.
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
        self.wrote = False
        self.written: list[str] | None = []
        self.errors: dict[Any, MigrationError] = {}
        self.applied = {} if applied is None and _someone_listens() else applied

    @property
    def failures(self) -> dict[int, Failure]:
        """What failed, by index in the batch."""
        return {
            index: Failure(document, self.plan, self.errors[key_of(document["_id"])])
            for index, document in self.documents.items()
            if key_of(document["_id"]) in self.errors
        }

    def run(self) -> None:
        """Apply the rules; errors of single documents are in `errors`."""
        self._announce_start()
        try:
            with pymongo.timeout(self.plan.lazy_timeout):
                for rule in self.rules:
                    if self.alive:
                        self._apply(rule)
                self._flush()
        except PyMongoError as exc:
            if not waited_too_long(exc):
                raise
            self._time_out(exc)
        self._announce_end()

    def _apply(self, rule: BoundRule) -> None:
        if rule.kind != "static":
            self._write_each(rule, static_update=False)
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
        elif self.after_error:
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
    ) -> tuple[int, OperationFailure] | None:
        """Send the queue for these documents; return what was refused: position and error."""
        try:
            self.collection.bulk_write([entry.for_documents(ids) for entry in queue], ordered=True)
        except OperationFailure as exc:
            if not is_document_error(exc):
                raise
            errors = exc.details.get("writeErrors") if isinstance(exc, BulkWriteError) else None
            return (errors[0]["index"] if errors else 0), exc
        return None

    def _refuse(self, rule: BoundRule, document_id: Any, cause: OperationFailure) -> None:
        details = cause.details or {}
        errors = details.get("writeErrors")
        text = errors[0].get("errmsg") if errors else str(cause)
        key = key_of(document_id)
        self.errors[key] = failure_of_server(rule, document_id, text, cause)
        self.alive.pop(key, None)

    def _write_each(self, rule: BoundRule, static_update: bool) -> None:
        """Write a rule document by document: one read, if need be, and one bulk write."""
        self._flush()
        if self.wrote or not self.whole:
            found = on_primary(self.collection).find(
                all_of(by_ids(list(self.alive.values())), self.plan.concern, rule.target)
            )
            documents: list[Raw] = list(found)
        else:
            documents = [
                document
                for document in self.documents.values()
                if key_of(document["_id"]) in self.alive
                and (rule.matcher is None or rule.matcher.judge(document) is not False)
            ]
        if not documents:
            return
        self.wrote = True
        self._note_written(rule)
        outcome = migrate_computed(
            self.collection,
            rule,
            self.plan.concern,
            documents,
            only_converging=not self.after_error,
            static_update=static_update,
        )
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
        )
        if independent and rule.matcher is not None and rule.matcher.exact:
            keys = {
                key_of(document["_id"])
                for document in self.documents.values()
                if rule.matcher.judge(document)
            }
        else:
            self._flush()
            keys = _matching(
                self.collection,
                [all_of(by_ids(list(self.alive.values())), self.plan.concern, rule.target)],
            )
        for key in keys & self.alive.keys():
            self.applied.setdefault(key, []).append(rule.name)

    def _time_out(self, cause: PyMongoError) -> None:
        """Give up on the documents that still match; reading is never held up by a write lock."""
        targets = [rule.target for rule in self.rules if rule.target is not None]
        ids = list(self.alive.values())
        still = set(self.alive)
        if len(targets) == len(self.rules) and not self.after_error:
            still = _matching(
                self.collection, [all_of(by_ids(ids), self.plan.concern, {"$or": targets})]
            )
        for key in still & self.alive.keys():
            error = MigrationTimeout(
                f"the update waited longer than lazy_timeout = {self.plan.lazy_timeout} s, "
                "probably for a transaction that holds the document; load it again after that, or outside "
                "of the transaction",
                model=self.plan.model_name,
                document_id=self.alive[key],
            )
            error.__cause__ = cause
            self.errors[key] = error

    def _announce_start(self) -> None:
        if not signals.pre_migration.receivers:
            return
        for index, document in self.documents.items():
            signals.pre_migration.send(
                self.plan.doc_class,
                document_id=document["_id"],
                rules=tuple(rule.name for rule in self.matches[index]),
                scope="lazy",
            )

    def _announce_end(self) -> None:
        for key, error in self.errors.items():
            logger.warning("%s", error)
            signals.migration_failed.send(
                self.plan.doc_class,
                document_id=self.ids[key],
                rules=(error.rule,) if error.rule else (),
                scope="lazy",
                error=error,
            )
        for key, names in (self.applied or {}).items():
            if key in self.errors:
                continue
            logger.debug("%s %r: %s", self.plan.model_name, self.ids[key], ", ".join(names))
            signals.post_migration.send(
                self.plan.doc_class,
                document_id=self.ids[key],
                rules=tuple(names),
                scope="lazy",
            )


def _someone_listens() -> bool:
    return bool(signals.post_migration.receivers) or logger.isEnabledFor(logging.DEBUG)
