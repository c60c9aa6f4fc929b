"""Models with rules, without, and with inherited ones."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from mongoengine import BooleanField, Document, IntField, StringField

from lazymig import DocumentMigration, LazyMigrationMixin

# Where a rule finds the `_id` of a document for which it is to raise.
FAULTY = "LAZYMIG_TEST_FAULTY"


class UserMigration(DocumentMigration):
    """A static rule, one that reads the document, and a bulk rule."""

    def migration01__add_enabled(self) -> None:
        self.target = {"enabled": {"$exists": False}}
        self.update = {"$set": {"enabled": True}}

    def migration02__split_name(self) -> None:
        self.target = {"name": {"$exists": True}}
        number = self.doc["_id"]
        first, _, last = self.doc["name"].partition(" ")
        if str(number) == os.environ.get(FAULTY):
            raise ValueError("this name has no parts")
        self.update = {"$set": {"first": first, "last": last}, "$unset": {"name": ""}}

    def allmigration01__drop_draft(self) -> None:
        self.target = {"draft": {"$exists": True}}
        self.update = {"$unset": {"draft": ""}}


class User(LazyMigrationMixin, Document):
    """Documents of the collection `user`."""

    id = IntField(primary_key=True)
    enabled = BooleanField()
    first = StringField()
    last = StringField()
    migration_handler = UserMigration
    meta: ClassVar[dict[str, Any]] = {"collection": "user"}


class AnimalMigration(DocumentMigration):
    """Rules of a class that has subclasses."""

    def migration01__add_legs(self) -> None:
        self.target = {"legs": {"$exists": False}}
        self.update = {"$set": {"legs": 4}}


class Animal(LazyMigrationMixin, Document):
    """Documents of the collection `animal`."""

    id = IntField(primary_key=True)
    legs = IntField()
    migration_handler = AnimalMigration
    meta: ClassVar[dict[str, Any]] = {"collection": "animal", "allow_inheritance": True}


class Dog(Animal):
    """A subclass without rules of its own."""


class Note(Document):
    """A model without rules."""

    text = StringField()
    meta: ClassVar[dict[str, Any]] = {"collection": "note", "indexes": ["text"]}


def fill(database: Any, count: int, **more: Any) -> None:
    """Old users."""
    database["user"].insert_many(
        [{"_id": number, "name": f"Ada {number}", **more} for number in range(count)]
    )
