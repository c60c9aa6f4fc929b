"""The plans by which MongoDB finds what is old, and warnings of those that read everything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from lazymig.engines.access import Raw, is_mongomock, on_primary
from lazymig.odm.indexes import needed_indexes
from lazymig.query.indexable import indexable
from lazymig.reports.texts import documents
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.plan import Plan

__all__ = ["LARGE", "plan_of", "scan_warning", "scan_warnings"]

LARGE: Final = 1_000
"""The documents above which a collection scan is warned of."""

# A plan is a tree; these keys of a stage, or around it, lead to what is beneath.
_BENEATH = (
    "winningPlan",
    "queryPlan",
    "shards",
    "inputStage",
    "inputStages",
    "outerStage",
    "innerStage",
    "thenStage",
    "elseStage",
)


def plan_of(collection: Collection[Any], query: Raw) -> list[tuple[str, str]]:
    """The plan by which the primary finds the documents of a query.

    :return: the stages that read, each with the name of its index, or an empty string.
    :raises pymongo.errors.PyMongoError: the connection, or the right to ask.
    """
    answer = collection.database.command(
        {"explain": {"find": collection.name, "filter": query}, "verbosity": "queryPlanner"},
        codec_options=collection.codec_options,
    )
    return list(dict.fromkeys(_leaves(answer["queryPlanner"]["winningPlan"])))


def _leaves(plan: Any) -> Iterator[tuple[str, str]]:
    if isinstance(plan, list):
        for part in plan:
            yield from _leaves(part)
        return
    beneath = [plan[key] for key in _BENEATH if key in plan]
    if beneath:
        yield from _leaves(beneath)
    elif "stage" in plan:
        yield str(plan["stage"]), str(plan.get("indexName", ""))


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
            stages: Mapping[str, str] = dict(
                plan_of(collection, indexable(plan.reported_query_of(rule)))
            )
        except OperationFailure:
            # Nobody warns whom MongoDB does not answer.
            return found
        if "COLLSCAN" in stages:
            found[rule.name] = scan_warning(plan, rule, total)
    return found
