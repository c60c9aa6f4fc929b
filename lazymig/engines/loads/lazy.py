"""A batch of raw documents, brought up to date in MongoDB and read again.

Knows neither MongoEngine nor how documents are built from what it returns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pymongo.collection import Collection

from lazymig.engines.access import Positional, Raw, all_of, by_ids, ids_matching, key_of
from lazymig.engines.loads.batch import Failure
from lazymig.engines.loads.failover import outlast_failover, outlasts_failovers
from lazymig.engines.loads.rounds import Reading, Rounds, Stale
from lazymig.engines.reading.decoding import Undecoded
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.plan import Family, Plan
from lazymig.rules.repetition import may_be_repeated

__all__ = ["Failure", "refresh", "refresh_partial", "rescue"]


@outlasts_failovers
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

    def find_stale(batch: Sequence[Raw]) -> Stale:
        return _find_stale(collection, batch, family)

    return Rounds(collection, documents, family, find_stale, Reading(), applied).run(stale)


@outlasts_failovers
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

    def find_stale(batch: Sequence[Raw]) -> Stale:
        return _ask_for_stale(collection, batch, family, asked)

    stale = find_stale(documents)
    if not stale:
        return documents
    old = [
        all_of(plan.concern, {"$or": [rule.target for rule in narrowed.starting]})
        for plan, narrowed in asked.items()
    ]
    reading = Reading(projection, positional, {"$or": old})
    return Rounds(collection, documents, family, find_stale, reading).run(stale)


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

    def find_stale(batch: Sequence[Raw]) -> Stale:
        return {} if projection else _find_stale(collection, batch, family)

    reading = Reading(projection, positional)

    def work() -> list[Raw | Failure | None]:
        rounds = Rounds(collection, documents, family, find_stale, reading, applied)
        return rounds.run(failing, after_error=True)

    rules = [rule for plan in family.plans for rule in plan.lazy]
    if not all(may_be_repeated(rule, "lazy") is True for rule in rules):
        # On a failure a rule is applied that need not end its match: nobody knows if it was.
        return work()
    return outlast_failover(collection, lambda: family.plans, work)


def _find_stale(collection: Collection[Any], documents: Sequence[Raw], family: Family) -> Stale:
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
) -> Stale:
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
