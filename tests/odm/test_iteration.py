"""Doors that load many documents: iteration and its kin, and what a batch costs."""

from __future__ import annotations

import pytest
from mongoengine import DynamicDocument
from mongoengine.errors import FieldDoesNotExist

from lazymig import MigrationFailed
from tests.support.doors import (
    ALL_DOORS,
    CASES,
    LOAD_ERROR,
    MATCH,
    as_raw,
    case_id,
    new,
    old_people,
    person_model,
    stored,
)
from tests.support.handlers import handler, rule


@pytest.mark.parametrize("case", CASES, ids=case_id)
@pytest.mark.parametrize("door", ALL_DOORS)
def test_old_documents_are_renewed_by_every_door(any_db, door, case):
    """Whatever loads many documents gives new ones, and leaves new ones in the database."""
    model = old_people(any_db, case)

    loaded = ALL_DOORS[door](model)

    assert [as_raw(document) for document in loaded] == [new(1), new(2), new(3)]
    assert {type(document) for document in loaded} == {model}
    assert stored(any_db["person"]) == [new(1), new(2), new(3)]


@pytest.mark.parametrize("door", ALL_DOORS)
def test_a_loaded_document_is_as_if_it_had_been_stored_so(mongoengine_db, door):
    """A renewed document counts as saved and unchanged: saving it writes nothing."""
    model = old_people(mongoengine_db, LOAD_ERROR)

    for document in ALL_DOORS[door](model):
        assert not document._created
        assert document._get_changed_fields() == []
        assert document._delta() == ({}, {})


@pytest.mark.parametrize("door", sorted(ALL_DOORS.keys() - {"select_related"}))
def test_what_no_rule_helps_is_mongoengines_own_error(mongoengine_db, door):
    """A document that no rule makes loadable raises MongoEngine's exception with lazymig's note."""
    model = old_people(mongoengine_db, LOAD_ERROR)
    mongoengine_db["person"].update_one({"_id": 1}, {"$set": {"stranger": 1}})

    with pytest.raises(FieldDoesNotExist) as caught:
        ALL_DOORS[door](model)

    assert "migration01__convert" in "".join(getattr(caught.value, "__notes__", caught.value.args))


def test_a_failing_document_never_stops_its_neighbours(mongoengine_db):
    """When one document of a batch is refused, the iteration raises in its place and goes on."""
    model = old_people(mongoengine_db, MATCH)
    mongoengine_db.command("collMod", "person", validator={"$or": [{"_id": {"$ne": 2}}, {"x": 1}]})

    documents = iter(model.objects.no_cache())

    assert as_raw(next(documents)) == new(1)
    with pytest.raises(MigrationFailed, match="_id: 2"):
        next(documents)
    assert as_raw(next(documents)) == new(3)
    assert stored(mongoengine_db["person"]) == [new(1), MATCH.raw(2), new(3)]


def test_skipped_documents_load_as_they_are(mongoengine_db):
    """Under on_error = "skip" a refused document loads in its old shape, between renewed ones."""
    case = type(MATCH)("skip", {**MATCH.body, "on_error": "skip"}, {})
    model = old_people(mongoengine_db, case)
    mongoengine_db.command("collMod", "person", validator={"$or": [{"_id": {"$ne": 2}}, {"x": 1}]})

    assert [as_raw(document) for document in model.objects] == [new(1), MATCH.raw(2), new(3)]


@pytest.mark.parametrize("count", [1, 7, 100])
@pytest.mark.parametrize("rules", [1, 3])
def test_a_batch_costs_one_write_and_one_read(monitored_db, command_log, count, rules):
    """However many stale documents and static rules a batch holds: one update, one find.

    Rules that do not read each other are one update in there.
    """
    body = {
        f"migration{number:02}__set": rule(
            {f"f{number}": {"$exists": False}}, {"$set": {f"f{number}": number}}
        )
        for number in range(rules)
    }
    model = person_model(handler(**body), base=DynamicDocument)
    raws = [{"_id": number, "enabled": True} for number in range(count)]
    monitored_db["person"].insert_many(raws)

    loaded = list(model.objects)

    assert command_log.names == ["find", "update", "find"]
    assert len(command_log.commands[1][1]["updates"]) == 1
    expected = {f"f{number}": number for number in range(rules)}
    assert [as_raw(document) for document in loaded] == [{**raw, **expected} for raw in raws]


@pytest.mark.parametrize("door", ["iteration", "no_cache", "in_bulk", "select_related", "slice"])
def test_an_up_to_date_batch_costs_nothing(monitored_db, command_log, door):
    """New documents load with the one find that plain MongoEngine needs."""
    model = person_model(MATCH.rules())
    monitored_db["person"].insert_many([new(number) for number in (1, 2, 3)])

    assert len(ALL_DOORS[door](model)) == 3

    assert command_log.names == ["find"]


def test_long_iterations_keep_order_and_miss_nothing(mongoengine_db):
    """Stale and new documents, over many batches, come in the order of the query, each once."""
    model = person_model(MATCH.rules())
    raws = [{"_id": number, "name": str(number % 7)} for number in range(345)]
    for raw in raws[::3]:
        raw["enabled"] = True
    mongoengine_db["person"].insert_many(raws)

    order = sorted(range(345), key=lambda number: (number % 7, -number))
    for queryset in (model.objects, model.objects.no_cache()):
        loaded = list(queryset.order_by("name", "-id"))
        assert [document.id for document in loaded] == order
    assert mongoengine_db["person"].count_documents({"enabled": True}) == 345


def test_a_document_deleted_meanwhile_is_left_out(mongoengine_db):
    """A document that is deleted between read and write is missing from the iteration."""
    collection = mongoengine_db["person"]

    def migration01__delete_two(self):
        self.target = {"enabled": {"$exists": False}}
        if self.doc["_id"] == 2:
            collection.delete_one({"_id": 2})
        self.update = {"$set": {"enabled": True, "name": self.doc["name"]}}

    collection.insert_many([MATCH.raw(number) for number in (1, 2, 3)])
    model = person_model(handler(migration01__delete_two=migration01__delete_two))

    assert [document.id for document in model.objects] == [1, 3]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_a_comprehension_within_an_iteration_is_independent(any_db, case):
    """Nested iterations over one model do not disturb each other's batches."""
    model = old_people(any_db, case)

    pairs = [(outer.id, inner.id) for outer in model.objects for inner in model.objects]

    assert pairs == [(outer, inner) for outer in (1, 2, 3) for inner in (1, 2, 3)]


def test_as_pymongo_shows_stored_data(any_db):
    """What gives raw documents gives them as they are stored, and writes nothing."""
    model = old_people(any_db, MATCH)
    old = [MATCH.raw(number) for number in (1, 2, 3)]

    assert list(model.objects.as_pymongo()) == old
    assert model.objects.as_pymongo()[1] == old[1]
    assert model.objects.as_pymongo().first() == old[0]
    assert model.objects.as_pymongo().in_bulk([3]) == {3: old[2]}
    assert stored(any_db["person"]) == old
