"""Classes that share a collection: whose rules touch whose documents, and which class loads."""

from __future__ import annotations

import pytest
from mongoengine import BooleanField, Document, IntField, StringField
from mongoengine.context_managers import no_sub_classes

from lazymig import DocumentMigration, LazyMigrationMixin
from tests.support.doors import (
    ALL_DOORS,
    LOAD_ERROR,
    MATCH,
    as_raw,
    case_id,
    new,
    stored,
)
from tests.support.handlers import handler, rule


def two_siblings(base_rules=None, jedi_rules=None, sith_rules=None):
    """Human, and its subclasses Jedi and Sith, in one collection; each with its own handler."""

    class Human(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        name = StringField()
        enabled = BooleanField(required=True)
        migration_handler = base_rules
        meta = {"collection": "person", "allow_inheritance": True, "ordering": ["id"]}

    class Jedi(Human):
        if jedi_rules is not None:
            migration_handler = jedi_rules
        power = IntField()

    class Sith(Human):
        if sith_rules is not None:
            migration_handler = sith_rules
        power = IntField()

    return Human, Jedi, Sith


CLASSES = ("Human", "Human.Jedi", "Human.Sith")


def old(case):
    """Three old documents, one of each class."""
    return [{**case.raw(number), "_cls": CLASSES[number - 1]} for number in (1, 2, 3)]


def renewed(number):
    """The same in the new shape."""
    return {**new(number), "_cls": CLASSES[number - 1]}


@pytest.mark.parametrize("case", [MATCH, LOAD_ERROR], ids=case_id)
@pytest.mark.parametrize("door", ALL_DOORS)
def test_a_handler_on_the_base_serves_the_subclasses(any_db, door, case):
    """Documents of every class of the collection obey the base's rules and keep their class."""
    any_db["person"].insert_many(old(case))
    human, jedi, sith = two_siblings(case.rules())

    loaded = ALL_DOORS[door](human)

    assert [type(document) for document in loaded] == [human, jedi, sith]
    assert [as_raw(document) for document in loaded] == [renewed(1), renewed(2), renewed(3)]
    assert stored(any_db["person"]) == [renewed(1), renewed(2), renewed(3)]


@pytest.mark.parametrize("case", [MATCH, LOAD_ERROR], ids=case_id)
def test_a_subclass_that_inherits_the_handler_migrates_its_own(any_db, case):
    """Loading through a subclass migrates its documents, and leaves its siblings' alone."""
    any_db["person"].insert_many(old(case))
    _, jedi, _ = two_siblings(case.rules())

    assert [as_raw(document) for document in jedi.objects] == [renewed(2)]
    assert stored(any_db["person"]) == [old(case)[0], renewed(2), old(case)[2]]


@pytest.mark.parametrize("case", [MATCH, LOAD_ERROR], ids=case_id)
def test_a_subclass_with_a_handler_of_its_own_touches_no_sibling(any_db, case):
    """A subclass's rules are applied to its documents alone, whatever class they are loaded by."""
    any_db["person"].insert_many(
        [{"_id": 1, "name": "Ada", "enabled": False, "_cls": CLASSES[0]}, *old(case)[1:]]
    )
    human, jedi, _ = two_siblings(None, case.rules())
    any_db["person"].update_one({"_id": 3}, {"$unset": {"legacy": ""}})
    before = stored(any_db["person"])

    assert {document.id for document in human.objects} == {1, 2, 3}

    assert stored(any_db["person"]) == [before[0], renewed(2), before[2]]
    assert as_raw(jedi.objects.get()) == renewed(2)


@pytest.mark.parametrize("scope", ["migration", "allmigration"])
def test_bulk_runs_of_a_subclass_touch_no_sibling(any_db, scope):
    """migrate_pending and migrate_all of a subclass's handler leave every sibling's document."""
    documents = old(MATCH)
    any_db["person"].insert_many(documents)
    rules = handler(**{f"{scope}01__enable": MATCH.body["migration01__enable"]})
    _, jedi, _ = two_siblings(None, rules)

    run = rules(jedi).migrate_pending if scope == "migration" else rules(jedi).migrate_all
    report = run()

    assert stored(any_db["person"]) == [documents[0], renewed(2), documents[2]]
    assert [(line.matched, line.modified) for line in report.rules] == [(1, 1)]


def test_bulk_rules_that_read_the_document_touch_no_sibling(mongoengine_db):
    """A dynamic bulk rule of a subclass is computed for its documents alone."""
    documents = old(MATCH)
    mongoengine_db["person"].insert_many(documents)

    class JediMigration(DocumentMigration):
        def allmigration01__enable(self):
            self.target = {"enabled": {"$exists": False}}
            self.update = {"$set": {"enabled": bool(self.doc["name"])}}

    _, jedi, _ = two_siblings(None, JediMigration)

    JediMigration(jedi).migrate_all()

    assert stored(mongoengine_db["person"]) == [documents[0], renewed(2), documents[2]]


def test_reports_of_a_subclass_count_no_sibling(mongoengine_db):
    """get_status and get_deprecated of a subclass's handler do not see a sibling's documents."""
    documents = old(MATCH)
    documents[1]["enabled"] = True
    mongoengine_db["person"].insert_many(documents)
    rules = MATCH.rules()
    _, jedi, _ = two_siblings(None, rules)

    assert [status.remaining for status in rules(jedi).get_status()] == [0]
    assert rules(jedi).get_deprecated() == {"deprecated": ["migration01__enable"], "active": []}
    assert stored(mongoengine_db["person"]) == documents


def test_each_sibling_obeys_its_own_rules(any_db):
    """Two siblings with handlers of their own, loaded together: each gets its own rule's value."""
    any_db["person"].insert_many([{**raw, "enabled": True} for raw in old(MATCH)])
    missing = {"power": {"$exists": False}}
    human, _, _ = two_siblings(
        None,
        handler(migration01__power=rule(missing, {"$set": {"power": 9}})),
        handler(migration01__power=rule(missing, {"$set": {"power": 7}})),
    )

    assert [getattr(document, "power", None) for document in human.objects] == [None, 9, 7]
    assert [raw.get("power") for raw in stored(any_db["person"])] == [None, 9, 7]


def test_a_handler_of_a_subclass_replaces_the_bases(any_db):
    """A subclass's own handler stands in place of the base's, unless it inherits from it."""
    any_db["person"].insert_many(old(MATCH))
    base_rules = MATCH.rules()

    class JediMigration(base_rules):
        def migration02__power(self):
            self.target = {"power": {"$exists": False}}
            self.update = {"$set": {"power": 9}}

    human, _, _ = two_siblings(base_rules, JediMigration, handler())

    assert [document.enabled for document in human.objects] == [True, True, None]
    assert stored(any_db["person"]) == [renewed(1), {**renewed(2), "power": 9}, old(MATCH)[2]]


@pytest.mark.parametrize("case", [MATCH, LOAD_ERROR], ids=case_id)
def test_an_abstract_base_hands_its_rules_down(any_db, case):
    """Each model below an abstract base with a handler migrates its own collection."""
    rules = case.rules()

    class Base(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        name = StringField()
        enabled = BooleanField(required=True)
        migration_handler = rules
        meta = {"abstract": True}

    class Cat(Base):
        meta = {"collection": "cats"}

    class Dog(Base):
        meta = {"collection": "dogs"}

    any_db["cats"].insert_one(case.raw(1))
    any_db["dogs"].insert_one(case.raw(1))

    assert as_raw(Cat.objects.get()) == new(1)
    assert stored(any_db["cats"]) == [new(1)]
    assert stored(any_db["dogs"]) == [case.raw(1)]
    assert as_raw(Dog.objects.get()) == new(1)


def test_a_class_defined_after_the_first_query_is_served(any_db):
    """A subclass that is defined, or brings a handler, after the first load takes part at once."""
    human, _, _ = two_siblings(MATCH.rules())
    any_db["person"].insert_one({**new(1), "_cls": "Human"})
    assert human.objects.count() == len(list(human.objects)) == 1

    class Pilot(human):
        rank = IntField()

    class Ace(human):
        rank = IntField()
        migration_handler = handler(
            migration01__rank=rule({"rank": {"$exists": False}}, {"$set": {"rank": 1}})
        )

    any_db["person"].insert_many(
        [{"_id": 2, "_cls": "Human.Pilot"}, {"_id": 3, "_cls": "Human.Ace", "enabled": False}]
    )

    loaded = list(human.objects)
    assert [type(document) for document in loaded] == [human, Pilot, Ace]
    assert stored(any_db["person"])[1:] == [
        {"_id": 2, "_cls": "Human.Pilot", "enabled": True},
        {"_id": 3, "_cls": "Human.Ace", "enabled": False, "rank": 1},
    ]


def test_no_sub_classes_leaves_subclasses_out(any_db):
    """no_sub_classes(), as a method and as a context, gives and migrates the class's own alone."""
    any_db["person"].insert_many(old(LOAD_ERROR))
    human, _, _ = two_siblings(LOAD_ERROR.rules())

    assert [as_raw(document) for document in human.objects.no_sub_classes()] == [renewed(1)]
    with no_sub_classes(human):
        assert [as_raw(document) for document in human.objects] == [renewed(1)]

    assert stored(any_db["person"]) == [renewed(1), *old(LOAD_ERROR)[1:]]
    assert human.objects.count() == 3
