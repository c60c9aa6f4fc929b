"""The work that is left: documents per rule, and the rules that may be deleted. Reads only."""

from __future__ import annotations

from collections.abc import Collection as Collected
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
from lazymig.rules.bound_rule import BoundRule, Form
from lazymig.rules.plan import Plan
from lazymig.rules.remedies import what_settles
from lazymig.rules.rule import Scope
from lazymig.rules.translation import LeftToPython

__all__ = ["RuleStatus", "find_active", "status_of"]


@dataclass(frozen=True, slots=True)
class RuleStatus:
    """Where one rule stands.

    `remaining` counts the stored documents that the rule's target matches; it is `None` for an
    `undetermined` rule, whose target needs a document. `converges` is `None` where only the update
    computed for a document shows whether it ends the match. `quarantined` counts the documents
    that bulk runs have refused by this rule and that still wait for it. `exists`: whether there is
    the collection at all. `sealed`: MongoDB refuses documents that the target matches.

    `form` is `"static"` (the rule reads no document), `"translated"` (what its method computes is
    an update by the server, for all documents or for most) or `"python"` (the method is run for
    each document). `left_to_python` says of a computed rule why it is not translated. `settles` are
    the operations that have old documents migrated by the rule first, in words; `None` for none.
    """

    name: str
    number: int
    scope: Scope
    remaining: int | None
    form: Form
    converges: bool | None
    undetermined: bool
    quarantined: int = 0
    exists: bool = True
    sealed: bool = False
    left_to_python: LeftToPython | None = None
    settles: str | None = None

    @property
    def removable(self) -> bool:
        """Return whether no document needs the rule any more; false without a collection."""
        return self.exists and self.remaining == 0 and not self.quarantined

    @property
    def static(self) -> bool:
        """Return whether the rule reads no document, and does not write by itself."""
        return self.form == "static"

    @property
    def dynamic(self) -> bool:
        """Return whether the rule reads the document, or writes by itself."""
        return not self.static


def status_of(
    collection: Collection[Any], plan: Plan, sealed: Collected[str] = ()
) -> list[RuleStatus]:
    """One status for each rule, lazy rules first, each scope in order.

    :param sealed: the names of the sealed rules, of which nothing is counted.
    """
    reader = on_primary(collection)
    return [
        RuleStatus(
            name=rule.name,
            number=rule.number,
            scope=rule.scope,
            remaining=_remaining(reader, plan, rule, sealed),
            form=rule.form,
            converges=rule.converges,
            undetermined=rule.kind == "undetermined",
            sealed=rule.name in sealed,
            left_to_python=rule.left_to_python,
            settles=what_settles(rule),
        )
        for rule in (*plan.lazy, *plan.bulk)
    ]


def _remaining(
    reader: Collection[Any], plan: Plan, rule: BoundRule, sealed: Collected[str]
) -> int | None:
    if rule.target is None:
        return None
    query = plan.reported_query_of(rule)
    # Documents of subclasses that have inherited the rule are beyond its seal.
    if rule.name in sealed and query == plan.query_of(rule):
        return 0
    return reader.count_documents(indexable_in(reader, query))


def find_active(collection: Collection[Any], plan: Plan, sealed: Collected[str] = ()) -> set[str]:
    """The names of the rules that still match a stored document, or that cannot be asked about.

    All targets are asked for in one query for one document; the rules that it answers are taken
    out and the others asked again. A collection in which nothing is left is read once, not once
    for each rule.

    :param sealed: the names of the sealed rules, which no document matches.
    """
    reader = on_primary(collection)
    rules = (*plan.lazy, *plan.bulk)
    active = {rule.name for rule in rules if rule.target is None}
    left = [
        rule
        for rule in rules
        if rule.target is not None
        and not (rule.name in sealed and plan.needing_query_of(rule) == plan.query_of(rule))
    ]
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
