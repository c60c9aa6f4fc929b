"""What pending rules would do about findings: tried on copies, the collection is only read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from pymongo.collection import Collection

from lazymig.engines.access import Raw, all_of, by_ids, key_of
from lazymig.errors import MigrationError
from lazymig.odm.loading import builder_of
from lazymig.odm.plans import owner_of, plan_for
from lazymig.odm.schema import document_subclasses
from lazymig.operations.scratch import Description, describe, read_raw
from lazymig.operations.trial import Trial, rules_of
from lazymig.rules.plan import Plan
from lazymig.rules.rule import Scope
from lazymig.rules.updates import overlaps

__all__ = ["Tried", "plans_of", "read_by_ids", "rules_about", "some_ids", "try_rules"]

_SCOPES: Final[tuple[Scope, ...]] = ("lazy", "bulk")

# Whole documents that are asked for at once.
_BATCH = 100


@dataclass(slots=True)
class Tried:
    """What has become of copies, by the keys of their `_id`s.

    :ivar after: the documents as the rules have left them, raw; `None` for one that is gone.
    :ivar rules: the names of the rules that have changed each.
    :ivar failed: those for which a rule has failed, whatever has become of them.
    :ivar problems: why there are no copies, how they differ from the documents, and which rules
        fail for some of them.
    """

    after: dict[Any, Any] = field(default_factory=dict)
    rules: dict[Any, tuple[str, ...]] = field(default_factory=dict)
    failed: set[Any] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)


def plans_of(model: Any) -> list[Plan]:
    """The plans of all handlers that concern documents of a model; empty if there is no rule."""
    plans = []
    owners: set[Any] = set()
    for cls in (model, *document_subclasses(model)):
        handler = getattr(cls, "migration_handler", None)
        if handler is None:
            continue
        owner = owner_of(cls)
        if owner not in owners:
            owners.add(owner)
            # For a subclass of the owner: the rules are narrowed to its documents.
            plan = plan_for(handler, model if issubclass(model, owner) else owner)
            if plan.lazy or plan.bulk:
                plans.append(plan)
    return plans


def rules_about(plans: Iterable[Plan], path: str) -> tuple[list[str], list[str]]:
    """The names of the rules that write a path, and of those whose writes are not all known.

    :param path: a dotted path without marks for lists.
    """
    certain: list[str] = []
    perhaps: list[str] = []
    for rule in (rule for plan in plans for rule in rules_of(plan, _SCOPES)):
        if rule.writes is None:
            perhaps.append(rule.name)
        # A document of another class is another matter altogether.
        elif any(overlaps(written, path) or written == "_cls" for written in rule.writes):
            certain.append(rule.name)
    return certain, perhaps


def some_ids(
    collection: Collection[Any],
    prefix: Sequence[Mapping[str, Any]],
    plans: Sequence[Plan],
    query: Raw,
) -> list[Any]:
    """The `_id`s of some documents of a query, those first for which no rule is meant.

    :param prefix: stages that pick the documents to choose from.
    """
    targets = [
        all_of(plan.concern, rule.target)
        for plan in plans
        for rule in rules_of(plan, _SCOPES)
        if rule.target is not None
    ]
    queries: list[tuple[Any, int]] = [(query, 40)]
    if targets:
        queries.insert(0, ({"$and": [query, {"$nor": targets}]}, 10))
    ids: list[Any] = []
    for each, limit in queries:
        stages = [*prefix, {"$match": each}, {"$limit": limit}, {"$project": {"_id": 1}}]
        ids.extend(found["_id"] for found in collection.aggregate(stages))
    return ids


def read_by_ids(collection: Collection[Any], ids: Iterable[Any]) -> list[Any]:
    """The documents with these `_id`s, each once, as `read_raw` gives them."""
    wanted = list({key_of(each): each for each in ids}.values())
    found: list[Any] = []
    for first in range(0, len(wanted), _BATCH):
        found.extend(read_raw(collection).find(by_ids(wanted[first : first + _BATCH])))
    return found


def try_rules(collection: Collection[Any], plans: Sequence[Plan], documents: list[Any]) -> Tried:
    """Apply all rules to copies of documents, in a scratch collection that is dropped afterwards.

    :param documents: as `read_raw` gives them.
    :raises pymongo.errors.PyMongoError: the connection.
    """
    description: Description | None = describe(collection)
    tried = Tried({key_of(raw["_id"]): raw for raw in documents})
    failures: dict[str, dict[Any, MigrationError]] = {}
    raised: dict[str, None] = {}
    # A rule may hand a document to another class, whose own rules come before.
    for plan in (*plans, *plans) if len(plans) > 1 else plans:
        present = [raw for raw in tried.after.values() if raw is not None]
        if not present:
            break
        trial = Trial(plan, builder_of(plan.doc_class), _SCOPES)
        trial.run(collection, description, partial(list, present))
        for problem in trial.problems:
            if problem not in tried.problems:
                tried.problems.append(problem)
        for key, copied in trial.copies.items():
            tried.after[key] = copied.raw
            names = tried.rules.get(key, ())
            tried.rules[key] = (*names, *(name for name in copied.rules if name not in names))
        for name, failed in trial.failures.items():
            place = f"{plan.model_name}.{name}"
            failures[place] = {**failed, **failures.get(place, {})}
        for name, told in trial.raised.items():
            raised[f"{plan.model_name}.{name}: {told}"] = None
            tried.failed.update(trial.copies)
    for failed in failures.values():
        tried.failed.update(failed)
        first = next(iter(failed.values()))
        tried.problems.append(
            f"a pending rule fails for {len(failed)} of {len(tried.after)} copies: {first}"
        )
    tried.problems.extend(raised)
    return tried
