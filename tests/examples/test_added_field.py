"""Example 1: a field with a default is added (MongoEngine's guide, "Addition of a field")."""

from __future__ import annotations

import pytest
from mongoengine import BooleanField, Document, StringField
from pymongo.database import Database

from lazymig import DocumentMigration, LazyMigrationMixin


@pytest.fixture
def user_model(any_db: Database):
    """Today's model; one John Doe is stored from before `enabled` existed."""

    class UserMigration(DocumentMigration):
        def migration01__add_enabled(self):
            self.target = {"enabled": {"$exists": False}}
            self.update = {"$set": {"enabled": True}}

    class User(LazyMigrationMixin, Document):
        name = StringField(required=True)
        enabled = BooleanField(default=True)
        migration_handler = UserMigration

    any_db.user.insert_one({"_id": 1, "name": "John Doe"})
    return User


def test_one_load_stores_the_new_field(user_model, any_db: Database) -> None:
    """After one load the default is in the database."""
    assert user_model.objects.get().enabled is True
    assert any_db.user.find_one() == {"_id": 1, "name": "John Doe", "enabled": True}


def test_a_loaded_document_is_found_by_the_new_field(user_model, any_db: Database) -> None:
    """A query on the new field finds a document that was loaded once."""
    user_model.objects.first()
    assert user_model.objects(enabled=True).count() == 1


def test_what_is_stored_wins_over_the_rule(user_model, any_db: Database) -> None:
    """A document that has the field already keeps its value."""
    any_db.user.insert_one({"_id": 2, "name": "Jane Doe", "enabled": False})
    assert [user.enabled for user in user_model.objects.order_by("name")] == [False, True]
    assert any_db.user.find_one({"_id": 2})["enabled"] is False


def test_the_rule_is_deprecated_once_every_document_was_loaded(
    user_model, any_db: Database
) -> None:
    """The report gives the rule as active before the loads and as deprecated after them."""
    handler = user_model.migration_handler(user_model)
    assert handler.get_deprecated() == {"deprecated": [], "active": ["migration01__add_enabled"]}
    list(user_model.objects)
    assert handler.get_deprecated() == {"deprecated": ["migration01__add_enabled"], "active": []}
