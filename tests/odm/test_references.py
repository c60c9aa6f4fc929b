"""Doors that load what another document refers to, and where the referred document lies."""

from __future__ import annotations

import mongoengine
import pytest
from bson import DBRef
from mongoengine import (
    CachedReferenceField,
    DictField,
    Document,
    EmbeddedDocument,
    EmbeddedDocumentField,
    GenericLazyReferenceField,
    GenericReferenceField,
    LazyReferenceField,
    ListField,
    MapField,
    ReferenceField,
)
from mongoengine.context_managers import no_dereference
from mongoengine.errors import DoesNotExist, FieldDoesNotExist

from lazymig import LazyMigrationMixin
from tests.support.doors import (
    CASES,
    LOAD_ERROR,
    MATCH,
    as_raw,
    case_id,
    delete_while_migrating,
    new,
    old_people,
    person_model,
    stored,
)
from tests.support.handlers import handler

GENERIC = {"_cls": "Person", "_ref": DBRef("person", 1)}

# A kind of reference: the field, what a holder stores in it, and the way to the document.
REFERENCES = {
    "ReferenceField": (ReferenceField, 1, lambda value: value),
    "with DBRef": (
        lambda person: ReferenceField(person, dbref=True),
        DBRef("person", 1),
        lambda value: value,
    ),
    "by name": (lambda person: ReferenceField("Person"), 1, lambda value: value),
    "GenericReferenceField": (
        lambda person: GenericReferenceField(),
        GENERIC,
        lambda value: value,
    ),
    "CachedReferenceField": (
        lambda person: CachedReferenceField(person, fields=["name"]),
        {"_id": 1, "name": "Ada"},
        lambda value: value,
    ),
    "LazyReferenceField": (
        LazyReferenceField,
        1,
        lambda value: value.fetch(),
    ),
    "GenericLazyReferenceField": (
        lambda person: GenericLazyReferenceField(),
        GENERIC,
        lambda value: value.fetch(),
    ),
    "ListField": (
        lambda person: ListField(ReferenceField(person)),
        [1],
        lambda value: value[0],
    ),
    "ListField with DBRef": (
        lambda person: ListField(ReferenceField(person, dbref=True)),
        [DBRef("person", 1)],
        lambda value: value[0],
    ),
    "ListField of generic ones": (
        lambda person: ListField(GenericReferenceField()),
        [GENERIC],
        lambda value: value[0],
    ),
    "MapField": (
        lambda person: MapField(ReferenceField(person)),
        {"one": 1},
        lambda value: value["one"],
    ),
    "DictField": (
        lambda person: DictField(ReferenceField(person)),
        {"one": 1},
        lambda value: value["one"],
    ),
    "list of lists": (
        lambda person: ListField(ListField(ReferenceField(person))),
        [[1]],
        lambda value: value[0][0],
    ),
}


def holder_model(field, base=Document):
    """A model `Holder` with this field."""

    class Holder(base):
        one = field
        meta = {"collection": "holders"}

    return Holder


@pytest.mark.parametrize("case", CASES, ids=case_id)
@pytest.mark.parametrize("kind", REFERENCES)
def test_a_referred_document_is_renewed(any_db, kind, case):
    """A reference of any kind gives the migrated document, and migrates no other."""
    person = old_people(any_db, case)
    make, raw, follow = REFERENCES[kind]
    any_db["holders"].insert_one({"_id": 1, "one": raw})

    reached = follow(holder_model(make(person)).objects.get().one)

    assert type(reached) is person
    assert as_raw(reached) == new(1)
    assert stored(any_db["person"]) == [new(1), case.raw(2), case.raw(3)]
    assert stored(any_db["holders"]) == [{"_id": 1, "one": raw}]


@pytest.mark.parametrize("case", [MATCH, LOAD_ERROR], ids=case_id)
@pytest.mark.parametrize("kind", sorted(REFERENCES.keys() - {"LazyReferenceField"}))
def test_select_related_renews(any_db, kind, case):
    """select_related() gives migrated documents."""
    person = old_people(any_db, case)
    make, raw, follow = REFERENCES[kind]
    any_db["holders"].insert_one({"_id": 1, "one": raw})

    (holder,) = holder_model(make(person)).objects.select_related(max_depth=3)

    assert as_raw(follow(holder.one)) == new(1)
    assert stored(any_db["person"]) == [new(1), case.raw(2), case.raw(3)]


@pytest.mark.parametrize(
    "kind", ["ReferenceField", "with DBRef", "ListField", "ListField with DBRef"]
)
def test_no_dereference_loads_no_reference(any_db, kind):
    """Without dereferencing the referred document is not loaded, so it is not migrated."""
    person = old_people(any_db, MATCH)
    make, raw, _ = REFERENCES[kind]
    any_db["holders"].insert_one({"_id": 1, "one": raw})
    holder = holder_model(make(person))

    assert not isinstance(holder.objects.no_dereference().get().one, Document)
    with no_dereference(holder):
        assert not isinstance(holder.objects.get().one, Document)
    assert stored(any_db["person"]) == [MATCH.raw(number) for number in (1, 2, 3)]


def test_a_reference_that_no_rule_helps_is_mongoengines_own_error(mongoengine_db):
    """A referred document that cannot be loaded raises MongoEngine's error with lazymig's note."""
    person = old_people(mongoengine_db, LOAD_ERROR)
    mongoengine_db["person"].update_one({"_id": 1}, {"$set": {"stranger": 1}})
    mongoengine_db["holders"].insert_one({"_id": 1, "one": 1})
    mongoengine_db["holders"].insert_one({"_id": 2, "one": 9})
    holder = holder_model(ReferenceField(person))

    first, second = holder.objects.order_by("id")

    with pytest.raises(FieldDoesNotExist) as caught:
        first.one  # noqa: B018
    with pytest.raises(DoesNotExist):
        second.one  # noqa: B018

    assert "migration01__convert" in "".join(getattr(caught.value, "__notes__", caught.value.args))


def test_an_embedded_reference_is_renewed(any_db):
    """A reference inside an embedded document gives the migrated document."""
    person = old_people(any_db, LOAD_ERROR)

    class Seat(EmbeddedDocument):
        taken_by = ReferenceField(person)

    holder = holder_model(EmbeddedDocumentField(Seat))
    any_db["holders"].insert_one({"_id": 1, "one": {"taken_by": 1}})

    assert as_raw(holder.objects.get().one.taken_by) == new(1)
    assert any_db["person"].find_one({"_id": 1}) == new(1)


@pytest.mark.parametrize("case", [MATCH, LOAD_ERROR], ids=case_id)
def test_both_ends_of_a_reference_are_renewed(any_db, case):
    """An old document that refers to one of its own model: each is migrated once read."""
    rules = case.rules()

    class Person(LazyMigrationMixin, Document):
        id = mongoengine.IntField(primary_key=True)
        name = mongoengine.StringField()
        enabled = mongoengine.BooleanField(required=True)
        friend = ReferenceField("self")
        migration_handler = rules
        meta = {"collection": "person"}

    any_db["person"].insert_many(
        [{**case.raw(1), "friend": 2}, {**case.raw(2), "friend": 1}, case.raw(3)]
    )

    ada = Person.objects.get(id=1)

    assert as_raw(ada) == {**new(1), "friend": 2}
    assert as_raw(ada.friend) == {**new(2), "friend": 1}
    assert any_db["person"].find_one({"_id": 3}) == case.raw(3)


LISTS = {
    "ListField": (lambda person: ListField(ReferenceField(person)), lambda number: number),
    "with DBRef": (
        lambda person: ListField(ReferenceField(person, dbref=True)),
        lambda number: DBRef("person", number),
    ),
    "generic": (
        lambda person: ListField(GenericReferenceField()),
        lambda number: {"_cls": "Person", "_ref": DBRef("person", number)},
    ),
}


@pytest.mark.parametrize("kind", LISTS)
def test_a_list_of_references_is_one_batch(monitored_db, command_log, kind):
    """All stale documents of a list of references cost one update and one find together."""
    make, reference = LISTS[kind]
    person = person_model(MATCH.rules())
    numbers = range(50)
    monitored_db["person"].insert_many([{"_id": number} for number in numbers])
    monitored_db["holders"].insert_one({"_id": 1, "one": [reference(n) for n in numbers]})
    holder = holder_model(make(person)).objects.get()
    command_log.clear()

    assert [(p.id, p.enabled) for p in holder.one] == [(number, True) for number in numbers]

    assert command_log.names == ["find", "update", "find"]


@pytest.mark.parametrize("kind", LISTS)
def test_an_up_to_date_list_costs_one_find(monitored_db, command_log, kind):
    """A list of references to up-to-date documents costs what it costs plain MongoEngine."""
    make, reference = LISTS[kind]
    person = person_model(MATCH.rules())
    monitored_db["person"].insert_many([new(number) for number in (1, 2, 3)])
    monitored_db["holders"].insert_one({"_id": 1, "one": [reference(n) for n in (1, 2, 3)]})
    holder = holder_model(make(person)).objects.get()
    command_log.clear()

    assert [as_raw(document) for document in holder.one] == [new(n) for n in (1, 2, 3)]

    assert command_log.names == ["find"]


def test_select_related_of_many_holders_is_one_batch(monitored_db, command_log):
    """select_related() migrates what all holders refer to in one batch."""
    person = person_model(MATCH.rules())
    numbers = range(30)
    monitored_db["person"].insert_many([{"_id": number} for number in numbers])
    monitored_db["holders"].insert_many([{"_id": n, "one": n} for n in numbers])
    holder = holder_model(ReferenceField(person, dbref=False))

    holders = holder.objects.order_by("id").select_related()

    assert [found.one.enabled for found in holders] == [True] * 30
    assert command_log.names == ["find", "find", "update", "find"]


ELSEWHERE = {
    "ReferenceField": (
        lambda person: ReferenceField(person, dbref=True),
        DBRef("elsewhere", 1),
        lambda value: value,
    ),
    "ListField": (
        lambda person: ListField(ReferenceField(person, dbref=True)),
        [DBRef("elsewhere", 1)],
        lambda value: value[0],
    ),
    "GenericReferenceField": (
        lambda person: GenericReferenceField(),
        {"_cls": "Person", "_ref": DBRef("elsewhere", 1)},
        lambda value: value,
    ),
}


@pytest.mark.parametrize("case", CASES, ids=case_id)
@pytest.mark.parametrize("kind", ELSEWHERE)
def test_a_dbref_is_migrated_where_it_points(any_db, kind, case):
    """A DBRef into another collection is migrated there; the same _id at home is not touched."""
    person = old_people(any_db, case)
    any_db["elsewhere"].insert_one({**case.raw(1), "name": "Zoe"})
    make, raw, follow = ELSEWHERE[kind]
    any_db["holders"].insert_one({"_id": 1, "one": raw})

    reached = follow(holder_model(make(person)).objects.get().one)

    assert as_raw(reached) == {**new(1), "name": "Zoe"}
    assert stored(any_db["elsewhere"]) == [{**new(1), "name": "Zoe"}]
    assert stored(any_db["person"]) == [case.raw(number) for number in (1, 2, 3)]


@pytest.mark.parametrize("case", [MATCH, LOAD_ERROR], ids=case_id)
@pytest.mark.parametrize("kind", sorted(REFERENCES.keys() - {"by name"}))
def test_a_class_of_another_database_is_migrated_there(mongoengine_db, other_db, kind, case):
    """A reference to a class with a db_alias migrates in that database, and nowhere else."""
    person = old_people(other_db, case, db_alias="other")
    mongoengine_db["person"].insert_one(case.raw(1))
    make, raw, follow = REFERENCES[kind]
    mongoengine_db["holders"].insert_one({"_id": 1, "one": raw})

    reached = follow(holder_model(make(person)).objects.get().one)

    assert as_raw(reached) == new(1)
    assert stored(other_db["person"]) == [new(1), case.raw(2), case.raw(3)]
    assert stored(mongoengine_db["person"]) == [case.raw(1)]


def test_a_reference_deleted_meanwhile_does_not_exist(mongoengine_db):
    """A referred document that is deleted while it is migrated raises DoesNotExist."""
    collection = mongoengine_db["person"]
    collection.insert_one(MATCH.raw(1))
    mongoengine_db["holders"].insert_one({"_id": 1, "one": 1})
    person = person_model(handler(migration01__enable=delete_while_migrating(collection)))

    with pytest.raises(DoesNotExist):
        holder_model(ReferenceField(person)).objects.get().one  # noqa: B018
