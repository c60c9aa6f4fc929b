"""Partial loads: only, exclude, fields and scalar values; what they ask for, what they leave."""

from __future__ import annotations

import mongoengine
import pytest
from mongoengine import (
    BooleanField,
    Document,
    EmbeddedDocument,
    EmbeddedDocumentField,
    IntField,
    ListField,
    StringField,
)
from mongoengine.errors import FieldDoesNotExist

from lazymig import LazyMigrationMixin
from tests.support.doors import LOAD_ERROR, convert_legacy
from tests.support.handlers import ADD_ENABLED, handler, rule
from tests.support.migrator import Migrator
from tests.support.server import CLIENT_OPTIONS

OLD = {"_id": 1, "name": "Ada", "tags": [1, 2, 3], "home": {"city": "Rome"}}
NEW = {**OLD, "enabled": True}


def person_model(rules, **options):
    """A model `Person` with fields enough to leave some out."""

    class Home(EmbeddedDocument):
        city = StringField()
        country = StringField()

    class Person(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        name = StringField(required=True)
        enabled = BooleanField(required=True)
        tags = ListField()
        home = EmbeddedDocumentField(Home)
        migration_handler = rules
        meta = {"collection": "person", **options}

    return Person


def enabling():
    """The model with the one rule that writes `enabled`."""
    return person_model(handler(migration01__enable=rule(*ADD_ENABLED)))


# Partial loads that carry what the rule writes: the queryset, and what its documents hold.
CONCERNED = {
    "only": (lambda model: model.objects.only("enabled"), ["_id", "enabled"]),
    "only several": (
        lambda model: model.objects.only("name", "enabled"),
        ["_id", "name", "enabled"],
    ),
    "exclude": (lambda model: model.objects.exclude("name"), ["_id", "enabled", "tags", "home"]),
    "exclude the id": (
        lambda model: model.objects.exclude("id"),
        ["name", "enabled", "tags", "home"],
    ),
    "only without the id": (lambda model: model.objects.only("enabled").exclude("id"), ["enabled"]),
    "fields": (lambda model: model.objects.fields(enabled=1), ["_id", "enabled"]),
    "fields excluded": (
        lambda model: model.objects.fields(home=0),
        ["_id", "name", "enabled", "tags"],
    ),
    "$slice": (
        lambda model: model.objects.fields(slice__tags=2),
        ["_id", "name", "enabled", "tags", "home"],
    ),
    "$elemMatch": (
        lambda model: model.objects.fields(enabled=1, elemMatch__tags={"$gt": 1}),
        ["_id", "enabled", "tags"],
    ),
    "all_fields": (
        lambda model: model.objects.only("enabled").all_fields(),
        ["_id", "name", "enabled", "tags", "home"],
    ),
}

# Partial loads that carry nothing that the rule writes.
UNCONCERNED = {
    "only": lambda model: model.objects.only("name"),
    "only a nested field": lambda model: model.objects.only("home.city"),
    "exclude": lambda model: model.objects.exclude("enabled"),
    "exclude more": lambda model: model.objects.exclude("enabled", "id"),
    "only without the id": lambda model: model.objects.only("name").exclude("id"),
    "$slice": lambda model: model.objects.only("name").fields(slice__tags=1),
    "$elemMatch": lambda model: model.objects.fields(elemMatch__tags={"$gt": 1}),
    "scalar": lambda model: model.objects.scalar("name"),
}


@pytest.mark.parametrize("load", CONCERNED)
def test_a_partial_document_is_renewed(monitored_db, command_log, load):
    """A stale partial document is migrated, and read again with the same projection."""
    model = enabling()
    monitored_db["person"].insert_one(OLD)
    queryset, paths = CONCERNED[load]

    (document,) = queryset(model)

    assert document.enabled is True
    assert (document.id is None) == ("_id" not in paths)
    assert [document.name is None, document.home is None] == [
        "name" not in paths,
        "home" not in paths,
    ]
    assert list(document.tags) == {"$slice": [1, 2], "$elemMatch": [2]}.get(
        load, [1, 2, 3] if "tags" in paths else []
    )
    assert monitored_db["person"].find_one() == NEW
    finds = [command for name, command in command_log.commands if name == "find"]
    assert finds[0].get("projection") == finds[-1].get("projection")


@pytest.mark.parametrize("load", sorted(CONCERNED.keys() - {"all_fields"}))
def test_what_a_projection_carries_is_judged_without_a_question(monitored_db, command_log, load):
    """Where all that the target reads is carried whole, only what is old costs more than a find."""
    model = enabling()
    monitored_db["person"].insert_many([{**OLD, "_id": number} for number in range(50)])

    documents = list(CONCERNED[load][0](model))

    assert [document.enabled for document in documents] == [True] * 50
    assert command_log.names == ["find", "update", "find"]
    command_log.clear()
    assert len(list(CONCERNED[load][0](model))) == 50
    assert command_log.names == ["find"]


# Loads that carry what a rule writes, but not all that its target reads: see below.
ASKING = {
    "only": lambda model: model.objects.only("enabled"),
    "only without the id": lambda model: model.objects.only("enabled").exclude("id"),
    "excluded": lambda model: model.objects.exclude("home"),
    "below it": lambda model: model.objects.exclude("home.country"),
    "a part of it": lambda model: model.objects.only("enabled", "home.city", "tags"),
    "$slice": lambda model: model.objects.fields(slice__tags=1),
    "$elemMatch": lambda model: model.objects.fields(enabled=1, home=1, elemMatch__tags={"$gt": 2}),
    "scalar": lambda model: model.objects.scalar("enabled"),
}


@pytest.mark.parametrize("load", ASKING)
def test_one_question_tells_which_documents_are_stale(monitored_db, command_log, load):
    """Otherwise one find more, which reads again what is up to date, tells; it costs no write."""
    target = {"home.city": "Rome", "tags": 2, "enabled": {"$exists": False}}
    enable = rule(target, {"$set": {"enabled": True}})
    model = person_model(handler(migration01__enable=enable))
    monitored_db["person"].insert_many([{**OLD, "_id": number} for number in range(50)])

    for commands in (["find", "find", "update", "find"], ["find", "find"]):
        command_log.clear()
        documents = list(ASKING[load](model))
        assert {getattr(document, "enabled", document) for document in documents} == {True}
        assert command_log.names == commands


@pytest.mark.parametrize("load", UNCONCERNED)
def test_nothing_is_asked_where_no_rule_is_concerned(monitored_db, command_log, load):
    """A load that carries no path that a rule writes costs one find and migrates nothing."""
    model = enabling()
    monitored_db["person"].insert_one(OLD)

    assert len(list(UNCONCERNED[load](model))) == 1

    assert command_log.names == ["find"]
    assert monitored_db["person"].find_one() == OLD


def test_the_id_is_not_fetched_for_nothing(monitored_db, command_log):
    """An excluded _id is fetched only where a rule may write a path that the projection carries."""
    model = enabling()
    monitored_db["person"].insert_one(OLD)

    list(model.objects.only("name").exclude("id"))
    list(model.objects.only("enabled").exclude("id"))

    finds = [command for name, command in command_log.commands if name == "find"]
    assert finds[0]["projection"] == {"name": 1, "_id": 0}
    assert finds[1]["projection"] == {"enabled": 1}


def test_covered_queries_stay_covered(mongoengine_db):
    """A query that an index answers alone is still answered without reading a document."""
    model = enabling()
    mongoengine_db["person"].create_index("name")
    mongoengine_db["person"].insert_one(OLD)

    queryset = model.objects(name="Ada").only("name").exclude("id")
    plan = queryset.explain()

    assert plan["executionStats"]["totalDocsExamined"] == 0
    assert [document.name for document in queryset] == ["Ada"]
    assert mongoengine_db["person"].find_one() == OLD


def test_an_absent_field_is_no_old_shape(any_db):
    """A projected document is never judged by the fields that the projection leaves out."""
    model = enabling()
    any_db["person"].insert_one({**OLD, "enabled": False})

    for queryset in (
        model.objects.only("name"),
        model.objects.only("name", "home.city"),
        model.objects.exclude("enabled"),
        model.objects.only("enabled"),
    ):
        assert len(list(queryset)) == 1

    assert any_db["person"].find_one() == {**OLD, "enabled": False}


def test_a_partial_document_is_never_validated(monitored_db, command_log):
    """Required fields that the projection leaves out start no rule."""

    def migration01__name(self):
        if "name" not in self.doc:
            self.target = {"name": {"$exists": False}}
            self.update = {"$set": {"name": "nobody"}}

    model = person_model(handler(migration01__name=migration01__name, validate_on_load=True))
    monitored_db["person"].insert_one(OLD)
    monitored_db["person"].insert_one({"_id": 2, "enabled": True})

    assert [document.enabled for document in model.objects.only("enabled")] == [None, True]

    assert command_log.names == ["find"]
    assert monitored_db["person"].find_one({"_id": 2}) == {"_id": 2, "enabled": True}


def test_a_default_in_a_partial_document_is_not_stored(any_db):
    """What MongoEngine puts in the place of an unloaded field stays out of the database."""
    model = enabling()
    any_db["person"].insert_one(OLD)

    document = model.objects.only("name", "enabled").get()
    document.enabled = False
    document.save()

    assert any_db["person"].find_one() == {**OLD, "enabled": False}


BROKEN_LOADS = {
    "exclude": lambda model: model.objects.exclude("name").first(),
    "exclude, iterated": lambda model: next(iter(model.objects.exclude("name"))),
    "exclude the id": lambda model: model.objects.exclude("id").first(),
    "exclude the id, iterated": lambda model: next(iter(model.objects.exclude("id"))),
    "$slice": lambda model: model.objects.fields(slice__tags=2).get(),
    "in_bulk": lambda model: model.objects.exclude("name").in_bulk([1])[1],
    "scalar": lambda model: model.objects.exclude("name").no_cache().first(),
}


@pytest.mark.parametrize("load", BROKEN_LOADS)
def test_a_partial_document_that_fails_to_load_is_rescued(mongoengine_db, load):
    """A partial load that MongoEngine cannot build is helped by the rules, as a whole one is."""
    model = person_model(LOAD_ERROR.rules())
    mongoengine_db["person"].insert_one({**OLD, "legacy": True})

    document = BROKEN_LOADS[load](model)

    assert document.enabled is True
    assert (document.id is None) == ("the id" in load)
    assert mongoengine_db["person"].find_one() == NEW


def test_a_partial_document_that_no_rule_helps_is_mongoengines_own_error(mongoengine_db):
    """A partial load that no rule helps raises MongoEngine's exception, with the note."""
    model = person_model(handler(migration01__convert=convert_legacy))
    mongoengine_db["person"].insert_one({**OLD, "stranger": 1})

    with pytest.raises(FieldDoesNotExist) as caught:
        model.objects.exclude("name").first()

    assert "migration01__convert" in "".join(getattr(caught.value, "__notes__", caught.value.args))


SCALARS = {
    "scalar": (lambda model: list(model.objects.scalar("enabled")), [True]),
    "scalar of several": (
        lambda model: list(model.objects.scalar("name", "enabled")),
        [("Ada", True)],
    ),
    "values_list": (
        lambda model: list(model.objects.values_list("name", "enabled")),
        [("Ada", True)],
    ),
    "first": (lambda model: model.objects.scalar("enabled").first(), True),
    "get": (lambda model: model.objects.scalar("enabled").get(), True),
    "[i]": (lambda model: model.objects.scalar("enabled")[0], True),
    "in_bulk": (lambda model: model.objects.scalar("enabled").in_bulk([1]), {1: True}),
    "no_cache": (lambda model: list(model.objects.no_cache().scalar("enabled")), [True]),
    "id": (lambda model: list(model.objects.scalar("id", "enabled")), [(1, True)]),
}


@pytest.mark.parametrize("load", SCALARS)
def test_scalar_values_are_new(mongoengine_db, load):
    """scalar() and values_list() give the values of the migrated document."""
    model = enabling()
    mongoengine_db["person"].insert_one(OLD)
    values, expected = SCALARS[load]

    assert values(model) == expected

    assert mongoengine_db["person"].find_one() == NEW


NESTED = {
    "the whole": (lambda model: model.objects.only("home"), True),
    "the written path": (lambda model: model.objects.only("home.country"), True),
    "a neighbour": (lambda model: model.objects.only("home.city"), False),
    "another field": (lambda model: model.objects.only("name"), False),
    "all but the whole": (lambda model: model.objects.exclude("home"), False),
    "all but the written path": (lambda model: model.objects.exclude("home.country"), False),
    "all but a neighbour": (lambda model: model.objects.exclude("home.city"), True),
}


@pytest.mark.parametrize("load", NESTED)
def test_a_nested_path_concerns_what_carries_it(mongoengine_db, load):
    """A rule that writes home.country concerns the loads that carry that path, and no others."""
    target = {"home": {"$exists": True}, "home.country": {"$exists": False}}
    model = person_model(
        handler(migration01__country=rule(target, {"$set": {"home.country": "IT"}}))
    )
    mongoengine_db["person"].insert_one(OLD)
    queryset, concerned = NESTED[load]

    document = queryset(model).get()

    written = {**OLD, "home": {"city": "Rome", "country": "IT"}}
    assert mongoengine_db["person"].find_one() == (written if concerned else OLD)
    if concerned:
        assert document.home.country == "IT"


def test_a_rule_that_prepares_another_is_asked_too(mongoengine_db):
    """A rule that writes nothing carried runs if a concerned rule's target needs its result."""
    model = person_model(
        handler(
            migration01__name=rule({"name": "Ada"}, {"$set": {"name": "Eve"}}),
            migration02__enable=rule(
                {"name": "Eve", "enabled": {"$exists": False}}, {"$set": {"enabled": True}}
            ),
        )
    )
    mongoengine_db["person"].insert_one(OLD)

    assert model.objects.only("enabled").get().enabled is True
    assert mongoengine_db["person"].find_one() == {**NEW, "name": "Eve"}


@pytest.mark.parametrize("before", [2, 3])
@pytest.mark.parametrize(
    "load",
    [
        lambda model: model.objects.only("name"),
        lambda model: model.objects.exclude("tags"),
        lambda model: model.objects(tags=2).fields(name=1, tags__S=1),
        lambda model: [model.objects.only("name").get(id=1)],
    ],
    ids=["only", "exclude", "positional", "get"],
)
def test_what_is_migrated_while_it_is_judged_is_handed_out_as_it_is_then(
    server_uri, database, load, before
):
    """A document that a run brings up to date after it was read is not handed out in its old form.

    Its new field would be missing: the question finds nothing old any more.
    """
    migrator = Migrator(database["person"], {"$rename": {"called": "name"}}, before)
    mongoengine.connect(
        database.name, host=server_uri, event_listeners=[migrator], **CLIENT_OPTIONS
    )
    rename = rule({"called": {"$exists": True}}, {"$rename": {"called": "name"}})
    model = person_model(handler(migration01__rename=rename))
    old = {"called" if key == "name" else key: value for key, value in OLD.items()}
    database["person"].insert_many([old, {**old, "_id": 2}])

    documents = list(load(model))

    assert [document.name for document in documents] == ["Ada"] * len(documents)
    assert documents
    mongoengine.disconnect()
