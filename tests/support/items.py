"""A model whose rules show whether one was applied twice, at the top of a module for workers."""

from __future__ import annotations

import hashlib
import os
import signal
from pathlib import Path
from typing import Any, ClassVar

from mongoengine import Document, IntField, StringField

from lazymig import DocumentMigration, LazyMigrationMixin

# Where a worker finds a file that says in which document it is to be killed.
KILL_FILE = "LAZYMIG_TEST_KILL_FILE"


def hash_of(number: int) -> str:
    """What the rule that hashes makes of a number."""
    return hashlib.sha256(str(number).encode()).hexdigest()[:8]


class ItemMigration(DocumentMigration):
    """A static rule, one that reads the document, one that does not end its match, one that hashes.

    What the last one does to a document is known only when it is computed.
    """

    def allmigration01__turn(self) -> None:
        self.target = {"v": 1}
        self.update = {"$set": {"v": 2}, "$inc": {"n": 1}}

    def allmigration02__copy(self) -> None:
        self.target = {"w": {"$exists": False}}
        self.update = {"$set": {"w": self.doc["n"]}, "$inc": {"copies": 1}}

    def allmigration03__count(self) -> None:
        self.target = {}
        self.update = {"$inc": {"k": 1}}

    def allmigration04__hash(self) -> None:
        self.target = {"h": {"$exists": False}}
        self.update = {"$set": {"h": hash_of(self.doc["n"])}, "$inc": {"hashed": 1}}


RULES = 4


class Item(LazyMigrationMixin, Document):
    """Documents of the collection `item`."""

    id = IntField(primary_key=True)
    v = IntField()
    n = IntField()
    w = IntField()
    k = IntField()
    copies = IntField()
    h = StringField()
    hashed = IntField()
    migration_handler = ItemMigration
    meta: ClassVar[dict[str, Any]] = {"collection": "item", "auto_create_index": False}


class MixedMigration(DocumentMigration):
    """A rule whose update ends the match of most documents; of those with `v: 7` it does not."""

    def allmigration01__mixed(self) -> None:
        self.target = {"h": {"$exists": False}}
        digest = hash_of(self.doc["n"])
        self.update = {"$inc": {"hashed": 1}}
        if self.doc["v"] != 7:
            self.update["$set"] = {"h": digest}


class RaisingMigration(DocumentMigration):
    """A lazy rule that raises small numbers above what it looks for, but for those with `v: 7`."""

    def migration01__raise(self) -> None:
        self.target = {"w": {"$lt": 5}}
        more = 0 if self.doc["v"] == 7 else 10
        self.update = {"$set": {"w": int(str(self.doc["w"])) + more}, "$inc": {"hashed": 1}}


class DoublingMigration(DocumentMigration):
    """A lazy rule that MongoDB computes for numbers, and Python for everything else."""

    def migration01__double(self) -> None:
        self.target = {"w": {"$exists": False}}
        self.update = {"$set": {"w": self.doc["n"] * 2}}


class CopyingMigration(DocumentMigration):
    """A lazy rule that MongoDB computes for all documents."""

    def migration01__copy(self) -> None:
        self.target = {"n": {"$exists": True}, "w": {"$exists": False}}
        self.update = {"$set": {"w": self.doc["n"]}}


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


def done(count: int) -> list[dict[str, Any]]:
    """The items after every rule was applied once."""
    new = {"v": 2, "n": 1, "w": 1, "copies": 1, "k": 1, "h": hash_of(1), "hashed": 1}
    return [{"_id": number, **new} for number in range(count)]


def stored(database: Any) -> list[dict[str, Any]]:
    """The items as they are."""
    return list(database["item"].find().sort("_id"))
