"""Example 3: a field is removed, and MongoEngine refuses the documents that still have it."""

from __future__ import annotations

import pytest
from mongoengine import Document, StringField
from mongoengine.errors import FieldDoesNotExist
from pymongo.database import Database

from lazymig import DocumentMigration, LazyMigrationMixin


@pytest.fixture
def old_user(any_db: Database) -> Database:
    """One user is stored from before `age` was removed."""
    any_db.user.insert_one({"_id": 1, "name": "John Doe", "age": 35})
    return any_db


def test_without_a_rule_the_document_does_not_load(old_user: Database) -> None:
    """The mixin alone changes nothing: an unknown stored field raises MongoEngine's exception."""

    class User(LazyMigrationMixin, Document):
        name = StringField()

    with pytest.raises(FieldDoesNotExist):
        User.objects.get()


def test_with_an_unset_rule_the_document_loads(old_user: Database) -> None:
    """A `$unset` rule removes the field in the database, and the document loads."""

    class UserMigration(DocumentMigration):
        def migration01__remove_age(self):
            self.target = {"age": {"$exists": True}}
            self.update = {"$unset": {"age": True}}

    class User(LazyMigrationMixin, Document):
        name = StringField()
        migration_handler = UserMigration

    assert User.objects.get().name == "John Doe"
    assert old_user.user.find_one() == {"_id": 1, "name": "John Doe"}


def test_a_rule_that_does_not_help_leaves_the_exception(old_user: Database) -> None:
    """If no rule helps, MongoEngine's own exception comes through."""

    class UserMigration(DocumentMigration):
        def migration01__remove_address(self):
            self.target = {"address": {"$exists": True}}
            self.update = {"$unset": {"address": True}}

    class User(LazyMigrationMixin, Document):
        name = StringField()
        migration_handler = UserMigration

    with pytest.raises(FieldDoesNotExist):
        User.objects.get()
    assert old_user.user.find_one() == {"_id": 1, "name": "John Doe", "age": 35}
