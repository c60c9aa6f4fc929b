"""What pending rules would do about findings: tried on copies, the collection is only read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from pymongo.collection import Collection

from lazymig.engines.access import (
    Description,
    Raw,
    by_ids,
    describe,
    key_of,
    read_raw,
    tolerant,
)
from lazymig.errors import MigrationError
from lazymig.odm.loading import builder_of
from lazymig.odm.plans import owner_of, plan_for
from lazymig.odm.schema import document_subclasses
from lazymig.operations.journal.refusals import refusals
from lazymig.raw.paths import overlaps
from lazymig.reports.drift.evidence import Evidence, Faults
from lazymig.reports.dryrun.report import documents
from lazymig.reports.dryrun.trial import Trial, rules_of
from lazymig.rules.plan import Plan
from lazymig.rules.rule import Scope

__all__ = ["Tried", "Waiting", "may_touch", "plans_of", "read_by_ids", "some_ids", "try_rules"]

_SCOPES: Final[tuple[Scope, ...]] = ("lazy", "bulk")

_MARKS: Final = re.compile(r"\[\]|\.\*")

# Whole documents that are asked for at once.
_BATCH = 100


@dataclass(slots=True)
class Tried:
    """What has become of copies, by the keys of their `_id`s.

    :ivar after: the documents as the rules have left them, raw; `None` for one that is gone.
    :ivar changes: each change of a copy in order: the rule, and the raw copy before and after.
    :ivar failed: those for which a rule has failed, whatever has become of them.
    :ivar order: the names of all rules, in the order in which they were applied.
    :ivar problems: why there are no copies, how they differ from the documents, and which rules
        fail for some of them.
    """

    after: dict[Any, Any] = field(default_factory=dict)
    changes: dict[Any, list[tuple[str, Any, Any]]] = field(default_factory=dict)
    failed: set[Any] = field(default_factory=set)
    order: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def cured_by(
        self, keys: Iterable[Any], evidence: Callable[[Any], Evidence], faults: Faults
    ) -> tuple[str, ...]:
        """The rules that have ended a finding in all of its copies, in the order of application.

        Credited is each rule that has changed what shows the finding. None is where something of it
        is left in a copy, where a rule has failed for one, or where one of these rules has put
        something else that is wrong into one.

        :param keys: the documents with the finding.
        :param evidence: what shows the finding in a raw document; empty if it is not there.
        :param faults: all that is wrong with a raw document.
        """
        names: set[str] = set()
        for key in keys:
            if key in self.failed:
                return ()
            if key not in self.after:
                # It was deleted since it was found.
                continue
            after = self.after[key]
            if after is not None and evidence(after):
                return ()
            touched = [
                (name, before, changed)
                for name, before, changed in self.changes.get(key, ())
                if evidence(before) != (Counter() if changed is None else evidence(changed))
            ]
            left = faults(after)
            if any((faults(changed) - faults(before)) & left for _, before, changed in touched):
                return ()
            names.update(name for name, _, _ in touched)
        return tuple(name for name in self.order if name in names)


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


def may_touch(plans: Iterable[Plan], path: str) -> bool:
    """Whether one of the rules may change what is at a path, or around or beneath it.

    :param path: a path with marks for lists and maps; empty for the document as a whole.
    """
    # What is in a list or map may be named in many ways.
    beginning = _MARKS.split(path, maxsplit=1)[0]
    return any(
        # A document of another class is another matter altogether.
        not beginning
        or rule.writes is None
        or "_cls" in _leaves(rule.writes)
        or any(overlaps(written, beginning) for written in rule.writes)
        for plan in plans
        for rule in rules_of(plan, _SCOPES)
    )


def _leaves(paths: Iterable[str]) -> set[str]:
    return {path.rpartition(".")[2] for path in paths}


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
        plan.query_of(rule)
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
        ids.extend(found["_id"] for found in tolerant(collection).aggregate(stages))
    return ids


def read_by_ids(collection: Collection[Any], ids: Iterable[Any]) -> list[Any]:
    """The documents with these `_id`s, each once, as `read_raw` gives them."""
    wanted = list({key_of(each): each for each in ids}.values())
    found: list[Any] = []
    for first in range(0, len(wanted), _BATCH):
        found.extend(read_raw(collection).find(by_ids(wanted[first : first + _BATCH])))
    return found


def try_rules(collection: Collection[Any], plans: Sequence[Plan], originals: list[Any]) -> Tried:
    """Apply all rules to copies of documents, in a scratch collection that is dropped afterwards.

    :param originals: the documents, as `read_raw` gives them.
    :raises pymongo.errors.PyMongoError: the connection.
    """
    description: Description | None = describe(collection)
    tried = Tried({key_of(raw["_id"]): raw for raw in originals})
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
        tried.order.extend(
            rule.name for rule in rules_of(plan, _SCOPES) if rule.name not in tried.order
        )
        for key, copied in trial.copies.items():
            tried.after[key] = copied.raw
            tried.changes.setdefault(key, []).extend(copied.changes)
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


@dataclass
class Waiting:
    """The documents that bulk runs have refused, and by which rules.

    :ivar refused: by the key of the `_id`: the document, and the rules, each with its model's name.
    """

    refused: dict[Any, tuple[Any, dict[str, str]]] = field(default_factory=dict)
    _told: dict[str, set[Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, collection: Collection[Any], plans: Iterable[Plan], journal: str) -> Waiting:
        """Those of a collection.

        :param journal: the name of the journal's collection.
        :raises pymongo.errors.PyMongoError: the connection, or the right to read the collection.
        """
        waiting = cls()
        for plan in plans:
            for each in refusals(collection, plan, journal):
                key = key_of(each.document_id)
                _id, rules = waiting.refused.setdefault(key, (each.document_id, {}))
                rules[each.rule] = f"{plan.model_name}.{each.rule}"
        return waiting

    def rules(self, document_id: Any) -> set[str]:
        """The rules that have refused a document; empty for most documents."""
        if not self.refused:
            return set()
        _id, rules = self.refused.get(key_of(document_id), (None, {}))
        return set(rules)

    def documents(self, collection: Collection[Any]) -> Iterator[Any]:
        """These documents, as `read_raw` gives them."""
        ids = [document_id for document_id, _rules in self.refused.values()]
        for first in range(0, len(ids), _BATCH):
            yield from read_by_ids(collection, ids[first : first + _BATCH])

    def tell(self, document_id: Any, rules: Iterable[str]) -> None:
        """Note that something in a document is not cured by these rules for that reason."""
        key = key_of(document_id)
        _id, refused_by = self.refused[key]
        for name in refused_by.keys() & set(rules):
            self._told.setdefault(refused_by[name], set()).add(key)

    @property
    def problems(self) -> list[str]:
        """What was noted, in words."""
        return [
            f"{place} was refused for {documents(len(keys))}, in quarantine since: what was found "
            "there is not cured by it"
            for place, keys in sorted(self._told.items())
        ]
