"""A pre-forking server: `python -m tests.ecosystem.forks URI DATABASE DOCUMENTS WAY`.

The models are defined, and MongoEngine is told its server, before the workers are forked, as by
gunicorn's `--preload` or uWSGI. WAY is `lazily`, if the parent has sent nothing by then; or
`again`, if it has, so that each worker connects anew, as PyMongo wants it.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import mongoengine
from mongoengine import Document, IntField, StringField

from lazymig import DocumentMigration, LazyMigrationMixin, once

WORKERS = 4


class ItemMigration(DocumentMigration):
    """A rename, a value that Python computes, and an effect; `times` counts what is written."""

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

    @once(wait=100)
    def migration03__mail(self):
        self.target = {"mailed": {"$exists": False}}
        self.collection.database["mail"].insert_one({"to": self.doc["_id"], "by": os.getpid()})
        self.update = {"$set": {"mailed": True}}


class Item(LazyMigrationMixin, Document):
    key = IntField(primary_key=True)
    name = StringField()
    words = IntField()
    times = IntField()
    mailed = mongoengine.BooleanField()
    meta = {"collection": "item"}
    migration_handler = ItemMigration


def _connect(uri: str, database: str) -> None:
    mongoengine.connect(database, host=uri, uuidRepresentation="standard", connect=False)


def _work(worker: int, documents: int) -> dict[str, Any]:
    """What a worker finds; the workers begin at different documents."""
    order = [(key + worker * documents // WORKERS) % documents for key in range(documents)]
    return {
        "names": sorted(Item.objects.get(key=key).name for key in order),
        "found": [Item.objects(name=f"name {key}").count() for key in order[:5]],
        "listed": [one.key for one in Item.objects(words__gte=3).order_by("key")],
        "sum": Item.objects.sum("words"),
    }


def main(uri: str, database: str, documents: str, way: str) -> None:
    """Fork the workers, let the parent work too, and print what all have found."""
    count = int(documents)
    _connect(uri, database)
    if way == "again":
        Item.objects.get(key=0)
    pipes = []
    for worker in range(WORKERS):
        reading, writing = os.pipe()
        if os.fork():
            os.close(writing)
            pipes.append(reading)
            continue
        status = 1
        try:
            if way == "again":
                mongoengine.disconnect()
                _connect(uri, database)
            with os.fdopen(writing, "w") as pipe:
                json.dump(_work(worker, count), pipe)
            status = 0
        finally:
            # A worker has nothing of the parent's to end.
            os._exit(status)
    results = [_work(WORKERS, count)]
    for reading in pipes:
        with os.fdopen(reading) as pipe:
            results.append(json.load(pipe))
    for _ in pipes:
        os.wait()
    sys.stdout.write(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
