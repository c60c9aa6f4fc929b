"""A book shop twice: old documents under models with rules, and today's under plain models.

What a library makes of the one has to be what it makes of the other. The hand-migrated documents
are written out below: nothing here asks lazymig what they ought to be.
"""

from __future__ import annotations

import copy
import os
import re
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import mongoengine
import pytest
from bson import ObjectId
from pymongo import MongoClient

from lazymig import DocumentMigration, LazyMigrationMixin, SettlingWarning, each
from tests.support.clients import kept_client
from tests.support.registry import restored_registry
from tests.support.server import CLIENT_OPTIONS

T = TypeVar("T")
Raw = dict[str, Any]

PAGE = Path(__file__).parents[2] / "docs" / "other-libraries.md"
# Set by the session `ecosystem` of nox: a package that is not there is a failure.
REQUIRED = "LAZYMIG_ECOSYSTEM"


def needed(
    module: str, package: str, ignoring: tuple[tuple[type[Warning], str], ...] = ()
) -> ModuleType:
    """Import a module, or skip the test file that calls this because its package is not installed.

    :param module: the module to import.
    :param package: the name under which `pip` knows it.
    :param ignoring: category and text (a regular expression) of warnings that the import gives.
    """
    try:
        with warnings.catch_warnings():
            for category, text in ignoring:
                warnings.filterwarnings("ignore", text, category)
            return import_module(module)
    except ModuleNotFoundError as missing:
        absent = (missing.name or "").partition(".")[0]
        if absent != module.partition(".")[0] or os.environ.get(REQUIRED):
            raise
        pytest.skip(f"{package} is not installed", allow_module_level=True)


def documented(name: str) -> Raw:
    """What the block of `docs/other-libraries.md` that defines the class `name` defines."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    (source,) = (block for block in blocks if f"class {name}" in block)
    namespace: Raw = {"__name__": "documentation_page"}
    exec(compile(source, str(PAGE), "exec", dont_inherit=True), namespace)
    return namespace


def key(number: int) -> ObjectId:
    """The `_id` of a document of the shop: the same on both sides, in the order of the numbers."""
    return ObjectId(f"{number:024x}")


class AuthorMigration(DocumentMigration):
    """One rename."""

    def migration01__name(self):
        self.target = {"fullname": {"$exists": True}}
        self.update = {"$rename": {"fullname": "name"}}


class BookMigration(DocumentMigration):
    """A rename, a value that MongoDB computes, an embedded list, a value that Python computes."""

    def migration01__title(self):
        self.target = {"name": {"$exists": True}}
        self.update = {"$rename": {"name": "title"}}

    def migration02__cents(self):
        self.target = {"euros": {"$exists": True}}
        self.update = [
            {"$set": {"cents": {"$toInt": {"$multiply": ["$euros", 100]}}}},
            {"$unset": "euros"},
        ]

    def migration03__rating(self):
        self.update = each("reviews", rename={"stars": "rating"})

    def migration04__tags(self):
        self.target = {"keywords": {"$exists": True}}
        self.update = {
            "$set": {"tags": sorted(self.doc["keywords"].split(", "))},
            "$unset": {"keywords": ""},
        }


ADA, BEN, CID = key(1), key(2), key(3)

OLD: dict[str, list[Raw]] = {
    "author": [
        {"_id": ADA, "fullname": "Ada"},
        {"_id": BEN, "name": "Ben"},
        {"_id": CID, "fullname": "Cid"},
    ],
    "book": [
        {
            "_id": key(11),
            "name": "Winter",
            "author": ADA,
            "euros": 12.5,
            "keywords": "snow, ice",
            "reviews": [{"by": "x", "stars": 3}, {"by": "y", "stars": 5}],
        },
        {
            "_id": key(12),
            "title": "Autumn",
            "author": BEN,
            "cents": 800,
            "tags": ["leaves"],
            "reviews": [{"by": "x", "rating": 4}],
        },
        {
            "_id": key(13),
            "name": "Spring",
            "author": ADA,
            "cents": 950,
            "tags": ["buds", "rain"],
            "reviews": [],
        },
        {
            "_id": key(14),
            "title": "Summer",
            "author": CID,
            "euros": 20,
            "tags": ["sun"],
            "reviews": [{"by": "z", "rating": 2}, {"by": "x", "stars": 1}],
        },
        {
            "_id": key(15),
            "title": "Monsoon",
            "author": CID,
            "cents": 990,
            "keywords": "rain",
            "reviews": [{"by": "y", "stars": 5}],
        },
        {
            "_id": key(16),
            "name": "Midwinter",
            "author": BEN,
            "euros": 5,
            "keywords": "ice, dark",
            "reviews": [],
        },
        {
            "_id": key(17),
            "title": "Harvest",
            "author": BEN,
            "cents": 1250,
            "tags": ["leaves", "sun"],
            "reviews": [{"by": "z", "rating": 5}],
        },
    ],
}

TODAY: dict[str, list[Raw]] = {
    "author": [
        {"_id": ADA, "name": "Ada"},
        {"_id": BEN, "name": "Ben"},
        {"_id": CID, "name": "Cid"},
    ],
    "book": [
        {
            "_id": key(11),
            "title": "Winter",
            "author": ADA,
            "cents": 1250,
            "tags": ["ice", "snow"],
            "reviews": [{"by": "x", "rating": 3}, {"by": "y", "rating": 5}],
        },
        {
            "_id": key(12),
            "title": "Autumn",
            "author": BEN,
            "cents": 800,
            "tags": ["leaves"],
            "reviews": [{"by": "x", "rating": 4}],
        },
        {
            "_id": key(13),
            "title": "Spring",
            "author": ADA,
            "cents": 950,
            "tags": ["buds", "rain"],
            "reviews": [],
        },
        {
            "_id": key(14),
            "title": "Summer",
            "author": CID,
            "cents": 2000,
            "tags": ["sun"],
            "reviews": [{"by": "z", "rating": 2}, {"by": "x", "rating": 1}],
        },
        {
            "_id": key(15),
            "title": "Monsoon",
            "author": CID,
            "cents": 990,
            "tags": ["rain"],
            "reviews": [{"by": "y", "rating": 5}],
        },
        {
            "_id": key(16),
            "title": "Midwinter",
            "author": BEN,
            "cents": 500,
            "tags": ["dark", "ice"],
            "reviews": [],
        },
        {
            "_id": key(17),
            "title": "Harvest",
            "author": BEN,
            "cents": 1250,
            "tags": ["leaves", "sun"],
            "reviews": [{"by": "z", "rating": 5}],
        },
    ],
}


@dataclass(frozen=True)
class Bases:
    """What the models are made of, where a library brings classes of its own.

    :param document: the base of the models.
    :param embedded: the base of the embedded document.
    :param fields: the namespace of the field classes.
    :param meta: what stands in the `meta` of the models.
    :param required: the arguments of a field that has to have a value.
    :param optional: the arguments of all other fields.
    """

    document: Any = mongoengine.Document
    embedded: Any = mongoengine.EmbeddedDocument
    fields: Any = mongoengine
    meta: Raw = field(default_factory=dict)
    required: Raw = field(default_factory=lambda: {"required": True})
    optional: Raw = field(default_factory=dict)


@dataclass(frozen=True)
class Shop:
    """One of the twins: its models, on MongoEngine's default alias, and its raw database."""

    Author: Any
    Book: Any
    Review: Any
    database: Any
    lazy: bool


def _models(bases: Bases, *, lazy: bool) -> tuple[Any, Any, Any]:
    fields, required, optional = bases.fields, bases.required, bases.optional
    mixins = (LazyMigrationMixin,) if lazy else ()

    class Review(bases.embedded):
        by = fields.StringField(**optional)
        rating = fields.IntField(**optional)

    class Author(*mixins, bases.document):
        name = fields.StringField(**required)
        meta = {**bases.meta, "collection": "author"}
        if lazy:
            migration_handler = AuthorMigration

        def __str__(self):
            return str(self.name)

    class Book(*mixins, bases.document):
        # Sparse, so that the index can be there before the old documents are renamed.
        title = fields.StringField(unique=True, sparse=True, **required)
        author = fields.ReferenceField(document_type=Author, **optional)
        cents = fields.IntField(default=0, **optional)
        tags = fields.ListField(field=fields.StringField(), **optional)
        reviews = fields.ListField(
            field=fields.EmbeddedDocumentField(document_type=Review), **optional
        )
        meta = {**bases.meta, "collection": "book"}
        if lazy:
            migration_handler = BookMigration

        def __str__(self):
            return str(self.title)

    return Author, Book, Review


class Twins:
    """Both shops, one after the other; while one is open, MongoEngine's default alias is its."""

    def __init__(self, client: MongoClient[Raw], uri: str, bases: Bases) -> None:
        """`client` prepares and looks without MongoEngine; `uri` is its server."""
        self._client, self._uri, self.bases = client, uri, bases

    @contextmanager
    def shop(self, *, lazy: bool) -> Iterator[Shop]:
        """One of the twins, with fresh documents."""
        database = self._client[f"lazymig_{uuid.uuid4().hex}"]
        with restored_registry():
            mongoengine.connect(
                database.name, host=self._uri, mongo_client_class=kept_client, **CLIENT_OPTIONS
            )
            try:
                with warnings.catch_warnings():
                    # It says that a filter by the tags has to settle: that is meant.
                    warnings.simplefilter("ignore", SettlingWarning)
                    author, book, review = _models(self.bases, lazy=lazy)
                for name, documents in copy.deepcopy(OLD if lazy else TODAY).items():
                    database[name].insert_many(documents)
                yield Shop(author, book, review, database, lazy)
            finally:
                mongoengine.disconnect()
                self._client.drop_database(database.name)

    def same(self, play: Callable[[Shop], T]) -> T:
        """Play the same on both sides, and return what comes out: the same.

        Afterwards the databases hold the same documents too, once the rest is migrated.
        """
        with self.shop(lazy=False) as plain:
            expected = play(plain)
            stored = _stored(plain)
        with self.shop(lazy=True) as shop:
            assert play(shop) == expected
            AuthorMigration(shop.Author).migrate_pending()
            BookMigration(shop.Book).migrate_pending()
            assert _stored(shop) == stored
        return expected


def _stored(shop: Shop) -> dict[str, list[Raw]]:
    """Every document; what was created meanwhile has an `_id` of its own, which is left out."""
    known = {one["_id"] for documents in TODAY.values() for one in documents}
    return {
        name: [
            {**one, "_id": one["_id"] if one["_id"] in known else "new"}
            for one in shop.database[name].find().sort("_id")
        ]
        for name in TODAY
    }
