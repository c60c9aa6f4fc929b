"""Doors that load one document: first, get, an index, reload, modify and the others."""

from __future__ import annotations

import pytest
from mongoengine.errors import FieldDoesNotExist, OperationError

from tests.support.doors import (
    CASES,
    LOAD_ERROR,
    MATCH,
    SINGLE_DOORS,
    as_raw,
    case_id,
    delete_while_migrating,
    new,
    old_people,
    person_model,
    stored,
)
from tests.support.handlers import handler


@pytest.mark.parametrize("case", CASES, ids=case_id)
@pytest.mark.parametrize("door", SINGLE_DOORS)
def test_an_old_document_is_renewed_by_every_door(any_db, door, case):
    """Whatever loads one document renews that one, in memory and stored, and no other."""
    model = old_people(any_db, case)

    loaded = SINGLE_DOORS[door](model)

    assert as_raw(loaded) == new(1)
    assert type(loaded) is model
    assert stored(any_db["person"]) == [new(1), case.raw(2), case.raw(3)]


@pytest.mark.parametrize("door", SINGLE_DOORS)
def test_a_loaded_document_counts_as_saved(mongoengine_db, door):
    """A renewed document is no new one and has no changes to save."""
    loaded = SINGLE_DOORS[door](old_people(mongoengine_db, LOAD_ERROR))

    assert not loaded._created
    assert loaded._delta() == ({}, {})


@pytest.mark.parametrize("door", SINGLE_DOORS)
def test_what_no_rule_helps_is_mongoengines_own_error(mongoengine_db, door):
    """A document that no rule makes loadable raises MongoEngine's exception with lazymig's note."""
    model = old_people(mongoengine_db, LOAD_ERROR)
    mongoengine_db["person"].update_one({"_id": 1}, {"$set": {"stranger": 1}})

    with pytest.raises(FieldDoesNotExist) as caught:
        SINGLE_DOORS[door](model)

    assert "migration01__convert" in "".join(getattr(caught.value, "__notes__", caught.value.args))


# The commands of plain MongoEngine for an up-to-date document.
PLAIN_COMMANDS = {
    "first": ["find"],
    "get": ["find"],
    "[i]": ["find"],
    "with_id": ["find"],
    "in_bulk": ["find"],
    "limit": ["find"],
    "no_dereference": ["find"],
}


@pytest.mark.parametrize("door", PLAIN_COMMANDS)
def test_an_up_to_date_document_costs_no_further_command(monitored_db, command_log, door):
    """An up-to-date document costs no write and no extra read."""
    model = person_model(MATCH.rules())
    monitored_db["person"].insert_many([new(number) for number in (1, 2, 3)])

    assert as_raw(SINGLE_DOORS[door](model)) == new(1)

    assert command_log.names == PLAIN_COMMANDS[door]


@pytest.mark.parametrize("door", PLAIN_COMMANDS)
def test_a_stale_document_costs_one_write_and_one_read(monitored_db, command_log, door):
    """A stale document costs one update and one find beside MongoEngine's own."""
    SINGLE_DOORS[door](old_people(monitored_db, MATCH))

    assert command_log.names == ["find", "update", "find"]


def test_get_raises_as_mongoengine_does(any_db):
    """No match and several matches are MongoEngine's own exceptions, whatever the shapes."""
    model = old_people(any_db, MATCH)

    with pytest.raises(model.DoesNotExist):
        model.objects.get(id=99)
    with pytest.raises(model.MultipleObjectsReturned):
        model.objects.get(id__lt=3)
    assert model.objects(id=99).first() is None
    assert model.objects.with_id(99) is None
    with pytest.raises(IndexError):
        model.objects[99]


def test_a_document_deleted_meanwhile_does_not_exist(mongoengine_db):
    """A document deleted between read and write is treated like one that was never there."""
    collection = mongoengine_db["person"]
    model = person_model(handler(migration01__enable=delete_while_migrating(collection)))

    collection.insert_one(MATCH.raw(1))
    with pytest.raises(model.DoesNotExist):
        model.objects.get(id=1)
    collection.insert_one(MATCH.raw(1))
    assert model.objects.first() is None
    collection.insert_one(MATCH.raw(1))
    with pytest.raises(IndexError):
        model.objects[0]
    collection.insert_one(MATCH.raw(1))
    with pytest.raises(model.DoesNotExist):
        model(id=1).reload()
    assert collection.count_documents({}) == 0


@pytest.mark.parametrize("changes", [{"set__name": "Eve"}, {"remove": True}])
def test_modify_of_an_up_to_date_document_is_one_command(monitored_db, command_log, changes):
    """modify() reads nothing besides, where its filter finds a document that no rule concerns."""
    model = person_model(MATCH.rules())
    monitored_db["person"].insert_many([MATCH.raw(1), new(2), MATCH.raw(3)])

    image = model.objects(id__lte=2).modify(**changes)

    assert as_raw(image) == new(2)
    assert command_log.names == ["findAndModify"]
    assert stored(monitored_db["person"])[0] == MATCH.raw(1)


def test_an_image_that_is_deleted_meanwhile_is_no_second_hit(mongoengine_db):
    """modify(new=True) changes one document, be it gone when it is looked at again."""
    collection = mongoengine_db["person"]
    model = person_model(handler(migration01__enable=delete_while_migrating(collection)))
    collection.insert_many([{**new(1), "mark": 1}, {**new(2), "mark": 1}])

    # The update makes it an old document again, and its rule deletes it.
    assert model.objects(id__gte=1).modify(__raw__={"$unset": {"enabled": ""}}, new=True) is None

    assert collection.count_documents({"enabled": {"$exists": True}}) == 1


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_modify_meets_the_new_shape(any_db, case):
    """The update of modify() is applied to the migrated document: a rule cannot undo it later."""
    model = old_people(any_db, case)

    after = model.objects(id=1).modify(set__enabled=False, new=True)

    assert after.enabled is False
    assert any_db["person"].find_one({"_id": 1}) == {**new(1), "enabled": False}
    assert model.objects.get(id=1).enabled is False


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_upsert_one_meets_the_new_shape(any_db, case):
    """The update of upsert_one() is applied to the migrated document, as that of modify() is."""
    model = old_people(any_db, case)

    document = model.objects(id=1).upsert_one(set__enabled=False)

    assert document.enabled is False
    assert stored(any_db["person"]) == [{**new(1), "enabled": False}, case.raw(2), case.raw(3)]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_the_old_image_of_modify_has_the_new_shape(any_db, case):
    """What modify() returns by default is the document before the update, in today's shape."""
    model = old_people(any_db, case)

    before = model.objects(id=1).modify(set__name="Eve")

    assert as_raw(before) == new(1)
    assert any_db["person"].find_one({"_id": 1}) == {**new(1), "name": "Eve"}


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_modify_that_removes_gives_the_new_shape(any_db, case):
    """modify(remove=True) returns the removed document in today's shape."""
    model = old_people(any_db, case)

    removed = model.objects(id=1).modify(remove=True)

    assert as_raw(removed) == new(1)
    assert stored(any_db["person"]) == [case.raw(2), case.raw(3)]


def test_modify_hits_the_first_in_order(any_db):
    """modify() migrates and changes the document that its order comes to first, and no other."""
    model = old_people(any_db, LOAD_ERROR)

    changed = model.objects.order_by("-name").modify(set__name="Eve", new=True)

    assert changed.id == 3
    assert stored(any_db["person"]) == [
        LOAD_ERROR.raw(1),
        LOAD_ERROR.raw(2),
        {**new(3), "name": "Eve"},
    ]


def test_modify_without_a_match_does_nothing(any_db):
    """modify() that matches no document returns None and leaves old documents alone."""
    model = old_people(any_db, MATCH)

    assert model.objects(id=99).modify(set__name="Eve") is None
    assert model.objects.none().modify(set__name="Eve") is None
    assert stored(any_db["person"]) == [MATCH.raw(number) for number in (1, 2, 3)]


def test_upserts_insert_what_mongoengine_inserts(any_db):
    """modify(upsert=True) and upsert_one() of no match insert today's shape and load it."""
    model = person_model(MATCH.rules())

    first = model.objects(id=1).modify(upsert=True, new=True, set__name="Ada", set__enabled=True)
    second = model.objects(id=2).upsert_one(set__name="Bob", set__enabled=True)

    assert [as_raw(first), as_raw(second)] == [new(1), new(2)]
    assert stored(any_db["person"]) == [new(1), new(2)]


@pytest.mark.parametrize("options", [{}, {"full_result": True}], ids=["number", "result"])
def test_an_upsert_of_an_up_to_date_document_is_one_command(monitored_db, command_log, options):
    """update_one(upsert=True) looks for old documents only if it hits none that is up to date."""
    model = person_model(MATCH.rules())
    monitored_db["person"].insert_many([MATCH.raw(1), new(2)])
    command_log.clear()

    def upsert(number):
        done = model.objects(id=number, enabled=True).update_one(
            upsert=True, set__name="Eve", **options
        )
        return done.raw_result["n"] if options else done

    assert upsert(2) == 1
    assert command_log.names == ["update"]
    assert (upsert(1), upsert(3)) == (1, 1)
    assert stored(monitored_db["person"]) == [
        {**new(number), "name": "Eve"} for number in (1, 2, 3)
    ]


def test_an_upsert_that_mongodb_refuses_is_refused_for_an_up_to_date_document(mongoengine_db):
    """A condition that no upsert may have is an error, whatever it would have hit."""
    model = person_model(MATCH.rules())
    mongoengine_db["person"].insert_one(new(1))
    asked = model.objects(enabled=True, __raw__={"$expr": {"$eq": ["$_id", 1]}})

    with pytest.raises(OperationError):
        asked.update_one(upsert=True, set__name="Eve")

    assert stored(mongoengine_db["person"]) == [new(1)]


def test_an_upsert_without_new_gives_nothing(any_db):
    """modify(upsert=True) that inserts returns None by default, as in plain MongoEngine."""
    model = person_model(MATCH.rules())

    assert model.objects(id=1).modify(upsert=True, set__name="Ada", set__enabled=True) is None
    assert stored(any_db["person"]) == [new(1)]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_reload_leaves_nothing_of_the_old_shape(any_db, case):
    """A document in memory takes the whole new shape when it is reloaded."""
    model = person_model(case.rules())
    document = model(id=1, name="Ada", enabled=False).save()
    any_db["person"].replace_one({"_id": 1}, case.raw(1))

    document.reload()

    assert as_raw(document) == new(1)
    assert document._delta() == ({}, {})


def test_reload_of_some_fields_is_a_partial_load(any_db):
    """reload("enabled") migrates, and takes over that field alone."""
    model = person_model(MATCH.rules())
    document = model(id=1, name="Ada", enabled=False).save()
    document.name = "not saved"
    any_db["person"].replace_one({"_id": 1}, MATCH.raw(1))

    document.reload("enabled")

    assert (document.name, document.enabled) == ("not saved", True)
    assert any_db["person"].find_one({"_id": 1}) == new(1)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_modify_of_a_document_that_does_not_match_is_false(any_db, case):
    """Document.modify() with a query that fails returns False and changes nothing."""
    model = old_people(any_db, case)
    document = model(id=1)

    assert document.modify({"name": "Eve"}, name="Zoe") is False
    assert stored(any_db["person"]) == [case.raw(number) for number in (1, 2, 3)]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_a_saved_document_is_the_new_one(any_db, case):
    """An old document that is loaded, changed and saved keeps its migration and the change."""
    model = old_people(any_db, case)

    document = model.objects.get(id=1)
    document.name = "Eve"
    document.save()

    assert any_db["person"].find_one({"_id": 1}) == {**new(1), "name": "Eve"}
