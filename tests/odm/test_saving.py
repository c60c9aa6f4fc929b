"""Saves of documents that were loaded partially, or made by hand: no update and no rule is lost."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import mongoengine
import pytest
from bson import json_util
from mongoengine import (
    BooleanField,
    Document,
    DynamicDocument,
    EmbeddedDocument,
    EmbeddedDocumentField,
    EmbeddedDocumentListField,
    IntField,
    ListField,
    ReferenceField,
    StringField,
)
from mongoengine.errors import NotUniqueError, OperationError, SaveConditionError

from lazymig import LazyMigrationMixin, MigrationFailed, MigrationInProgress, as_stored, once
from tests.support.doors import stored
from tests.support.handlers import handler, rule
from tests.support.mails import claim, mailed_post, mailing, mails


class City(EmbeddedDocument):
    """Where somebody lives."""

    city = StringField()
    code = StringField(db_field="zip")
    meta = {"strict": False}


class Comment(EmbeddedDocument):
    """What somebody has said."""

    text = StringField()
    likes = IntField()
    meta = {"strict": False}


def person_model(rules: Any, base: Any = Document, **options: Any) -> Any:
    """A model `Person` that knows old shapes well enough to load them as they are stored."""

    class Person(LazyMigrationMixin, base):
        id = IntField(primary_key=True)
        name = StringField()
        email = StringField()
        mail = StringField()
        version = IntField()
        label = StringField()
        nick = StringField(db_field="nk")
        tags = ListField(StringField())
        address = EmbeddedDocumentField(City)
        comments = EmbeddedDocumentListField(Comment)
        scores = ListField(IntField())
        migration_handler = rules
        meta = {"collection": "person", "strict": False, **options}

    return Person


# --- What a save may meet ----------------------------------------------------------------


def greet(self: Any) -> None:
    """A rule that computes from the name."""
    self.target = {"label": {"$exists": False}}
    self.update = {"$set": {"label": "Dear " + self.doc["name"]}}


def count_up(self: Any) -> None:
    """A rule in ordinary Python, which only a document can tell the update of."""
    self.target = {"old_version": {"$exists": True}}
    self.update = {
        "$set": {"version": int(self.doc["old_version"])},
        "$unset": {"old_version": ""},
    }


@once
def greet_once(self: Any) -> None:
    """A rule with an effect, whose paths nobody knows without running it."""
    self.target = {"label": {"$exists": False}}
    self.update = {"$set": {"label": "Dear " + self.doc["name"]}}


RENAME = rule({"mail": {"$exists": True}}, {"$rename": {"mail": "email"}})


@dataclass(frozen=True)
class Case:
    """An old document, the rules, a change that meets them, and what is stored in the end."""

    rules: dict[str, Any]
    old: dict[str, Any]
    change: Callable[[Any], None]
    end: dict[str, Any]
    everywhere: bool = True

    def model(self, **options: Any) -> Any:
        """The model with these rules."""
        return person_model(handler(**self.rules), **options)


def setting(**values: Any) -> Callable[[Any], None]:
    """The change of fields to these values."""

    def change(document: Any) -> None:
        for name, value in values.items():
            setattr(document, name, value)

    return change


def _move(document: Any) -> None:
    document.address = City(city="Rome")


CASES = {
    "rename": Case(
        {"migration01__rename": RENAME},
        {"name": "Ada", "mail": "old"},
        setting(email="new"),
        {"name": "Ada", "email": "new"},
    ),
    "the field is taken out": Case(
        {"migration01__rename": RENAME},
        {"name": "Ada", "mail": "old"},
        lambda person: person.modify(unset__email=1) and None,
        {"name": "Ada"},
    ),
    "db_field": Case(
        {"migration01__rename": rule({"nick": {"$exists": True}}, {"$rename": {"nick": "nk"}})},
        {"nick": "old"},
        setting(nick="new"),
        {"nk": "new"},
    ),
    "target that reads": Case(
        {
            "migration01__label": rule(
                {"version": 1, "label": {"$exists": False}}, {"$set": {"label": "first"}}
            )
        },
        {"version": 1},
        setting(version=2),
        {"version": 2, "label": "first"},
    ),
    "default": Case(
        {"migration01__add": rule({"label": {"$exists": False}}, {"$set": {"label": "none"}})},
        {"name": "Ada"},
        setting(label="new"),
        {"name": "Ada", "label": "new"},
    ),
    "computed": Case(
        {"migration01__greet": greet},
        {"name": "Ada"},
        setting(name="Eve"),
        {"name": "Eve", "label": "Dear Ada"},
    ),
    "computed in Python": Case(
        {"migration01__count": count_up},
        {"old_version": "7"},
        setting(version=8),
        {"version": 8},
    ),
    "once": Case(
        {"migration01__greet": greet_once},
        {"name": "Ada"},
        setting(name="Eve"),
        {"name": "Eve", "label": "Dear Ada"},
        everywhere=False,
    ),
    "pipeline": Case(
        {
            "migration01__split": rule(
                {"tagged": {"$exists": True}},
                [{"$set": {"tags": {"$split": ["$tagged", ","]}}}, {"$unset": "tagged"}],
            )
        },
        {"tagged": "a,b"},
        setting(tags=["c"]),
        {"tags": ["c"]},
        everywhere=False,
    ),
    "nested": Case(
        {
            "migration01__nest": rule(
                {"city": {"$exists": True}}, {"$rename": {"city": "address.city"}}
            )
        },
        {"city": "Athens"},
        _move,
        {"address": {"city": "Rome"}},
        everywhere=False,
    ),
    "elements of an array": Case(
        {
            "migration01__count": rule(
                {"comments": {"$elemMatch": {"likes": {"$exists": False}}}},
                {"$set": {"comments.$[new].likes": 0}},
                [{"new.likes": {"$exists": False}}],
            )
        },
        {"comments": [{"text": "Hello"}]},
        lambda person: person.comments.append(Comment(text="Bye", likes=1)),
        {"comments": [{"text": "Bye", "likes": 1}]},
        everywhere=False,
    ),
    "two rules on one path": Case(
        {
            "migration01__rename": RENAME,
            "migration02__label": rule(
                {"email": "old", "label": {"$exists": False}}, {"$set": {"label": "reached"}}
            ),
        },
        {"mail": "old"},
        setting(email="new"),
        {"email": "new", "label": "reached"},
    ),
}
RENAMED = CASES["rename"]


def _assigned(model: Any) -> Any:
    document = model()
    document.id = 1
    return document


def _unstored(model: Any) -> Any:
    return model.from_json('{"_id": 1}', json_options=json_util.DEFAULT_JSON_OPTIONS)


# Ways to a document with a known `_id` that have not migrated what is stored.
WAYS: dict[str, Callable[[Any], Any]] = {
    "only the id": lambda model: model.objects.only("id").get(id=1),
    "only, first": lambda model: model.objects.only("id").first(),
    "fields": lambda model: model.objects.fields(id=1)[0],
    "no_dereference": lambda model: model.objects.no_dereference().only("id").get(),
    "exclude": lambda model: model.objects.exclude(
        *(name for name in model._fields if name != "id")
    ).get(id=1),
    "in_bulk": lambda model: model.objects.only("id").in_bulk([1])[1],
    "no_cache": lambda model: next(model.objects.only("id").no_cache()),
    "not created": lambda model: model(id=1, _created=False),
    "an id assigned": _assigned,
    "from_json": _unstored,
    "a copy": lambda model: copy.copy(_unstored(model)),
    "a deep copy": lambda model: copy.deepcopy(model.objects.only("id").get(id=1)),
    "by hand from the raw document": lambda model: model._from_son({"_id": 1}),
    "as_stored": lambda model: model.objects.as_stored().only("id").get(id=1),
}


MOCKED = ("only the id", "exclude", "not created", "from_json")


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Any:
    """The server, or mongomock where it can do what the case wants."""
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize(
    ("backend", "name", "way"),
    [
        *(("mongoengine_db", name, way) for name in CASES for way in WAYS),
        *(("mock_db", name, way) for name in CASES for way in MOCKED if CASES[name].everywhere),
    ],
    indirect=["backend"],
)
def test_a_save_loses_neither_the_change_nor_the_rule(backend, name, way):
    """What is saved without a load of the whole document is what is saved after the migration."""
    case = CASES[name]
    model = case.model()
    backend["person"].insert_one({"_id": 1, **case.old})
    document = WAYS[way](model)

    case.change(document)
    document.save()

    model.migration_handler(model).migrate_pending()
    assert stored(backend["person"]) == [{"_id": 1, **case.end}]


@pytest.mark.parametrize("way", WAYS)
def test_a_second_save_asks_nothing_more(monitored_db, command_log, way):
    """One find and the migration before the first save that meets a rule; nothing later."""
    monitored_db["person"].insert_one({"_id": 1, **RENAMED.old})
    document = WAYS[way](RENAMED.model())
    command_log.clear()

    document.email = "new"
    document.save()
    assert command_log.names == ["find", "update", "find", "update"]
    command_log.clear()
    document.email = "newer"
    document.save()

    assert command_log.names == ["update"]
    assert stored(monitored_db["person"]) == [{"_id": 1, "name": "Ada", "email": "newer"}]


# Ways to a document that is up to date, in memory and stored.
WHOLE: dict[str, Callable[[Any], Any]] = {
    "get": lambda model: model.objects.get(id=1),
    "first": lambda model: model.objects.first(),
    "[i]": lambda model: model.objects[0],
    "iteration": lambda model: next(iter(model.objects)),
    "no_cache": lambda model: next(model.objects.no_cache()),
    "in_bulk": lambda model: model.objects.in_bulk([1])[1],
    "modify": lambda model: model.objects(id=1).modify(set__version=1, new=True),
    "only what the rule writes": lambda model: model.objects.only("email").get(id=1),
    "exclude of something else": lambda model: model.objects.exclude("name").get(id=1),
    "inserted": lambda model: model(id=2).save(),
    "created": lambda model: model.objects.create(id=2),
    "replaced": lambda model: model(id=1).save(),
}


@pytest.mark.parametrize("old", [True, False], ids=["old", "new"])
@pytest.mark.parametrize("way", WHOLE)
def test_a_document_that_was_migrated_costs_nothing_more(monitored_db, command_log, way, old):
    """A save after a load that has migrated sends what plain MongoEngine sends."""
    shape = RENAMED.old if old else {"name": "Ada", "email": "old"}
    monitored_db["person"].insert_one({"_id": 1, **shape})
    document = WHOLE[way](RENAMED.model())
    command_log.clear()

    document.email = "new"
    document.save()

    assert command_log.names == ["update"]
    assert monitored_db["person"].find_one({"_id": document.id})["email"] == "new"


@pytest.mark.parametrize("way", ["lazy", "list", "select_related"])
def test_a_reference_that_was_migrated_costs_nothing_more(monitored_db, command_log, way):
    """A document that came through a reference is known to be up to date as well."""
    model = RENAMED.model()

    class Holder(Document):
        one = ReferenceField(model)
        many = ListField(ReferenceField(model))
        meta = {"collection": "holders"}

    monitored_db["person"].insert_one({"_id": 1, **RENAMED.old})
    monitored_db["holders"].insert_one({"one": 1, "many": [1]})
    holder = Holder.objects.first() if way == "lazy" else Holder.objects.select_related()[0]
    document = holder.many[0] if way == "list" else holder.one
    command_log.clear()

    document.email = "new"
    document.save()

    assert command_log.names == ["update"]


@pytest.mark.parametrize("way", sorted(WAYS.keys() - {"an id assigned", "not created"}))
def test_a_save_that_meets_no_rule_is_sent_as_it_is(monitored_db, command_log, way):
    """A save that touches no path of a rule costs nothing more and migrates nothing."""
    monitored_db["person"].insert_one({"_id": 1, **RENAMED.old})
    document = WAYS[way](RENAMED.model())
    command_log.clear()

    document.version = 2
    document.save(save_condition={"name": "Ada"})
    document.save()

    assert command_log.names == ["update"]
    assert stored(monitored_db["person"]) == [{"_id": 1, **RENAMED.old, "version": 2}]


def test_an_up_to_date_document_costs_one_find(monitored_db, command_log):
    """A partial document that meets a rule costs one find by `_id`, which answers with old ones."""
    monitored_db["person"].insert_one({"_id": 1, "email": "old"})
    document = RENAMED.model().objects.only("id").get(id=1)
    command_log.clear()

    document.email = "new"
    document.save()

    assert command_log.names == ["find", "update"]
    asked = command_log.commands[0][1]["filter"]
    assert asked == {"_id": {"$eq": 1}, "$or": [{"mail": {"$exists": True}}]}


# --- Conditions, cascades and what else save() takes --------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_a_condition_holds_as_on_migrated_data(any_db, way):
    """`save_condition` is asked of the document in today's shape."""
    model = RENAMED.model()
    any_db["person"].insert_one({"_id": 1, **RENAMED.old})

    document = WAYS[way](model)
    document.version = 2
    document.save(save_condition={"email": "old"})

    (found,) = stored(any_db["person"])
    assert (found["email"], found["version"]) == ("old", 2)


@pytest.mark.parametrize("condition", [{"email": "other"}, {"mail": "old"}, {"email": None}])
def test_a_condition_that_does_not_hold_is_mongoengines_error(any_db, condition):
    """A condition that fails on migrated data raises SaveConditionError and saves nothing."""
    model = RENAMED.model()
    any_db["person"].insert_one({"_id": 1, **RENAMED.old})
    document = model.objects.only("id").get(id=1)
    document.version = 2

    with pytest.raises(SaveConditionError):
        document.save(save_condition={"__raw__": condition})

    model.migration_handler(model).migrate_pending()
    assert stored(any_db["person"]) == [{"_id": 1, "name": "Ada", "email": "old"}]


def test_cascades_bring_references_up_to_date(any_db):
    """A cascading save obeys the law for each document that it saves."""
    model = RENAMED.model()

    class Holder(Document):
        one = ReferenceField(model)
        meta = {"collection": "holders"}

    any_db["person"].insert_one({"_id": 1, **RENAMED.old})
    person = model.objects.only("id").get(id=1)
    person.email = "new"

    Holder(one=person).save(cascade=True)

    assert stored(any_db["person"]) == [{"_id": 1, "name": "Ada", "email": "new"}]


@pytest.mark.parametrize(
    "options",
    [{"validate": False}, {"clean": False}, {"write_concern": {"w": 1}}, {"signal_kwargs": {}}],
    ids=lambda options: next(iter(options)),
)
def test_options_of_save_change_nothing(any_db, options):
    """Whatever the options of save(), neither the change nor the rule is lost."""
    model = RENAMED.model()
    any_db["person"].insert_one({"_id": 1, **RENAMED.old})
    document = model.objects.only("id").get(id=1)

    document.email = "new"
    document.save(**options)

    assert stored(any_db["person"]) == [{"_id": 1, "name": "Ada", "email": "new"}]


def test_what_is_not_stored_is_inserted(any_db):
    """A document by hand that is not stored yet comes into being as in plain MongoEngine."""
    model = RENAMED.model()

    model(id=1, email="new", _created=False).save()

    assert stored(any_db["person"]) == [{"_id": 1, "email": "new"}]
    with pytest.raises(NotUniqueError):
        model(id=1).save(force_insert=True)


def test_a_replacement_leaves_nothing_of_the_old_document(monitored_db, command_log):
    """A new document with the `_id` of an old one replaces it, without a migration."""
    model = RENAMED.model()
    monitored_db["person"].insert_one({"_id": 1, **RENAMED.old})

    model(id=1, email="new").save()

    assert command_log.names[-1:] == ["findAndModify"]
    (found,) = stored(monitored_db["person"])
    assert (found.get("name"), found["email"], "mail" in found) == (None, "new", False)


def test_a_replacement_finds_its_document_by_a_shard_key_that_a_rule_writes(any_db):
    """The shard key in the filter of a save is that of the migrated document."""
    case = Case({"migration01__rename": RENAME}, {"mail": "old"}, setting(), {})
    model = case.model(shard_key=("email",))
    any_db["person"].insert_many([{"_id": 1, **case.old}, {"_id": 2, **case.old}])

    model(id=1, email="old", name="Eve").save()
    other = model(id=2, email="old", _created=False)
    other.name = "Bob"
    other.save()

    found = stored(any_db["person"])
    assert [(one["email"], one["name"]) for one in found] == [("old", "Eve"), ("old", "Bob")]
    assert not any("mail" in one for one in found)


# --- Where the save goes --------------------------------------------------------------------


@pytest.mark.parametrize("way", ["switch_collection", "switch_db"])
def test_the_save_meets_the_document_where_it_goes(mongoengine_db, other_db, way):
    """A document that is saved elsewhere migrates what is stored under its `_id` there."""
    elsewhere = mongoengine_db["archive"] if way == "switch_collection" else other_db["person"]
    for collection in (mongoengine_db["person"], elsewhere):
        collection.insert_one({"_id": 1, **RENAMED.old})
    document = RENAMED.model().objects.get(id=1)

    if way == "switch_collection":
        document.switch_collection("archive")
    else:
        document.switch_db("other")
    document.email = "new"
    document.save()

    assert stored(elsewhere) == [{"_id": 1, "name": "Ada", "email": "new"}]
    assert stored(mongoengine_db["person"]) == [{"_id": 1, "name": "Ada", "email": "old"}]


def test_a_document_of_another_database_is_saved_to_the_models_own(mongoengine_db, other_db):
    """What using() has loaded elsewhere says nothing of the document that save() writes to."""
    for database in (mongoengine_db, other_db):
        database["person"].insert_one({"_id": 1, **RENAMED.old})
    document = RENAMED.model().objects.using("other").get(id=1)

    document.email = "new"
    document.save()

    assert stored(mongoengine_db["person"]) == [{"_id": 1, "name": "Ada", "email": "new"}]


def test_a_changed_key_meets_the_document_that_has_it(mongoengine_db):
    """A loaded document whose primary key is changed is saved onto another, perhaps old one."""
    mongoengine_db["person"].insert_many([{"_id": one, **RENAMED.old} for one in (1, 2)])
    document = RENAMED.model().objects.get(id=1)

    document.id = 2
    document.email = "new"
    document.save()

    assert mongoengine_db["person"].find_one({"_id": 2}) == {
        "_id": 2,
        "name": "Ada",
        "email": "new",
    }


# --- Stored forms -----------------------------------------------------------------------------


def test_a_document_loaded_as_stored_is_migrated_when_it_is_saved(any_db):
    """as_stored() shows the old shape; the save after it obeys the law again."""
    model = RENAMED.model()
    any_db["person"].insert_many([{"_id": one, **RENAMED.old} for one in (1, 2)])
    by_queryset = model.objects.as_stored().get(id=1)
    with as_stored(model):
        by_block = model.objects.get(id=2)

    for document in (by_queryset, by_block):
        document.email = "new"
        document.save()

    assert stored(any_db["person"]) == [
        {"_id": one, "name": "Ada", "email": "new"} for one in (1, 2)
    ]


def test_a_save_within_as_stored_is_sent_as_it_is(any_db):
    """Within as_stored() nothing is migrated, by a save neither."""
    model = RENAMED.model()
    any_db["person"].insert_one({"_id": 1, **RENAMED.old})

    with as_stored(model):
        document = model.objects.get(id=1)
        document.email = "new"
        document.save()

    assert stored(any_db["person"]) == [{"_id": 1, **RENAMED.old, "email": "new"}]


def _refuse(self: Any) -> None:
    self.target = {"mail": {"$exists": True}}
    if self.doc["mail"] == "bad":
        raise ValueError("bad")
    self.update = {"$set": {"email": self.doc["mail"]}, "$unset": {"mail": ""}}


def test_a_refused_document_is_not_saved(any_db):
    """Where the rule refuses the stored document, the save raises it before anything is written."""
    model = person_model(handler(migration01__refuse=_refuse))
    any_db["person"].insert_one({"_id": 1, "mail": "bad"})
    document = model._from_son({"_id": 1})

    document.email = "new"
    with pytest.raises(MigrationFailed) as caught:
        document.save()

    assert caught.value.document_id == 1
    assert stored(any_db["person"]) == [{"_id": 1, "mail": "bad"}]
    with pytest.raises(SaveConditionError):
        document.save(save_condition={"email": "good"})
    with pytest.raises(MigrationFailed):
        document.save(save_condition={"email": None})


def test_a_refused_document_is_saved_where_its_rule_is_not_met(mongoengine_db):
    """A document that MongoDB refuses to migrate takes changes that have nothing to do with it."""
    model = RENAMED.model()
    mongoengine_db["person"].create_index(
        "email", unique=True, partialFilterExpression={"email": {"$exists": True}}
    )
    rows = [{"_id": 1, "email": "taken"}, {"_id": 2, "mail": "taken"}]
    mongoengine_db["person"].insert_many(rows)
    document = model.objects.only("id").get(id=2)

    document.version = 2
    document.save()
    document.email = "new"
    with pytest.raises(MigrationFailed):
        document.save()

    assert stored(mongoengine_db["person"]) == [rows[0], {**rows[1], "version": 2}]


@pytest.mark.parametrize("whole", [True, False])
def test_a_skipped_document_is_saved_as_it_is_stored(any_db, whole):
    """With on_error = "skip" a refused document is saved as plain MongoEngine would save it."""
    model = person_model(handler(migration01__refuse=_refuse, on_error="skip"))
    any_db["person"].insert_one({"_id": 1, "mail": "bad"})
    document = model.objects.get(id=1) if whole else model.objects.only("id").get(id=1)

    document.email = "new"
    document.save()

    assert stored(any_db["person"]) == [{"_id": 1, "mail": "bad", "email": "new"}]


def test_a_document_in_its_old_form_is_migrated_when_that_has_become_possible(any_db):
    """A document that was skipped on load, and is no longer refused, is migrated by the save."""
    model = person_model(handler(migration01__refuse=_refuse, on_error="skip"))
    any_db["person"].insert_one({"_id": 1, "mail": "bad"})
    document = model.objects.get(id=1)
    any_db["person"].update_one({"_id": 1}, {"$set": {"mail": "good"}})

    document.email = "new"
    document.save()

    assert stored(any_db["person"]) == [{"_id": 1, "email": "new"}]


def test_the_old_image_of_modify_is_no_news_of_what_is_stored(any_db):
    """What modify() returns by default is an older state: a save of it looks again."""
    model = RENAMED.model()
    any_db["person"].insert_one({"_id": 1, **RENAMED.old})
    image = model.objects(id=1).modify(set__version=1)
    any_db["person"].replace_one({"_id": 1}, {"_id": 1, **RENAMED.old})

    image.email = "new"
    image.save()

    assert stored(any_db["person"]) == [{"_id": 1, "name": "Ada", "email": "new"}]


def test_a_document_that_somebody_else_is_at_work_on_is_not_saved(mongoengine_db):
    """A save that meets a once rule does not come between the rule's effect and its update."""
    post = mailed_post(mailing(wait=0))
    mongoengine_db["post"].insert_many([{"_id": 1, "n": 1}, {"_id": 2, "n": 1}])
    claim(mongoengine_db, 1, seconds=600)
    held, free = (post(key=number, n=2, mailed=False, _created=False) for number in (1, 2))

    with pytest.raises(MigrationInProgress):
        held.save()
    free.save()

    assert mails(mongoengine_db) == {2: 1}
    found = stored(mongoengine_db["post"])
    assert [(one["n"], one.get("mailed")) for one in found] == [(1, None), (2, False)]


def test_a_save_migrates_though_queries_do_not_see_through(any_db):
    """With see_through = False a save is still preceded by the migration, as a load is."""
    model = person_model(handler(**RENAMED.rules, see_through=False))
    any_db["person"].insert_one({"_id": 1, **RENAMED.old})
    document = model.objects.only("id").get(id=1)

    document.email = "new"
    document.save()

    assert stored(any_db["person"]) == [{"_id": 1, "name": "Ada", "email": "new"}]


# --- Classes ------------------------------------------------------------------------------------


def family_of_plants(database: Any) -> Any:
    """A root and two subclasses; a rule splits the former class by a field."""
    rules = handler(
        migration01__tree=rule(
            {"_cls": "Plant.Bush", "size": {"$gte": 5}}, {"$set": {"_cls": "Plant.Tree"}}
        ),
        migration02__flower=rule({"_cls": "Plant.Bush"}, {"$set": {"_cls": "Plant.Flower"}}),
    )

    class Plant(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        size = IntField()
        name = StringField()
        meta = {"collection": "plants", "allow_inheritance": True}
        migration_handler = rules

    class Tree(Plant):
        pass

    class Flower(Plant):
        pass

    database["plants"].insert_one({"_id": 1, "_cls": "Plant.Bush", "size": 9})
    return Plant, Tree, Flower


def test_a_rule_that_chooses_the_class_is_not_misled(any_db):
    """What a class is chosen by is what was stored before the save."""
    _plant, tree, _flower = family_of_plants(any_db)
    document = tree._from_son({"_id": 1, "_cls": "Plant.Tree"})

    document.size = 1
    document.save()

    assert stored(any_db["plants"]) == [{"_id": 1, "_cls": "Plant.Tree", "size": 1}]


def test_a_save_through_a_class_writes_that_class(any_db):
    """A document by hand brings its class with it, over the one that a rule gives."""
    _plant, _tree, flower = family_of_plants(any_db)

    flower(id=1, name="Rose", _created=False).save()

    assert stored(any_db["plants"]) == [
        {"_id": 1, "_cls": "Plant.Flower", "size": 9, "name": "Rose"}
    ]


def test_the_rules_are_those_of_the_stored_class(any_db):
    """Which handler's rules are run before the save is said by the class of what is stored."""

    class Animal(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        name = StringField()
        email = StringField()
        meta = {"collection": "animals", "allow_inheritance": True}

    class Dog(Animal):
        migration_handler = handler(migration01__rename=RENAME)

    class Cat(Animal):
        pass

    any_db["animals"].insert_many(
        [
            {"_id": 1, "_cls": "Animal.Dog", "mail": "a"},
            {"_id": 2, "_cls": "Animal.Cat", "mail": "a"},
        ]
    )

    for model, key in ((Animal, 1), (Animal, 2)):
        document = model._from_son({"_id": key, "_cls": "Animal"})
        document.email = "new"
        document.save()

    assert stored(any_db["animals"]) == [
        {"_id": 1, "_cls": "Animal.Dog", "email": "new"},
        {"_id": 2, "_cls": "Animal.Cat", "mail": "a", "email": "new"},
    ]


# --- Nested changes, and the other ways to write ----------------------------------------------


NESTED = {
    "migration01__rename": rule(
        {"address.town": {"$exists": True}}, {"$rename": {"address.town": "address.city"}}
    )
}


def test_a_nested_change_meets_a_nested_rule(mongoengine_db):
    """A change below a sub-document is held against paths below it."""
    model = person_model(handler(**NESTED))
    raw = {"_id": 1, "address": {"town": "Athens"}}
    mongoengine_db["person"].insert_many([raw, {**raw, "_id": 2}])

    moved = model.objects.only("address.code").get(id=1)
    moved.address.city = "Rome"
    moved.save()
    coded = model.objects.only("address.code").get(id=2)
    coded.address.code = "1"
    coded.save()

    assert stored(mongoengine_db["person"]) == [
        {"_id": 1, "address": {"city": "Rome"}},
        {"_id": 2, "address": {"town": "Athens", "zip": "1"}},
    ]


def test_a_change_within_a_list_meets_a_rule_for_its_elements(mongoengine_db):
    """A change at an index of a list is held against the paths of a rule without the index."""
    case = CASES["elements of an array"]
    model = case.model()
    mongoengine_db["person"].insert_one({"_id": 1, "comments": [{"text": "a"}, {"text": "b"}]})
    document = model._from_son({"_id": 1, "comments": [{"text": "a"}, {"text": "b"}]})

    document.comments[1].likes = 5
    document.save()

    (found,) = stored(mongoengine_db["person"])
    assert found["comments"] == [{"text": "a", "likes": 0}, {"text": "b", "likes": 5}]


def test_a_change_of_what_elements_are_chosen_by_meets_the_rule(mongoengine_db):
    """What array filters ask of elements is read by the rule, though its target asks nothing."""
    model = person_model(
        handler(
            migration01__like=rule(
                {"label": {"$exists": False}},
                {"$set": {"label": "liked", "comments.$[old].likes": 0}},
                [{"old.text": "a"}],
            )
        )
    )
    raw = {"_id": 1, "comments": [{"text": "a"}, {"text": "b"}]}
    mongoengine_db["person"].insert_one(raw)
    document = model._from_son(raw)

    document.comments[0].text = "c"
    document.save()

    (found,) = stored(mongoengine_db["person"])
    assert found["comments"] == [{"text": "c", "likes": 0}, {"text": "b"}]


def test_a_dynamic_document_is_no_exception(any_db):
    """The fields that a DynamicDocument gets as it goes are held against the rules as well."""
    rules = handler(migration01__rename=rule({"a": {"$exists": True}}, {"$rename": {"a": "b"}}))

    class Anything(LazyMigrationMixin, DynamicDocument):
        id = IntField(primary_key=True)
        migration_handler = rules
        meta = {"collection": "anything"}

    any_db["anything"].insert_one({"_id": 1, "a": "old", "c": 1})
    document = Anything.objects.only("c").get(id=1)

    document.b = "new"
    document.save()

    assert stored(any_db["anything"]) == [{"_id": 1, "b": "new", "c": 1}]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("call", ["update", "modify", "conditional modify", "delete"])
def test_the_other_ways_of_a_document_to_write(any_db, way, call):
    """update(), modify() and delete() of a document in memory obey the law."""
    model = RENAMED.model()
    any_db["person"].insert_one({"_id": 1, **RENAMED.old})
    document = WAYS[way](model)

    if call == "update":
        document.update(set__email="new")
    elif call == "modify":
        assert document.modify(set__email="new") is True
    elif call == "conditional modify":
        assert document.modify({"email": "other"}, set__email="newer") is False
        assert document.modify({"email": "old"}, set__email="new") is True
    else:
        document.delete()

    model.migration_handler(model).migrate_pending()
    rest = [] if call == "delete" else [{"_id": 1, "name": "Ada", "email": "new"}]
    assert stored(any_db["person"]) == rest
    if "modify" in call:
        assert (document.name, document.email) == ("Ada", "new")
        assert document._delta() == ({}, {})


def test_a_reload_after_a_partial_load_brings_what_was_excluded(any_db):
    """reload() of a partial document brings the renamed field, and a save changes it."""
    model = RENAMED.model()
    any_db["person"].insert_one({"_id": 1, **RENAMED.old})
    document = model.objects.exclude("email", "mail").get(id=1)

    document.reload()
    assert document.email == "old"
    document.email = "new"
    document.save()

    assert stored(any_db["person"]) == [{"_id": 1, "name": "Ada", "email": "new"}]


def test_defaults_of_a_partial_document_are_not_saved(any_db):
    """A save of a partial document writes what was changed, and no default of what is missing."""
    rules = handler(
        migration01__add=rule({"enabled": {"$exists": False}}, {"$set": {"enabled": False}})
    )

    class Flag(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        name = StringField()
        enabled = BooleanField(default=True)
        migration_handler = rules
        meta = {"collection": "flags"}

    any_db["flags"].insert_one({"_id": 1, "name": "a"})
    document = Flag.objects.only("name").get(id=1)

    assert document.enabled is True
    document.name = "b"
    document.save()
    assert stored(any_db["flags"]) == [{"_id": 1, "name": "b"}]
    document.enabled = False
    document.enabled = True
    document.save()

    Flag.migration_handler(Flag).migrate_pending()
    assert stored(any_db["flags"]) == [{"_id": 1, "name": "b", "enabled": True}]


def test_an_error_of_the_server_is_mongoengines(mongoengine_db):
    """A save that the server refuses raises MongoEngine's exception, migration or not."""
    model = RENAMED.model()
    mongoengine_db["person"].create_index("version", unique=True)
    mongoengine_db["person"].insert_many([{"_id": 1, "mail": "a"}, {"_id": 2, "version": 1}])
    document = model.objects.only("id").get(id=1)

    document.email = "new"
    document.version = 1
    with pytest.raises(NotUniqueError):
        document.save()

    with pytest.raises(OperationError):
        model(id=1, tags=["x"], _created=False).save(save_condition={"__raw__": {"$no": 1}})


# --- Transactions -----------------------------------------------------------------------------


@contextmanager
def transaction(commits: bool) -> Iterator[bool]:
    """A transaction of a bound session; gives whether PyMongo can bind sessions, as from 4.17."""
    with mongoengine.get_connection().start_session() as session:
        bound = hasattr(session, "bind")
        with session.bind() if bound else nullcontext():
            session.start_transaction()
            yield bound
            if commits:
                session.commit_transaction()
            else:
                session.abort_transaction()


@pytest.mark.parametrize("commits", [True, False])
def test_a_bound_session_holds_the_migration_and_the_save(mongoengine_db, commits):
    """In a transaction of a bound session the migration comes and goes with the save."""
    model = RENAMED.model()
    old = {"_id": 1, **RENAMED.old}
    mongoengine_db["person"].insert_one(old)
    document = model(id=1, _created=False, email="new")

    with transaction(commits) as bound:
        document.save()

    renewed = {"_id": 1, "name": "Ada", "email": "new"}
    undone = bound and not commits
    assert stored(mongoengine_db["person"]) == [old if undone else renewed]


@pytest.mark.parametrize("way", ["get", "first", "saved", "replaced"])
def test_a_transaction_that_is_undone_leaves_nothing_known(mongoengine_db, way):
    """What was migrated or replaced in a transaction that is undone is looked at again."""
    model = RENAMED.model()
    mongoengine_db["person"].insert_one({"_id": 1, **RENAMED.old})
    document = model(id=1, _created=way == "replaced", email="lost")

    with transaction(commits=False):
        if way in ("get", "first"):
            document = WHOLE[way](model)
        else:
            document.save()
    document.email = "new"
    document.save()

    model.migration_handler(model).migrate_pending()
    assert mongoengine_db["person"].find_one()["email"] == "new"
