"""The explanation of a query while rules are pending: plans, and documents that are still old."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from lazymig.engines.access import all_of, indexable_in, is_mongomock, on_primary
from lazymig.engines.query_plans import stages_of, summary_of
from lazymig.engines.store import Store, as_applied
from lazymig.odm.plans import family_of
from lazymig.odm.querysets.rewrites import Rewrites
from lazymig.odm.unwritten import writes_nothing
from lazymig.redaction import excerpt
from lazymig.rules.remedies import said_of_python, what_settles

__all__ = [
    "explained_reads",
    "explained_rules",
    "explained_sight",
    "explained_way",
]


def explained_sight(rewrites: Rewrites) -> Iterator[str]:
    """Say which rules queries see through, at least where they ask for some of what is written."""
    every = range(len(rewrites.rules))
    seen = rewrites.names(index for index in every if rewrites.rewriter.steps[index].is_known)
    unseen = [name for name in rewrites.names(every) if name not in seen]
    if seen:
        yield f"Rules that queries see through: {', '.join(seen)}."
    if unseen:
        yield f"Rules that queries do not see through: {', '.join(unseen)}."


def explained_reads(
    model: Any, collection: Collection[Any], rewrites: Rewrites, rules: Sequence[int]
) -> Iterator[str]:
    """Say how aggregations, and what is one, read the paths that rules write.

    :param rules: the indexes of the rules that are concerned.
    """
    reads = "aggregate(), average(), distinct(), item_frequencies() and sum() of what a rule writes"
    if is_mongomock(collection):
        yield f"{reads} settle, because there is no server that could show old documents."
    else:
        yield (
            f"{reads} are shown old documents as they will be; map_reduce(), exec_js() and where() "
            "settle. Over everything, up to 1,000 old documents are read apart from all others."
        )
        yield from _left_to_settle(rewrites, rules)
    family = family_of(model)
    if family is not None and writes_nothing(family):
        yield "Reads of the model write nothing: one that would settle documents raises ShowError."


def _left_to_settle(rewrites: Rewrites, rules: Iterable[int]) -> Iterator[str]:
    """Say which of these rules have documents that cannot be shown."""
    shown = rewrites.shown(rules)
    for reason in dict.fromkeys(map(str, shown.reasons.values())):
        yield f"  Documents are settled where they come to the turn of a rule: {reason}."
    if shown.inexact and not shown.reasons:
        yield "  Documents are settled for which it is not known what MongoDB makes of them."


def explained_rules(
    collection: Collection[Any], rewrites: Rewrites, indexes: Iterable[int]
) -> Iterator[str]:
    """Say of rules what they are, and how many documents they still have. Never writes.

    :param indexes: those of the rules in the rewrites.
    """
    store = Store(collection)
    # A rule with two halves is there twice.
    concerned = {
        (id(plan), rule.name): (plan, rule)
        for plan, rule in (rewrites.rules[index] for index in indexes)
    }
    for plan, rule in concerned.values():
        reader = on_primary(collection)
        count = reader.count_documents(indexable_in(reader, plan.query_of(rule)))
        old = "1 document is" if count == 1 else f"{count:,} documents are"
        form: str = "Python" if rule.form == "python" else rule.form
        if as_applied(store, rule) is not rule:
            form = f"{form}, but computed in Python here, without a server"
        yield f"{rule.name} ({form}): {old} still old."
        for said in said_of_python(rule.left_to_python, what_settles(rule)):
            yield f"  {said}"


def _explained_plans(
    collection: Collection[Any], query: Mapping[str, Any], order: Any
) -> Iterator[str]:
    """Say how MongoDB finds the documents of a filter, and of each branch of its `$or` alone.

    An imitation has no plans.

    :param query: the filter as it is sent.
    :param order: as PyMongo takes it; `None` for none.
    """
    if is_mongomock(collection):
        return
    keys = [(order, 1)] if isinstance(order, str) else order or ()
    sort: dict[str, Any] = dict((key, 1) if isinstance(key, str) else key for key in keys)
    try:
        yield f"Plan: {summary_of(stages_of(collection, query, sort))}."
        for branch, whole in _branches(query):
            yield f"  {branch!r}: {summary_of(stages_of(collection, whole, sort))}"
    except OperationFailure as exc:
        yield f"MongoDB does not explain its plan: {excerpt(exc)}"


def explained_way(
    collection: Collection[Any],
    query: Mapping[str, Any],
    parts: tuple[Mapping[str, Any], Mapping[str, Any]] | None,
    order: Any,
) -> Iterator[str]:
    """Say how MongoDB finds the documents of a filter.

    :param query: the filter as it is sent.
    :param parts: the filters that are sent in its place where old documents are read apart, for
        these and for all others.
    :param order: as PyMongo takes it; `None` for none.
    """
    if parts is None:
        yield from _explained_plans(collection, query, order)
        return
    old, others = parts
    yield f"Old documents are found by {dict(old)!r}."
    yield from _explained_plans(collection, old, None)
    yield f"All others are found by {dict(others)!r}."
    yield from _explained_plans(collection, others, order)


def _branches(query: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], dict[str, Any]]]:
    """The branches of the filter's first `$or`, each also with the conditions around it."""
    parts: list[Mapping[str, Any]] = [query]
    while len(parts) == 1 and parts[0].keys() == {"$and"}:
        parts = list(parts[0]["$and"])
    found = next((part for part in parts if "$or" in part), None)
    if found is None:
        return
    beside: list[Mapping[str, Any]] = [
        {name: value for name, value in found.items() if name != "$or"}
    ]
    beside.extend(part for part in parts if part is not found)
    for branch in found["$or"]:
        yield branch, all_of(*beside, branch)
