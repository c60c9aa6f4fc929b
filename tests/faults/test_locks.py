"""A document that another transaction holds: the load gives up, and hangs on nothing."""

from __future__ import annotations

from typing import Any

import pytest
from mongoengine import BooleanField, IntField
from pymongo import MongoClient
from pymongo.database import Database

from lazymig import MigrationTimeout, signals
from tests.support.handlers import ADD_ENABLED, copying, handler, model, rule
from tests.support.sessions import held

HELD = 5


def _post(method: Any = None, **attributes: Any) -> Any:
    rules = handler(
        migration01__enable=method or rule(*ADD_ENABLED), **{"lazy_timeout": 0.3, **attributes}
    )
    return model(rules, enabled=BooleanField(), n=IntField(), copied=IntField())


RULES = {"static": None, "dynamic": copying("n", "copied")}

DOORS = {
    "get": lambda post: post.objects.get(key=HELD),
    "first": lambda post: post.objects(key=HELD).first(),
    "iteration": lambda post: list(post.objects(key=HELD)),
    "in_bulk": lambda post: post.objects.in_bulk([HELD]),
    "migrate": lambda post: post.migration_handler(post).migrate(HELD),
    "reload": lambda post: post(key=HELD).reload(),
}


@pytest.mark.parametrize("method", RULES.values(), ids=RULES)
@pytest.mark.parametrize("load", DOORS.values(), ids=DOORS)
def test_a_held_document_is_a_timeout(
    mongoengine_db: Database[Any], client: MongoClient[Any], load: Any, method: Any
) -> None:
    """While a transaction holds the document, loading it raises MigrationTimeout naming `_id`."""
    mongoengine_db["post"].insert_one({"_id": HELD, "n": 1})
    post = _post(method)
    with held(client, mongoengine_db, HELD), pytest.raises(MigrationTimeout) as caught:
        load(post)
    assert (caught.value.model, caught.value.document_id) == ("Post", HELD)
    assert "lazy_timeout = 0.3" in str(caught.value)
    assert caught.value.__cause__ is not None


SETTLERS = {
    "order_by": lambda post: list(post.objects.order_by("enabled", "copied")),
    "where": lambda post: list(post.objects.where("true").only("key")),
    "update": lambda post: post.objects.update(set__enabled=False, set__copied=2),
}


@pytest.mark.parametrize("method", RULES.values(), ids=RULES)
@pytest.mark.parametrize("settle", SETTLERS.values(), ids=SETTLERS)
def test_an_operation_that_has_to_settle_a_held_document_is_a_timeout(
    mongoengine_db: Database[Any], client: MongoClient[Any], settle: Any, method: Any
) -> None:
    """Whether a held document belongs to the answer is not known, and nobody waits for it."""
    mongoengine_db["post"].insert_many({"_id": key, "n": 1} for key in range(9))
    post = _post(method)
    with held(client, mongoengine_db, HELD), pytest.raises(MigrationTimeout) as caught:
        settle(post)
    assert (caught.value.model, caught.value.document_id) == ("Post", HELD)


def test_a_read_that_shows_waits_for_nobody(
    mongoengine_db: Database[Any], client: MongoClient[Any]
) -> None:
    """While a transaction holds an old document, a read that hands out none is answered."""
    mongoengine_db["post"].insert_many({"_id": key, "n": 1} for key in range(9))
    post = _post(None)
    with held(client, mongoengine_db, HELD):
        assert post.objects.distinct("enabled") == [True]


@pytest.mark.parametrize("method", RULES.values(), ids=RULES)
def test_the_next_load_succeeds(
    mongoengine_db: Database[Any], client: MongoClient[Any], method: Any
) -> None:
    """Once the transaction has ended, the document is migrated by the next load."""
    mongoengine_db["post"].insert_one({"_id": HELD, "n": 1})
    post = _post(method)
    with held(client, mongoengine_db, HELD), pytest.raises(MigrationTimeout):
        post.objects.get(key=HELD)
    loaded = post.objects.get(key=HELD)
    assert (loaded.copied if method else loaded.enabled) == 1


def test_other_documents_load_while_one_is_held(
    mongoengine_db: Database[Any], client: MongoClient[Any]
) -> None:
    """A stale document beside the held one is migrated while the transaction is open."""
    mongoengine_db["post"].insert_many([{"_id": n, "n": n} for n in range(10)])
    post = _post()
    with held(client, mongoengine_db, HELD):
        assert post.objects.get(key=0).enabled is True
        assert [each.enabled for each in post.objects(key__gt=HELD)] == [True] * 4


def test_an_up_to_date_document_loads_though_it_is_held(
    mongoengine_db: Database[Any], client: MongoClient[Any]
) -> None:
    """Where nothing is to be migrated, a transaction holds nothing up."""
    mongoengine_db["post"].insert_one({"_id": HELD, "enabled": True})
    post = _post()
    with held(client, mongoengine_db, HELD):
        assert post.objects.get(key=HELD).enabled is True


@pytest.mark.parametrize("method", RULES.values(), ids=RULES)
def test_a_held_document_stops_no_neighbour_in_its_batch(
    mongoengine_db: Database[Any], client: MongoClient[Any], method: Any
) -> None:
    """The held document of a batch raises in its turn; those before and behind it are migrated."""
    mongoengine_db["post"].insert_many([{"_id": n, "n": n} for n in range(10)])
    post = _post(method, lazy_timeout=2)
    keys, errors = [], []
    with held(client, mongoengine_db, HELD):
        iterator = iter(post.objects.order_by("key").no_cache())
        for _ in range(10):
            try:
                keys.append(next(iterator).key)
            except MigrationTimeout as exc:
                errors.append(exc.document_id)
    assert (keys, errors) == ([n for n in range(10) if n != HELD], [HELD])


def test_skipping_loads_the_held_document_as_it_is_stored(
    mongoengine_db: Database[Any], client: MongoClient[Any]
) -> None:
    """Under on_error = "skip" a held document loads in its old shape, and is migrated later."""
    mongoengine_db["post"].insert_one({"_id": HELD, "n": 1})
    post = _post(on_error="skip")
    with held(client, mongoengine_db, HELD):
        assert post.objects.get(key=HELD).enabled is None
    assert post.objects.get(key=HELD).enabled is True


def test_a_neighbour_is_announced_once(
    mongoengine_db: Database[Any], client: MongoClient[Any]
) -> None:
    """A document that is migrated behind a held one is announced with each rule once."""
    mongoengine_db["post"].insert_many([{"_id": n, "n": n} for n in range(10)])
    post = _post(lazy_timeout=2)
    heard: list[Any] = []

    def receive(_sender: Any, **about: Any) -> None:
        heard.append((about["document_id"], about["rules"]))

    signals.post_migration.connect(receive)
    with held(client, mongoengine_db, HELD), pytest.raises(MigrationTimeout):
        list(post.objects)
    signals.post_migration.disconnect(receive)
    rules = ("migration01__enable",)
    assert sorted(heard) == [(n, rules) for n in range(10) if n != HELD]
