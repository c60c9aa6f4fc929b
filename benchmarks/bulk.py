"""What whole collections cost: bulk runs, and the report of the rules that may be deleted."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

from mongoengine import DateTimeField
from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.database import Database

from benchmarks.data import (
    PENDING,
    Raw,
    RuleData,
    contents,
    fill,
    handler,
    lazy_model,
    person,
    restore,
    size,
)
from benchmarks.measure import Benchmark, Comparison, Side
from lazymig import DocumentMigration

__all__ = ["computed_bulk", "deprecated", "static_bulk"]

_FULL = 100_000
_BATCH = 1000
_ADD_ENABLED = PENDING[0]
_LACKS_DATE: Raw = {"updated": {"$exists": False}}


class _CopyDate(DocumentMigration):
    def allmigration01__copy_date(self) -> None:
        self.target = _LACKS_DATE
        self.update = {"$set": {"updated": self.doc["created"]}}


def _migrate_all(model: Any) -> int:
    report = model.migration_handler(model).migrate_all(chunk_size=None, again=True)
    report.raise_for_errors()
    return int(report.modified)


def static_bulk(database: Database[Raw], scale: float) -> Benchmark:
    """One rule that reads no document, over the whole collection."""
    count = size(_FULL, scale)
    template, collection = database["bulk-template"], database["bulk"]
    fill(template, (_without(person(number), "enabled") for number in range(1, count + 1)))
    model = lazy_model(collection, handler([_ADD_ENABLED], prefix="allmigration"))
    old_shape = partial(restore, template, collection.name)
    return Benchmark(
        "bulk-static",
        (
            Side("migrate_all", partial(_migrate_all, model), old_shape),
            Side("update_many", partial(_update_many, collection, _ADD_ENABLED), old_shape),
        ),
        (
            Comparison(
                f"migrate_all, static rule, {count} documents", "migrate_all", "update_many", 1.05
            ),
        ),
        partial(contents, collection),
    )


def _without(document: Raw, name: str) -> Raw:
    del document[name]
    return document


def _update_many(collection: Collection[Raw], rule: RuleData) -> int:
    return int(collection.update_many(rule.target, rule.update).modified_count)


def computed_bulk(database: Database[Raw], scale: float) -> Benchmark:
    """One rule that reads the document, over the whole collection."""
    count = size(_FULL, scale)
    template, collection = database["computed-template"], database["computed"]
    fill(template, (person(number) for number in range(1, count + 1)))
    model = lazy_model(collection, _CopyDate, more={"updated": DateTimeField()})
    old_shape = partial(restore, template, collection.name)
    what = f"migrate_all, reading self.doc, {count} documents"
    return Benchmark(
        "bulk-computed",
        (
            Side("migrate_all", partial(_migrate_all, model), old_shape),
            Side("find, bulk_write", partial(_copy_dates, collection, _LACKS_DATE), old_shape),
            Side("the same, by _id", partial(_copy_dates, collection, {}), old_shape),
        ),
        (
            Comparison(what, "migrate_all", "find, bulk_write", 1.25),
            Comparison(what, "migrate_all", "the same, by _id", 1.25),
        ),
        partial(contents, collection),
    )


def _copy_dates(collection: Collection[Raw], condition: Raw) -> int:
    """By hand; with a condition, a document that another writer was faster with is left alone."""
    modified = 0
    cursor = collection.find(_LACKS_DATE, batch_size=_BATCH)
    while batch := list(itertools.islice(cursor, _BATCH)):
        writes = [
            UpdateOne({"_id": raw["_id"], **condition}, {"$set": {"updated": raw["created"]}})
            for raw in batch
        ]
        modified += collection.bulk_write(writes, ordered=False).modified_count
    return modified


def deprecated(database: Database[Raw], scale: float) -> Benchmark:
    """Ten rules that nothing is left for, asked about on the whole collection."""
    count = size(_FULL, scale)
    collection = database["deprecated"]
    fill(collection, (person(number) for number in range(1, count + 1)))
    rules = PENDING[:10]
    model = lazy_model(collection, handler(rules))
    return Benchmark(
        "deprecated",
        (
            Side("get_deprecated", partial(_find_deprecated, model)),
            Side("count_documents", partial(_count_each, collection, rules)),
        ),
        (
            Comparison(
                f"get_deprecated, {len(rules)} rules, {count} documents",
                "get_deprecated",
                "count_documents",
                0.5,
            ),
        ),
        partial(contents, collection),
    )


def _find_deprecated(model: Any) -> int:
    return len(model.migration_handler(model).get_deprecated()["deprecated"])


def _count_each(collection: Collection[Raw], rules: tuple[RuleData, ...]) -> int:
    return sum(not collection.count_documents(rule.target) for rule in rules)
