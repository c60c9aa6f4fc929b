"""A model whose rules show whether one was applied twice, at the top of a module for workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any, ClassVar

from mongoengine import Document, IntField

from lazymig import DocumentMigration, LazyMigrationMixin

# Where a worker finds a file that says in which document it is to be killed.
KILL_FILE = "LAZYMIG_TEST_KILL_FILE"


class ItemMigration(DocumentMigration):
    """A static rule, one that reads the document, and one that does not end its match."""

    def allmigration01__turn(self) -> None:
        self.target = {"v": 1}
        self.update = {"$set": {"v": 2}, "$inc": {"n": 1}}

    def allmigration02__copy(self) -> None:
        self.target = {"w": {"$exists": False}}
        self.update = {"$set": {"w": self.doc["n"]}, "$inc": {"copies": 1}}

    def allmigration03__count(self) -> None:
        self.target = {}
        self.update = {"$inc": {"k": 1}}


class Item(LazyMigrationMixin, Document):
    """Documents of the collection `item`."""

    id = IntField(primary_key=True)
    v = IntField()
    n = IntField()
    w = IntField()
    k = IntField()
    copies = IntField()
    migration_handler = ItemMigration
    meta: ClassVar[dict[str, Any]] = {"collection": "item", "auto_create_index": False}


class DeadlyMigration(DocumentMigration):
    """A rule during which the process is killed, once, if a file is there."""

    def allmigration01__copy(self) -> None:
        self.target = {"w": {"$exists": False}}
        number = self.doc["n"]
        path = os.environ.get(KILL_FILE)
        if path and not self.status and self.doc["v"] == 7:
            try:
                Path(path).unlink()
            except FileNotFoundError:
                pass
            else:
                os.kill(os.getpid(), signal.SIGKILL)
        self.update = {"$set": {"w": number}, "$inc": {"copies": 1}}


class AlwaysDeadlyMigration(DocumentMigration):
    """A rule that kills every process but the one that it was begun in."""

    def allmigration01__copy(self) -> None:
        self.target = {"w": {"$exists": False}}
        deadly = self.doc["v"] == 7 and not self.status
        if deadly and os.environ.get(KILL_FILE) != str(os.getpid()):
            os.kill(os.getpid(), signal.SIGKILL)
        self.update = {"$set": {"w": 1}}


def fill(database: Any, count: int, **more: Any) -> None:
    """Old items."""
    database["item"].insert_many(
        [{"_id": number, "v": 1, "n": 0, **more} for number in range(count)]
    )


def done(count: int) -> list[dict[str, int]]:
    """The items after every rule was applied once."""
    return [{"_id": number, "v": 2, "n": 1, "w": 1, "copies": 1, "k": 1} for number in range(count)]


def stored(database: Any) -> list[dict[str, int]]:
    """The items as they are."""
    return list(database["item"].find().sort("_id"))
