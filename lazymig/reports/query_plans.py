"""Warnings of rules for which MongoDB reads everything to find what is old."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from lazymig.engines.access import is_mongomock, on_primary
from lazymig.engines.query_plans import stages_of
from lazymig.odm.indexes import NeededIndexes, needed_indexes
from lazymig.query.indexable import indexable
from lazymig.reports.texts import documents
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.plan import Plan

__all__ = ["LARGE", "scan_warning", "scan_warnings"]

LARGE: Final = 1_000
"""The documents above which a collection scan is warned of."""


def scan_warning(plan: Plan, rule: BoundRule, total: int) -> str:
    """The warning that a collection is read as a whole, and what ends that.

    :param total: the documents of the collection.
    """
    (needed,) = (each for each in needed_indexes(plan) if each.rule.name == rule.name)
    return _warning(plan, needed, total)


def scan_warnings(
    collection: Collection[Any], plan: Plan, needed: Sequence[NeededIndexes] | None = None
) -> dict[str, str]:
    """The warnings of lazy rules, by name: each query that meets such a rule reads everything.

    :param needed: the rules to look at, with the indexes that serve them; without it all.
    :raises pymongo.errors.PyMongoError: the connection.
    """
    if is_mongomock(collection):
        return {}
    found: dict[str, str] = {}
    starting = {rule.name for rule in plan.starting}
    every = needed_indexes(plan) if needed is None else needed
    met = [each for each in every if each.rule.name in starting]
    total = on_primary(collection).estimated_document_count() if met else 0
    if total <= LARGE:
        return found
    for each in met:
        try:
            query = indexable(plan.reported_query_of(each.rule))
            stages = dict(stages_of(collection, query))
        except OperationFailure:
            # Nobody warns whom MongoDB does not answer.
            return found
        if "COLLSCAN" in stages:
            found[each.rule.name] = _warning(plan, each, total)
    return found


def _warning(plan: Plan, needed: NeededIndexes, total: int) -> str:
    text = f"it reads all of about {documents(total)} to find what is old"
    if not needed.specs:
        return f"{text}, and {needed.needed.reason}"
    model = plan.doc_class
    name = f"{model.__module__}:{model.__qualname__}"
    return f"{text}; lazymig indexes --create -m {name} ends that"
