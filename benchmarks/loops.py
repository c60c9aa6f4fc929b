"""Bulk runs against the fastest loop that one writes by hand, in which nothing guards a write.

The loop reads with a projection, and writes 1,000 documents at a time by their `_id`s alone.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from bson import ObjectId
from mongoengine import Document, EmbeddedDocument, EmbeddedDocumentListField, IntField, StringField
from pymongo import UpdateOne
from pymongo.collection import Collection
from pymongo.database import Database

from benchmarks.data import ALIAS, Raw, contents, fill, restore, size
from benchmarks.measure import Benchmark, Comparison, Side
from lazymig import DocumentMigration, LazyMigrationMixin, each

__all__ = ["copying", "hashing", "listing", "moving"]

_FULL = 100_000
_BATCH = 1000
_OLD_LINES: Raw = {"lines.sku": {"$exists": True}}


@dataclass(frozen=True)
class _Loop:
    """The work by hand: which documents, the field that is read of them, and what is written.

    `stages` do the same as one update by the server, where it can.
    """

    target: Raw
    field: str
    update: Callable[[Raw], Raw]
    stages: Sequence[Raw] | None = None

    def by_hand(self, collection: Collection[Raw]) -> int:
        """Read and write in batches; how many documents were modified."""
        modified = 0
        cursor = collection.find(self.target, {self.field: 1}, batch_size=_BATCH)
        while batch := list(itertools.islice(cursor, _BATCH)):
            writes = [UpdateOne({"_id": raw["_id"]}, self.update(raw)) for raw in batch]
            modified += collection.bulk_write(writes, ordered=False).modified_count
        return modified

    def by_server(self, collection: Collection[Raw]) -> int:
        """Write all with one update."""
        assert self.stages is not None
        return int(collection.update_many(self.target, list(self.stages)).modified_count)


class _Copy(DocumentMigration):
    def allmigration01__copy(self) -> None:
        self.target = {"login": {"$exists": False}}
        self.update = {"$set": {"login": self.doc["name"]}}


class _Move(DocumentMigration):
    def allmigration01__move(self) -> None:
        self.target = {"name": {"$exists": True}}
        self.update = {"$set": {"login": self.doc["name"]}, "$unset": {"name": ""}}


class _Hash(DocumentMigration):
    def allmigration01__hash(self) -> None:
        self.target = {"digest": {"$exists": False}}
        self.update = {"$set": {"digest": _digest(self.doc["name"])}}


class _Each(DocumentMigration):
    def allmigration01__lines(self) -> None:
        self.update = _lines()


class _Method(DocumentMigration):
    def allmigration01__lines(self) -> None:
        self.target = _OLD_LINES
        self.update = {
            "$set": {
                "lines": [
                    {"article": line["sku"], "count": int(line["qty"])}
                    for line in self.doc["lines"]
                ]
            }
        }


class _Line(EmbeddedDocument):
    article = StringField()
    count = IntField()


class _Order(LazyMigrationMixin, Document):
    name = StringField()
    age = IntField()
    login = StringField()
    digest = StringField()
    lines = EmbeddedDocumentListField(_Line)
    meta: ClassVar[Raw] = {"collection": "order", "db_alias": ALIAS, "auto_create_index": False}


def copying(database: Database[Raw], scale: float) -> Benchmark:
    """A rule that copies a value of the document, which the server does."""
    return _against_the_loop(
        database,
        scale,
        "bulk-copy",
        {"rule that copies": (_Copy, 0.35)},
        _Loop(
            {"login": {"$exists": False}},
            "name",
            lambda raw: {"$set": {"login": raw["name"]}},
            [{"$set": {"login": "$name"}}],
        ),
    )


def moving(database: Database[Raw], scale: float) -> Benchmark:
    """A rule that moves one, likewise."""
    return _against_the_loop(
        database,
        scale,
        "bulk-move",
        {"rule that moves": (_Move, 0.35)},
        _Loop(
            {"name": {"$exists": True}},
            "name",
            lambda raw: {"$set": {"login": raw["name"]}, "$unset": {"name": ""}},
            [{"$set": {"login": "$name"}}, {"$unset": "name"}],
        ),
    )


def listing(database: Database[Raw], scale: float) -> Benchmark:
    """Fields of embedded items renamed, and texts made numbers: by `each`, and by a method."""
    return _against_the_loop(
        database,
        scale,
        "bulk-list",
        {"rule with each": (_Each, 0.5), "rule with a comprehension": (_Method, 0.5)},
        _Loop(_OLD_LINES, "lines", _new_lines, [_lines().stage]),
    )


def hashing(database: Database[Raw], scale: float) -> Benchmark:
    """A rule that only Python can compute."""
    return _against_the_loop(
        database,
        scale,
        "bulk-python",
        {"rule that hashes": (_Hash, 1.15)},
        _Loop(
            {"digest": {"$exists": False}},
            "name",
            lambda raw: {"$set": {"digest": _digest(raw["name"])}},
        ),
    )


def _against_the_loop(
    database: Database[Raw],
    scale: float,
    name: str,
    rules: Mapping[str, tuple[type[DocumentMigration], float]],
    loop: _Loop,
) -> Benchmark:
    """Runs in chunks, with journal and progress; beside them, if it can, the server alone."""
    count = size(_FULL, scale)
    # It still has that of the benchmark before, on a client that is closed.
    _Order._disconnect()  # noqa: SLF001 - MongoEngine has no other way
    template, collection = database["template"], database["order"]
    fill(template, map(_order, range(1, count + 1)))
    old_shape = partial(restore, template, collection.name)
    sides = [Side("find, bulk_write", partial(loop.by_hand, collection), old_shape)]
    judged = []
    for what, (handler, limit) in rules.items():
        sides.append(Side(what, partial(_run, handler), old_shape))
        judged.append((what, limit))
    if loop.stages is not None:
        # What nothing that keeps the rules can be below.
        sides.append(Side("update_many alone", partial(loop.by_server, collection), old_shape))
        judged.append(("update_many alone", judged[0][1]))
    return Benchmark(
        name,
        tuple(sides),
        tuple(
            Comparison(f"{name}: {what}, {count} documents", what, sides[0].name, limit)
            for what, limit in judged
        ),
        partial(contents, collection),
    )


def _run(handler: Any) -> int:
    report = handler(_Order).migrate_all(again=True, progress=_ignore)
    report.raise_for_errors()
    return int(report.modified)


def _ignore(_progress: Any) -> None:
    pass


def _order(number: int) -> Raw:
    return {
        "_id": ObjectId(f"{number:024x}"),
        "name": f"Person {number}",
        "age": number % 90,
        "lines": [{"sku": f"A-{number}-{line}", "qty": str(number % 90)} for line in range(3)],
    }


def _lines() -> Any:
    return each(
        "lines",
        rename={"sku": "article"},
        unset=["qty"],
        set={"count": {"$toInt": "$$this.qty"}},
    )


def _new_lines(raw: Raw) -> Raw:
    lines = [{"article": line["sku"], "count": int(line["qty"])} for line in raw["lines"]]
    return {"$set": {"lines": lines}}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
