"""Former classes: documents whose _cls names a class that is gone, and the classes they become."""

from __future__ import annotations

import pytest
from mongoengine import Document, IntField, ReferenceField, StringField

from lazymig import DocumentMigration, LazyMigrationMixin
from tests.odm.test_inheritance import two_siblings
from tests.support.doors import ALL_DOORS, SINGLE_DOORS, stored


def split_jedi(with_legacy=True):
    """Today's classes GoodJedi and BadSith; stored are Human.Jedi documents with dark_side."""

    class HumanMigration(DocumentMigration):
        legacy_classes = ("Human.Jedi",) if with_legacy else ()

        def migration01__good(self):
            self.target = {"_cls": "Human.Jedi", "dark_side": False}
            self.update = {"$set": {"_cls": "Human.GoodJedi"}, "$unset": {"dark_side": ""}}

        def migration02__bad(self):
            self.target = {"_cls": "Human.Jedi", "dark_side": True}
            self.update = {"$set": {"_cls": "Human.BadSith"}, "$unset": {"dark_side": ""}}

    class Human(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        name = StringField()
        migration_handler = HumanMigration
        meta = {"collection": "person", "allow_inheritance": True, "ordering": ["id"]}

    class GoodJedi(Human):
        pass

    class BadSith(Human):
        pass

    return Human, GoodJedi, BadSith


OLD_JEDIS = [
    {"_id": 1, "_cls": "Human.Jedi", "name": "Ada", "dark_side": False},
    {"_id": 2, "_cls": "Human.Jedi", "name": "Bob", "dark_side": True},
    {"_id": 3, "_cls": "Human.GoodJedi", "name": "Cy"},
]


@pytest.mark.parametrize("door", ALL_DOORS)
def test_a_former_class_loads_as_the_new_one(any_db, door):
    """Documents of a declared former class are found, migrated and loaded as today's classes."""
    any_db["person"].insert_many(OLD_JEDIS)
    human, good, bad = split_jedi()

    loaded = ALL_DOORS[door](human)

    assert [type(document) for document in loaded] == [good, bad, good]
    assert [raw["_cls"] for raw in stored(any_db["person"])] == [
        "Human.GoodJedi",
        "Human.BadSith",
        "Human.GoodJedi",
    ]
    assert not any("dark_side" in raw for raw in stored(any_db["person"]))


@pytest.mark.parametrize(
    "door", sorted(SINGLE_DOORS.keys() - {"modify of a document", "reload", "upsert_one"})
)
def test_one_document_of_a_former_class_loads_as_the_new_one(any_db, door):
    """Each door of one document finds the former class and gives the new one."""
    any_db["person"].insert_many(OLD_JEDIS)
    human, good, _ = split_jedi()

    assert type(SINGLE_DOORS[door](human)) is good
    assert any_db["person"].find_one({"_id": 1})["_cls"] == "Human.GoodJedi"


@pytest.mark.parametrize("with_legacy", [True, False])
def test_a_reference_reaches_a_former_class(any_db, with_legacy):
    """An old Jedi behind a ReferenceField(Human) loads as the right new class."""
    any_db["person"].insert_many(OLD_JEDIS)
    human, good, bad = split_jedi(with_legacy)

    class Ship(Document):
        pilots = ReferenceField(human)
        meta = {"collection": "ships"}

    any_db["ships"].insert_many([{"_id": 1, "pilots": 1}, {"_id": 2, "pilots": 2}])

    assert [type(ship.pilots) for ship in Ship.objects.order_by("id")] == [good, bad]


def test_a_subclass_query_keeps_its_class(any_db):
    """A query of one new class never gives a document that has become another."""
    any_db["person"].insert_many(OLD_JEDIS)
    human, good, bad = split_jedi()
    assert human.objects.count() == 3
    list(human.objects)

    assert [type(document) for document in good.objects.order_by("id")] == [good, good]
    assert [type(document) for document in bad.objects] == [bad]


def test_an_upsert_of_the_base_makes_the_migrated_document_its_own(any_db):
    """MongoEngine's upsert names its own class: a former class is migrated first."""
    any_db["person"].insert_many(OLD_JEDIS)
    human, _, _ = split_jedi()

    assert type(human.objects(id=1).upsert_one(set__name="Eve")) is human
    assert any_db["person"].find_one({"_id": 1}) == {"_id": 1, "_cls": "Human", "name": "Eve"}


UPSERTS = {
    "modify": lambda objects: objects.modify(upsert=True, new=True, set__name="Eve"),
    "upsert_one": lambda objects: objects.upsert_one(set__name="Eve"),
    "update_one": lambda objects: objects.update_one(upsert=True, set__name="Eve"),
    "update": lambda objects: objects.update(upsert=True, set__name="Eve"),
}


@pytest.mark.parametrize("upsert", UPSERTS)
def test_upserts_keep_the_right_class(any_db, upsert):
    """An upsert through a model with a declared former class inserts a document of that model."""

    class JediMigration(DocumentMigration):
        legacy_classes = ("Human.Padawan",)

        def migration01__grow(self):
            self.target = {"_cls": "Human.Padawan"}
            self.update = {"$set": {"_cls": "Human.Jedi"}}

    human, jedi, _ = two_siblings(None, JediMigration)

    UPSERTS[upsert](jedi.objects(id=7))

    assert any_db["person"].find_one({"_id": 7})["_cls"] == "Human.Jedi"
    assert type(human.objects.get(id=7)) is jedi
    assert jedi.objects.get(id=7).name == "Eve"


@pytest.mark.parametrize("upsert", UPSERTS)
def test_upserts_update_a_former_class(any_db, upsert):
    """An upsert that matches a document of a former class updates it, and inserts none."""

    class JediMigration(DocumentMigration):
        legacy_classes = ("Human.Padawan",)

        def migration01__grow(self):
            self.target = {"_cls": "Human.Padawan"}
            self.update = {"$set": {"_cls": "Human.Jedi"}}

    _, jedi, _ = two_siblings(None, JediMigration)
    any_db["person"].insert_one({"_id": 7, "_cls": "Human.Padawan", "name": "Ada"})

    UPSERTS[upsert](jedi.objects(id=7))

    assert jedi.objects.get(id=7).name == "Eve"
    assert stored(any_db["person"]) == [{"_id": 7, "_cls": "Human.Jedi", "name": "Eve"}]
