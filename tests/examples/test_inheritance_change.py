"""Example 2: Jedi becomes GoodJedi and BadSith (MongoEngine's guide, "Inheritance change")."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from mongoengine import Document, ReferenceField, StringField
from mongoengine.errors import NotRegistered
from pymongo.database import Database

from lazymig import DocumentMigration, LazyMigrationMixin

VADER = {"_id": 1, "_cls": "Human.Jedi", "name": "Darth Vader", "dark_side": True, "saber": "red"}
OBI_WAN = {"_id": 2, "_cls": "Human.Jedi", "name": "Obi Wan", "dark_side": False, "saber": "blue"}
HAN = {"_id": 3, "_cls": "Human", "name": "Han Solo"}

MIGRATED = [
    {"_id": 1, "_cls": "Human.BadSith", "name": "Darth Vader", "saber": "red"},
    {"_id": 2, "_cls": "Human.GoodJedi", "name": "Obi Wan", "saber": "blue"},
    HAN,
]


class TwoSteps(DocumentMigration):
    """Rename the class by two rules, then remove the field by a third."""

    legacy_classes = ("Human.Jedi",)

    def migration01__old_jedi_to_bad_sith(self):
        self.target = {"_cls": "Human.Jedi", "dark_side": True}
        self.update = {"$set": {"_cls": "Human.BadSith"}}

    def migration02__old_jedi_to_good_jedi(self):
        self.target = {"_cls": "Human.Jedi", "dark_side": False}
        self.update = {"$set": {"_cls": "Human.GoodJedi"}}

    def migration03__remove_dark_side(self):
        self.target = {"dark_side": {"$exists": True}}
        self.update = {"$unset": {"dark_side": True}}


class OneStep(DocumentMigration):
    """Rename the class and remove the field in the same update."""

    legacy_classes = ("Human.Jedi",)

    def migration01__old_jedi_to_bad_sith(self):
        self.target = {"_cls": "Human.Jedi", "dark_side": True}
        self.update = {"$set": {"_cls": "Human.BadSith"}, "$unset": {"dark_side": True}}

    def migration02__old_jedi_to_good_jedi(self):
        self.target = {"_cls": "Human.Jedi", "dark_side": False}
        self.update = {"$set": {"_cls": "Human.GoodJedi"}, "$unset": {"dark_side": True}}


class ByPipeline(DocumentMigration):
    """One rule for both classes: the server chooses."""

    legacy_classes = ("Human.Jedi",)

    def migration01__split_jedi(self):
        self.target = {"_cls": "Human.Jedi"}
        self.update = [
            {"$set": {"_cls": {"$cond": ["$dark_side", "Human.BadSith", "Human.GoodJedi"]}}},
            {"$unset": "dark_side"},
        ]


class PerDocument(DocumentMigration):
    """One rule for both classes: the rule reads the document and chooses."""

    legacy_classes = ("Human.Jedi",)

    def migration01__split_jedi(self):
        self.target = {"_cls": "Human.Jedi"}
        side = "Human.BadSith" if self.doc["dark_side"] else "Human.GoodJedi"
        self.update = {"$set": {"_cls": side}, "$unset": {"dark_side": True}}


class InBulk(DocumentMigration):
    """The two steps as bulk rules."""

    def allmigration01__old_jedi_to_bad_sith(self):
        self.target = {"_cls": "Human.Jedi", "dark_side": True}
        self.update = {"$set": {"_cls": "Human.BadSith"}}

    def allmigration02__old_jedi_to_good_jedi(self):
        self.target = {"_cls": "Human.Jedi", "dark_side": False}
        self.update = {"$set": {"_cls": "Human.GoodJedi"}}

    def allmigration03__remove_dark_side(self):
        self.target = {"dark_side": {"$exists": True}}
        self.update = {"$unset": {"dark_side": True}}


LAZY = [TwoSteps, OneStep, ByPipeline, PerDocument]


def models(handler) -> SimpleNamespace:
    """Define today's classes: Jedi is gone."""

    class Human(LazyMigrationMixin, Document):
        name = StringField()
        meta = {"allow_inheritance": True}
        migration_handler = handler

    class GoodJedi(Human):
        saber = StringField()

    class BadSith(Human):
        saber = StringField()

    class Ship(Document):
        captain = ReferenceField(Human)

    return SimpleNamespace(Human=Human, GoodJedi=GoodJedi, BadSith=BadSith, Ship=Ship)


@pytest.fixture
def galaxy(mongoengine_db: Database) -> Database:
    """Two old Jedi and a human who is up to date."""
    mongoengine_db.human.insert_many([dict(VADER), dict(OBI_WAN), dict(HAN)])
    return mongoengine_db


def stored(database: Database) -> list[dict]:
    """Every document as it lies in the database."""
    return list(database.human.find(sort=[("_id", 1)]))


def test_without_rules_an_old_jedi_cannot_be_loaded(galaxy: Database) -> None:
    """Plain MongoEngine knows no class for an old Jedi that is reached through a reference."""
    galaxy.ship.insert_one({"_id": 1, "captain": 1})
    today = models(None)
    with pytest.raises(NotRegistered):
        _ = today.Ship.objects.get().captain


@pytest.mark.parametrize("handler", LAZY)
def test_iterating_loads_the_right_classes(handler, galaxy: Database) -> None:
    """Each old Jedi of an iteration loads, and is stored, as its new class."""
    today = models(handler)
    found = {human.name: type(human) for human in today.Human.objects}
    assert found == {
        "Darth Vader": today.BadSith,
        "Obi Wan": today.GoodJedi,
        "Han Solo": today.Human,
    }
    assert stored(galaxy) == MIGRATED


@pytest.mark.parametrize("handler", LAZY)
def test_get_through_the_base_loads_the_right_class(handler, galaxy: Database) -> None:
    """An old Jedi that `Human.objects.get` finds loads as its new class, the other stays old."""
    today = models(handler)
    vader = today.Human.objects.get(name="Darth Vader")
    assert isinstance(vader, today.BadSith)
    assert vader.saber == "red"
    assert stored(galaxy) == [MIGRATED[0], OBI_WAN, HAN]


@pytest.mark.parametrize("handler", LAZY)
def test_a_reference_loads_the_right_class(handler, galaxy: Database) -> None:
    """An old Jedi that is reached through a reference to Human loads as its new class."""
    galaxy.ship.insert_one({"_id": 1, "captain": 2})
    today = models(handler)
    captain = today.Ship.objects.get().captain
    assert isinstance(captain, today.GoodJedi)
    assert captain.name == "Obi Wan"
    assert stored(galaxy) == [VADER, MIGRATED[1], HAN]


@pytest.mark.parametrize("handler", LAZY)
def test_pending_documents_are_migrated_in_bulk(handler, galaxy: Database) -> None:
    """`migrate_pending` does to all documents what loading them would do."""
    report = handler(models(handler).Human).migrate_pending()
    assert report.errors == ()
    assert stored(galaxy) == MIGRATED


def test_bulk_rules_split_the_class(galaxy: Database) -> None:
    """Three bulk rules, in order, give every old Jedi its new class without the field."""
    today = models(InBulk)
    report = InBulk(today.Human).migrate_all()
    assert [(rule.matched, rule.modified) for rule in report.rules] == [(1, 1), (1, 1), (2, 2)]
    assert stored(galaxy) == MIGRATED
    assert [jedi.name for jedi in today.GoodJedi.objects] == ["Obi Wan"]
    assert [sith.name for sith in today.BadSith.objects] == ["Darth Vader"]
