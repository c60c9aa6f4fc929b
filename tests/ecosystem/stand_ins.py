"""What works on packages that imitate MongoDB: `python -m tests.ecosystem.stand_ins NAME`.

Each probe is something that a user does, with what MongoDB gives for it. The program prints what
became of each as JSON: "works", "differs", or the exception. It needs no pytest, as mongoeco's
Python may be another one than that of the suite.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mongoengine
from mongoengine import (
    BooleanField,
    Document,
    EmbeddedDocument,
    EmbeddedDocumentField,
    EmbeddedDocumentListField,
    IntField,
    StringField,
)

from lazymig import (
    DocumentMigration,
    History,
    LazyMigrationMixin,
    as_stored,
    check_documents,
    diff,
    each,
    once,
    restore,
    without_writing,
)

Probe = Callable[[Any], None]

PROBES: dict[str, Probe] = {}

PYTHON_OF_MONGOECO = (3, 13)


def probe(name: str) -> Callable[[Probe], Probe]:
    """Give a probe its name, which is that of its row in the table of the docs."""

    def register(function: Probe) -> Probe:
        PROBES[name] = function
        return function

    return register


class Rules(DocumentMigration):
    """A rename and a new field, which MongoDB writes; a value that Python computes."""

    def migration01__rename(self):
        self.target = {"cost": {"$exists": True}}
        self.update = {"$rename": {"cost": "price"}}

    def migration02__enable(self):
        self.target = {"enabled": {"$exists": False}}
        self.update = {"$set": {"enabled": True}}

    def migration03__words(self):
        self.target = {"text": {"$exists": True}}
        self.update = {"$set": {"words": len(self.doc["text"].split())}, "$unset": {"text": ""}}


class Part(EmbeddedDocument):
    number = IntField()
    size = IntField()


OLD = [
    {"_id": 1, "cost": 10, "text": "a b"},
    {"_id": 2, "price": 20, "enabled": False, "words": 1},
    {"_id": 3, "cost": 30, "enabled": True, "text": "a b c"},
]
TODAY = [
    {"_id": 1, "price": 10, "enabled": True, "words": 2},
    {"_id": 2, "price": 20, "enabled": False, "words": 1},
    {"_id": 3, "price": 30, "enabled": True, "words": 3},
]


def _model(rules: Any = Rules) -> Any:
    class Item(LazyMigrationMixin, Document):
        key = IntField(primary_key=True)
        price = IntField()
        enabled = BooleanField()
        words = IntField()
        part = EmbeddedDocumentField(Part)
        parts = EmbeddedDocumentListField(Part)
        note = StringField()
        meta = {"collection": "item"}
        migration_handler = rules

    return Item


def _old(database: Any) -> Any:
    database["item"].insert_many([dict(one) for one in OLD])
    return _model()


def _stored(database: Any) -> list[Any]:
    return sorted(database["item"].find(), key=lambda one: one["_id"])


def _equal(found: Any, expected: Any) -> None:
    if found != expected:
        raise AssertionError(f"{found!r} is not {expected!r}")


def _document(item: Any) -> dict[str, Any]:
    """What a document was loaded with; MongoEngine adds empty lists."""
    return {name: value for name, value in item.to_mongo().to_dict().items() if value != []}


def _keys(queryset: Any) -> list[int]:
    return sorted(one.key for one in queryset)


def _one_rule(database: Any, old: Any, body: Callable[[Any], None], expected: Any) -> None:
    """Load one document through one rule, and run the rule over another."""
    handler = type("One", (DocumentMigration,), {"migration01__one": body})
    item = _model(handler)
    database["item"].insert_many([{"_id": 1, **old}, {"_id": 2, **old}])
    _equal(_document(item.objects.get(key=1)), {"_id": 1, **expected})
    report = handler(item).migrate_pending()
    _equal((report.state, report.complete), ("finished", True))
    _equal(_stored(database), [{"_id": 1, **expected}, {"_id": 2, **expected}])


@probe("static rules, and rules in Python, on load")
def _loads(database: Any) -> None:
    item = _old(database)
    _equal([_document(one) for one in item.objects.order_by("key")], TODAY)
    _equal(_stored(database), TODAY)


@probe("the same in bulk, with the journal and its history")
def _runs(database: Any) -> None:
    item = _old(database)
    report = Rules(item).migrate_pending()
    _equal((report.state, report.complete), ("finished", True))
    _equal(_stored(database), TODAY)
    (run,) = History(database).runs()
    _equal(run.state, "finished")


@probe("`get_deprecated()`, `get_status()`, `check_documents()`")
def _reports(database: Any) -> None:
    item = _old(database)
    handler = Rules(item)
    _equal(handler.get_deprecated()["deprecated"], [])
    _equal([one.remaining for one in handler.get_status()], [2, 1, 2])
    _equal(check_documents(item).ok, False)
    _equal(_stored(database), OLD)


@probe("`preview()`")
def _preview(database: Any) -> None:
    item = _old(database)
    _equal(any(one.changes for one in Rules(item).preview().samples), True)
    _equal(_stored(database), OLD)


@probe("`as_stored()`, partial loads, loads of one document")
def _doors(database: Any) -> None:
    item = _old(database)
    with as_stored(item):
        _equal(item.objects(price=20).count(), 1)
        _equal(_stored(database), OLD)
    _equal(item.objects.only("price").get(key=1).price, 10)
    _equal(item.objects.in_bulk([1, 3])[3].words, 3)
    _equal(item.objects(key=1).first().enabled, True)


@probe("queries by what static rules write: filters, `count()`, `order_by`")
def _queries(database: Any) -> None:
    item = _old(database)
    _equal(item.objects(price__gte=20).count(), 2)
    _equal(item.objects(enabled=True).count(), 2)
    _equal([one.key for one in item.objects(enabled=True).order_by("-price")], [3, 1])
    _equal([one.key for one in item.objects.order_by("-price").limit(2)], [3, 2])


@probe("queries by what Python computes")
def _computed_queries(database: Any) -> None:
    item = _old(database)
    _equal(item.objects(words__gte=2).count(), 2)
    _equal(_keys(item.objects(words=1)), [2])


@probe("`sum`, `average`, `distinct`, `aggregate`")
def _sums(database: Any) -> None:
    item = _old(database)
    _equal(item.objects.sum("price"), 60)
    _equal(item.objects(enabled=True).average("price"), 20)
    _equal(sorted(item.objects.distinct("words")), [1, 2, 3])
    group = {"$group": {"_id": "$enabled", "n": {"$sum": "$price"}}}
    found = item.objects.aggregate([group, {"$sort": {"_id": 1}}])
    _equal(list(found), [{"_id": False, "n": 20}, {"_id": True, "n": 40}])


@probe("`update`, `modify`, upserts, `delete`, `save`")
def _writes(database: Any) -> None:
    item = _old(database)
    _equal(item.objects(price=10).update(set__price=11), 1)
    _equal(item.objects(price=30).modify(new=True, inc__price=1).price, 31)
    _equal(item.objects(key=9).update_one(upsert=True, set__price=9), 1)
    _equal(item.objects(enabled=False).delete(), 1)
    document = item.objects.get(key=1)
    document.note = "saved"
    document.save()
    Rules(item).migrate_pending()
    _equal(
        _stored(database),
        [
            {"_id": 1, "price": 11, "enabled": True, "words": 2, "note": "saved"},
            {"_id": 3, "price": 31, "enabled": True, "words": 3},
            {"_id": 9, "price": 9, "enabled": True},
        ],
    )


@probe("`up_to_date()` of a queryset")
def _up_to_date(database: Any) -> None:
    item = _old(database)
    found = item.objects(enabled=True).up_to_date("price").as_pymongo()
    _equal(sorted(one["price"] for one in found), [10, 30])


@probe("loads that write nothing")
def _unwritten(database: Any) -> None:
    item = _old(database)
    with without_writing(item):
        _equal([_document(one) for one in item.objects.order_by("key")], TODAY)
    _equal(_stored(database), OLD)


@probe("rules that run once")
def _once_rules(database: Any) -> None:
    effects = []

    @once
    def mail(self: Any) -> None:
        self.target = {"note": {"$exists": False}}
        effects.append(self.doc["_id"])
        self.update = {"$set": {"note": "sent"}}

    _one_rule(database, {"price": 1}, mail, {"price": 1, "note": "sent"})
    _equal(sorted(effects), [1, 2])


@probe("pipelines of `$set` and `$unset`")
def _pipelines(database: Any) -> None:
    def rule(self: Any) -> None:
        self.target = {"half": {"$exists": True}}
        self.update = [{"$set": {"price": {"$multiply": ["$half", 2]}}}, {"$unset": "half"}]

    _one_rule(database, {"half": 4}, rule, {"price": 8})


@probe("`each`")
def _items_of_lists(database: Any) -> None:
    def rule(self: Any) -> None:
        self.update = each("parts", rename={"n": "number"})

    _one_rule(database, {"parts": [{"n": 1}]}, rule, {"parts": [{"number": 1}]})


@probe("`$rename` of a dotted path")
def _dotted_rename(database: Any) -> None:
    def rule(self: Any) -> None:
        self.target = {"part.n": {"$exists": True}}
        self.update = {"$rename": {"part.n": "part.number"}}

    _one_rule(database, {"part": {"n": 1}}, rule, {"part": {"number": 1}})


@probe("`array_filters`")
def _array_filters(database: Any) -> None:
    def rule(self: Any) -> None:
        self.target = {"parts": {"$elemMatch": {"size": {"$exists": False}}}}
        self.update = {"$set": {"parts.$[old].size": 0}}
        self.array_filters = [{"old.size": {"$exists": False}}]

    _one_rule(database, {"parts": [{"number": 1}]}, rule, {"parts": [{"number": 1, "size": 0}]})


@probe("`diff()`")
def _drift(database: Any) -> None:
    database["item"].insert_many([{"_id": n, "cost": n} for n in range(20)])
    report = diff(_model(None))
    _equal(any(one.path == "cost" for one in report.findings), True)


@probe("backups, and `restore()`")
def _backups(database: Any) -> None:
    item = _old(database)
    with tempfile.TemporaryDirectory() as folder:
        _equal(Rules(item).migrate_pending(backup=folder).complete, True)
        restore(folder, database)
    _equal(_stored(database), OLD)


@probe("rule indexes, seals, views")
def _server_side(database: Any) -> None:
    item = _old(database)
    handler = Rules(item)
    handler.create_rule_indexes()
    handler.migrate_pending()
    _equal(len(handler.seal().sealed), 3)
    handler.unseal()
    handler.create_view("today")
    _equal(list(database["today"].find()), TODAY)


@contextmanager
def _connected(client_class: Any, **settings: Any) -> Iterator[Any]:
    options: dict[str, Any] = {"uuidRepresentation": "standard", **settings}
    if client_class is not None:
        options["mongo_client_class"] = client_class
    mongoengine.connect("stand_ins", **options)
    try:
        yield mongoengine.get_db()
    finally:
        with contextlib.suppress(Exception):
            mongoengine.get_db().client.drop_database("stand_ins")
        mongoengine.disconnect()


def outcomes(client_class: Any, **settings: Any) -> dict[str, str]:
    """What becomes of each probe: "works", "differs", or the name of the exception.

    :param client_class: of the package; `None` for PyMongo's own.
    :param settings: those of `mongoengine.connect`.
    """
    found = {}
    for name, function in PROBES.items():
        with _connected(client_class, **settings) as database:
            try:
                function(database)
            except AssertionError as differs:
                found[name] = "differs"
                sys.stderr.write(f"{name}: {differs}\n")
            except Exception as failure:  # noqa: BLE001 - whatever the package raises
                found[name] = type(failure).__name__
                sys.stderr.write(f"{name}: {type(failure).__name__}: {str(failure)[:300]}\n")
            else:
                found[name] = "works"
    return found


@contextmanager
def _mongoeco_server() -> Iterator[str]:
    """The connection string of mongoeco as a server, in a thread of its own."""
    server = importlib.import_module("mongoeco.wire.proxy").AsyncMongoEcoProxyServer()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        address = asyncio.run_coroutine_threadsafe(server.start(), loop).result(30)
        yield address.uri
    finally:
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def outcomes_of(package: str) -> dict[str, str]:
    """The outcomes for a package, by its name; for all else as the string of a connection."""
    if package == "mongomock":
        return outcomes(importlib.import_module("mongomock").MongoClient)
    if package == "mongomock-ng":
        return outcomes(importlib.import_module("mongomock_ng").MongoClient)
    if package == "mongoeco as a server":
        with _mongoeco_server() as uri:
            return outcomes(None, host=uri)
    return outcomes(None, host=package)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.stdout.write(json.dumps(outcomes_of(sys.argv[1])))
