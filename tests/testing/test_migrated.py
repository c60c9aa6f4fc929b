"""`migrated`: what is stored after the rules, from a scratch collection that leaves no trace."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from bson import ObjectId
from mongoengine import (
    BooleanField,
    Document,
    EmbeddedDocument,
    EmbeddedDocumentField,
    IntField,
    ListField,
    StringField,
    UUIDField,
)
from pymongo.database import Database
from pymongo.errors import PyMongoError

from lazymig import DocumentMigration, LazyMigrationMixin, MigrationFailed
from lazymig.testing import migrated
from tests.support.handlers import ADD_ENABLED, copying, copying_in_python, handler, model, rule
from tests.testing.rules import fail

ENABLE = rule(*ADD_ENABLED)
REMOVE_DRAFT = rule({"draft": {"$exists": True}}, {"$unset": {"draft": ""}})


def _post(**rules: Any) -> Any:
    return model(
        handler(**rules),
        enabled=BooleanField(required=True),
        tags=ListField(StringField()),
        n=IntField(),
        copy=IntField(),
    )


@pytest.mark.parametrize(
    ("scope", "expected"),
    [
        ("lazy", {"_id": 1, "draft": 1, "enabled": True}),
        ("bulk", {"_id": 1}),
        ("all", {"_id": 1, "enabled": True}),
    ],
)
def test_the_rules_of_the_scope_are_applied(any_db: Any, scope: Any, expected: Any) -> None:
    """Lazy rules are applied as by a load, bulk rules as by migrate_all, and all in turn."""
    post = _post(migration01__enable=ENABLE, allmigration01__draft=REMOVE_DRAFT)
    assert migrated(post, {"_id": 1, "draft": 1}, scope=scope) == expected


@pytest.mark.parametrize("copied", [copying, copying_in_python])
def test_a_computed_rule_sees_the_document(any_db: Any, copied: Any) -> None:
    """A rule that reads self.doc is applied to the document that was given."""
    post = _post(migration01__copy=copied("n", "copy"))
    assert migrated(post, {"n": 3, "enabled": True}) == {"n": 3, "enabled": True, "copy": 3}


def test_a_document_that_fails_to_validate_starts_its_rules(any_db: Any) -> None:
    """A rule that no match starts is started, as by a load, by a document that is not valid."""

    def enable(self: Any) -> None:
        if "enabled" not in self.doc:
            self.target, self.update = ADD_ENABLED

    assert migrated(_post(migration01__enable=enable), {"_id": 1}) == {"_id": 1, "enabled": True}


def test_a_document_without_id_comes_back_without_one(any_db: Any) -> None:
    """The `_id` that is supplied is not part of the result, one that was given is."""
    post = _post(migration01__enable=ENABLE)
    assert migrated(post, {}) == {"enabled": True}
    assert migrated(post, {"_id": 7}) == {"_id": 7, "enabled": True}


@pytest.mark.parametrize(
    ("key", "kind"),
    [(IntField, int), (StringField, str), (UUIDField, uuid.UUID), (None, ObjectId)],
)
def test_the_supplied_id_fits_the_primary_key(mongoengine_db: Any, key: Any, kind: type) -> None:
    """Rules see an `_id` of the type that the model's primary key has."""
    seen = []

    def look(self: Any) -> None:
        self.target = {"seen": {"$exists": False}}
        seen.append(self.doc["_id"])
        self.update = {"$set": {"seen": True}}

    class Thing(LazyMigrationMixin, Document):
        seen = BooleanField()
        if key is not None:
            key_field = key(primary_key=True)
        migration_handler = handler(migration01__look=look)

    migrated(Thing, {})
    assert isinstance(seen[-1], kind)


def test_an_id_that_cannot_be_invented_is_asked_for(any_db: Any) -> None:
    """Where the primary key is of no simple kind the error says to give an `_id`."""

    class Key(EmbeddedDocument):
        n = IntField()

    class Thing(LazyMigrationMixin, Document):
        key = EmbeddedDocumentField(Key, primary_key=True)
        migration_handler = handler()

    with pytest.raises(TypeError, match="EmbeddedDocumentField; give the document one"):
        migrated(Thing, {})
    assert migrated(Thing, {"_id": {"n": 1}}) == {"_id": {"n": 1}}


def test_nothing_is_left_behind(mongoengine_db: Database[Any]) -> None:
    """The model's own documents are untouched, and no other collection remains, even on errors."""
    mongoengine_db["post"].insert_one({"_id": 1})
    post = _post(migration01__tags=fail, allmigration01__draft=REMOVE_DRAFT)
    migrated(post, {"_id": 1, "tags": []}, scope="all")
    with pytest.raises(MigrationFailed):
        migrated(post, {"_id": 1})
    assert mongoengine_db.list_collection_names() == ["post"]
    assert list(mongoengine_db["post"].find()) == [{"_id": 1}]


@pytest.mark.parametrize("scope", ["lazy", "bulk"])
def test_a_rule_that_fails_is_an_error(any_db: Any, scope: Any) -> None:
    """A refused document raises the rule's error, though the handler says to skip it."""
    rules = {"migration01__tags": fail, "allmigration01__tags": fail, "on_error": "skip"}
    with pytest.raises(MigrationFailed, match="migration01__tags"):
        migrated(_post(**rules), {"_id": 1, "enabled": True}, scope=scope)


def test_a_document_that_no_rule_helps_comes_back_as_it_is(any_db: Any) -> None:
    """What is stored is given, whether the model can load it or not."""
    post = _post(migration01__enable=ENABLE)
    assert migrated(post, {"_id": 1, "gone": 1}) == {"_id": 1, "gone": 1, "enabled": True}


def test_the_rules_are_those_of_the_documents_class(any_db: Any) -> None:
    """In both scopes a document obeys the handler of the class that its `_cls` names."""

    class Animal(LazyMigrationMixin, Document):
        name = StringField()
        legs = IntField()
        meta = {"allow_inheritance": True}
        migration_handler = handler(
            migration01__name=rule({"name": {"$exists": False}}, {"$set": {"name": "?"}}),
            allmigration01__legs=rule({"legs": {"$exists": False}}, {"$set": {"legs": 4}}),
        )

    class Bird(Animal):
        migration_handler = handler(
            migration01__name=rule({"name": {"$exists": False}}, {"$set": {"name": "bird"}}),
            allmigration01__legs=rule({"legs": {"$exists": False}}, {"$set": {"legs": 2}}),
        )

    old = {"_cls": "Animal.Bird"}
    assert migrated(Animal, old, scope="all") == {**old, "name": "bird", "legs": 2}
    assert migrated(Bird, old, scope="all") == {**old, "name": "bird", "legs": 2}
    old = {"_cls": "Animal"}
    assert migrated(Animal, old, scope="all") == {**old, "name": "?", "legs": 4}


def test_a_bulk_rule_may_write_by_itself(any_db: Any) -> None:
    """A rule that uses self.collection is given the scratch collection."""

    def by_hand(self: Any) -> None:
        self.target = {"n": {"$exists": False}}
        if not self.status:
            self.collection.update_many(self.target, {"$set": {"n": 1}})

    assert migrated(_post(allmigration01__n=by_hand), {}, scope="bulk") == {"n": 1}


def test_a_document_that_a_rule_deletes_is_an_error(any_db: Any) -> None:
    """Where nothing is stored any more there is nothing to give."""

    def delete(self: Any) -> None:
        self.target = {"n": {"$exists": False}}
        if not self.status:
            self.collection.delete_many(self.target)

    with pytest.raises(LookupError, match=r"Post: a rule has deleted the document \(_id: 5\)"):
        migrated(_post(allmigration01__n=delete), {"_id": 5}, scope="bulk")


def test_other_things_than_models_with_rules_are_refused(any_db: Any) -> None:
    """A plain Document, an EmbeddedDocument and an instance are refused with what to give."""

    class Plain(Document):
        pass

    class Inner(EmbeddedDocument):
        pass

    for wrong in (Plain, Inner, DocumentMigration, "User"):
        with pytest.raises(TypeError, match="give the model whose rules are to be tested"):
            migrated(wrong, {})


def test_an_unknown_scope_is_refused(any_db: Any) -> None:
    """A scope that is none names the three that are."""
    with pytest.raises(ValueError, match="use 'lazy', 'bulk' or 'all'"):
        migrated(_post(), {}, scope="both")  # type: ignore[arg-type]


def test_errors_of_the_driver_come_through(any_db: Any) -> None:
    """What PyMongo refuses to store is no matter of the rules."""
    with pytest.raises((PyMongoError, ValueError, TypeError)):
        migrated(_post(), {"_id": [1]})
