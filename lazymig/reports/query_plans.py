"""Warnings of rules for which MongoDB reads everything to find what is old."""

from __future__ import annotations

from typing import Any, Final

from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from lazymig.engines.access import is_mongomock, on_primary
from lazymig.engines.query_plans import stages_of
from lazymig.odm.indexes import needed_indexes
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
    text = f"it reads all of about {documents(total)} to find what is old"
    (needed,) = (each for each in needed_indexes(plan) if each.rule.name == rule.name)
    if not needed.specs:
        return f"{text}, and {needed.needed.reason}"
    model = plan.doc_class
    name = f"{model.__module__}:{model.__qualname__}"
    return f"{text}; lazymig indexes --create -m {name} ends that"


def scan_warnings(collection: Collection[Any], plan: Plan) -> dict[str, str]:
    """The warnings of lazy rules, by name: each query that meets such a rule reads everything.

    :raises pymongo.errors.PyMongoError: the connection.
    """
    if is_mongomock(collection):
        return {}
    found: dict[str, str] = {}
    total = on_primary(collection).estimated_document_count()
    if total <= LARGE:
        return found
    for rule in plan.starting:
        try:
            stages = dict(stages_of(collection, indexable(plan.reported_query_of(rule))))
        except OperationFailure:
            # Nobody warns whom MongoDB does not answer.
            return found
        if "COLLSCAN" in stages:
            found[rule.name] = scan_warning(plan, rule, total)
    return found
