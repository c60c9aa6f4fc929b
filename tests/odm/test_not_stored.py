"""What does not come from the database starts nothing; what is asked for as stored is shown so."""

from __future__ import annotations

import copy
import json
import pickle
import threading

import pytest
from bson.json_util import CANONICAL_JSON_OPTIONS
from mongoengine import BooleanField, Document, IntField, ReferenceField, StringField
from mongoengine.errors import FieldDoesNotExist

from lazymig import LazyMigrationMixin, as_stored, without_writing
from tests.odm.querysets.test_queryset_class import PickledPerson
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

READ_JSON = {"json_options": CANONICAL_JSON_OPTIONS}
OLD = [MATCH.raw(number) for number in (1, 2, 3)]


# Ways to make an instance that looks old, of the _id of an old document, without the database.
UNSTORED = {
    "constructor": lambda model: model(id=1, name="Ada"),
    "from_json": lambda model: model.from_json(json.dumps(OLD[0]), **READ_JSON),
    "from_json, created": lambda model: model.from_json(
        json.dumps(OLD[0]), created=True, **READ_JSON
    ),
    "from_json of a queryset": lambda model: model.objects.from_json(json.dumps(OLD[:1]))[0],
    "_from_son": lambda model: model._from_son(dict(OLD[0])),
    "copy": lambda model: copy.copy(model(id=1, name="Ada")),
    "deepcopy": lambda model: copy.deepcopy(model(id=1, name="Ada")),
}


@pytest.mark.parametrize("way", UNSTORED)
def test_what_was_not_read_starts_nothing(monitored_db, command_log, way):
    """An old shape that does not come from the database sends no command and changes nothing."""
    model = old_people(monitored_db, MATCH)
    model.objects.count()
    command_log.clear()

    document = UNSTORED[way](model)

    assert (document.id, document.name, document.enabled) == (1, "Ada", None)
    assert command_log.names == []
    assert stored(monitored_db["person"]) == OLD


def test_unpickling_starts_nothing(monitored_db, command_log):
    """A pickled document comes back as it was, though it looks old, and without a command."""
    monitored_db["person"].insert_one(OLD[0])
    pickled = pickle.dumps(PickledPerson(id=1, name="Ada"))
    command_log.clear()

    document = pickle.loads(pickled)

    assert (document.name, document.enabled) == ("Ada", None)
    assert command_log.names == []
    assert stored(monitored_db["person"]) == OLD[:1]


@pytest.mark.parametrize("way", ["constructor", "from_json", "_from_son"])
def test_what_cannot_be_built_by_hand_is_mongoengines_own_error(mongoengine_db, way):
    """Bad data that was not read raises MongoEngine's exception at once; no rule is tried."""
    model = old_people(mongoengine_db, LOAD_ERROR)
    raw = LOAD_ERROR.raw(1)
    build = {
        "constructor": lambda: model(id=1, name="Ada", legacy=True),
        "from_json": lambda: model.from_json(json.dumps(raw), **READ_JSON),
        "_from_son": lambda: model._from_son(dict(raw)),
    }[way]

    with pytest.raises(FieldDoesNotExist) as caught:
        build()

    assert not getattr(caught.value, "__notes__", [])
    assert stored(mongoengine_db["person"]) == [LOAD_ERROR.raw(number) for number in (1, 2, 3)]


def test_a_nested_from_json_within_a_load_starts_nothing(mongoengine_db):
    """Documents that a model makes by hand while another one is loaded count as not stored."""
    made = []
    model = person_model(MATCH.rules())
    rules = MATCH.rules()

    class Watcher(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        name = StringField()
        enabled = BooleanField()
        migration_handler = rules
        meta = {"collection": "watchers"}

        def __init__(self, *args, **values):
            super().__init__(*args, **values)
            made.append(model.from_json(json.dumps(OLD[1]), **READ_JSON))
            made.append(model._from_son(dict(OLD[2])))

    for name in ("person", "watchers"):
        mongoengine_db[name].insert_many(OLD)

    assert as_raw(Watcher.objects[0]) == new(1)
    assert [document.enabled for document in Watcher.objects] == [True] * 3
    assert {document.enabled for document in made} == {None}
    assert stored(mongoengine_db["person"]) == OLD
    assert stored(mongoengine_db["watchers"]) == [new(1), new(2), new(3)]


def test_cascades_from_an_unsaved_document_start_nothing(monitored_db, command_log):
    """Saving with cascade what was never loaded writes it as it is, and migrates nothing."""
    model = person_model(MATCH.rules())

    class Holder(Document):
        one = ReferenceField(model)
        meta = {"collection": "holders"}

    friend = model(id=1, name="Ada", enabled=False)
    Holder(one=friend).save(cascade=True, validate=False)
    friend.name = "Eve"
    holder = Holder(one=friend)
    command_log.clear()
    holder.save(cascade=True)

    assert not {"find"} & set(command_log.names)
    assert stored(monitored_db["person"]) == [{"_id": 1, "name": "Eve", "enabled": False}]


@pytest.mark.parametrize("door", sorted(ALL_DOORS.keys() - {"get by get"}))
def test_as_stored_shows_what_lies_there(any_db, door):
    """Every door of as_stored() gives documents as they are stored, and writes nothing."""
    model = old_people(any_db, MATCH)

    class Stored:
        objects = model.objects.as_stored()

    assert [as_raw(document) for document in ALL_DOORS[door](Stored)] == OLD
    assert stored(any_db["person"]) == OLD


@pytest.mark.parametrize("door", {**ALL_DOORS, **SINGLE_DOORS})
def test_within_as_stored_no_door_migrates(any_db, door):
    """Within `with as_stored(Model)` every door shows stored data; after it, it migrates again."""
    model = old_people(any_db, MATCH)
    load = {**ALL_DOORS, **SINGLE_DOORS}[door]

    with as_stored(model):
        loaded = load(model)
        if door in SINGLE_DOORS:
            loaded = [loaded]
        assert [as_raw(document) for document in loaded] == OLD[: len(loaded)]
    assert stored(any_db["person"]) == OLD

    load(model)
    assert stored(any_db["person"])[0] == new(1)


@pytest.mark.parametrize("case", CASES[1:3], ids=case_id)
def test_as_stored_raises_mongoengines_own_error(any_db, case):
    """A document that only a rule makes loadable raises MongoEngine's plain exception as stored."""
    model = old_people(any_db, case)

    with pytest.raises(FieldDoesNotExist):
        list(model.objects.as_stored())
    with as_stored(model), pytest.raises(FieldDoesNotExist):
        model.objects.first()

    assert stored(any_db["person"]) == [case.raw(number) for number in (1, 2, 3)]


def test_as_stored_reaches_references(any_db):
    """Within as_stored() of the referred model a reference shows stored data."""
    model = old_people(any_db, MATCH)

    class Holder(Document):
        one = ReferenceField(model)
        meta = {"collection": "holders"}

    any_db["holders"].insert_one({"one": 1})

    with as_stored(model):
        assert Holder.objects.first().one.enabled is None
    assert stored(any_db["person"]) == OLD
    assert Holder.objects.first().one.enabled is True


def test_as_stored_is_for_its_models_and_its_thread(mongoengine_db):
    """as_stored(Model) holds for that model in that thread; other threads and models migrate."""
    model = old_people(mongoengine_db, MATCH)
    from_thread = []

    with as_stored(Document):
        assert model.objects.first().enabled is None
    with as_stored(PickledPerson):
        assert as_raw(model.objects.get(id=1)) == new(1)
    with as_stored(model):
        other = threading.Thread(target=lambda: from_thread.append(model.objects.get(id=2)))
        other.start()
        other.join()

    assert as_raw(from_thread[0]) == new(2)
    assert stored(mongoengine_db["person"]) == [new(1), new(2), OLD[2]]


def test_as_stored_ends_after_an_exception(any_db):
    """An exception within as_stored() ends it."""
    model = old_people(any_db, MATCH)

    with pytest.raises(KeyError), as_stored(model):
        raise KeyError

    assert as_raw(model.objects.first()) == new(1)


def test_as_stored_chains(any_db):
    """as_stored() stays through every step of a chain of querysets."""
    model = old_people(any_db, MATCH)

    queryset = model.objects.as_stored().filter(id__lte=2).order_by("-id").no_cache().limit(5)

    assert [as_raw(document) for document in queryset] == [OLD[1], OLD[0]]
    assert as_raw(queryset.cache().get(id=1)) == OLD[0]
    assert queryset.only("enabled").first().enabled is None
    assert stored(any_db["person"]) == OLD


@pytest.mark.parametrize("block", [as_stored, without_writing])
def test_a_block_names_its_models(block):
    """A block for nothing, and one for something else than classes, are errors as it begins."""
    for models, told in (((), "names no model"), (("Post",), "'Post', which is no document class")):
        with pytest.raises(TypeError, match=told), block(*models):
            pass
