"""Documents that the server refuses: each fails alone, in its turn, and stops no neighbour."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from mongoengine import DictField, IntField, ListField, StringField
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError, OperationFailure

from lazymig import MigrationFailed
from lazymig.engines.refusals import failure_of_server
from tests.support.handlers import ADD_ENABLED, copying, handler, model, rule

COUNT = 7
BAD = 3


def _second_rule() -> Any:
    return rule({"late": {"$exists": False}}, {"$set": {"late": 1}})


def _load(iterator: Iterator[Any]) -> tuple[list[int], list[MigrationFailed]]:
    """Iterate to the end, whatever is raised on the way."""
    keys, errors = [], []
    while True:
        try:
            keys.append(next(iterator).key)
        except StopIteration:
            return keys, errors
        except MigrationFailed as exc:
            errors.append(exc)


def _duplicate_key(database: Database[Any]) -> Any:
    database["post"].create_index("unique", unique=True, sparse=True)
    database["post"].insert_one({"_id": 100, "late": 1, "unique": BAD})
    database["post"].insert_many([{"_id": n, "n": n} for n in range(COUNT)])
    return copying("n", "unique")


def _duplicate_key_static(database: Database[Any]) -> Any:
    database["post"].create_index([("n", 1), ("unique", 1)], unique=True)
    database["post"].insert_one({"_id": 100, "late": 1, "n": BAD, "unique": 1})
    database["post"].insert_many([{"_id": n, "n": n} for n in range(COUNT)])
    return rule({"unique": {"$exists": False}}, {"$set": {"unique": 1}})


def _rename_through_an_array(database: Database[Any]) -> Any:
    database["post"].insert_many([{"_id": n, "sub": {"old": n}} for n in range(COUNT)])
    database["post"].update_one({"_id": BAD}, {"$set": {"sub": [{"old": 1}]}})
    return rule({"sub.old": {"$exists": True}}, {"$rename": {"sub.old": "sub.new"}})


def _collection_validator(database: Database[Any]) -> Any:
    database["post"].insert_many([{"_id": n, "n": n} for n in range(COUNT)])
    database.command(
        "collMod", "post", validator={"$or": [{"_id": {"$ne": BAD}}, {"done": {"$exists": False}}]}
    )
    return rule({"done": {"$exists": False}}, {"$set": {"done": 1}})


def _wrong_type(database: Database[Any]) -> Any:
    database["post"].insert_many([{"_id": n, "tags": []} for n in range(COUNT)])
    database["post"].update_one({"_id": BAD}, {"$set": {"tags": "x"}})
    return rule({"tags": {"$ne": "new"}}, {"$push": {"tags": "new"}})


def _immutable_id(database: Database[Any]) -> Any:
    database["post"].insert_many([{"_id": n, "n": n} for n in range(COUNT)])

    def method(self: Any) -> None:
        self.target = {"done": {"$exists": False}}
        self.update = {"$set": {"done": 1}}
        # By its text, so that this branch is not seen, and refused, at definition.
        if str(self.doc["_id"]) == str(BAD):
            self.update = {"$set": {"done": 1, "_id": -1}}

    return method


def _raising_rule(database: Database[Any]) -> Any:
    database["post"].insert_many([{"_id": n, "n": n} for n in range(COUNT)])

    def method(self: Any) -> None:
        self.target = {"done": {"$exists": False}}
        self.update = {"$set": {"done": 1 // (self.doc["n"] - BAD)}}

    return method


SITUATIONS = [
    _duplicate_key,
    _duplicate_key_static,
    _rename_through_an_array,
    _collection_validator,
    _wrong_type,
    _immutable_id,
    _raising_rule,
]


def _post(refused_rule: Any, **attributes: Any) -> Any:
    return model(
        handler(migration01__first=refused_rule, migration02__late=_second_rule(), **attributes),
        n=IntField(),
        unique=IntField(),
        done=IntField(),
        late=IntField(),
        sub=DictField(),
        tags=ListField(StringField()),
        meta={"strict": False},
    )


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_refused_document_fails_in_its_turn_and_alone(
    mongoengine_db: Database[Any], situation: Any
) -> None:
    """A refused document raises at its turn; all rules migrate those before and behind it."""
    post = _post(situation(mongoengine_db))
    keys, errors = _load(iter(post.objects(key__lt=100).order_by("key").no_cache()))
    assert keys == [n for n in range(COUNT) if n != BAD]
    (error,) = errors
    assert (error.model, error.rule, error.document_id) == ("Post", "migration01__first", BAD)
    assert error.__cause__ is not None
    assert "migration01__first" in str(error)
    assert f"_id: {BAD}" in str(error)
    late = mongoengine_db["post"].find({"_id": {"$lt": 100}, "late": 1}).sort("_id")
    assert [document["_id"] for document in late] == keys


@pytest.mark.parametrize("situation", SITUATIONS)
def test_the_refused_document_keeps_its_contents(
    mongoengine_db: Database[Any], situation: Any
) -> None:
    """A refused document is stored as it was; no later rule is applied to it."""
    post = _post(situation(mongoengine_db))
    before = mongoengine_db["post"].find_one({"_id": BAD})
    with pytest.raises(MigrationFailed):
        post.objects.get(key=BAD)
    assert mongoengine_db["post"].find_one({"_id": BAD}) == before


@pytest.mark.parametrize("situation", SITUATIONS)
def test_skipping_loads_the_document_as_it_is_stored(
    mongoengine_db: Database[Any], situation: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Under on_error = "skip" a refused document loads as it is stored, and is logged."""
    post = _post(situation(mongoengine_db), on_error="skip")
    with caplog.at_level(logging.WARNING, "lazymig"):
        found = list(post.objects(key__lt=100).order_by("key"))
    assert [each.key for each in found] == list(range(COUNT))
    assert [each.late for each in found] == [None if n == BAD else 1 for n in range(COUNT)]
    (record,) = [each for each in caplog.records if "migration01__first" in each.getMessage()]
    assert f"_id: {BAD}" in record.getMessage()


def test_skipping_leaves_out_what_mongoengine_cannot_build(
    mongoengine_db: Database[Any],
) -> None:
    """Under on_error = "skip" an iteration leaves out a refused document that cannot be built."""
    mongoengine_db["post"].create_index("unique", unique=True, sparse=True)
    mongoengine_db["post"].insert_many([{"_id": n, "old": n % 2} for n in range(3)])
    rules = handler(
        migration01__x=rule({"old": {"$exists": True}}, {"$rename": {"old": "unique"}}),
        on_error="skip",
    )
    post = model(rules, unique=IntField())
    assert [each.key for each in post.objects.order_by("key")] == [0, 1]
    assert set(post.objects.in_bulk([0, 1, 2])) == {0, 1}
    with pytest.raises(Exception, match="old") as caught:
        post.objects.get(key=2)
    assert type(caught.value).__name__ == "FieldDoesNotExist"


def test_a_cached_queryset_goes_on_behind_the_failure(mongoengine_db: Database[Any]) -> None:
    """A cached queryset, iterated again after a failure, gives all others."""
    post = _post(_collection_validator(mongoengine_db))
    queryset = post.objects.order_by("key")
    with pytest.raises(MigrationFailed):
        list(queryset)
    assert [each.key for each in queryset] == [n for n in range(COUNT) if n != BAD]


def test_many_refused_documents_fail_each_for_itself(mongoengine_db: Database[Any]) -> None:
    """Each refused document of a batch raises once; all others are migrated."""
    mongoengine_db["post"].insert_many(
        [{"_id": n, "tags": "x" if n % 10 == 0 else []} for n in range(150)]
    )
    post = _post(rule({"tags": {"$ne": "new"}}, {"$push": {"tags": "new"}}))
    keys, errors = _load(iter(post.objects.order_by("key").no_cache()))
    assert [error.document_id for error in errors] == list(range(0, 150, 10))
    assert keys == [n for n in range(150) if n % 10]
    assert mongoengine_db["post"].count_documents({"tags": "new", "late": 1}) == 135


def test_a_refusal_by_a_later_rule_keeps_the_earlier_one(mongoengine_db: Database[Any]) -> None:
    """A document that rule 2 cannot change keeps what rule 1 wrote; the error names rule 2."""
    mongoengine_db["post"].insert_many([{"_id": n, "tags": []} for n in range(3)])
    mongoengine_db["post"].update_one({"_id": 1}, {"$set": {"tags": "x"}})
    rules = handler(
        migration01__enable=rule(*ADD_ENABLED),
        migration02__push=rule({"tags": {"$ne": "new"}}, {"$push": {"tags": "new"}}),
        migration03__late=_second_rule(),
    )
    post = model(rules, meta={"strict": False})
    keys, (error,) = _load(iter(post.objects.order_by("key").no_cache()))
    assert (keys, error.rule) == ([0, 2], "migration02__push")
    assert mongoengine_db["post"].find_one({"_id": 1}) == {"_id": 1, "tags": "x", "enabled": True}


def test_the_cause_is_the_drivers_error(mongoengine_db: Database[Any]) -> None:
    """What the server said is the cause of the failure, and in its text."""
    post = _post(_collection_validator(mongoengine_db))
    with pytest.raises(MigrationFailed, match="validation") as caught:
        post.objects.get(key=BAD)
    assert isinstance(caught.value.__cause__, OperationFailure)


@pytest.mark.parametrize(
    "load",
    [
        lambda post: post.objects.in_bulk([0, BAD, 5]),
        lambda post: post.objects(key=BAD).first(),
        lambda post: post.objects(key=BAD)[0],
        lambda post: post.objects(key=BAD).modify(set__n=1),
        lambda post: post.migration_handler(post).migrate(BAD),
    ],
)
def test_every_door_raises_the_same_failure(mongoengine_db: Database[Any], load: Any) -> None:
    """in_bulk, first, [i], modify and migrate raise MigrationFailed for a refused document."""
    post = _post(_collection_validator(mongoengine_db))
    with pytest.raises(MigrationFailed) as caught:
        load(post)
    assert caught.value.document_id == BAD


def test_on_mongomock_a_refused_document_stops_no_neighbour(mock_db: Any) -> None:
    """A duplicate key on mongomock, too, fails one document and no other."""
    mock_db["post"].create_index("unique", unique=True, sparse=True)
    mock_db["post"].insert_one({"_id": 100, "late": 1, "unique": BAD})
    mock_db["post"].insert_many([{"_id": n, "n": n} for n in range(COUNT)])
    post = _post(copying("n", "unique"))
    keys, (error,) = _load(iter(post.objects(key__lt=100).order_by("key").no_cache()))
    assert keys == [n for n in range(COUNT) if n != BAD]
    assert (error.rule, error.document_id) == ("migration01__first", BAD)


def test_on_mongomock_a_refused_static_update_stops_no_neighbour(mock_db: Any) -> None:
    """A duplicate key on mongomock under a static rule fails one document and no other."""
    mock_db["post"].create_index([("n", 1), ("unique", 1)], unique=True)
    mock_db["post"].insert_one({"_id": 100, "late": 1, "n": BAD, "unique": 1})
    mock_db["post"].insert_many([{"_id": n, "n": n} for n in range(COUNT)])
    post = _post(rule({"unique": {"$exists": False}}, {"$set": {"unique": 1}}))
    keys, (error,) = _load(iter(post.objects(key__lt=100).order_by("key").no_cache()))
    assert keys == [n for n in range(COUNT) if n != BAD]
    assert (error.rule, error.document_id) == ("migration01__first", BAD)


def test_a_refusal_says_what_mongodb_said_and_no_more() -> None:
    """The error for an update sent alone has the server's message, not its whole answer."""
    answer = {"index": 0, "code": 11000, "errmsg": "E11000 duplicate key"}
    refused = DuplicateKeyError("E11000 duplicate key", 11000, answer)
    bound: Any = SimpleNamespace(model_name="User", name="migration01__mail")

    error = failure_of_server(bound, 7, refused, refused)

    assert str(error) == (
        "User.migration01__mail: MongoDB refused the update: E11000 duplicate key; "
        "correct the document or the rule (_id: 7)"
    )
