"""The work that is left: documents per rule, and the rules that may be deleted. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pymongo.collection import Collection

from lazymig.engines.access import (
    Raw,
    all_of,
    by_ids,
    decoded_each,
    ids_of,
    indexable_in,
    on_primary,
)
from lazymig.query.joining import any_of
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.plan import Plan
from lazymig.rules.rule import Scope

__all__ = ["RuleStatus", "find_active", "status_of"]


@dataclass(frozen=True, slots=True)
class RuleStatus:
    """Where one rule stands.

    `remaining` counts the stored documents that the rule's target matches; it is `None` for an
    `undetermined` rule, whose target needs a document. `converges` is `None` where only the update
    computed for a document shows whether it ends the match. `quarantined` counts the documents
    that bulk runs have refused by this rule and that still wait for it. `exists`: whether there is
    the collection at all.
    """

    name: str
    number: int
    scope: Scope
    remaining: int | None
    static: bool
    converges: bool | None
    undetermined: bool
    quarantined: int = 0
    exists: bool = True

    @property
    def removable(self) -> bool:
        """Return whether no document needs the rule any more; false without a collection."""
        return self.exists and self.remaining == 0 and not self.quarantined

    @property
    def dynamic(self) -> bool:
        """Return whether the rule reads the document, or writes by itself."""
        return not self.static


def status_of(collection: Collection[Any], plan: Plan) -> list[RuleStatus]:
    """One status for each rule, lazy rules first, each scope in order."""
    reader = on_primary(collection)
    return [
        RuleStatus(
            name=rule.name,
            number=rule.number,
            scope=rule.scope,
            remaining=None
            if rule.target is None
            else reader.count_documents(indexable_in(reader, plan.reported_query_of(rule))),
            static=rule.kind == "static",
            converges=rule.converges,
            undetermined=rule.kind == "undetermined",
        )
        for rule in (*plan.lazy, *plan.bulk)
    ]


def find_active(collection: Collection[Any], plan: Plan) -> set[str]:
    """The names of the rules that still match a stored document, or that cannot be asked about.

    All targets are asked for in one query for one document; the rules that it answers are taken
    out and the others asked again. A collection in which nothing is left is read once, not once
    for each rule.
    """
    reader = on_primary(collection)
    rules = (*plan.lazy, *plan.bulk)
    active = {rule.name for rule in rules if rule.target is None}
    left = [rule for rule in rules if rule.target is not None]
    while left:
        queries = [plan.needing_query_of(rule) for rule in left]
        sought = indexable_in(reader, any_of(queries))
        found = next(decoded_each(reader, sought, limit=1), None)
        if found is None:
            break
        matching = _rules_matching(reader, left, queries, *found)
        if not matching:
            # The document was changed in between, or matches only by a collation: ask one by one.
            active.update(
                rule.name
                for rule, query in zip(left, queries, strict=True)
                if _finds(reader, query)
            )
            break
        active.update(rule.name for rule in matching)
        left = [rule for rule in left if rule not in matching]
    return active


def _finds(reader: Collection[Any], query: Raw) -> bool:
    return any(True for _ in ids_of(reader, indexable_in(reader, query), limit=1))


def _rules_matching(
    reader: Collection[Any],
    rules: Sequence[BoundRule],
    queries: Sequence[Raw],
    document_id: Any,
    document: Raw | None,
) -> list[BoundRule]:
    """The rules that match this document, which the query for all of them has found."""
    matching = []
    for rule, query in zip(rules, queries, strict=True):
        assert rule.matcher is not None
        judge = rule.matcher.judge
        verdict = None if document is None or rule.once is not None else judge(document)
        if verdict is not False and (verdict is None or query != rule.target):
            verdict = _finds(reader, all_of(by_ids([document_id]), query))
        if verdict:
            matching.append(rule)
    return matching
