"""A batch of raw documents, brought up to date in MongoDB and read again.

Knows neither MongoEngine nor how documents are built from what it returns.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pymongo.collection import Collection

from lazymig import signals
from lazymig.engines.access import (
    Positional,
    Raw,
    all_of,
    by_ids,
    ids_matching,
    in_one_answer,
    key_of,
    on_primary,
)
from lazymig.engines.application import Application, Failure
from lazymig.engines.decoding import Undecoded, as_bytes, decode
from lazymig.engines.refusals import still_matches
from lazymig.rules.discovery import BoundRule
from lazymig.rules.once import CLAIM
from lazymig.rules.plan import Family, Plan, feeds

__all__ = ["Failure", "refresh", "refresh_partial", "rescue"]

logger = logging.getLogger(__name__)

# The rules that a document starts, by its index in the batch, for each plan.
_Stale = Mapping[Plan, Mapping[int, Sequence[BoundRule]]]


def refresh(
    collection: Collection[Any],
    documents: Sequence[Raw],
    family: Family,
    applied: dict[Any, list[str]] | None = None,
) -> Sequence[Raw | Failure | None]:
    """Bring the whole documents of a batch up to date.

    :param documents: raw documents as they came from `collection`, not projected.
    :param applied: filled with the names of the rules that were applied, by key of the `_id`.
    :return: the same object if nothing was stale. Otherwise, for each document, its fresh
        contents, a `Failure` if it could not be migrated, `None` if it is gone.
    :raises pymongo.errors.PyMongoError: the connection, the rights; nothing is half-done then.
    """
    stale = _find_stale(collection, documents, family)
    if not stale:
        return documents

    def stale_again(batch: Sequence[Raw]) -> _Stale:
        return _find_stale(collection, batch, family)

    return _bring_up(
        collection, documents, family, stale, stale_again, projection=None, applied=applied
    )


def refresh_partial(
    collection: Collection[Any],
    documents: Sequence[Raw],
    family: Family,
    asked: Mapping[Plan, Plan],
    projection: Mapping[str, Any] | None,
    positional: Positional | None = None,
) -> Sequence[Raw | Failure | None]:
    """Bring the projected documents of a batch up to date; MongoDB says which are stale.

    :param documents: raw documents with `_id`.
    :param asked: for each plan of the family that the projection concerns, the same plan with
        the rules to ask for.
    :param projection: the projection of `documents`, used again for what is read anew.
    :param positional: the filter that a positional projection needs.
    :return: as `refresh` does.
    """

    def find_stale(batch: Sequence[Raw]) -> _Stale:
        return _ask_for_stale(collection, batch, family, asked)

    stale = find_stale(documents)
    if not stale:
        return documents
    return _bring_up(
        collection, documents, family, stale, find_stale, projection, positional=positional
    )


def rescue(
    collection: Collection[Any],
    documents: Sequence[Raw],
    family: Family,
    projection: Mapping[str, Any] | None = None,
    applied: dict[Any, list[str]] | None = None,
    positional: Positional | None = None,
) -> list[Raw | Failure | None]:
    """Try all lazy rules, in order, on documents that could not be loaded or are not valid.

    :param documents: raw documents with `_id`.
    :param projection: the projection of `documents`, if any.
    :param applied: filled with the names of the rules that were applied, by key of the `_id`.
    :param positional: the filter that a positional projection needs.
    :return: as `refresh` does; never the same object.
    """
    failing = {
        plan: dict.fromkeys(range(len(documents)) if indexes is None else indexes, plan.lazy)
        for plan, indexes in family.split(documents)
    }

    def stale_again(batch: Sequence[Raw]) -> _Stale:
        return {} if projection else _find_stale(collection, batch, family)

    return _bring_up(
        collection, documents, family, failing, stale_again, projection, True, applied, positional
    )


def _find_stale(collection: Collection[Any], documents: Sequence[Raw], family: Family) -> _Stale:
    """The rules that start, judged in memory; MongoDB is asked once for what cannot be judged."""
    stale: dict[Plan, dict[int, list[BoundRule]]] = {}
    questions: list[tuple[Plan, int, BoundRule]] = []
    for plan, among in family.split(documents):
        certain, open_questions = _judge(plan, documents, among)
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
        yes = ids_matching(
            collection,
            [
                all_of(by_ids([documents[index]["_id"] for index in indexes]), rule.target)
                for rule, indexes in by_rule.items()
            ],
            len(documents),
        )
        for plan, index, rule in questions:
            if key_of(documents[index]["_id"]) in yes:
                stale.setdefault(plan, {}).setdefault(index, []).append(rule)
    return stale


def _judge(
    plan: Plan, documents: Sequence[Raw], among: Sequence[int] | None
) -> tuple[dict[int, list[BoundRule]], dict[int, list[BoundRule]]]:
    """As `Plan.judge`, which knows nothing of documents that cannot be decoded: these are asked."""
    odd = [index for index, each in enumerate(documents) if isinstance(each, Undecoded)]
    if not odd:
        return plan.judge(documents, among)
    concerned = range(len(documents)) if among is None else among
    certain, open_questions = plan.judge(
        documents, [index for index in concerned if index not in odd]
    )
    for index in odd:
        if index in concerned and "_id" in documents[index]:
            open_questions[index] = list(plan.starting)
    return certain, open_questions


def _ask_for_stale(
    collection: Collection[Any],
    documents: Sequence[Raw],
    family: Family,
    asked: Mapping[Plan, Plan],
) -> _Stale:
    named = [index for index, document in enumerate(documents) if "_id" in document]
    groups = [
        (plan, [index for index in named if among is None or index in among])
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
    yes = ids_matching(collection, queries, len(documents))
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


def _bring_up(
    collection: Collection[Any],
    documents: Sequence[Raw],
    family: Family,
    stale: _Stale,
    find_stale: Callable[[Sequence[Raw]], _Stale],
    projection: Mapping[str, Any] | None,
    after_error: bool = False,
    applied: dict[Any, list[str]] | None = None,
    positional: Positional | None = None,
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
            application = Application(
                collection, plan, batch, matches, after_error, projection is None, applied
            )
            application.run()
            failures.update(application.failures)
            for index in matches:
                done.setdefault(index, set()).add(plan)
        _read_again(collection, current, touched, projection, positional)
        for index, failure in failures.items():
            if current[index] is not None:
                current[index] = failure
        if projection is None and not after_error:
            _find_matches(current, stale, family)
        # After the first round the rules have been tried on an error; what is left is matching.
        after_error = False
        stale = _handed_over(current, touched, family, done, find_stale)
        if not stale:
            break
    return current


def _find_matches(current: list[Raw | Failure | None], stale: _Stale, family: Family) -> None:
    """Put a failure in place of each document that matches a rule which was just applied to it.

    The proof that a rule ends its match takes the parents of a dotted path for sub-documents. What
    a later rule has brought back is said once: these two would take turns at each load.
    """
    for plan, matches in stale.items():
        indexes = [
            index
            for index in matches
            # A document may have been handed to the rules of another class; one with a claim is
            # not done yet.
            if isinstance(document := current[index], Mapping)
            and not isinstance(document, Undecoded)
            and family.plan_of(document) is plan
            and CLAIM not in document
        ]
        certain, _ = plan.judge([_raw(current[index]) for index in indexes])
        for position, rules in certain.items():
            index = indexes[position]
            document = _raw(current[index])
            for rule in rules:
                if rule.kind != "static" or rule.varies:
                    # It was seen to document by document.
                    continue
                if _is_brought_back(rule, plan):
                    _warn_of(rule, plan, document)
                elif any(rule is each for each in matches[index]):
                    error = still_matches(rule, document["_id"])
                    logger.warning("%s", error)
                    signals.migration_failed.send(
                        plan.doc_class,
                        document_id=document["_id"],
                        rules=(rule.name,),
                        scope="lazy",
                        error=error,
                    )
                    current[index] = Failure(document, plan, error)
                    break


def _raw(document: Raw | Failure | None) -> Raw:
    assert isinstance(document, Mapping)
    return document


def _is_brought_back(rule: BoundRule, plan: Plan) -> bool:
    """Whether a later rule may write what this one looks for."""
    later = [each for each in plan.starting if each.number > rule.number]
    return any(feeds(each, rule) for each in later)


def _warn_of(rule: BoundRule, plan: Plan, document: Raw) -> None:
    if rule.name not in plan.warned:
        plan.warned.add(rule.name)
        logger.warning(
            "%s.%s matches again after all rules (_id: %r), so it is applied at each load; let no "
            "later rule write what its target looks for",
            plan.model_name,
            rule.name,
            document["_id"],
        )


def _read_again(
    collection: Collection[Any],
    current: list[Raw | Failure | None],
    indexes: Sequence[int],
    projection: Mapping[str, Any] | None,
    positional: Positional | None,
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
    ids = list({key_of(_id): _id for _id in wanted.values()}.values())
    query = by_ids(ids) if positional is None else all_of(by_ids(ids), positional.query)
    cursor = as_bytes(on_primary(collection)).find(query, fields or None)
    if positional is not None and positional.collation is not None:
        cursor.collation(positional.collation)
    cursor = in_one_answer(cursor, len(ids))
    options = collection.codec_options
    found = {
        key_of(document["_id"]): document
        for each in cursor
        for document in (decode(each, options),)
    }
    for index, document_id in wanted.items():
        fresh = found.get(key_of(document_id))
        stored = current[index]
        if isinstance(fresh, Undecoded):
            current[index] = fresh
            continue
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
