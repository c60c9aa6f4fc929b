"""Rules in Python whose value differs from call to call: what is shown would not be stored."""

from __future__ import annotations

import copy
import re
from datetime import datetime, timezone
from typing import Any

import pytest
from bson import ObjectId
from mongoengine import StringField

from lazymig import RuleDefinitionError, ShowError, without_writing
from tests.support.handlers import handler, model, quiet_handler


def _stamped(self: Any) -> None:
    self.target = {"email": {"$exists": False}}
    self.update = {"$set": {"email": f"{copy.copy(self.doc['mail'])} {datetime.now(timezone.utc)}"}}


def _drawn(self: Any) -> None:
    import random as chance

    self.target = {"email": {"$exists": False}}
    self.update = {"$set": {"email": copy.copy(self.doc["mail"]) + str(chance.random())}}


def _identified(self: Any) -> None:
    self.target = {"email": {"$exists": False}}
    self.update = {"$set": {"email": copy.copy(self.doc["mail"]) + str(ObjectId())}}


@pytest.mark.parametrize(
    ("computed", "call"),
    [
        (_stamped, "datetime.now(timezone.utc)"),
        (_drawn, "chance.random()"),
        (_identified, "ObjectId()"),
    ],
)
def test_a_rule_in_python_that_gives_another_value_each_time_cannot_be_shown(
    mongoengine_db, computed, call
):
    """What would be shown now and stored otherwise later is an error, as the class is defined."""
    with pytest.raises(RuleDefinitionError, match=re.escape(f"it calls {call}, which gives")):
        model(quiet_handler(migration01__computed=computed), email=StringField())

    people = model(handler(migration01__computed=computed), email=StringField())
    mongoengine_db.post.insert_one({"_id": 1, "mail": "a"})
    with without_writing(people), pytest.raises(ShowError, match=re.escape(call)):
        people.objects.get()


def test_a_call_for_a_known_value_can_be_shown(mongoengine_db):
    """An ObjectId of a text, and a date of the document's, are the same each time."""

    def computed(self: Any) -> None:
        self.target = {"email": {"$exists": False}}
        made = ObjectId(copy.copy(self.doc["mail"])).generation_time
        self.update = {
            "$set": {"email": datetime.fromtimestamp(made.timestamp(), timezone.utc).isoformat()}
        }

    people = model(
        quiet_handler(migration01__computed=computed), mail=StringField(), email=StringField()
    )
    mongoengine_db.post.insert_one({"_id": 1, "mail": "5" * 24})
    assert people.objects.get().email


def test_the_explanation_says_what_is_raised_where_nothing_is_written(mongoengine_db):
    """explain_migration() says that what would be settled raises ShowError, and only then."""

    def computed(self: Any) -> None:
        self.target = {"email": {"$exists": False}}
        self.update = {"$set": {"email": copy.copy(self.doc["mail"])}}

    people = model(handler(migration01__computed=computed), email=StringField())
    mongoengine_db.post.insert_one({"_id": 1, "mail": "a"})
    told = "one that would settle documents raises ShowError"
    assert told not in people.objects(email="a").explain_migration()
    with without_writing(people):
        assert told in people.objects(email="a").explain_migration()
        with pytest.raises(ShowError):
            people.objects(email="a").count()
