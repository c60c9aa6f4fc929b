"""The lazy rules to which a run has brought documents back, so that it is not complete."""

from __future__ import annotations

from pymongo.collection import Collection

from lazymig.engines.access import Raw, indexable_in, on_primary
from lazymig.rules.cycles import may_be_reopened
from lazymig.rules.plan import Plan

__all__ = ["reopened_rules"]


def reopened_rules(collection: Collection[Raw], plan: Plan) -> tuple[str, ...]:
    """The rules that match a document, of those whose target a later rule may lead back to.

    Asked when a run over the lazy rules has been past all documents, and has refused none.

    :raises pymongo.errors.PyMongoError: the connection or the rights.
    """
    reader = on_primary(collection)
    return tuple(
        rule.name
        for rule in may_be_reopened(plan.lazy)
        if reader.find_one(indexable_in(reader, plan.reported_query_of(rule)), {"_id": 1})
        is not None
    )
