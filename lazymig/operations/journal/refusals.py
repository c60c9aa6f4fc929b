"""The documents that bulk runs have refused and that still wait for their rule.

A document in quarantine is left out of the rest of its run, and of what `resume` does: whoever
says that a run is complete, that a finding is cured or that a rule can go has to know it. An entry
counts as long as its document is there, a rule still has something to do for it, and no later run
with the same rule has gone over all documents since.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from bson import ObjectId
from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from lazymig import errors
from lazymig.engines.access import (
    Raw,
    all_of,
    by_ids,
    decoded_each,
    ids_of,
    key_of,
    on_primary,
)
from lazymig.errors import MigrationError, MigrationFailed
from lazymig.odm.loading import builder_of, is_broken
from lazymig.odm.plans import root_of
from lazymig.odm.stored import as_stored
from lazymig.operations.journal.collection import UNAUTHORIZED
from lazymig.operations.journal.entries import Quarantined, RunEntry
from lazymig.operations.journal.journal import Journal
from lazymig.operations.journal.quarantine import Quarantine
from lazymig.operations.journal.records import understood
from lazymig.rules.bound_rule import BoundRule
from lazymig.rules.once import CLAIM
from lazymig.rules.plan import Plan

__all__ = ["Refusal", "refusals", "release_settled"]

logger = logging.getLogger(__name__)

# Documents that are asked for at once.
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Refusal:
    """A document that a run has refused, by which rule, why, and when."""

    run: ObjectId
    rule: str
    document_id: Any
    error: MigrationError
    at: datetime


def refusals(collection: Collection[Any], plan: Plan, journal_name: str) -> list[Refusal]:
    """The documents that wait in quarantine for a rule of a plan. Reads only.

    For whoever may not read the journal there are none, which the log says.

    :raises pymongo.errors.PyMongoError: the connection, or the right to read the collection.
    """
    journal = Journal(collection.database, journal_name, codec_options=collection.codec_options)
    try:
        found = list(_current(journal.quarantine, collection.name, plan))
    except OperationFailure as exc:
        if exc.code != UNAUTHORIZED:
            raise
        logger.warning(
            "%s: the quarantine of %s is not looked at, because the user may not read it",
            plan.model_name,
            journal.collection.full_name,
        )
        return []
    broken = partial(is_broken, build=builder_of(plan.doc_class))
    waiting: list[Refusal] = []
    for rules in (plan.lazy, plan.bulk):
        names = {rule.name for rule in rules}
        mine = [each for each in found if each.rule in names]
        if mine:
            ids = [each.document_id for each in mine]
            # What a model looks up while it validates must not be migrated by that.
            with as_stored(root_of(plan.doc_class)):
                keys = _unsettled(collection, plan, rules, ids, broken)
            waiting.extend(each for each in mine if key_of(each.document_id) in keys)
    return waiting


def release_settled(
    journal: Journal,
    entry: RunEntry,
    collection: Collection[Any],
    plan: Plan,
    broken: Callable[[Raw], bool],
) -> list[Refusal]:
    """Let go of documents of a run's quarantine that are brought up to date by now, or gone.

    A load, or somebody by hand, has done since what the run could not.

    :param broken: whether a raw document fails to load or to validate through the model.
    :returns: those that wait still.
    :raises pymongo.errors.PyMongoError: the connection or the rights.
    """
    rules = plan.lazy if entry.scope == "lazy" else plan.bulk
    found = [_refusal(each, plan) for each in journal.quarantine.find({"run": entry.id})]
    if not found:
        return []
    ids = [each.document_id for each in found]
    keys = _unsettled(collection, plan, rules, ids, broken)
    settled: dict[str, list[Any]] = {}
    for each in found:
        if key_of(each.document_id) not in keys:
            settled.setdefault(each.rule, []).append(each.document_id)
    for name, released in settled.items():
        journal.quarantine.release(entry.id, name, released)
    return [each for each in found if key_of(each.document_id) in keys]


def _refusal(entry: Quarantined, plan: Plan) -> Refusal:
    kind = getattr(errors, entry.type, MigrationFailed)
    if not (isinstance(kind, type) and issubclass(kind, MigrationError)):
        kind = MigrationFailed
    key = entry.document_id
    error = kind(entry.error, model=plan.model_name, rule=entry.rule, document_id=key)
    return Refusal(entry.run, entry.rule, key, error, entry.at)


def _current(quarantine: Quarantine, name: str, plan: Plan) -> Iterator[Refusal]:
    """What is in quarantine for the rules of a plan, without what a later run has looked at anew.

    A run that has finished was past every document with each of its rules: what it did not refuse
    itself is no longer refused.
    """
    names = [rule.name for rule in (*plan.lazy, *plan.bulk)]
    found = list(quarantine.find({"collection": name, "rule": {"$in": names}})) if names else []
    if not found:
        return
    entries = quarantine.entries
    of_model = {"kind": "run", "collection": name, "model": plan.model_name}
    runs = list(understood("run", entries.find(of_model), entries.full_name))
    mine = {run["_id"] for run in runs}
    renewed: dict[str, datetime] = {}
    for run in runs:
        if run["state"] == "finished":
            done = (step["name"] for step in run["rules"] if step["state"] != "skipped")
            for rule in ", ".join(done).split(", "):
                renewed[rule] = max(run["started"], renewed.get(rule, run["started"]))
    for entry in found:
        if entry.run in mine and entry.at >= renewed.get(entry.rule, entry.at):
            yield _refusal(entry, plan)


def _unsettled(
    collection: Collection[Any],
    plan: Plan,
    rules: Sequence[BoundRule],
    document_ids: Sequence[Any],
    broken: Callable[[Raw], bool],
) -> set[Any]:
    """The keys of those documents that are there, and that one of the rules would still change.

    Where no target shows that, a document counts that does not load or is not valid.
    """
    reader = on_primary(collection)
    queries = [_documents_of(plan, rule) for rule in rules if rule.target is not None]
    keys: set[Any] = set()
    for first in range(0, len(document_ids), _BATCH):
        batch = by_ids(document_ids[first : first + _BATCH])
        if queries:
            found = ids_of(reader, {"$and": [batch, {"$or": queries}]})
            keys.update(key_of(each) for each in found)
        if len(queries) < len(rules):
            keys.update(
                key
                for document_id, each in decoded_each(reader, batch)
                if (key := key_of(document_id)) not in keys and (each is None or broken(each))
            )
    return keys


def _documents_of(plan: Plan, rule: BoundRule) -> dict[str, Any]:
    class_filter = plan.inherited_filters.get(rule.name, plan.class_filter)
    if rule.once is None:
        # An empty target holds for all.
        return all_of(class_filter, rule.target)
    return all_of(class_filter, {"$or": [rule.target, {f"{CLAIM}.rule": rule.name}]})
