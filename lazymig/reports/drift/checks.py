"""`check_documents`: stored documents loaded as they are, validated, each field read.

It never stops at the first fault, and never writes to the collection.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bson.errors import BSONError
from pymongo.collection import Collection

from lazymig.engines.access import by_ids, ids_of, key_of, on_primary, read_raw, readable
from lazymig.odm.examining import Examiner, Problem, ProblemKind, Reference, examining
from lazymig.odm.fields import bson_type
from lazymig.odm.schema import untouched_collection
from lazymig.operations.journal import JOURNAL
from lazymig.redaction import excerpt
from lazymig.reports.drift.documents import check_model, check_sample_size, documents_of
from lazymig.reports.drift.evidence import Evidence, evidence_of, fault_keys
from lazymig.reports.drift.findings import CheckFinding, CheckReport
from lazymig.reports.dryrun.cures import Tried, Waiting, may_touch, plans_of, read_by_ids, try_rules
from lazymig.reports.query_plans import scan_warnings
from lazymig.rules.remedies import said_of_python, what_settles

__all__ = ["CheckFinding", "CheckReport", "check_documents"]

# Documents that are held at once, and whose references are looked up together.
_BATCH = 500
# The ids that a finding has, unless all are asked for, and that the rules are tried on.
_MOST_IDS = 10
# Referenced documents that are known to exist, before they are forgotten again.
_MOST_KNOWN = 100_000
# Random documents of a finding that the pending rules are tried on, beside the examples.
_MOST_TRIED = 25

# What is called with the documents done, and those to do in all.
_Callback = Callable[[int, int], object]


def check_documents(
    model: Any,
    sample_size: int | None = 1000,
    *,
    collection: Collection[Any] | None = None,
    progress: _Callback | None = None,
    journal: str = JOURNAL,
    most_ids: int | None = _MOST_IDS,
) -> CheckReport:
    """Load stored documents as they are, validate them, read each field, look up references.

    No document is migrated by that. Where the model has rules, they are tried on copies of some of
    the documents with faults, in a scratch collection that is dropped before this returns.

    :param model: a MongoEngine Document class. Documents of its subclasses are checked as well.
    :param sample_size: the number of random documents; `None` for all of them, in bounded memory.
    :param collection: a PyMongo collection; the model's own if not given.
    :param progress: called after each batch with the documents done and those to do in all, which
        is an estimate for the whole collection.
    :param journal: the name of the journal's collection, for what bulk runs have refused.
    :param most_ids: how many `_id`s each finding has at most; `None` for all, in memory that grows
        with them.
    :raises TypeError: the model is no document class, or an abstract one.
    :raises RunOptionError: `sample_size` is no number of documents.
    :raises pymongo.errors.PyMongoError: the connection, or the right to read.
    """
    check_model(model)
    check_sample_size(sample_size)
    if collection is None:
        collection = untouched_collection(model)
    return _Check(model, sample_size, collection, journal, most_ids).report(progress)


# What groups findings: model, path, kind, error.
_Key = tuple[str, str, ProblemKind, str]


@dataclass(slots=True)
class _Group:
    """One finding on its way.

    `waiting` are documents that bulk runs have refused, `refused_by` the rules that did.
    """

    first: Problem
    count: int = 0
    ids: list[Any] = field(default_factory=list)
    drawn: list[Any] = field(default_factory=list)
    by_type: dict[str, Any] = field(default_factory=dict)
    waiting: list[Any] = field(default_factory=list)
    refused_by: set[str] = field(default_factory=set)

    @property
    def tried(self) -> list[Any]:
        """The documents that the rules are tried on; some may be there twice."""
        return [*self.ids[:_MOST_IDS], *self.by_type.values(), *self.drawn]

    def add(
        self, document_id: Any, value: Any, chance: random.Random, most_ids: int | None
    ) -> None:
        self.count += 1
        # What a rule does for texts it may not do for the one number among them.
        self.by_type.setdefault(bson_type(value), document_id)
        if most_ids is None or len(self.ids) < most_ids:
            self.ids.append(document_id)
        # A random sample of all of them, though nobody knows how many are still to come.
        if len(self.drawn) < _MOST_TRIED:
            self.drawn.append(document_id)
        elif (place := chance.randrange(self.count)) < _MOST_TRIED:
            self.drawn[place] = document_id


@dataclass(frozen=True, slots=True)
class _Examined:
    """One document: its class, what is wrong with it, and what it refers to."""

    document_id: Any
    model: str
    problems: list[Problem]
    references: list[Reference]


class _Check:
    """One check of a collection."""

    def __init__(
        self,
        model: Any,
        sample_size: int | None,
        collection: Collection[Any],
        journal: str = JOURNAL,
        most_ids: int | None = _MOST_IDS,
    ) -> None:
        self.model = model
        self.most_ids = most_ids
        self.sample_size = sample_size
        self.collection = collection
        self.examiner = Examiner(model)
        self.known: set[Any] = set()
        self.groups: dict[_Key, _Group] = {}
        self.problems: list[str] = []
        self.plans = plans_of(model)
        self.waiting = Waiting.of(collection, self.plans, journal)

    def report(self, progress: _Callback | None) -> CheckReport:
        """Check, and try the rules."""
        done = 0
        chance = random.Random(0)  # noqa: S311 - any sample will do, and the same each time
        total = 0 if progress is None else self._total()
        with examining():
            for batch in self._batches():
                done += len(batch)
                for key, problem, document_id in self._faults(batch):
                    group = self.groups.setdefault(key, _Group(problem))
                    group.add(document_id, problem.value, chance, self.most_ids)
                    if refused_by := self.waiting.rules(document_id):
                        group.refused_by |= refused_by
                        group.waiting.append(document_id)
                if progress is not None:
                    progress(done, max(done, total))
            cured = self._cures()
        self.problems.extend(self._computed_in_python())
        for plan in self.plans:
            for rule, warning in scan_warnings(self.collection, plan).items():
                self.problems.append(f"{plan.model_name}.{rule}: {warning}")
        findings = [
            CheckFinding(
                model=key[0],
                path=key[1],
                kind=key[2],
                error=key[3],
                message=group.first.message,
                value=group.first.value,
                count=group.count,
                ids=tuple(group.ids),
                cured_by=cured.get(key, ()),
            )
            for key, group in self.groups.items()
        ]
        findings.sort(key=lambda each: (-each.count, each.model, each.path, each.kind))
        return CheckReport(
            model=self.model.__name__,
            collection=str(self.collection.full_name),
            documents=done,
            sample_size=self.sample_size,
            findings=tuple(findings),
            problems=tuple(self.problems),
        )

    def _computed_in_python(self) -> Iterator[str]:
        """Which rules that still have documents make operations migrate them first, and why."""
        for plan in self.plans:
            for rule in plan.starting:
                settles = what_settles(rule)
                if settles is None or rule.left_to_python is None:
                    continue
                old = ids_of(on_primary(self.collection), plan.query_of(rule), limit=1)
                if any(True for _ in old):
                    said = said_of_python(rule.left_to_python, settles)
                    yield f"{plan.model_name}.{rule.name}: {'; '.join(said)}"

    def _total(self) -> int:
        estimated = self.collection.estimated_document_count()
        return estimated if self.sample_size is None else min(self.sample_size, estimated)

    def _batches(self) -> Iterator[list[Any]]:
        stages = documents_of(self.model, self.sample_size)
        with read_raw(self.collection).aggregate(stages, batchSize=_BATCH) as cursor:
            while batch := list(itertools.islice(cursor, _BATCH)):
                yield batch

    # --- Faults ---

    def _faults(self, batch: Sequence[Any]) -> Iterator[tuple[_Key, Problem, Any]]:
        """Every fault of a batch, with its group and the document; each group once for each."""
        for each, problems in self._problems(batch):
            seen: set[_Key] = set()
            for problem in problems:
                key: _Key = (each.model, problem.path, problem.kind, problem.error)
                if key not in seen:
                    seen.add(key)
                    yield key, problem, each.document_id

    def _problems(self, batch: Sequence[Any]) -> Iterator[tuple[_Examined, list[Problem]]]:
        """Each document of a batch with all that is wrong in it."""
        examined = [self._examined(raw) for raw in batch]
        for each, gone in zip(examined, self._dangling(examined), strict=True):
            paths = {problem.path for problem in gone}
            # That what is not there cannot be loaded needs no second mention.
            others = [p for p in each.problems if p.kind != "not_loadable" or p.path not in paths]
            yield each, [*others, *gone]

    def _examined(self, raw: Any) -> _Examined:
        def decode() -> dict[str, Any]:
            return readable(raw, self.collection, as_is=True)

        try:
            document = decode()
        except BSONError as exc:
            tolerant = readable(raw, self.collection)
            problem = Problem("", "not_decodable", type(exc).__name__, excerpt(exc))
            return _Examined(tolerant["_id"], self.model.__name__, [problem], [])
        problems = self.examiner.problems(decode)
        references = []
        for each in self.examiner.references(document):
            if isinstance(each, Problem):
                problems.append(each)
            else:
                references.append(each)
        model = self.examiner.class_of(document)
        return _Examined(document["_id"], model, problems, references)

    def _dangling(self, batch: Sequence[_Examined]) -> list[list[Problem]]:
        """For each document of a batch its references to documents that are not there."""
        wanted: dict[Any, dict[Any, Any]] = {}
        places: dict[Any, Collection[Any]] = {}
        for reference in itertools.chain.from_iterable(each.references for each in batch):
            place, key = _place_of(reference)
            if (place, key) not in self.known:
                places[place] = reference.database[reference.collection]
                wanted.setdefault(place, {})[key] = reference.document_id
        missing: set[Any] = set()
        for place, ids in wanted.items():
            there = set(_existing(places[place], list(ids.values())))
            missing.update((place, key) for key in ids if key not in there)
            if len(self.known) > _MOST_KNOWN:
                self.known.clear()
            self.known.update((place, key) for key in there)
        return [
            [_gone(reference) for reference in each.references if _place_of(reference) in missing]
            for each in batch
        ]

    # --- Cures ---

    def _cures(self) -> dict[_Key, tuple[str, ...]]:
        """The rules that cure findings, by group."""
        chosen = [key for key in self.groups if may_touch(self.plans, key[1])]
        if not chosen:
            return {}
        ids = [one for key in chosen for one in self.groups[key].tried]
        tried = try_rules(self.collection, self.plans, read_by_ids(self.collection, ids))
        self.problems.extend(tried.problems)
        shown = self._shown_in(tried)
        wrong = {copy: fault_keys(problems) for copy, problems in shown.items()}
        cured = {}
        for key in chosen:
            keys = [key_of(one) for one in self.groups[key].tried]
            names = tried.cured_by(
                keys, partial(_evidence, key, shown), lambda raw: wrong.get(id(raw), Counter())
            )
            if self.groups[key].refused_by.isdisjoint(names):
                cured[key] = names
            else:
                for one in self.groups[key].waiting:
                    self.waiting.note(one, names)
        self.problems.extend(self.waiting.problems)
        return cured

    def _shown_in(self, tried: Tried) -> dict[int, list[Problem]]:
        """What is wrong in each copy, before and after each change, by the copy's `id()`."""
        changed = itertools.chain.from_iterable(tried.changes.values())
        raws = [*tried.after.values(), *itertools.chain.from_iterable(each[1:] for each in changed)]
        copies = list({id(raw): raw for raw in raws if raw is not None}.values())
        shown: dict[int, list[Problem]] = {}
        for batch in _batched(copies):
            for raw, (_examined, problems) in zip(batch, self._problems(batch), strict=True):
                shown[id(raw)] = problems
        return shown


def _evidence(key: _Key, shown: Mapping[int, list[Problem]], raw: Any) -> Evidence:
    """What shows a finding in a copy, whatever class the copy is of by now."""
    _model, path, kind, _error = key
    return evidence_of(
        [problem.message, problem.value]
        for problem in shown[id(raw)]
        if (problem.path, problem.kind) == (path, kind)
    )


def _place_of(reference: Reference) -> tuple[Any, Any]:
    """Where a reference leads: the collection, and the key of the `_id`."""
    database = reference.database
    place = id(database.client), database.name, reference.collection
    return place, key_of(reference.document_id)


def _gone(reference: Reference) -> Problem:
    document_id = reference.document_id
    where = f"{reference.database.name}.{reference.collection}"
    message = f"{where} has no document with _id {document_id!r}"
    return Problem(reference.path, "dangling_reference", "DoesNotExist", message, document_id)


def _existing(collection: Collection[Any], ids: list[Any]) -> Iterator[Any]:
    """The keys of those `_id`s that are there."""
    for batch in _batched(ids):
        for found in ids_of(collection, by_ids(batch), batch_size=len(batch) + 1):
            yield key_of(found)


def _batched(items: list[Any]) -> Iterator[list[Any]]:
    for first in range(0, len(items), _BATCH):
        yield items[first : first + _BATCH]
