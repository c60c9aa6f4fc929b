"""Documents that MongoEngine cannot build: the rules are tried, then its own exception comes."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from mongoengine import (
    Document,
    EmbeddedDocument,
    EmbeddedDocumentField,
    FloatField,
    GenericEmbeddedDocumentField,
    IntField,
    StringField,
)
from mongoengine.errors import FieldDoesNotExist, InvalidDocumentError, NotRegistered
from pymongo.database import Database

from lazymig import ConvergenceWarning
from tests.support.handlers import ADD_ENABLED, handler, model, rule


class EmbeddedNumber(EmbeddedDocument):
    """Something that can be embedded."""

    n = IntField()


def _notes(error: Exception) -> str:
    """What was added to an exception, wherever this Python keeps it."""
    if sys.version_info >= (3, 11):
        return "\n".join(error.__notes__)
    return str(error)


SITUATIONS: dict[str, tuple[Any, Any, type[Exception], Any]] = {
    "unknown field": ({}, {"lost": 1}, FieldDoesNotExist, {"$unset": {"lost": ""}}),
    "not a sub-document": (
        {"sub": EmbeddedDocumentField(EmbeddedNumber)},
        {"sub": 5},
        InvalidDocumentError,
        {"$set": {"sub": {"n": 5}}},
    ),
    "TypeError": ({"x": FloatField()}, {"x": [1]}, TypeError, {"$set": {"x": 1.0}}),
    "KeyError": (
        {"any": GenericEmbeddedDocumentField()},
        {"any": {"n": 1}},
        KeyError,
        {"$set": {"any": {"_cls": "EmbeddedNumber", "n": 1}}},
    ),
    "NotRegistered": (
        {"any": GenericEmbeddedDocumentField()},
        {"any": {"_cls": "Gone", "n": 1}},
        NotRegistered,
        {"$set": {"any": {"_cls": "EmbeddedNumber", "n": 1}}},
    ),
}


def _plain(fields: Any) -> Any:
    body = {"meta": {"collection": "post"}, "key": IntField(primary_key=True), "n": IntField()}
    return type(Document)("Plain", (Document,), {**body, **fields, "__module__": __name__})


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
def test_any_exception_while_building_starts_the_rules(
    mongoengine_db: Database[Any], situation: Any
) -> None:
    """Whatever MongoEngine raises while it builds a document, all lazy rules are tried in order."""
    fields, old, kind, update = situation
    mongoengine_db["post"].insert_one({"_id": 1, "n": 1, **old})
    with pytest.raises(kind):
        _plain(fields).objects.get()
    with pytest.warns(UserWarning, match="does not provably end"):
        post = model(
            handler(migration01__mend=rule({"n": 1}, update), validate_on_load=False),
            n=IntField(),
            **fields,
        )
    assert post.objects.get().n == 1
    (again,) = post.objects
    assert again.key == 1


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
def test_an_exception_that_no_rule_helps_stays_what_it_is(
    mongoengine_db: Database[Any], situation: Any
) -> None:
    """MongoEngine's own exception comes, with a note that names `_id` and the rules tried."""
    fields, old, kind, _ = situation
    mongoengine_db["post"].insert_one({"_id": 1, "n": 1, "enabled": 1, **old})
    rules = handler(
        migration01__enable=rule(*ADD_ENABLED),
        migration02__other=rule({"n": 5}, {"$set": {"n": 6}}),
    )
    post = model(rules, n=IntField(), enabled=IntField(), **fields)
    with pytest.raises(kind) as caught:
        post.objects.get()
    note = _notes(caught.value)
    assert "migration01__enable, migration02__other" in note
    assert "_id: 1" in note
    assert "Rules" in note


def _bad_in_the_middle(database: Database[Any]) -> Any:
    database["post"].insert_many([{"_id": n, "n": n} for n in range(7)])
    database["post"].update_one({"_id": 3}, {"$set": {"lost": 1}})
    return model(handler(migration01__enable=rule(*ADD_ENABLED)), n=IntField(), enabled=IntField())


def test_one_bad_document_stops_no_other(mongoengine_db: Database[Any]) -> None:
    """Those before it load, it raises in its turn, and those behind it load on."""
    post = _bad_in_the_middle(mongoengine_db)
    iterator = iter(post.objects.order_by("key").no_cache())
    assert [next(iterator).key for _ in range(3)] == [0, 1, 2]
    with pytest.raises(FieldDoesNotExist):
        next(iterator)
    assert [next(iterator).key for _ in range(3)] == [4, 5, 6]
    with pytest.raises(StopIteration):
        next(iterator)
    assert mongoengine_db["post"].count_documents({"enabled": True}) == 7


def test_a_cached_queryset_goes_on_behind_a_bad_document(mongoengine_db: Database[Any]) -> None:
    """A cached queryset, iterated again, gives every document but the bad one."""
    queryset = _bad_in_the_middle(mongoengine_db).objects.order_by("key")
    with pytest.raises(FieldDoesNotExist):
        list(queryset)
    assert [each.key for each in queryset] == [0, 1, 2, 4, 5, 6]


def test_except_field_does_not_exist_keeps_working(mongoengine_db: Database[Any]) -> None:
    """An application that catches FieldDoesNotExist catches it still, from every door."""
    post = _bad_in_the_middle(mongoengine_db)
    for load in (
        lambda: post.objects.get(key=3),
        lambda: post.objects(key=3).first(),
        lambda: post.objects.in_bulk([3]),
        lambda: post(key=3).reload(),
        lambda: post.migration_handler(post).migrate(3),
    ):
        with pytest.raises(FieldDoesNotExist, match="lost"):
            load()


def test_broken_documents_of_a_batch_are_mended_together(mongoengine_db: Database[Any]) -> None:
    """All rules are tried in order on every document that fails, and what helps is stored."""
    mongoengine_db["post"].insert_many([{"_id": n, "n": n} for n in range(20)])
    mongoengine_db["post"].update_many({"_id": {"$lt": 5}}, {"$set": {"lost": 1}})
    mongoengine_db["post"].update_many({"_id": {"$gt": 15}}, {"$set": {"gone": 1}})
    with pytest.warns(ConvergenceWarning):
        post = model(
            handler(
                migration01__a=rule({"n": {"$gte": 0}}, {"$unset": {"lost": ""}}),
                migration02__b=rule({"n": {"$gte": 0}}, {"$unset": {"gone": ""}}),
                validate_on_load=False,
            ),
            n=IntField(),
        )
    assert [each.n for each in post.objects.order_by("key")] == list(range(20))
    assert mongoengine_db["post"].find_one({"lost": {"$exists": True}}) is None
    assert mongoengine_db["post"].find_one({"gone": {"$exists": True}}) is None


class Strict(EmbeddedDocument):
    """An embedded document that must have a title."""

    title = StringField(required=True)


def test_an_error_inside_an_embedded_document_starts_the_rules(
    mongoengine_db: Database[Any],
) -> None:
    """An unknown field of an embedded document is a load error of the document around it."""
    mongoengine_db["post"].insert_one({"_id": 1, "n": 1, "sub": {"title": "x", "lost": 1}})
    with pytest.warns(ConvergenceWarning):
        post = model(
            handler(migration01__x=rule({"n": 1}, {"$unset": {"sub.lost": ""}})),
            n=IntField(),
            sub=EmbeddedDocumentField(Strict),
        )
    assert post.objects.get().sub.title == "x"
