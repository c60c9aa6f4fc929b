"""A program of greenlets: `python -m gevent.monkey --module tests.ecosystem.greenlets ...`.

It has a process of its own, as gevent has to patch before anything else is imported. Its arguments
are a connection string, the name of a database and the number of greenlets.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

import gevent
import mongoengine
from gevent.pool import Pool
from mongoengine import Document, EmbeddedDocument, EmbeddedDocumentListField, IntField, StringField

from lazymig import DocumentMigration, LazyMigrationMixin, as_stored, each, without_writing


class ItemMigration(DocumentMigration):
    """A rename, a value that Python computes, embedded items; `times` counts what is written."""

    # However slow the machine is.
    lazy_timeout = 100

    def migration01__name(self):
        self.target = {"label": {"$exists": True}}
        self.update = {"$rename": {"label": "name"}, "$inc": {"times": 1}}

    def migration02__words(self):
        self.target = {"text": {"$exists": True}}
        self.update = {
            "$set": {"words": len(self.doc["text"].split())},
            "$unset": {"text": ""},
            "$inc": {"times": 1},
        }

    def migration03__items(self):
        self.update = each("items", rename={"n": "number"})


class Part(EmbeddedDocument):
    number = IntField()


class Item(LazyMigrationMixin, Document):
    key = IntField(primary_key=True)
    name = StringField()
    words = IntField()
    times = IntField()
    items = EmbeddedDocumentListField(Part)
    meta = {"collection": "item"}
    migration_handler = ItemMigration


def _work(number: int, greenlets: int) -> dict[str, Any]:
    """One request: each greenlet looks at documents that others look at, too."""
    near = [(number + step) % greenlets for step in range(2)]
    loaded = [Item.objects.get(key=key) for key in near]
    found = Item.objects(name=f"name {number}").count()
    listed = [one.key for one in Item.objects(words__gte=3, key__in=near).order_by("-name")]
    with as_stored(Item):
        gevent.sleep(0)
        raw = Item.objects(key=number).count()
    with without_writing(Item):
        gevent.sleep(0)
        (shown,) = Item.objects(key=greenlets + number)
    return {
        "names": [one.name for one in loaded],
        "words": [one.words for one in loaded],
        "numbers": [part.number for one in loaded for part in one.items],
        "found": found,
        "listed": listed,
        "raw": raw,
        "shown": [shown.name, shown.words],
    }


def main(uri: str, database: str, greenlets: str) -> None:
    """Have all greenlets work at once on one client, and print what each of them has found."""
    mongoengine.connect(database, host=uri, uuidRepresentation="standard", maxPoolSize=10)
    count = int(greenlets)
    results = Pool(count).map(partial(_work, greenlets=count), range(count))
    sys.stdout.write(json.dumps(results))
    mongoengine.disconnect()


if __name__ == "__main__":
    main(*sys.argv[1:])
