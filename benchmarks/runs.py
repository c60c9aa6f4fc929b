"""What makes a bulk run safe, and what it costs: chunks, journal, progress, backup, workers."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from bson import ObjectId
from mongoengine import Document, IntField, StringField
from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.database import Database

from benchmarks.data import ALIAS, Raw, contents, fill, restore, size
from benchmarks.measure import Benchmark, Comparison, Side
from lazymig import DocumentMigration, LazyMigrationMixin

__all__ = ["computed_run", "static_run", "worked_run"]

_FULL = 1_000_000
_FULL_WORKED = 20_000
_BATCH = 1000
_ROUNDS = 400
_STATIC: Raw = {"state": {"$exists": False}}
_OPEN: Raw = {"$set": {"state": "open"}}
_COMPUTED: Raw = {"initial": {"$exists": False}}
_WORKED: Raw = {"digest": {"$exists": False}}


class _Open(DocumentMigration):
    def allmigration01__open(self) -> None:
        self.target = _STATIC
        self.update = _OPEN


class _Initial(DocumentMigration):
    def allmigration01__initial(self) -> None:
        self.target = _COMPUTED
        self.update = {"$set": {"initial": self.doc["name"][:1]}}


class _Digest(DocumentMigration):
    def allmigration01__digest(self) -> None:
        self.target = _WORKED
        digest = self.doc["name"].encode()
        for _ in range(_ROUNDS):
            digest = hashlib.sha256(digest).digest()
        self.update = {"$set": {"digest": digest.hex()}}


class _Small(LazyMigrationMixin, Document):
    """At the top of a module, where worker processes find it."""

    name = StringField()
    age = IntField()
    state = StringField()
    initial = StringField()
    digest = StringField()
    meta: ClassVar[Raw] = {"collection": "small", "db_alias": ALIAS, "auto_create_index": False}


def _small(number: int) -> Raw:
    return {"_id": ObjectId(f"{number:024x}"), "name": f"Person {number}", "age": number % 90}


def _filled(database: Database[Raw], count: int) -> tuple[Collection[Raw], Any]:
    """The collection, and what gives it its old shape."""
    # It still has that of the benchmark before, on a client that is closed.
    _Small._disconnect()  # noqa: SLF001 - MongoEngine has no other way
    template, collection = database["template"], database["small"]
    fill(template, map(_small, range(1, count + 1)))
    return collection, partial(restore, template, collection.name)


def _run(handler: Any, **options: Any) -> int:
    report = handler(_Small).migrate_all(again=True, **options)
    report.raise_for_errors()
    return int(report.modified)


def _ignore(_progress: Any) -> None:
    pass


def _backed_up(handler: Any) -> int:
    folder = Path(tempfile.mkdtemp(prefix="lazymig-benchmark-"))
    try:
        return _run(handler, progress=_ignore, backup=folder)
    finally:
        shutil.rmtree(folder)


def static_run(database: Database[Raw], scale: float) -> Benchmark:
    """A rule that reads no document, in chunks and at once, with a backup and without."""
    count = size(_FULL, scale)
    collection, old_shape = _filled(database, count)
    what = f"static rule, {count} small documents"
    return Benchmark(
        "run-static",
        (
            Side("at once", partial(_run, _Open, chunk_size=None), old_shape),
            Side("in chunks", partial(_run, _Open, progress=_ignore), old_shape),
            Side("with backup", partial(_backed_up, _Open), old_shape),
            Side("update_many", partial(_update_many, collection), old_shape),
        ),
        (
            Comparison(f"{what}, at once", "at once", "update_many", 1.05),
            Comparison(f"{what}, in chunks", "in chunks", "update_many", 1.15),
            Comparison(f"{what}, with backup", "with backup", "in chunks", 1.3),
        ),
        partial(contents, collection),
    )


def _update_many(collection: Collection[Raw]) -> int:
    return int(collection.update_many(_STATIC, _OPEN).modified_count)


def computed_run(database: Database[Raw], scale: float) -> Benchmark:
    """A rule that reads the document, against the loops that one writes by hand."""
    count = size(_FULL, scale)
    collection, old_shape = _filled(database, count)
    what = f"rule that reads self.doc, {count} small documents"
    return Benchmark(
        "run-computed",
        (
            Side("in chunks", partial(_run, _Initial, progress=_ignore), old_shape),
            Side(
                "transactions",
                partial(_run, _Initial, progress=_ignore, transactions=True),
                old_shape,
            ),
            Side("find, bulk_write", partial(_by_hand, collection, _COMPUTED), old_shape),
            Side("the same, by _id", partial(_by_hand, collection, {}), old_shape),
        ),
        (
            Comparison(what, "in chunks", "find, bulk_write", 1.25),
            Comparison(what, "in chunks", "the same, by _id", 1.25),
            Comparison(f"{what}, transactions", "transactions", "the same, by _id", 1.25),
        ),
        partial(contents, collection),
    )


def _by_hand(collection: Collection[Raw], condition: Raw) -> int:
    """With a condition, a document that another writer was faster with is left alone."""
    modified = 0
    cursor = collection.find(_COMPUTED, {"name": 1}, batch_size=_BATCH)
    while batch := list(itertools.islice(cursor, _BATCH)):
        writes = [
            UpdateOne({"_id": raw["_id"], **condition}, {"$set": {"initial": raw["name"][:1]}})
            for raw in batch
        ]
        modified += collection.bulk_write(writes, ordered=False).modified_count
    return modified


def worked_run(database: Database[Raw], scale: float) -> Benchmark:
    """A rule that works hard on each document: one worker process, and two."""
    count = size(_FULL_WORKED, scale)
    collection, old_shape = _filled(database, count)
    return Benchmark(
        "run-workers",
        (
            Side("two workers", partial(_with_workers, 2), old_shape),
            Side("one worker", partial(_with_workers, 1), old_shape),
        ),
        (
            Comparison(
                f"rule with CPU work, {count} documents", "two workers", "one worker", 1 / 1.5
            ),
        ),
        partial(contents, collection),
    )


def _with_workers(number: int) -> int:
    with ProcessPoolExecutor(number) as pool:
        return _run(_Digest, executor=pool, chunk_size=_BATCH)
