"""Where the rules of a model stand: what they have left, who waits for them, and which can go.

Reads only: a collection or database that does not exist is not made by looking at it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from lazymig.engines.access import ids_of, key_of, on_primary
from lazymig.engines.pending import RuleStatus, find_active, status_of
from lazymig.operations.journal.refusals import refusals
from lazymig.rules.plan import Plan

__all__ = ["active_rules", "exists", "standing_of"]


def exists(collection: Collection[Any]) -> bool:
    """Whether there is a collection, as far as that can be found out.

    Who may not list the collections may read this one all the same.

    :raises pymongo.errors.PyMongoError: the connection.
    """
    try:
        return collection.name in collection.database.list_collection_names()
    except OperationFailure:
        return True


def _holds_some(collection: Collection[Any]) -> bool:
    """Whether there is a collection; the list of all is asked for only if this one is empty."""
    return any(True for _ in ids_of(on_primary(collection), {}, limit=1)) or exists(collection)


def standing_of(collection: Collection[Any], plan: Plan, journal: str) -> list[RuleStatus]:
    """One status for each rule, lazy rules first, each scope in order.

    :param journal: the name of the journal's collection.
    :raises pymongo.errors.PyMongoError: the connection, or the right to read.
    """
    statuses = status_of(collection, plan)
    if not any(status.remaining for status in statuses) and not _holds_some(collection):
        return [replace(status, exists=False) for status in statuses]
    waiting = _waiting(collection, plan, journal)
    return [replace(status, quarantined=waiting[status.name]) for status in statuses]


def active_rules(collection: Collection[Any], plan: Plan, journal: str) -> set[str]:
    """The names of the rules that must stay.

    These are the rules that still match a stored document or that cannot be asked about, and those
    that a document in quarantine waits for. Of a collection that does not exist nothing is known:
    all rules stay.

    :param journal: the name of the journal's collection.
    :raises pymongo.errors.PyMongoError: the connection, or the right to read.
    """
    rules = (*plan.lazy, *plan.bulk)
    active = find_active(collection, plan)
    matched = any(rule.target is not None and rule.name in active for rule in rules)
    if not matched and not _holds_some(collection):
        return {rule.name for rule in rules}
    return active | _waiting(collection, plan, journal).keys()


def _waiting(collection: Collection[Any], plan: Plan, journal: str) -> Counter[str]:
    """How many documents wait in quarantine for each rule; several runs may have refused one."""
    pairs = {(each.rule, key_of(each.document_id)) for each in refusals(collection, plan, journal)}
    return Counter(name for name, _key in pairs)
