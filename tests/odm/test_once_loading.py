"""Documents that carry a claim: whatever way they are loaded, the application never meets it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from bson.json_util import DEFAULT_JSON_OPTIONS
from mongoengine import (
    BooleanField,
    CachedReferenceField,
    Document,
    DynamicDocument,
    GenericReferenceField,
    IntField,
    LazyReferenceField,
    ListField,
    ReferenceField,
    StringField,
)
from mongoengine.errors import FieldDoesNotExist
from pymongo.database import Database

from lazymig import LazyMigrationMixin, MigrationInProgress, as_stored
from tests.support.commands import CommandLog
from tests.support.doors import ALL_DOORS, NAMES, SINGLE_DOORS, as_raw, new, person_model
from tests.support.handlers import ADD_ENABLED, copying, handler, model, rule
from tests.support.mails import CLAIM, claim, mailing, mails

A_CLAIM = {"rule": "allmigration01__mail", "owner": "somebody", "until": None}


def _enabling() -> Any:
    """A once rule for people."""
    return mailing(target={"enabled": None}, update={"$set": {"enabled": True}})


# What the model has besides the once rule, at whose work the documents are.
HANDLERS = {
    "bulk once rule alone": lambda: handler(allmigration01__mail=_enabling()),
    "lazy rule besides": lambda: handler(
        migration01__enable=rule(*ADD_ENABLED), allmigration01__mail=_enabling()
    ),
    "rule for errors besides": lambda: handler(
        migration01__legacy=rule({"legacy": {"$exists": True}}, {"$unset": {"legacy": ""}}),
        allmigration01__mail=_enabling(),
        validate_on_load=True,
    ),
    "lazy once rule": lambda: handler(migration01__enable=_enabling()),
}


def _claimed_people(database: Any, rules: Any, **meta: Any) -> Any:
    database["person"].insert_many([{**new(n), CLAIM: A_CLAIM} for n in (1, 2, 3)])
    return person_model(rules, **meta)


@pytest.mark.parametrize("rules", HANDLERS.values(), ids=HANDLERS)
@pytest.mark.parametrize("door", ALL_DOORS.values(), ids=ALL_DOORS)
def test_no_door_shows_a_claim(mongoengine_db: Database[Any], door: Any, rules: Any) -> None:
    """A claim that no lazy rule waits for is no field: documents load as if it were not there."""
    person = _claimed_people(mongoengine_db, rules())
    loaded = sorted(door(person), key=lambda each: each.id)
    assert [as_raw(each) for each in loaded] == [new(n) for n in (1, 2, 3)]
    assert mongoengine_db["person"].count_documents({CLAIM: A_CLAIM}) == 3


@pytest.mark.parametrize("rules", HANDLERS.values(), ids=HANDLERS)
@pytest.mark.parametrize("door", SINGLE_DOORS.values(), ids=SINGLE_DOORS)
def test_no_single_door_shows_a_claim(mongoengine_db: Database[Any], door: Any, rules: Any) -> None:
    """The same for the doors that load one document."""
    person = _claimed_people(mongoengine_db, rules())
    assert as_raw(door(person)) == new(1)


PARTIAL = {
    "exclude": lambda person: person.objects.exclude("name"),
    "exclude _id": lambda person: person.objects.exclude("id", "name"),
    "only": lambda person: person.objects.only("enabled"),
    "fields": lambda person: person.objects.fields(name=0),
    "as_stored": lambda person: person.objects.as_stored(),
}


@pytest.mark.parametrize("rules", HANDLERS.values(), ids=HANDLERS)
@pytest.mark.parametrize("load", PARTIAL.values(), ids=PARTIAL)
def test_partial_loads_show_no_claim(mongoengine_db: Database[Any], load: Any, rules: Any) -> None:
    """A projection that leaves everything else in, and a look at what is stored, do neither."""
    loaded = list(load(_claimed_people(mongoengine_db, rules())))
    assert [each.enabled for each in loaded] == [True] * 3


def test_as_stored_shows_no_claim(any_db: Any) -> None:
    """Within an as_stored block documents in progress are loaded as they are, but for the claim."""
    any_db["person"].insert_one({"_id": 1, "name": "Ada", CLAIM: A_CLAIM})
    person = person_model(handler(migration01__mail=_enabling()))
    with as_stored(person):
        assert as_raw(person.objects.get()) == {"_id": 1, "name": "Ada"}
    assert mails(any_db) == {}


def test_references_show_no_claim(mongoengine_db: Database[Any]) -> None:
    """Documents with a claim are loaded through references of every kind."""
    person = _claimed_people(mongoengine_db, handler(allmigration01__mail=_enabling()))
    reference = {"_cls": "Person", "_ref": person(id=2).to_dbref()}
    fields = {
        "plain": ReferenceField(person),
        "many": ListField(ReferenceField(person)),
        "lazy": LazyReferenceField(person),
        "generic": GenericReferenceField(choices=[person]),
        "cached": CachedReferenceField(person, fields=["name"]),
        "meta": {"collection": "holder"},
    }
    holder = type(Document)("Holder", (Document,), {**fields, "__module__": __name__})
    stored = {"plain": 1, "many": [1, 2, 3], "lazy": 3, "generic": reference, "cached": {"_id": 1}}
    mongoengine_db["holder"].insert_one(stored)
    found = holder.objects.get()
    assert found.plain.name == NAMES[0]
    assert [each.name for each in found.many] == list(NAMES)
    assert found.lazy.fetch().name == NAMES[2]
    assert found.generic.name == NAMES[1]
    assert found.cached.id == 1


def test_a_way_of_its_own_meets_no_claim(mongoengine_db: Database[Any]) -> None:
    """A model that overrides MongoEngine's loading is served as well."""
    mongoengine_db["post"].insert_one({"_id": 1, CLAIM: A_CLAIM})

    class Post(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        mailed = BooleanField()
        name = StringField()
        meta = {"collection": "post"}
        migration_handler = handler(allmigration01__mail=mailing())

        @classmethod
        def _from_son(cls, son: Any, *args: Any, **options: Any) -> Any:
            return super()._from_son({**son, "name": "own"}, *args, **options)

    assert Post.objects.get().name == "own"


def _tree() -> tuple[Any, Any, Any]:
    class Animal(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        name = StringField()
        meta = {"collection": "animal", "allow_inheritance": True}

    class Dog(Animal):
        migration_handler = handler(
            migration01__name=mailing(
                target={"name": {"$exists": False}}, update={"$set": {"name": "Rex"}}
            )
        )

    class Cat(Animal):
        pass

    return Animal, Dog, Cat


def test_a_root_without_rules_shows_no_claim(mongoengine_db: Database[Any]) -> None:
    """A once rule of a subclass alone serves the documents that are loaded by the root class."""
    names = {1: "Animal", 2: "Animal.Dog", 3: "Animal.Cat", 4: "Animal.Dog"}
    mongoengine_db["animal"].insert_many(
        [{"_id": n, "_cls": name, "name": "x", CLAIM: A_CLAIM} for n, name in names.items()]
    )
    mongoengine_db["animal"].update_one({"_id": 4}, {"$unset": {"name": ""}})
    animal, dog, cat = _tree()
    assert [each.name for each in animal.objects.order_by("id")] == ["x", "x", "x", "Rex"]
    assert [each.id for each in cat.objects] == [3]
    assert [each.id for each in dog.objects.order_by("id")] == [2, 4]
    assert mails(mongoengine_db) == {4: 1}


def test_a_subclass_defined_later_brings_its_rule(mongoengine_db: Database[Any]) -> None:
    """A class tree whose first once rule comes with a late subclass is served from then on."""
    mongoengine_db["animal"].insert_one({"_id": 1, "_cls": "Animal.Cat", CLAIM: A_CLAIM})
    animal, dog, _ = _tree()
    assert animal._lazymig_claimed
    assert dog._lazymig_claimed
    assert [each.id for each in animal.objects] == [1]


def test_a_dynamic_document_has_no_claim(mongoengine_db: Database[Any]) -> None:
    """A DynamicDocument takes unknown fields for its own, but not the claim."""
    mongoengine_db["post"].insert_one({"_id": 1, "more": 2, CLAIM: A_CLAIM})

    class Post(LazyMigrationMixin, DynamicDocument):
        id = IntField(primary_key=True)
        meta = {"collection": "post"}
        migration_handler = handler(allmigration01__mail=_enabling())

    loaded = Post.objects.get()
    assert loaded.more == 2
    assert not hasattr(loaded, CLAIM)


def test_saving_leaves_the_claim_alone(mongoengine_db: Database[Any]) -> None:
    """What the application saves while somebody is at work is stored, and the claim stays."""
    person = _claimed_people(mongoengine_db, handler(allmigration01__mail=_enabling()))
    loaded = person.objects.get(id=1)
    loaded.name = "Eve"
    loaded.save()
    assert mongoengine_db["person"].find_one({"_id": 1}) == {
        **new(1),
        "name": "Eve",
        CLAIM: A_CLAIM,
    }


def test_a_copy_starts_no_effect(mongoengine_db: Database[Any]) -> None:
    """What does not come from the database sends no mail, old as it may be."""
    person = person_model(handler(migration01__mail=_enabling()))
    ada = person(id=1, name="Ada")
    copies = [
        person.from_json('{"_id": 1, "name": "Ada"}', json_options=DEFAULT_JSON_OPTIONS),
        copy.deepcopy(ada),
        person._from_son({"_id": 1, "name": "Ada", CLAIM: A_CLAIM}),
    ]
    assert copies == [ada] * 3
    assert mails(mongoengine_db) == {}


@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_a_document_that_loads_in_no_shape_is_in_progress(
    mongoengine_db: Database[Any], on_error: str
) -> None:
    """Where even the old shape cannot be built, a held document raises, or is left out."""
    mongoengine_db["post"].insert_many([{"_id": 1, "lost": 1}, {"_id": 2, "n": 1}])
    claim(mongoengine_db, 1, seconds=600, rule="migration01__lost")
    update = {"$rename": {"lost": "n"}}
    rules = handler(
        migration01__lost=mailing(target={"lost": {"$exists": True}}, update=update, wait=0),
        on_error=on_error,
    )
    post = model(rules, n=IntField(), mailed=BooleanField())
    loading = iter(post.objects.order_by("key").no_cache())
    if on_error == "raise":
        with pytest.raises(MigrationInProgress):
            next(loading)
    assert next(loading).key == 2
    assert mails(mongoengine_db) == {}


def test_rules_for_errors_meet_a_once_rule_in_order(mongoengine_db: Database[Any]) -> None:
    """A document that does not load gets all rules, the once rule in its place, and one effect."""
    mongoengine_db["post"].insert_one({"_id": 1, "n": 1, "lost": 2})

    def convert(self: Any) -> None:
        self.target = {"lost": self.doc["lost"]}
        self.update = {"$set": {"n": self.doc["lost"]}, "$unset": {"lost": ""}}

    rules = handler(
        migration01__copy=copying("n", "m"),
        migration02__mail=mailing(target={"m": 1, "k": None}, update={"$set": {"k": 5}}),
        migration03__convert=convert,
    )
    loaded = model(rules, n=IntField(), m=IntField(), k=IntField()).objects.get()
    assert (loaded.n, loaded.m, loaded.k) == (2, 1, 5)
    assert mails(mongoengine_db) == {1: 1}


def test_no_rule_is_tried_where_none_is_lazy(
    monitored_db: Database[Any], command_log: CommandLog
) -> None:
    """A document that does not load fails as with plain MongoEngine where bulk rules are all."""
    monitored_db["person"].insert_one({"_id": 1, "unknown": 1})
    person = person_model(handler(allmigration01__mail=_enabling()))
    command_log.clear()
    with pytest.raises(FieldDoesNotExist) as caught:
        person.objects.get()
    assert command_log.names == ["find"]
    assert "lazymig" not in str(caught.value)
    assert not hasattr(caught.value, "__notes__")


def test_a_model_without_once_rules_is_left_as_it_was(mongoengine_db: Database[Any]) -> None:
    """Nothing is put in the way of a model whose rules leave no claims: a stray one is a field."""
    person = person_model(handler(migration01__enable=rule(*ADD_ENABLED)))
    assert not person._lazymig_claimed
    assert person._lazymig_door.__func__ is Document._from_son.__func__
    mongoengine_db["person"].insert_one({**new(1), CLAIM: A_CLAIM})
    with pytest.raises(FieldDoesNotExist, match=CLAIM):
        person.objects.get()


def test_a_model_whose_once_rule_is_gone_is_a_plain_one(mongoengine_db: Database[Any]) -> None:
    """Once the rule is deleted, the model is a plain MongoEngine model, as with other rules."""
    person_model(handler(allmigration01__mail=_enabling()))
    person = person_model(handler())
    assert not person._lazymig_claimed
    assert person._from_son.__func__ is Document._from_son.__func__
