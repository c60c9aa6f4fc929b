"""Rules whose proofs are delicate, on models: loads never write again what they have written."""

from __future__ import annotations

import uuid
import warnings
from enum import Enum
from typing import Any

import bson
import pytest
from mongoengine import (
    Document,
    DynamicDocument,
    DynamicField,
    EnumField,
    IntField,
    UUIDField,
)
from pymongo.database import Database

from lazymig import ConvergenceWarning, DocumentMigration, LazyMigrationMixin

Raw = dict[str, Any]
POINT = {"type": "Point", "coordinates": "$place"}
ONE, TWO = uuid.UUID(int=1), uuid.UUID(int=2)


class State(Enum):
    """The states of a device."""

    NEW = "new"
    READY = "ready"


def _handler(target: Raw, update: Any) -> Any:
    class Handler(DocumentMigration):
        """One rule."""

        def migration01__change(self) -> None:
            """Changes documents."""
            self.target = target
            self.update = update

    return Handler


@pytest.mark.parametrize(
    "target",
    [
        {"place": {"$type": "array"}},
        {"place": {"$size": 2}},
        {"place": {"$exists": True, "$not": {"$type": "object"}}},
    ],
)
@pytest.mark.parametrize(
    "update",
    [
        [{"$set": {"place": POINT}}],
        [{"$addFields": {"place": {"x": {"y": "$place"}}}}],
        [{"$set": {"place.coordinates": "$place"}}],
        [{"$unset": "old"}, {"$set": {"place": POINT}}],
    ],
)
def test_a_document_never_grows_with_each_load(
    mongoengine_db: Database[Raw], target: Raw, update: Any
) -> None:
    """An object that a stage writes into an array ends no match: the rule is not started by one."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")

        class Shop(LazyMigrationMixin, Document):
            id = IntField(primary_key=True)
            place = DynamicField()
            migration_handler = _handler(target, update)
            meta = {"strict": False}

    assert [one.category for one in caught] == [ConvergenceWarning]
    assert Shop.migration_handler(Shop).get_status()[0].converges is False
    mongoengine_db.shop.insert_one({"_id": 1, "place": [30.0, 40.0]})
    before = bson.encode(mongoengine_db.shop.find_one() or {})
    for _ in range(3):
        assert Shop.objects.get(id=1).place == [30.0, 40.0]
    assert bson.encode(mongoengine_db.shop.find_one() or {}) == before


@pytest.mark.parametrize(
    "update",
    [
        [{"$set": {"place": {"$mergeObjects": [POINT]}}}],
        [{"$set": {"place": {"$cond": [True, POINT, None]}}}],
    ],
)
def test_a_new_object_in_place_of_an_array_is_proved(
    mongoengine_db: Database[Raw], update: Any
) -> None:
    """What replaces the array ends its match, and happens once."""

    class Shop(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        place = DynamicField()
        migration_handler = _handler({"place": {"$type": "array"}}, update)

    mongoengine_db.shop.insert_one({"_id": 1, "place": [30.0, 40.0]})
    for _ in range(2):
        loaded = Shop.objects.get(id=1)
        assert loaded.place["coordinates"] == [30.0, 40.0]


class TextBecomesBinary(DocumentMigration):
    """Text becomes a UUID: how that is stored, the client says."""

    def migration01__serial(self) -> None:
        """Reads the text of each document."""
        self.target = {"serial": {"$type": "string"}}
        self.update = {"$set": {"serial": uuid.UUID(self.doc["serial"])}}

    def migration02__tenant(self) -> None:
        """Moves the devices of one tenant to another."""
        self.target = {"tenant": ONE}
        self.update = {"$set": {"tenant": TWO}}

    def migration03__state(self) -> None:
        """Writes what MongoEngine writes for an enumeration."""
        self.target = {"state": State.NEW.value}
        self.update = {"$set": {"state": State.READY.value}}


class Device(LazyMigrationMixin, Document):
    """A device with values whose type is certain."""

    id = IntField(primary_key=True)
    serial = UUIDField()
    tenant = UUIDField()
    state = EnumField(State)
    migration_handler = TextBecomesBinary
    meta = {"auto_create_index": False}


@pytest.mark.parametrize("way", ["load", "bulk"])
def test_uuids_and_enumerations_are_migrated(mongoengine_db: Database[Raw], way: str) -> None:
    """Rules on UUIDs and enumerations start on a match, and end it, by loads and in bulk."""
    old = [{"_id": n, "serial": str(ONE), "tenant": ONE, "state": "new"} for n in range(3)]
    mongoengine_db.device.insert_many(old)
    assert [one.converges for one in TextBecomesBinary(Device).get_status()] == [None, True, True]
    if way == "load":
        assert [one.serial for one in Device.objects] == [ONE] * 3
    else:
        assert TextBecomesBinary(Device).migrate_pending().modified == 9
    expected = {"serial": ONE, "tenant": TWO, "state": "ready"}
    assert mongoengine_db.device.count_documents(expected) == 3
    assert TextBecomesBinary(Device).get_deprecated()["active"] == []


def test_queries_see_constants_whose_type_is_certain(mongoengine_db: Database[Raw]) -> None:
    """A query by a UUID or an enumeration is rewritten through rules that set them."""

    class Moved(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        tenant = UUIDField()
        state = EnumField(State)
        migration_handler = _handler({"tenant": ONE}, {"$set": {"tenant": TWO, "state": "ready"}})

    mongoengine_db.moved.insert_many([{"_id": n, "tenant": ONE, "state": "new"} for n in range(3)])
    assert Moved.objects(tenant=TWO, state=State.READY).count() == 3
    assert Moved.objects(tenant=ONE).count() == Moved.objects(state=State.NEW).count() == 0
    assert mongoengine_db.moved.count_documents({"tenant": ONE, "state": "new"}) == 3


def test_one_constant_for_another_converges(mongoengine_db: Database[Raw]) -> None:
    """A UUID in place of another one is proved; the same one is not."""

    class Tenant(DynamicDocument):
        pass

    moved = _handler({"tenant": ONE}, {"$set": {"tenant": TWO}})
    stays = _handler({"tenant": ONE}, {"$set": {"tenant": ONE}})
    assert moved(Tenant).get_status()[0].converges is True
    with pytest.warns(ConvergenceWarning):
        assert stays(Tenant).get_status()[0].converges is False
