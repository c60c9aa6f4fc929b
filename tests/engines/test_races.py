"""Writers who come in between: a rule that reads the document, and documents that vanish."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import mongoengine
import pytest
from mongoengine import Document, DynamicField, IntField, ListField, ReferenceField
from mongoengine.errors import DoesNotExist
from pymongo import MongoClient
from pymongo.database import Database

from lazymig import MigrationConflict, MigrationFailed
from tests.support.handlers import handler, model, rule
from tests.support.migrator import Migrator
from tests.support.server import CLIENT_OPTIONS

# What a second client does while a rule is being computed: collection, `_id`, number of the call.
Meddle = Callable[[Any, Any, int], None]


@pytest.fixture
def other(server_uri: str, database: Database[Any]) -> Any:
    """The collection of the posts, through a second client."""
    with MongoClient(server_uri) as second:
        yield second[database.name]["post"]


def _meddled(other: Any, meddle: Meddle, update: Any = None) -> Any:
    """A rule `b = a * 10`, during each evaluation of which `meddle` is called."""
    calls: Counter[Any] = Counter()

    def method(self: Any) -> None:
        self.target = {"b": {"$exists": False}}
        value = self.doc["a"]
        key = self.doc["_id"]
        if not self.status:
            calls[key] += 1
            meddle(other, key, calls[key])
        self.update = update(value) if update else {"$set": {"b": value * 10}}

    return method


def _post(method: Any, **attributes: Any) -> Any:
    rules = handler(migration01__x=method, **attributes)
    return model(rules, a=IntField(), b=IntField(), seen=ListField(IntField()))


def _insert(database: Database[Any], count: int = 3) -> None:
    database["post"].insert_many([{"_id": n, "a": n} for n in range(count)])


def _once(key: Any, change: Callable[[Any], None]) -> Meddle:
    def meddle(other: Any, document_id: Any, call: int) -> None:
        if document_id == key and call == 1:
            change(other)

    return meddle


UPDATES = {
    "$set": None,
    "$set and $unset": lambda value: {"$set": {"b": value * 10}, "$unset": {"a": ""}},
    "$inc": lambda value: {"$inc": {"b": value * 10}},
    "$push": lambda value: {"$set": {"b": value * 10}, "$push": {"seen": value}},
    "pipeline": lambda value: [{"$set": {"b": {"$literal": value * 10}}}],
}


@pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES)
@pytest.mark.parametrize("count", [1, 3])
def test_a_changed_input_is_computed_again(
    mongoengine_db: Database[Any], other: Any, count: int, update: Any
) -> None:
    """What was read changes before the write: the value is computed anew from the new input."""
    _insert(mongoengine_db, count)
    meddle = _once(0, lambda posts: posts.update_one({"_id": 0}, {"$set": {"a": 7}}))
    post = _post(_meddled(other, meddle, update))
    found = {each.key: each.b for each in post.objects}
    assert found == {n: (7 if n == 0 else n) * 10 for n in range(count)}
    stored = mongoengine_db["post"].find_one({"_id": 0})
    assert stored is not None
    assert stored.get("seen", [7]) == [7]


def test_a_change_that_the_rule_did_not_read_costs_nothing(
    mongoengine_db: Database[Any], other: Any
) -> None:
    """Another field's change does not stop the write, and is not lost."""
    _insert(mongoengine_db)
    calls: list[Any] = []

    def meddle(posts: Any, key: Any, _call: int) -> None:
        calls.append(key)
        posts.update_one({"_id": key}, {"$set": {"seen": [1]}})

    post = _post(_meddled(other, meddle))
    assert [(each.b, each.seen) for each in post.objects] == [(0, [1]), (10, [1]), (20, [1])]
    assert calls == [0, 1, 2]


def test_another_writer_who_ends_the_match_wins(mongoengine_db: Database[Any], other: Any) -> None:
    """A document that someone else brings up to date in between is left as that writer left it."""
    _insert(mongoengine_db)
    meddle = _once(1, lambda posts: posts.update_one({"_id": 1}, {"$set": {"b": -1}}))
    post = _post(_meddled(other, meddle))
    assert {each.key: each.b for each in post.objects} == {0: 0, 1: -1, 2: 20}


@pytest.mark.parametrize("before", [2, 3, 4])
def test_what_a_run_migrates_while_it_is_judged_is_handed_out_as_it_is_then(
    server_uri: str, database: Database[Any], before: int
) -> None:
    """A document that only MongoDB can judge is not handed out as it was before a run migrated it.

    MongoDB no longer finds it to be old, and nothing in what was read of it is an error.
    """
    migrator = Migrator(database["post"], {"$set": {"a": 7, "b": 1}}, before)
    mongoengine.connect(
        database.name, host=server_uri, event_listeners=[migrator], **CLIENT_OPTIONS
    )
    target = {"$expr": {"$lt": [{"$abs": "$a"}, 7]}, "b": {"$exists": False}}
    post = model(
        handler(migration01__x=rule(target, {"$set": {"a": 7, "b": 1}})), a=IntField(), b=IntField()
    )
    database["post"].insert_many([{"_id": n, "a": n} for n in range(3)])
    assert [(each.a, each.b) for each in post.objects] == [(7, 1)] * 3
    mongoengine.disconnect()


# Numbers are in doubt: only MongoDB knows which of them are old.
FLAG = rule(
    {"a": {"$type": "number"}, "$expr": {"$in": [{"$toString": "$a"}, ["0", "1"]]}},
    {"$set": {"a": True}},
)


@pytest.mark.parametrize("narrow", [lambda post: post.objects, lambda post: post.objects.only("a")])
def test_a_document_that_differs_in_a_type_alone_is_handed_out_as_it_is_now(
    server_uri: str, database: Database[Any], narrow: Callable[[Any], Any]
) -> None:
    """What was migrated while it was judged is no more handed out if only a type tells the two."""
    migrator = Migrator(database["post"], {"$set": {"a": True}}, 2)
    mongoengine.connect(
        database.name, host=server_uri, event_listeners=[migrator], **CLIENT_OPTIONS
    )
    post = model(handler(migration01__flag=FLAG), a=DynamicField())
    database["post"].insert_many([{"_id": n, "a": 1} for n in range(3)])
    assert [each.a is True for each in narrow(post)] == [True] * 3
    mongoengine.disconnect()


def test_what_is_not_a_number_is_no_change(mongoengine_db: Database[Any]) -> None:
    """An up-to-date document that only MongoDB can judge is loaded, whatever number it holds."""
    post = model(handler(migration01__flag=FLAG), a=DynamicField())
    mongoengine_db["post"].insert_one({"_id": 1, "a": math.nan})
    assert math.isnan(post.objects.get().a)


@pytest.mark.parametrize("number", [1.0, math.nan])
def test_a_rule_that_does_not_end_its_match_is_blamed(
    mongoengine_db: Database[Any], number: float
) -> None:
    """What a rule leaves under a target that only MongoDB judges is no doing of somebody else."""
    target = {"a.b": {"$exists": True}, "$expr": {"$eq": [{"$toString": "$old"}, "1"]}}
    post = model(
        handler(migration01__unset=rule(target, {"$unset": {"a.b": ""}, "$set": {"n": 1}})),
        a=DynamicField(),
        old=IntField(),
        n=DynamicField(),
        m=DynamicField(),
    )
    mongoengine_db["post"].insert_one({"_id": 1, "a": [{"b": 1}], "old": 1, "m": number})
    with pytest.raises(MigrationFailed, match="still matches"):
        post.objects.get()


def test_a_load_ends_whoever_else_writes(server_uri: str, database: Database[Any]) -> None:
    """A document that others change before each command of a load is read three times at most."""
    writer = Migrator(database["post"], {"$inc": {"a": 1}}, None)
    mongoengine.connect(database.name, host=server_uri, event_listeners=[writer], **CLIENT_OPTIONS)
    post = model(handler(migration01__flag=FLAG), a=DynamicField())
    database["post"].insert_one({"_id": 1, "a": 10})
    assert [each.a for each in post.objects] == [13]
    assert writer.finds == 3
    mongoengine.disconnect()


@pytest.mark.parametrize("narrows", [False, True], ids=["undetermined", "narrowed"])
def test_a_changed_neighbour_does_not_double_a_computed_target(
    mongoengine_db: Database[Any], other: Any, narrows: bool
) -> None:
    """Where the target is computed as well, another document's change makes no update happen twice.

    Once it is written, the rule computes another target, which the document matches again.
    """
    mongoengine_db["post"].insert_many([{"_id": n, "a": n, "gone": 1} for n in range(5)])
    meddle = _once(2, lambda posts: posts.update_one({"_id": 2}, {"$set": {"a": 70}}))
    calls: Counter[Any] = Counter()

    def method(self: Any) -> None:
        if narrows:
            self.target = {"a": {"$exists": True}}
        key, value = self.doc["_id"], self.doc["a"]
        if not self.status:
            calls[key] += 1
            meddle(other, key, calls[key])
        self.target = {"a": value}
        self.update = {"$set": {"a": int(value) + 1}, "$unset": {"gone": ""}}

    post = model(handler(migration01__x=method), a=IntField())
    assert [each.a for each in post.objects.order_by("key")] == [1, 2, 71, 4, 5]
    assert [raw["a"] for raw in mongoengine_db["post"].find().sort("_id")] == [1, 2, 71, 4, 5]


@pytest.mark.parametrize("update", UPDATES.values(), ids=UPDATES)
def test_inputs_that_change_every_time_are_a_conflict(
    mongoengine_db: Database[Any], other: Any, update: Any
) -> None:
    """After a bounded number of changes MigrationConflict names model, rule and `_id`; no more."""
    _insert(mongoengine_db)

    def meddle(posts: Any, key: Any, _call: int) -> None:
        if key == 1:
            posts.update_one({"_id": 1}, {"$inc": {"a": 1}})

    post = _post(_meddled(other, meddle, update))
    iterator = iter(post.objects.order_by("key").no_cache())
    assert next(iterator).b == 0
    with pytest.raises(MigrationConflict) as caught:
        next(iterator)
    assert next(iterator).b == 20
    error = caught.value
    assert (error.model, error.rule, error.document_id) == ("Post", "migration01__x", 1)
    assert "migration01__x" in str(error)
    assert "b" not in (mongoengine_db["post"].find_one({"_id": 1}) or {})


def test_a_conflict_is_over_when_the_changes_are(mongoengine_db: Database[Any], other: Any) -> None:
    """The next load of a document that was in conflict migrates it."""
    _insert(mongoengine_db, 1)
    busy = [True]

    def meddle(posts: Any, _key: Any, _call: int) -> None:
        if busy:
            posts.update_one({"_id": 0}, {"$inc": {"a": 1}})

    post = _post(_meddled(other, meddle))
    with pytest.raises(MigrationConflict):
        post.objects.get(key=0)
    busy.clear()
    stored = mongoengine_db["post"].find_one({"_id": 0})
    assert stored is not None
    assert post.objects.get(key=0).b == stored["a"] * 10


def _deleted(other: Any, key: int = 1, **attributes: Any) -> Any:
    return _post(
        _meddled(other, _once(key, lambda posts: posts.delete_one({"_id": key}))), **attributes
    )


@pytest.mark.parametrize("count", [2, 3])
def test_a_deleted_document_is_left_out_of_an_iteration(
    mongoengine_db: Database[Any], other: Any, count: int
) -> None:
    """A document that is deleted while its batch is migrated is no part of the iteration."""
    _insert(mongoengine_db, count)
    post = _deleted(other)
    assert [each.key for each in post.objects.order_by("key")] == [
        n for n in range(count) if n != 1
    ]
    assert mongoengine_db["post"].count_documents({"_id": 1}) == 0


def test_a_deleted_document_is_left_out_of_in_bulk(
    mongoengine_db: Database[Any], other: Any
) -> None:
    """A document that is deleted while it is migrated is no part of in_bulk's answer."""
    _insert(mongoengine_db)
    assert set(_deleted(other).objects.in_bulk([0, 1, 2])) == {0, 2}


@pytest.mark.parametrize(
    "load",
    [
        lambda post: post.objects.get(key=1),
        lambda post: post.objects(a=1).get(),
        lambda post: post.migration_handler(post).migrate(1),
        lambda post: post.migration_handler(post).migrate({"_id": 1, "a": 1}),
        lambda post: post.migration_handler(post).migrate(post(key=1)),
        lambda post: post(key=1).reload(),
    ],
)
def test_a_deleted_document_does_not_exist(
    mongoengine_db: Database[Any], other: Any, load: Any
) -> None:
    """get(), migrate() and reload() of a document deleted in between raise DoesNotExist."""
    _insert(mongoengine_db)
    with pytest.raises(DoesNotExist):
        load(_deleted(other))


def test_a_reference_to_a_deleted_document_does_not_exist(
    mongoengine_db: Database[Any], other: Any
) -> None:
    """A reference whose document is deleted while it is migrated raises DoesNotExist."""
    _insert(mongoengine_db)
    post = _deleted(other)
    fields = {"post": ReferenceField(post), "meta": {"collection": "holder"}}
    holder = type(Document)("Holder", (Document,), {**fields, "__module__": __name__})
    mongoengine_db["holder"].insert_one({"post": 1})
    found = holder.objects.first()
    with pytest.raises(DoesNotExist):
        _ = found.post


def test_first_and_index_answer_as_mongoengine_would(
    mongoengine_db: Database[Any], other: Any
) -> None:
    """first() of what was deleted in between is None, [i] an IndexError."""
    _insert(mongoengine_db)
    assert _deleted(other).objects(key=1).first() is None
    mongoengine_db["post"].insert_one({"_id": 1, "a": 1})
    with pytest.raises(IndexError):
        _ = _deleted(other).objects(key=1)[0]


def test_threads_apply_a_dynamic_rule_once(mongoengine_db: Database[Any], other: Any) -> None:
    """Two threads that compute the same rule at the same moment write each document once."""
    _insert(mongoengine_db, 50)
    barrier = threading.Barrier(2, timeout=30)
    met = threading.local()

    def meddle(_posts: Any, _key: Any, _call: int) -> None:
        if not hasattr(met, "done"):
            met.done = True
            barrier.wait()

    post = _post(_meddled(other, meddle, lambda value: {"$inc": {"b": value * 10 + 1}}))
    results: list[Any] = []

    def load() -> None:
        results.append([each.b for each in post.objects.order_by("key")])

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [n * 10 + 1 for n in range(50)]
    assert results == [expected, expected]


def test_unchanged_documents_are_not_computed_again(
    mongoengine_db: Database[Any], other: Any
) -> None:
    """When one document of a settled batch changes meanwhile, the rule runs again for it alone."""
    _insert(mongoengine_db, 5)
    calls: Counter[Any] = Counter()

    def method(self: Any) -> None:
        self.target = {"b": {"$exists": False}}
        key, value = self.doc["_id"], self.doc["a"]
        calls[key] += 1
        if key == 2 and calls[key] == 1:
            other.update_one({"_id": 2}, {"$set": {"a": 7}})
        self.update = {"$set": {"b": value * 10}}

    rules = handler(migration01__x=method)
    post = model(rules, a=IntField(), b=IntField())
    assert [each.b for each in post.objects.order_by("b")] == [0, 10, 30, 40, 70]
    assert calls == {0: 1, 1: 1, 2: 2, 3: 1, 4: 1}
    assert [doc["b"] for doc in mongoengine_db["post"].find().sort("_id")] == [0, 10, 70, 30, 40]
