"""Documents outside of their model's own collection, and collections of a special kind."""

from __future__ import annotations

import datetime as dt

import pytest
from mongoengine import BooleanField, DateTimeField, Document, FloatField, IntField, StringField
from mongoengine.context_managers import switch_collection, switch_db
from pymongo import ReadPreference

from lazymig import LazyMigrationMixin, MigrationFailed, RuleDefinitionError
from tests.support.doors import (
    ALL_DOORS,
    CASES,
    LOAD_ERROR,
    MATCH,
    SINGLE_DOORS,
    as_raw,
    case_id,
    new,
    old_people,
    person_model,
    stored,
)
from tests.support.handlers import ADD_ENABLED, handler, rule


def fill(collection, case):
    """Put the three old documents of a case into a collection."""
    collection.insert_many([case.raw(number) for number in (1, 2, 3)])
    return collection


class Redirected:
    """A model whose `objects` are those of another database, for the table of doors."""

    def __init__(self, model, alias):
        self.model = model
        self.alias = alias

    @property
    def objects(self):
        return self.model.objects.using(self.alias)


# They are no doors of a queryset.
QUERYSET_DOORS = sorted(SINGLE_DOORS.keys() - {"reload", "modify of a document"})


@pytest.mark.parametrize("case", [MATCH, LOAD_ERROR], ids=case_id)
@pytest.mark.parametrize("door", ALL_DOORS)
def test_using_migrates_in_that_database(mongoengine_db, other_db, door, case):
    """using(alias) migrates in that database, and not the same _ids in the model's own."""
    model = old_people(mongoengine_db, case)
    fill(other_db["person"], case)

    loaded = ALL_DOORS[door](Redirected(model, "other"))

    assert [as_raw(document) for document in loaded] == [new(1), new(2), new(3)]
    assert stored(other_db["person"]) == [new(1), new(2), new(3)]
    assert stored(mongoengine_db["person"]) == [case.raw(number) for number in (1, 2, 3)]


@pytest.mark.parametrize("door", QUERYSET_DOORS)
def test_using_migrates_one_document_in_that_database(mongoengine_db, other_db, door):
    """The doors of one document migrate under using(alias) in that database alone."""
    model = old_people(mongoengine_db, LOAD_ERROR)
    fill(other_db["person"], LOAD_ERROR)

    assert as_raw(SINGLE_DOORS[door](Redirected(model, "other"))) == new(1)

    assert stored(other_db["person"]) == [new(1), LOAD_ERROR.raw(2), LOAD_ERROR.raw(3)]
    assert stored(mongoengine_db["person"]) == [LOAD_ERROR.raw(number) for number in (1, 2, 3)]


@pytest.mark.parametrize("case", [MATCH, LOAD_ERROR], ids=case_id)
@pytest.mark.parametrize("door", SINGLE_DOORS)
def test_switch_db_migrates_in_that_database(mongoengine_db, other_db, door, case):
    """Within switch_db every door migrates in the other database alone."""
    model = old_people(mongoengine_db, case)
    fill(other_db["person"], case)

    with switch_db(model, "other") as switched:
        assert as_raw(SINGLE_DOORS[door](switched)) == new(1)

    assert stored(other_db["person"]) == [new(1), case.raw(2), case.raw(3)]
    assert stored(mongoengine_db["person"]) == [case.raw(number) for number in (1, 2, 3)]


@pytest.mark.parametrize("case", [MATCH, LOAD_ERROR], ids=case_id)
@pytest.mark.parametrize("door", SINGLE_DOORS)
def test_switch_collection_migrates_in_that_collection(any_db, door, case):
    """Within switch_collection every door migrates in the other collection alone."""
    model = old_people(any_db, case)
    fill(any_db["archive"], case)

    with switch_collection(model, "archive") as switched:
        assert as_raw(SINGLE_DOORS[door](switched)) == new(1)

    assert stored(any_db["archive"]) == [new(1), case.raw(2), case.raw(3)]
    assert stored(any_db["person"]) == [case.raw(number) for number in (1, 2, 3)]


def test_a_switched_document_reloads_from_its_own_place(mongoengine_db, other_db):
    """A document after switch_db or switch_collection reloads, migrated, from where it lies now."""
    model = old_people(mongoengine_db, LOAD_ERROR)
    fill(other_db["person"], LOAD_ERROR)
    fill(mongoengine_db["archive"], LOAD_ERROR)

    abroad = model(id=1)
    abroad.switch_db("other")
    assert as_raw(abroad.reload()) == new(1)
    archived = model(id=2)
    archived.switch_collection("archive")
    assert as_raw(archived.reload()) == new(2)

    assert stored(other_db["person"])[0] == new(1)
    assert stored(mongoengine_db["archive"])[1] == new(2)
    assert stored(mongoengine_db["person"]) == [LOAD_ERROR.raw(number) for number in (1, 2, 3)]


@pytest.mark.parametrize("case", [MATCH, LOAD_ERROR], ids=case_id)
@pytest.mark.parametrize("door", ["first", "get", "[i]", "slice", "limit"])
def test_a_secondary_read_is_read_again_from_the_primary(replica_set_db, command_log, door, case):
    """Under read_preference secondary the migrated document is read again from the primary."""
    model = old_people(replica_set_db, case)

    class Reading:
        objects = model.objects.read_preference(ReadPreference.SECONDARY_PREFERRED)

    assert as_raw(SINGLE_DOORS[door](Reading)) == new(1)

    modes = [
        command.get("$readPreference", {}).get("mode", "primary")
        for name, command in command_log.commands
        if name == "find"
    ]
    assert modes[0] == "secondaryPreferred"
    assert modes[1:] == ["primary"] * max(1, len(modes) - 1)


def test_a_secondary_read_of_new_documents_asks_no_primary(replica_set_db, command_log):
    """Up-to-date documents read from a secondary cost that one read."""
    model = person_model(MATCH.rules())
    replica_set_db["person"].insert_one(new(1))

    queryset = model.objects.read_preference(ReadPreference.SECONDARY_PREFERRED)
    assert [as_raw(document) for document in queryset] == [new(1)]

    assert command_log.names == ["find"]


def test_rules_for_a_time_series_collection_are_refused(mongoengine_db):
    """A model of a time-series collection with rules is refused at definition, with a remedy."""
    rules = handler(migration01__unit=rule({"unit": {"$exists": False}}, {"$set": {"unit": "C"}}))
    with pytest.raises(RuleDefinitionError, match=r"Reading.*time-series.*new collection"):

        class Reading(LazyMigrationMixin, Document):
            at = DateTimeField()
            value = FloatField()
            unit = StringField()
            migration_handler = rules
            meta = {"timeseries": {"timeField": "at"}}


def test_a_time_series_model_without_rules_is_left_alone(mongoengine_db):
    """A time-series model with the mixin and no rules works as in plain MongoEngine."""

    class Reading(LazyMigrationMixin, Document):
        at = DateTimeField()
        value = FloatField()
        meta = {"timeseries": {"timeField": "at"}, "collection": "readings"}

    at = dt.datetime(2020, 1, 1)
    Reading(at=at, value=1.5).save()

    assert [(reading.at, reading.value) for reading in Reading.objects] == [(at, 1.5)]


@pytest.mark.parametrize("case", CASES[:3], ids=case_id)
@pytest.mark.parametrize("door", ["first", "get", "in_bulk", "reload", "limit"])
def test_an_old_document_of_a_view_is_a_clear_error(mongoengine_db, door, case):
    """A view takes no update: an old document in it raises MigrationFailed and stays."""
    model = old_people(mongoengine_db, case)
    mongoengine_db.command("create", "seen", viewOn="person", pipeline=[])

    with (
        switch_collection(model, "seen") as switched,
        pytest.raises(MigrationFailed, match=r"Person\.migration01.*view"),
    ):
        SINGLE_DOORS[door](switched)

    assert stored(mongoengine_db["person"]) == [case.raw(number) for number in (1, 2, 3)]


def test_new_documents_of_a_view_load(mongoengine_db):
    """A view over up-to-date documents loads without any ado."""
    model = person_model(MATCH.rules())
    mongoengine_db["person"].insert_one(new(1))
    mongoengine_db.command("create", "seen", viewOn="person", pipeline=[])

    with switch_collection(model, "seen") as switched:
        assert [as_raw(document) for document in switched.objects] == [new(1)]


def test_a_view_is_skipped_where_errors_are(mongoengine_db):
    """Under on_error = "skip" the old documents of a view load as they are."""
    rules = handler(migration01__enable=rule(*ADD_ENABLED), on_error="skip")
    model = person_model(rules)
    mongoengine_db["person"].insert_one(MATCH.raw(1))
    mongoengine_db.command("create", "seen", viewOn="person", pipeline=[])

    with switch_collection(model, "seen") as switched:
        assert [as_raw(document) for document in switched.objects] == [MATCH.raw(1)]


@pytest.mark.parametrize("case", [MATCH, LOAD_ERROR], ids=case_id)
def test_a_capped_collection_works(mongoengine_db, case):
    """The documents of a capped collection are migrated in place, in their order."""
    rules = case.rules()

    class Person(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        name = StringField()
        enabled = BooleanField(required=True)
        migration_handler = rules
        meta = {"collection": "person", "max_size": 100_000, "max_documents": 10}

    assert Person.objects.count() == 0
    assert mongoengine_db["person"].options()["capped"]
    fill(mongoengine_db["person"], case)

    assert [as_raw(document) for document in Person.objects] == [new(1), new(2), new(3)]
    assert list(mongoengine_db["person"].find()) == [new(1), new(2), new(3)]
