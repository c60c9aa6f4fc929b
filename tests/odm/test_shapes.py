"""Shapes of models and documents: database names, embedded documents, primary keys, open models."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from bson import ObjectId
from mongoengine import (
    BooleanField,
    DictField,
    Document,
    DynamicDocument,
    EmbeddedDocument,
    EmbeddedDocumentField,
    EmbeddedDocumentListField,
    IntField,
    ListField,
    MapField,
    StringField,
    UUIDField,
)
from mongoengine.errors import FieldDoesNotExist, InvalidDocumentError
from pymongo.database import Database

from lazymig import DocumentMigration, LazyMigrationMixin, UpdateQueryError
from tests.support.doors import (
    LOAD_ERROR,
    MATCH,
    SINGLE_DOORS,
    as_raw,
    case_id,
    convert_legacy,
    person_model,
    stored,
)
from tests.support.handlers import ADD_ENABLED, copying, handler, model, rule


def test_rules_speak_database_names(any_db):
    """Targets and updates use db_field names, and the object shows the value under its own name."""

    class Person(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        first_name = StringField(db_field="fn")
        active = BooleanField(db_field="act")
        migration_handler = handler(
            migration01__active=rule({"act": {"$exists": False}}, {"$set": {"act": True}}),
            migration02__name=rule({"name": {"$exists": True}}, {"$rename": {"name": "fn"}}),
        )
        meta = {"collection": "person"}

    any_db["person"].insert_one({"_id": 1, "name": "Ada"})

    person = Person.objects.only("first_name", "active").get()
    assert (person.first_name, person.active) == ("Ada", True)
    assert Person.objects(first_name="Ada", active=True).count() == 1
    assert stored(any_db["person"]) == [{"_id": 1, "fn": "Ada", "act": True}]


def test_a_python_name_in_an_update_is_refused():
    """An update of an attribute's Python name, no database name, is an error that says so."""
    with pytest.raises(UpdateQueryError, match=r"Person.*'active'"):

        class Person(LazyMigrationMixin, Document):
            active = BooleanField(db_field="act")
            migration_handler = handler(
                migration01__active=rule({"act": {"$exists": False}}, {"$set": {"active": True}})
            )


def embedding_model(rules):
    """A model `Person` with embedded documents in every place."""

    class Street(EmbeddedDocument):
        name = StringField()

    class Home(EmbeddedDocument):
        city = StringField()
        country = StringField()
        street = EmbeddedDocumentField(Street)

    class Person(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        home = EmbeddedDocumentField(Home)
        homes = EmbeddedDocumentListField(Home)
        by_name = MapField(EmbeddedDocumentField(Home))
        more = ListField(EmbeddedDocumentField(Home))
        extra = DictField()
        migration_handler = rules
        meta = {"collection": "person"}

    return Person


def wrap_city(self):
    """A home that was a plain string becomes a document: the load fails, the rule reads it."""
    if isinstance(self.doc.get("home"), str):
        self.target = {"home": {"$type": "string"}}
        self.update = {"$set": {"home": {"city": self.doc["home"]}}}


def clean_homes(self):
    """A rule that computes a whole list of embedded documents."""
    if any("zip" in home for home in self.doc.get("homes", [])):
        self.target = {"homes.zip": {"$exists": True}}
        kept = [{k: v for k, v in home.items() if k != "zip"} for home in self.doc["homes"]]
        self.update = {"$set": {"homes": kept}}


NO_COUNTRY = {"home": {"$exists": True}, "home.country": {"$exists": False}}

# The rule, the old document, the new one.
EMBEDDED = {
    "a path, by match": (
        rule(NO_COUNTRY, {"$set": {"home.country": "IT"}}),
        {"home": {"city": "Rome"}},
        {"home": {"city": "Rome", "country": "IT"}},
    ),
    "a deep path, by match": (
        rule({"home.street.nr": {"$exists": True}}, {"$unset": {"home.street.nr": ""}}),
        {"home": {"city": "Rome", "street": {"name": "Via", "nr": 7}}},
        {"home": {"city": "Rome", "street": {"name": "Via"}}},
    ),
    "another shape, by match": (
        rule({"home": {"$type": "string"}}, [{"$set": {"home": {"city": "$home"}}}]),
        {"home": "Rome"},
        {"home": {"city": "Rome"}},
    ),
    "another shape, by error": (wrap_city, {"home": "Rome"}, {"home": {"city": "Rome"}}),
    "elements, by match": (
        rule(
            {"homes": {"$elemMatch": {"zip": {"$exists": True}}}},
            {"$unset": {"homes.$[].zip": ""}},
        ),
        {"homes": [{"city": "Rome", "zip": 1}, {"city": "Oslo"}]},
        {"homes": [{"city": "Rome"}, {"city": "Oslo"}]},
    ),
    "elements, by error": (
        clean_homes,
        {"homes": [{"city": "Rome", "zip": 1}, {"city": "Oslo"}]},
        {"homes": [{"city": "Rome"}, {"city": "Oslo"}]},
    ),
    "elements with a filter": (
        rule(
            {"homes.city": "Roma"},
            {"$set": {"homes.$[home].city": "Rome"}},
            [{"home.city": "Roma"}],
        ),
        {"homes": [{"city": "Roma"}, {"city": "Oslo"}]},
        {"homes": [{"city": "Rome"}, {"city": "Oslo"}]},
    ),
    "a map's value": (
        rule({"by_name.own.zip": {"$exists": True}}, {"$unset": {"by_name.own.zip": ""}}),
        {"by_name": {"own": {"city": "Rome", "zip": 1}}},
        {"by_name": {"own": {"city": "Rome"}}},
    ),
    "a free dictionary": (
        rule({"extra.old": {"$exists": True}}, {"$rename": {"extra.old": "extra.new"}}),
        {"extra": {"old": 1}},
        {"extra": {"new": 1}},
    ),
}


@pytest.mark.filterwarnings("ignore::lazymig.ConvergenceWarning")
@pytest.mark.parametrize(
    "door", ["first", "get", "in_bulk", "reload", "limit", "modify of a document"]
)
@pytest.mark.parametrize("shape", EMBEDDED)
def test_old_shapes_inside_a_document_are_renewed(mongoengine_db, shape, door):
    """An old shape inside embedded documents, lists and maps of them is renewed by every door."""
    method, old, new = EMBEDDED[shape]
    model = embedding_model(handler(migration01__renew=method))
    mongoengine_db["person"].insert_one({"_id": 1, **old})
    if door == "modify of a document":
        document = model(id=1)
        assert document.modify(set__extra__seen=True)
        new = {**new, "extra": {**new.get("extra", {}), "seen": True}}
    else:
        document = SINGLE_DOORS[door](model)

    loaded = {key: value for key, value in as_raw(document).items() if value not in ([], {})}
    assert loaded == {"_id": 1, **new}
    assert stored(mongoengine_db["person"]) == [{"_id": 1, **new}]


def test_an_embedded_error_that_no_rule_helps_is_mongoengines_own(mongoengine_db):
    """A broken embedded document raises MongoEngine's exception, with the rules tried."""
    model = embedding_model(handler(migration01__wrap=wrap_city))
    mongoengine_db["person"].insert_many(
        [{"_id": 1, "home": {"zip": 1}}, {"_id": 2, "home": 5}, {"_id": 3, "home": "Rome"}]
    )

    with pytest.raises(FieldDoesNotExist, match="zip") as caught:
        model.objects.get(id=1)
    with pytest.raises(InvalidDocumentError):
        model.objects.get(id=2)

    assert "migration01__wrap" in "".join(getattr(caught.value, "__notes__", caught.value.args))
    assert model.objects.get(id=3).home.city == "Rome"


class Compound(EmbeddedDocument):
    """A primary key of two parts."""

    country = StringField()
    number = IntField()


KEYS = {
    "ObjectId": (None, [ObjectId(), ObjectId()]),
    "string": (StringField, ["ada", "bob"]),
    "int": (IntField, [0, 1]),
    "compound": (
        lambda **options: EmbeddedDocumentField(Compound, **options),
        [{"country": "IT", "number": 1}, {"country": "IT", "number": 2}],
    ),
    "list": (ListField, [[1], [1, 2]]),
}


@pytest.mark.parametrize("case", [MATCH, LOAD_ERROR], ids=case_id)
@pytest.mark.parametrize("kind", ["ObjectId", "string", "int", "compound"])
def test_every_kind_of_primary_key(mongoengine_db, kind, case):
    """Documents are migrated by their _id, of whatever kind, one by one and in batches."""
    make, keys = KEYS[kind]
    own = {} if make is None else {"key": make(primary_key=True)}
    raws = [{**case.raw(1), "_id": key} for key in keys]
    new = [{"_id": key, "name": "Ada", "enabled": True} for key in keys]
    collection = mongoengine_db["person"]
    model = type(Document)(
        "Person",
        (LazyMigrationMixin, Document),
        {
            **own,
            "name": StringField(),
            "enabled": BooleanField(required=True),
            "migration_handler": case.rules(),
            "meta": {"collection": "person"},
            "__module__": __name__,
        },
    )

    collection.insert_many(raws)
    assert [as_raw(document) for document in model.objects.order_by("pk")] == new
    assert stored(collection) == sorted(new, key=lambda raw: str(raw["_id"]))

    collection.delete_many({})
    collection.insert_many(raws)
    documents = [model.objects.with_id(model.objects[index].pk) for index in (0, 1)]
    assert [as_raw(document) for document in documents] == new
    assert [as_raw(document.reload()) for document in documents] == new

    collection.delete_many({})
    collection.insert_many(raws)
    assert case.rules()(model).migrate(raws[1]) == new[1]
    assert collection.find_one({"_id": {"$eq": keys[0]}}) == raws[0]


OPEN_MODELS = {
    "strict False": lambda rules: person_model(rules, strict=False),
    "DynamicDocument": lambda rules: person_model(rules, base=DynamicDocument),
}


@pytest.mark.parametrize("door", SINGLE_DOORS)
@pytest.mark.parametrize("kind", OPEN_MODELS)
def test_open_models_are_migrated(any_db, kind, door):
    """Models that accept unknown fields are migrated by match, and keep no key of the old shape."""
    model = OPEN_MODELS[kind](
        handler(
            migration01__enable=rule(*ADD_ENABLED),
            migration02__nick=rule({"nick": {"$exists": True}}, {"$unset": {"nick": ""}}),
        )
    )
    any_db["person"].insert_one({"_id": 1, "name": "Ada", "nick": "A"})

    document = SINGLE_DOORS[door](model)

    assert as_raw(document) == {"_id": 1, "name": "Ada", "enabled": True}
    assert stored(any_db["person"]) == [{"_id": 1, "name": "Ada", "enabled": True}]


@pytest.mark.parametrize("kind", OPEN_MODELS)
def test_open_models_are_helped_when_invalid(any_db, kind):
    """A rule that needs the document starts on an open model when the document is not valid."""
    model = OPEN_MODELS[kind](handler(migration01__convert=convert_legacy))
    any_db["person"].insert_one({"_id": 1, "name": "Ada", "legacy": True})

    assert model.objects.get().enabled is True
    assert stored(any_db["person"]) == [{"_id": 1, "name": "Ada", "enabled": True}]


def test_a_dynamic_rule_that_converges_starts_on_a_match(any_db):
    """A rule that reads self.doc after its target starts on a match alone."""

    class PersonMigration(DocumentMigration):
        def migration01__enable(self):
            self.target = {"enabled": {"$exists": False}}
            self.update = {"$set": {"enabled": self.doc["name"] == "Ada"}}

    any_db["person"].insert_many([MATCH.raw(1), MATCH.raw(2)])

    assert [document.enabled for document in person_model(PersonMigration).objects] == [True, False]
    assert [raw["enabled"] for raw in stored(any_db["person"])] == [True, False]


def test_documents_keyed_by_uuids_are_migrated(mongoengine_db: Database[Any]) -> None:
    """Old documents whose `_id`s are UUIDs are brought up to date, loaded or in bulk."""
    ids = [UUID(int=number) for number in range(3)]
    mongoengine_db["post"].insert_many([{"_id": key, "n": 1} for key in ids])
    rules = handler(
        migration01__enable=rule(*ADD_ENABLED),
        migration02__copy=copying("n", "copy"),
        allmigration01__copy=copying("n", "late"),
    )
    post = model(
        rules,
        key=UUIDField(primary_key=True),
        enabled=BooleanField(),
        **{name: IntField() for name in ("n", "copy", "late")},
    )
    assert post.objects.get(key=ids[0]).copy == 1
    assert [each.enabled for each in post.objects] == [True] * 3
    assert rules(post).migrate_all(chunk_size=1).modified == 3
    assert mongoengine_db["post"].count_documents({"late": 1}) == 3
