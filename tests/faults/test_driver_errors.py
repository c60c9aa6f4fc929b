"""Errors of the driver, not of a document: lost connections are outlasted, others come through."""

from __future__ import annotations

from typing import Any

import mongoengine
import pytest
from mongoengine import BooleanField, IntField
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import AutoReconnect, BulkWriteError, OperationFailure, PyMongoError

from tests.support.doors import by_hand
from tests.support.handlers import ADD_ENABLED, copying, handler, model, rule
from tests.support.server import CLIENT_OPTIONS

COUNT = 250

# What a load writes by, be it one update of many documents or many updates.
WRITES = "bulk_write update_many"


class Breaker:
    """Breaks methods of PyMongo's Collection, once in all, before or after the work is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, names: str, error: Exception) -> None:
        self.left = 1
        self.late = False
        for name in names.split():
            self._watch(monkeypatch, name, error)

    def _watch(self, monkeypatch: pytest.MonkeyPatch, name: str, error: Exception) -> None:
        original = getattr(Collection, name)
        breaker = self

        def broken(collection: Any, *args: Any, **kwargs: Any) -> Any:
            if breaker.left:
                breaker.left -= 1
                if breaker.late:
                    original(collection, *args, **kwargs)
                raise error
            return original(collection, *args, **kwargs)

        monkeypatch.setattr(Collection, name, broken)


ERRORS = {
    "rights": OperationFailure("not authorized on db to execute command", 13),
    "write concern": BulkWriteError(
        {
            "writeErrors": [],
            "writeConcernErrors": [{"code": 64, "errmsg": "waiting for replication timed out"}],
            "nMatched": 0,
            "nModified": 0,
        }
    ),
}


LOST = AutoReconnect("connection closed")


def _post(dynamic: bool = False, **attributes: Any) -> Any:
    counted = {"enabled": {"$exists": False}}, {"$set": {"enabled": True}, "$inc": {"count": 1}}
    method = copying("n", "copied") if dynamic else rule(*counted)
    rules = handler(migration01__x=method, **attributes)
    fields = {"n": IntField(), "copied": IntField(), "count": IntField()}
    return model(rules, enabled=BooleanField(), **fields)


@pytest.fixture
def old_posts(mongoengine_db: Database[Any]) -> Database[Any]:
    """Stale posts for three batches of an iteration."""
    mongoengine_db["post"].insert_many([{"_id": n, "n": n} for n in range(COUNT)])
    return mongoengine_db


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("cached", [True, False], ids=["cache", "no_cache"])
def test_the_same_queryset_goes_on_where_it_broke(
    old_posts: Database[Any],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    cached: bool,
    dynamic: bool,
    late: bool,
) -> None:
    """The driver's error comes through; iterating on loses, repeats and doubly migrates nothing."""
    post = _post(dynamic)
    breaker = Breaker(monkeypatch, WRITES, error)
    breaker.late = late
    queryset = post.objects.order_by("key")
    queryset = queryset if cached else queryset.no_cache()
    iterator = iter(queryset)
    with pytest.raises(type(error)) as caught:
        next(iterator)
    assert caught.value is error
    again = list(queryset) if cached else by_hand(iterator)
    assert [each.key for each in again] == list(range(COUNT))
    assert [each.copied if dynamic else each.count for each in again] == (
        list(range(COUNT)) if dynamic else [1] * COUNT
    )


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize(
    "load",
    [
        lambda post: post.objects.get(key=1),
        lambda post: post.objects.first(),
        lambda post: post.objects.order_by("key")[1],
        lambda post: post.objects.in_bulk([1, 2])[1],
        lambda post: post.migration_handler(post).migrate(post(key=1)),
    ],
    ids=["get", "first", "index", "in_bulk", "migrate"],
)
def test_every_door_lets_the_drivers_error_through(
    old_posts: Database[Any], monkeypatch: pytest.MonkeyPatch, error: Exception, load: Any
) -> None:
    """A single load raises the driver's own error, changes nothing, and succeeds the next time."""
    post = _post()
    Breaker(monkeypatch, WRITES, error)
    with pytest.raises(type(error)) as caught:
        load(post)
    assert caught.value is error
    assert old_posts["post"].count_documents({"enabled": True}) == 0
    assert (load(post).enabled, load(post).count) == (True, 1)


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_a_lost_connection_is_outlasted(
    old_posts: Database[Any], monkeypatch: pytest.MonkeyPatch, dynamic: bool, late: bool
) -> None:
    """A write that is lost on its way, or whose answer is, costs no error; no rule runs twice."""
    post = _post(dynamic)
    breaker = Breaker(monkeypatch, WRITES, LOST)
    breaker.late = late
    loaded = list(post.objects.order_by("key"))
    assert breaker.left == 0
    assert [each.copied if dynamic else each.count for each in loaded] == (
        list(range(COUNT)) if dynamic else [1] * COUNT
    )


def test_a_connection_that_stays_lost_is_told_in_time(
    old_posts: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind `lazy_timeout` the driver's own error comes through, and the next load succeeds."""
    post = _post(lazy_timeout=0.3)
    Breaker(monkeypatch, WRITES, LOST).left = 1000
    with pytest.raises(AutoReconnect) as caught:
        post.objects.get(key=1)
    assert caught.value is LOST
    assert old_posts["post"].count_documents({"enabled": True}) == 0
    monkeypatch.undo()
    assert post.objects.get(key=1).count == 1


def test_skipping_does_not_hide_the_drivers_errors(
    old_posts: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """on_error = "skip" is for documents: a missing right is no document's fault."""
    post = _post(on_error="skip")
    Breaker(monkeypatch, WRITES, ERRORS["rights"])
    with pytest.raises(OperationFailure, match="not authorized"):
        list(post.objects)


def test_a_reread_that_breaks_is_made_up_for(
    old_posts: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection lost between the write and the reread costs nothing."""
    post = _post()
    queryset = post.objects.order_by("key").no_cache()
    iterator = iter(queryset)
    assert next(iterator).key == 0
    breaker = Breaker(monkeypatch, "find", LOST)
    assert [each.key for each in by_hand(iterator)] == list(range(1, COUNT))
    assert breaker.left == 0
    assert old_posts["post"].count_documents({"count": 1}) == COUNT


def test_an_unsatisfiable_write_concern_is_the_drivers_error(
    server_uri: str, database: Database[Any]
) -> None:
    """A real write concern's failure comes through, and nothing is written twice."""
    mongoengine.connect(database.name, host=server_uri, w=2, **CLIENT_OPTIONS)
    database["post"].insert_many([{"_id": n, "n": n} for n in range(3)])
    post = _post()
    with pytest.raises(PyMongoError) as caught:
        list(post.objects)
    assert "writeConcernError" in str(caught.value) or "write concern" in str(caught.value).lower()
    assert [each.count for each in post.objects] == [1, 1, 1]


def test_a_load_that_breaks_while_rescuing_is_repeatable(
    old_posts: Database[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection lost while a load error is being repaired leaves no document out."""
    old_posts["post"].update_one({"_id": 50}, {"$set": {"lost": 1, "enabled": True}})
    old_posts["post"].update_many({}, {"$set": {"enabled": True}})
    with pytest.warns(UserWarning, match="does not provably end"):
        post = model(
            handler(
                migration01__enable=rule(*ADD_ENABLED),
                migration02__drop=rule({"enabled": True}, {"$unset": {"lost": ""}}),
                validate_on_load=False,
            ),
            enabled=BooleanField(),
            n=IntField(),
        )
    iterator = iter(post.objects.order_by("key").no_cache())
    keys = [next(iterator).key for _ in range(50)]
    breaker = Breaker(monkeypatch, "update_one", LOST)
    assert next(iterator).key == 50
    assert breaker.left == 0
    keys.append(50)
    assert [*keys, *(each.key for each in by_hand(iterator))] == list(range(COUNT))
