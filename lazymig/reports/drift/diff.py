"""`diff`: a model compared with the documents that are stored.

MongoDB has no schema but its documents. One aggregation counts what is in them; what differs from
the model is reported, each with the rule that would end it. The collection is only read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from pymongo.collection import Collection
from pymongo.errors import OperationFailure

from lazymig.engines.access import is_mongomock, key_of, readable, tolerant
from lazymig.odm.examining import Examiner, examining
from lazymig.odm.fields import ClassFacts, classes_of
from lazymig.odm.indexes import compare_indexes
from lazymig.odm.schema import (
    class_name,
    document_parents,
    document_subclasses,
    untouched_collection,
)
from lazymig.operations.journal import JOURNAL
from lazymig.raw.differences import MISSING
from lazymig.redaction import excerpt
from lazymig.reports.drift.counts import COUNTED, Count, RowCounts, count_rows, counted
from lazymig.reports.drift.detect import Detector
from lazymig.reports.drift.documents import check_model, check_sample_size, documents_of
from lazymig.reports.drift.drafts import Draft, UnknownClass
from lazymig.reports.drift.evidence import Evidence, faults_by
from lazymig.reports.drift.field_counts import FieldCounts
from lazymig.reports.drift.findings import DriftExample, DriftReport, PathTypes
from lazymig.reports.drift.layout import Layout
from lazymig.reports.drift.proving import prove
from lazymig.reports.drift.similarity import successors
from lazymig.reports.dryrun.cures import (
    Waiting,
    may_touch,
    plans_of,
    read_by_ids,
    some_ids,
    try_rules,
)
from lazymig.rules.plan import Plan

__all__ = ["diff"]

_MOST_CLASSES = 100
_MOST_EXAMPLES = 3

# Documents of an unknown class that are looked at for the names of their fields.
_CLASS_SAMPLE = 50

# What PyMongo's directions are called in a message.
_DIRECTIONS = {1: "", -1: " descending"}


def diff(
    model: Any,
    sample_size: int | None = None,
    *,
    collection: Collection[Any] | None = None,
    journal: str = JOURNAL,
) -> DriftReport:
    """Compare a model with its stored documents. The collection is only read.

    Where the model has rules, they are tried on copies of some of the documents, in a scratch
    collection that is dropped before this returns.

    :param model: a MongoEngine Document class. Its subclasses are compared as well.
    :param sample_size: the number of random documents to look at; `None` for all of them.
    :param collection: a PyMongo collection; the model's own if not given. Indexes are compared for
        the model's own alone.
    :param journal: the name of the journal's collection, for what bulk runs have refused.
    :return: findings, with a rule for each as far as one is known, and the types at each path.
    :raises TypeError: the model is no document class, or an abstract one.
    :raises RunOptionError: `sample_size` is no number of documents.
    :raises NotImplementedError: the collection is mongomock's.
    :raises pymongo.errors.PyMongoError: the connection, or the right to read.
    """
    check_model(model)
    check_sample_size(sample_size)
    if collection is None:
        collection = untouched_collection(model)
    if is_mongomock(collection):
        raise NotImplementedError(
            "diff counts by expressions that mongomock does not know; use a MongoDB server"
        )
    return _Comparison(model, sample_size, collection, journal).report()


class _Comparison:
    """One comparison of a model with a collection."""

    def __init__(
        self,
        model: Any,
        sample_size: int | None,
        collection: Collection[Any],
        journal: str,
    ) -> None:
        self.model = model
        self.sample_size = sample_size
        self.journal = journal
        self.collection = collection
        self.prefix = documents_of(model, sample_size)
        self.classes = classes_of(model)
        self.by_class = self.classes[0].inherits
        self.problems: list[str] = []

    def report(self) -> DriftReport:
        """Count, judge, and look up what the findings need."""
        unknown = self._unknown_classes()
        layout = self._layout(unknown)
        rows = count_rows(self.collection, layout.expression, self.prefix)
        if self.by_class:
            unknown = [*unknown, *self._late_classes(rows, unknown)]
        counts = FieldCounts(
            layout,
            rows,
            by_class=self.by_class,
            narrowed=bool(document_parents(self.model)),
            exact=self.sample_size is None,
        )
        detector = Detector(counts, unknown, self._is_there, self._count)
        drafts = [*detector.drafts(), *self._indexes()]
        for place in layout.roots:
            left_out = rows.left_out.get(place.index)
            if left_out:
                self.problems.append(
                    f"{place.owner.name}: {left_out:,} more unknown fields are not listed"
                )
        self.problems.extend(f"nothing beneath {path} is looked at" for path in layout.unseen)
        cured = _each_once(drafts, self._cures(drafts))
        self._prove([draft for draft, names in cured if not names])
        examples = self._examples([draft for draft, _names in cured])
        findings = [
            draft.finished(found, names)
            for found, (draft, names) in zip(examples, cured, strict=True)
        ]
        return DriftReport(
            model=self.model.__name__,
            collection=str(self.collection.full_name),
            documents=sum(rows.documents(place) for place in layout.roots)
            + sum(count.documents for count in rows.classes.get(0, {}).values()),
            sample_size=self.sample_size,
            findings=tuple(findings),
            paths=tuple(
                PathTypes(
                    field.path,
                    field.seen,
                    field.type_counts,
                    {name: count.ids[0] for name, count in sorted(field.types.items())},
                )
                for field in counts.fields
                if field.types
            ),
            problems=tuple(self.problems),
        )

    # --- Classes ---

    def _unknown_classes(self) -> list[UnknownClass]:
        """The `_cls` values that are none of the model's, the frequent ones first."""
        group = {
            "_id": "$_cls",
            "documents": {"$sum": 1},
            "first": {"$first": "$_id"},
        }
        stages = [*self.prefix, {"$group": group}]
        known = {each.name for each in self.classes}
        found = []
        for each in self._aggregate(stages):
            name = each["_id"]
            if name in known or not (name is None or isinstance(name, str)):
                continue
            if name is None and not self.by_class:
                continue
            found.append((name, Count(each["documents"], (each["first"],))))
        found.sort(key=lambda item: -item[1].documents)
        return [
            UnknownClass(name, count, self._successors(name))
            for name, count in found[:_MOST_CLASSES]
        ]

    def _late_classes(
        self, rows: RowCounts, unknown: Sequence[UnknownClass]
    ) -> Iterator[UnknownClass]:
        """Those that another sample has shown."""
        known = {each.name for each in unknown}
        for text, count in rows.classes.get(0, {}).items():
            name = text or None
            if name not in known:
                yield UnknownClass(name, count, self._successors(name))

    def _successors(self, name: str | None) -> tuple[str, ...]:
        if not self.by_class:
            return ()
        query = {"_cls": name} if name is not None else {"_cls": {"$exists": False}}
        keys: dict[str, None] = {}
        for raw in tolerant(self.collection).find(query).limit(_CLASS_SAMPLE):
            keys.update(dict.fromkeys(raw))
        likely = successors(name, {each.name: each.fields for each in self.classes}, keys)
        for cls in (self.model, *document_subclasses(self.model)):
            handler = getattr(cls, "migration_handler", None)
            if handler is not None and name in handler.legacy_classes:
                return tuple(dict.fromkeys((class_name(cls), *likely)))[: len(likely)]
        return likely

    def _layout(self, unknown: Sequence[UnknownClass]) -> Layout:
        """Documents of an unknown class are held against its likeliest successor."""
        names: dict[str, list[str | None]] = {each.name: [each.name] for each in self.classes}
        for each_class in unknown:
            if each_class.successors:
                names[each_class.successors[0]].append(each_class.name)
        classes: list[tuple[ClassFacts, Sequence[str | None]]] = [
            (each, names[each.name]) for each in self.classes
        ]
        return Layout(classes if self.by_class else classes[:1], by_class=self.by_class)

    # --- Indexes ---

    def _indexes(self) -> Iterator[Draft]:
        if self.collection.full_name != untouched_collection(self.model).full_name:
            return
        try:
            missing, extra = compare_indexes(self.model)
        except OperationFailure as exc:
            self.problems.append(f"the indexes are not compared: {excerpt(exc)}")
            return
        for index in missing:
            if index != (("_id", 1),):
                yield self._index(
                    "index_missing",
                    index,
                    f"is declared, but not in the database; {self.model.__name__}.ensure_indexes() "
                    "creates it",
                )
        for index in extra:
            yield self._index("index_extra", index, "is in the database, but not declared")

    def _index(self, kind: Any, index: Sequence[tuple[str, Any]], state: str) -> Draft:
        fields = [f"{name}{_DIRECTIONS.get(way, f' {way}')}" for name, way in index]
        path = ", ".join(fields)
        return Draft(
            kind=kind,
            classes=(self.classes[0].name,),
            path=path,
            message=f"the index on {path} {state}",
            count=0,
        )

    # --- What the findings need ---

    def _aggregate(self, stages: Sequence[Mapping[str, Any]]) -> list[Any]:
        options: dict[str, Any] = {"allowDiskUse": True, "collation": {"locale": "simple"}}
        return list(tolerant(self.collection).aggregate([*stages], **options))

    def _is_there(self, query: Mapping[str, Any]) -> bool:
        stages = [*self.prefix, {"$match": query}, {"$limit": 1}, {"$project": {"_id": 1}}]
        return bool(self._aggregate(stages))

    def _count(self, query: Mapping[str, Any]) -> Count:
        stages = [*self.prefix, {"$match": query}, {"$group": {"_id": None, **COUNTED}}]
        return next(map(counted, self._aggregate(stages)), Count(0, ()))

    def _cures(self, drafts: Sequence[Draft]) -> list[tuple[str, ...]]:
        """For each finding the names of the rules that cure it in all copies."""
        cured: list[tuple[str, ...]] = [() for _ in drafts]
        plans = plans_of(self.model)
        chosen: dict[int, list[Any]] = {}
        for number, draft in enumerate(drafts):
            if draft.values_in is None or not may_touch(plans, draft.path):
                continue
            ids = [*draft.ids]
            if draft.query is not None:
                ids = [*some_ids(self.collection, self.prefix, plans, draft.query), *ids]
            chosen[number] = ids
        if not chosen:
            return cured
        wanted = [one for ids in chosen.values() for one in ids]
        tried = try_rules(self.collection, plans, read_by_ids(self.collection, wanted))
        self.problems.extend(tried.problems)
        with examining():
            faults = faults_by(Examiner(self.model), self.collection)
            for number, ids in chosen.items():
                keys = [key_of(one) for one in ids]
                evidence = partial(self._evidence, drafts[number])
                cured[number] = tried.cured_by(keys, evidence, faults)
        return self._but_refused(drafts, cured, plans)

    def _evidence(self, draft: Draft, raw: Any) -> Evidence:
        return draft.evidence(readable(raw, self.collection))

    def _but_refused(
        self, drafts: Sequence[Draft], cured: list[tuple[str, ...]], plans: Sequence[Plan]
    ) -> list[tuple[str, ...]]:
        """The same without what a bulk run has refused for a document with the finding."""
        if not any(cured):
            return cured
        waiting = Waiting.of(self.collection, plans, self.journal)
        for raw in waiting.documents(self.collection):
            refused_by = waiting.rules(raw["_id"])
            document = readable(raw, self.collection)
            for number, names in enumerate(cured):
                if refused_by & set(names) and drafts[number].evidence(document):
                    cured[number] = ()
                    waiting.note(raw["_id"], names)
        self.problems.extend(waiting.problems)
        return cured

    def _prove(self, drafts: Sequence[Draft]) -> None:
        """Let those proposals ask that make something worse on copies."""
        with examining():
            prove(self.collection, Examiner(self.model), drafts, self.prefix)

    def _examples(self, drafts: Sequence[Draft]) -> list[tuple[DriftExample, ...]]:
        """For each finding some documents, with the value that shows it."""
        wanted = [one for draft in drafts for one in draft.ids[:_MOST_EXAMPLES]]
        found = {
            key_of(raw["_id"]): readable(raw, self.collection)
            for raw in read_by_ids(self.collection, wanted)
        }
        examples = []
        for draft in drafts:
            ids = {key_of(one): one for one in draft.ids[:_MOST_EXAMPLES]}
            examples.append(
                tuple(
                    DriftExample(one, _shown(draft, found.get(key, {}))) for key, one in ids.items()
                )
            )
        return examples


def _each_once(
    drafts: Sequence[Draft], cured: Sequence[tuple[str, ...]]
) -> list[tuple[Draft, tuple[str, ...]]]:
    """The drafts with their cures, but those of which a rename says as much.

    A rule that takes the former field away cures a rename, and not that the other field is missing.
    """
    names_of = {id(draft): names for draft, names in zip(drafts, cured, strict=True)}
    return [
        (draft, names_of[id(draft)])
        for draft in drafts
        if draft.part_of is None or (names_of[id(draft.part_of)] and not names_of[id(draft)])
    ]


def _shown(draft: Draft, document: Mapping[str, Any]) -> Any:
    values = () if draft.values_in is None else draft.values_in(document)
    shown = next((each for each in values if draft.shows(each)), None)
    return None if shown is MISSING else shown
