"""Documents of nearly 16 MB: migrated where MongoDB can hold the result, and few at a time."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from mongoengine import Document, DynamicField, IntField, StringField
from pymongo.database import Database

from lazymig import MigrationFailed, once
from lazymig.engines.access import as_bytes
from lazymig.engines.computed.computing import Computation
from lazymig.engines.computed.guards import set_apart
from lazymig.engines.reading.decoding import BoundedReader, take
from lazymig.engines.store import Store
from lazymig.rules.document import ReadDocument
from tests.support.handlers import handler, model, rule

MB = 1 << 20
LARGE, GREATEST = "x" * 9_000_000, "x" * (16 * MB - 200)


def _upper(self: Any) -> None:
    self.target = {"p": {"$regex": "^x"}}
    self.update = {"$set": {"p": self.doc["p"].upper()}}


def _upper_of_all(self: Any) -> None:
    self.target = {"p": {"$regex": "^x"}}
    self.update = {"$set": {"p": dict(self.doc)["p"].upper()}}


def _upper_by_pipeline(self: Any) -> None:
    self.target = {"p": {"$regex": "^x"}}
    self.update = [{"$set": {"p": {"$literal": self.doc["p"].upper()}}}]


def _twice(self: Any) -> None:
    self.target = {"p": {"$regex": "^x"}}
    self.update = {"$set": {"p": "X" * (2 * len(self.doc["p"]))}}


def _post(method: Callable[[Any], None]) -> Any:
    # Nothing of what is asked here is how fast the machine is.
    rules = handler(migration01__p=method, lazy_timeout=60)
    return model(rules, p=StringField(), q=DynamicField())


def _fill(database: Database[Any], text: str) -> None:
    database["post"].drop()
    database["post"].insert_many([{"_id": n, "p": text if n == 2 else "x"} for n in (1, 2, 3)])


def _done(database: Database[Any]) -> list[int]:
    found = database["post"].find({"p": {"$regex": "^X"}}, {"_id": 1}).sort("_id", 1)
    return [document["_id"] for document in found]


@pytest.mark.parametrize("method", [_upper, _upper_of_all, _upper_by_pipeline])
@pytest.mark.parametrize("text", [LARGE, GREATEST], ids=["large", "greatest"])
def test_a_large_document_is_migrated(
    mongoengine_db: Database[Any], method: Callable[[Any], None], text: str
) -> None:
    """What a rule has read and what it writes need not have room in one command together."""
    post = _post(method)

    _fill(mongoengine_db, text)
    assert [document.key for document in post.objects.order_by("key").only("key", "p")] == [1, 2, 3]
    assert _done(mongoengine_db) == [1, 2, 3]
    _fill(mongoengine_db, text)
    report = post.migration_handler(post).migrate_pending()
    assert (report.state, report.modified, report.errors) == ("finished", 3, ())
    assert _done(mongoengine_db) == [1, 2, 3]


def test_a_large_document_that_was_changed_is_read_again(
    mongoengine_db: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard of a large document holds: nothing is written over what came in between."""
    post = _post(_upper)
    _fill(mongoengine_db, LARGE)
    compute = Computation.compute
    changed: list[int] = []

    def disturbed(self: Computation, document: Any, projected: Any) -> Any:
        write = compute(self, document, projected)
        if document["_id"] == 2 and not changed:
            changed.append(2)
            mongoengine_db["post"].update_one({"_id": 2}, {"$set": {"p": "xyz"}})
        return write

    monkeypatch.setattr(Computation, "compute", disturbed)
    assert post.objects.get(key=2).p == "XYZ"
    assert changed


@pytest.mark.parametrize("transactions", [False, True])
def test_what_mongodb_cannot_hold_is_one_refusal(
    mongoengine_db: Database[Any], transactions: bool
) -> None:
    """An update that is too large is refused for its document; the others are migrated."""
    post = _post(_twice)

    _fill(mongoengine_db, LARGE)
    report = post.migration_handler(post).migrate_pending(max_errors=5, transactions=transactions)
    assert (report.state, report.modified) == ("finished", 2)
    assert [error.document_id for error in report.errors] == [2]
    assert "more than MongoDB takes" in str(report.errors[0])
    assert _done(mongoengine_db) == [1, 3]
    with pytest.raises(MigrationFailed, match="more than MongoDB takes"):
        post.objects.get(key=2)
    assert len(str(report.errors[0])) < 500


@pytest.mark.parametrize("transactions", [False, True])
@pytest.mark.parametrize(
    "update",
    [{"$set": {"q": "z" * 1000}}, [{"$set": {"q": {"$concat": ["$p", "$p"]}}}]],
    ids=["operators", "pipeline"],
)
def test_a_result_that_is_too_large_is_one_refusal(
    mongoengine_db: Database[Any], update: Any, transactions: bool
) -> None:
    """A document that a static rule would make larger than MongoDB allows stops no other."""
    post = _post(rule({"q": {"$exists": False}}, update))

    _fill(mongoengine_db, GREATEST)
    documents = iter(post.objects.order_by("key").no_cache())
    assert next(documents).key == 1
    with pytest.raises(MigrationFailed):
        next(documents)
    assert next(documents).key == 3
    assert mongoengine_db["post"].count_documents({"q": {"$exists": True}}) == 2
    _fill(mongoengine_db, GREATEST)
    report = post.migration_handler(post).migrate_pending(max_errors=5, transactions=transactions)
    assert [error.document_id for error in report.errors] == [2]
    assert mongoengine_db["post"].count_documents({"q": {"$exists": True}}) == 2


def test_a_once_rule_on_a_large_document(mongoengine_db: Database[Any]) -> None:
    """A once rule needs no guard, so that it writes whatever MongoDB can hold."""

    # A mark on the method that tests share would be seen by those that come after.
    @once
    def sent(self: Any) -> None:
        _upper(self)

    post = _post(sent)
    _fill(mongoengine_db, LARGE)

    assert post.migration_handler(post).migrate_pending().modified == 3
    assert _done(mongoengine_db) == [1, 2, 3]


def test_a_guard_with_variables_says_the_same(database: Database[Any]) -> None:
    """Set apart, the conditions of a guard hold for what was read, and for nothing else."""
    values: list[Any] = [1, "a", None, [1], {"a": 1}, 2.5, [], {}]
    documents: list[dict[str, Any]] = [{"_id": n, "v": value} for n, value in enumerate(values)]
    documents.append({"_id": len(values)})
    database["post"].insert_many(documents)
    for document in documents:
        for whole in (False, True):
            read = ReadDocument(document)
            read.get("v")
            read.read_whole = whole
            conditions, variables = set_apart(read.guard())
            found = database["post"].aggregate(
                [{"$match": {"$and": conditions}}], let=variables or {"unused": 1}
            )
            assert [each["_id"] for each in found] == [document["_id"]]


def test_large_documents_are_taken_few_at_a_time(database: Database[Any]) -> None:
    """A batch ends with so many bytes; each document comes once, whichever way it is read."""
    collection = database["post"]
    for n in range(9):
        collection.insert_one({"_id": n, "p": "x" * (2 * MB)})
    options = collection.codec_options

    cursor = as_bytes(collection).find().sort("_id", 1)
    sizes = []
    while batch := take(cursor, options, 100):
        sizes.append(len(batch))
    assert sizes == [2, 2, 2, 2, 1]

    reader = BoundedReader(Store(collection), [*range(9), 77], {"_id": {"$ne": 4}})
    seen: list[int] = []
    while reader.left:
        documents = reader.read()
        assert len(documents) <= 2
        seen.extend(document["_id"] for document in documents)
    assert sorted(seen) == [0, 1, 2, 3, 5, 6, 7, 8]


def _peak(work: Callable[[], Any]) -> int:
    gc.collect()
    tracemalloc.start()
    try:
        work()
        peak: int = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    return peak


@pytest.mark.parametrize("old", [False, True], ids=["up to date", "old"])
def test_an_iteration_holds_as_little_as_a_plain_one(
    mongoengine_db: Database[Any], old: bool
) -> None:
    """With `no_cache()` large documents cost at most twice the memory of plain MongoEngine."""

    class Plain(Document):
        key = IntField(primary_key=True)
        p = StringField()
        q = DynamicField()
        meta = {"collection": "post"}

    post = _post(rule({"q": {"$exists": False}}, {"$set": {"q": 1}}))

    def fill() -> None:
        mongoengine_db["post"].drop()
        for n in range(30):
            document = {"_id": n, "p": "x" * (2 * MB)}
            mongoengine_db["post"].insert_one(document if old else {**document, "q": 1})

    def iterate(some: Any) -> None:
        assert sum(1 for _ in some.objects.no_cache()) == 30

    fill()
    plain = _peak(lambda: iterate(Plain))
    # And what is needed around the documents.
    assert _peak(lambda: iterate(post)) < 2 * plain + MB // 4


def test_a_run_holds_few_large_documents(mongoengine_db: Database[Any]) -> None:
    """A computed rule over large documents holds a few of them, however many there are."""
    post = _post(_upper)
    for n in range(60):
        mongoengine_db["post"].insert_one({"_id": n, "p": "x" * (2 * MB)})

    peak = _peak(lambda: post.migration_handler(post).migrate_pending())

    assert len(_done(mongoengine_db)) == 60
    # PyMongo holds an answer of 16 MB four times while it leaves its documents as bytes.
    assert peak < (4 * 16 + 4) * MB
