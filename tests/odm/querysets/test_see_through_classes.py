"""`_cls` is a path like any other: former classes are found under the classes they become."""

from __future__ import annotations

import pytest
from mongoengine import Document, IntField, StringField
from mongoengine.context_managers import no_sub_classes

from lazymig import DocumentMigration, LazyMigrationMixin
from tests.odm.test_former_classes import OLD_JEDIS, split_jedi
from tests.support.doors import stored

BY_CLASS = {
    "iteration": lambda o: sorted(document.id for document in o),
    "scalar": lambda o: sorted(o.scalar("id")),
    "only": lambda o: sorted(document.id for document in o.only("id")),
    "distinct": lambda o: sorted(o.distinct("id")),
    "aggregate": lambda o: sorted(raw["_id"] for raw in o.aggregate([])),
    "slice": lambda o: sorted(document.id for document in o.order_by("id")[:9]),
    "one by one": lambda o: sorted(o.order_by("id")[number].id for number in range(o.count())),
}


@pytest.fixture
def jedis(mongoengine_db):
    """Three stored documents: a light Human.Jedi 1, a dark Human.Jedi 2, a Human.GoodJedi 3."""
    mongoengine_db["person"].insert_many(OLD_JEDIS)
    return mongoengine_db["person"]


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("door", BY_CLASS)
def test_each_class_finds_its_own(jedis, door, legacy):
    """Old documents are found under exactly the class that they become, declared or not."""
    human, good, bad = split_jedi(legacy)

    assert BY_CLASS[door](bad.objects) == [2]
    assert BY_CLASS[door](good.objects) == [1, 3]
    assert BY_CLASS[door](human.objects) == [1, 2, 3]


@pytest.mark.parametrize("legacy", [True, False])
def test_a_split_class_is_counted_exactly(jedis, legacy):
    """count() of a class counts no document that will be another's, and writes nothing."""
    human, good, bad = split_jedi(legacy)

    assert (human.objects.count(), good.objects.count(), bad.objects.count()) == (3, 2, 1)
    assert good.objects(name="Bob").count() == 0
    assert stored(jedis) == OLD_JEDIS


@pytest.mark.parametrize("legacy", [True, False])
def test_the_other_class_is_never_loaded(jedis, legacy):
    """first(), get() and a limit of one never give a document that becomes another class."""
    _, good, bad = split_jedi(legacy)

    assert good.objects(name="Bob").first() is None
    assert good.objects(id=2).limit(1).first() is None
    with pytest.raises(good.DoesNotExist):
        good.objects.get(id=2)
    assert type(bad.objects.get(id=2)) is bad


WRITES = {
    "update": lambda o: o.update(set__name="hit"),
    "update_one": lambda o: o(id=2).update_one(set__name="hit"),
    "modify": lambda o: o(id=2).modify(set__name="hit"),
    "remove": lambda o: o(id=2).modify(remove=True),
    "delete": lambda o: o.delete(),
    "delete with a limit": lambda o: o.limit(9).delete(),
}


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("write", WRITES)
def test_the_other_class_is_never_written(jedis, write, legacy):
    """No write through GoodJedi hits the old document that becomes a BadSith."""
    _, good, _ = split_jedi(legacy)

    WRITES[write](good.objects)

    left = jedis.find_one({"_id": 2})
    assert left is not None
    assert left["name"] == "Bob"


@pytest.mark.parametrize("legacy", [True, False])
def test_a_class_writes_its_old_documents(jedis, legacy):
    """update() and delete() through a class hit the old documents that become its own."""
    _, good, bad = split_jedi(legacy)

    assert good.objects.update(set__name="hit") == 2
    assert bad.objects.delete() == 1
    assert [(raw["_id"], raw["name"]) for raw in stored(jedis)] == [(1, "hit"), (3, "hit")]


@pytest.mark.parametrize("upsert", ["modify", "upsert_one", "update_one", "update"])
def test_an_upsert_writes_the_class(jedis, upsert):
    """An upsert through a class of a rewritten hierarchy inserts a document of that class."""
    _, good, _ = split_jedi()
    options = {} if upsert == "upsert_one" else {"upsert": True}

    getattr(good.objects(id=9), upsert)(set__name="Eve", **options)

    assert jedis.find_one({"_id": 9}) == {"_id": 9, "_cls": "Human.GoodJedi", "name": "Eve"}
    assert good.objects.get(id=9).name == "Eve"


@pytest.mark.parametrize("upsert", ["modify", "upsert_one", "update_one", "update"])
def test_an_upsert_hits_the_old_document(jedis, upsert):
    """An upsert that matches an old document of the class updates it instead of inserting."""
    _, good, _ = split_jedi()
    options = {} if upsert == "upsert_one" else {"upsert": True}

    getattr(good.objects(id=1), upsert)(set__name="Eve", **options)

    assert jedis.count_documents({}) == 3
    assert jedis.find_one({"_id": 1}) == {"_id": 1, "_cls": "Human.GoodJedi", "name": "Eve"}


def hierarchy():
    """Being (abstract), Animal, its Dog, and below that Puppy; Wolf documents became dogs."""

    class AnimalMigration(DocumentMigration):
        legacy_classes = ("Animal.Fossil",)

        def migration01__young_wolf(self):
            self.target = {"_cls": "Animal.Wolf", "age": {"$lt": 1}}
            self.update = {"$set": {"_cls": "Animal.Dog.Puppy"}}

        def migration02__wolf(self):
            self.target = {"_cls": "Animal.Wolf"}
            self.update = {"$set": {"_cls": "Animal.Dog"}}

        def migration03__hound(self):
            self.target = {"_cls": "Animal.Dog.Hound"}
            self.update = {"$set": {"_cls": "Animal.Dog"}}

    class Being(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        age = IntField()
        name = StringField()
        meta = {"abstract": True}

    class Animal(Being):
        migration_handler = AnimalMigration
        meta = {"collection": "animal", "allow_inheritance": True}

    class Dog(Animal):
        pass

    class Puppy(Dog):
        pass

    return Animal, Dog, Puppy


ANIMALS = [
    {"_id": 1, "_cls": "Animal", "age": 5},
    {"_id": 2, "_cls": "Animal.Wolf", "age": 0},
    {"_id": 3, "_cls": "Animal.Wolf", "age": 7},
    {"_id": 4, "_cls": "Animal.Dog.Hound", "age": 0},
    {"_id": 5, "_cls": "Animal.Dog", "age": 2},
    {"_id": 6, "_cls": "Animal.Dog.Puppy", "age": 0},
]


def ids(queryset):
    """The ids, sorted."""
    return sorted(queryset.scalar("id"))


def test_a_deeper_hierarchy_is_seen_through(mongoengine_db):
    """Below an abstract class, each class finds its own old documents and its subclasses'."""
    mongoengine_db["animal"].insert_many(ANIMALS)
    animal, dog, puppy = hierarchy()

    counts = [model.objects.count() for model in (animal, dog, puppy)]
    assert counts == [6, 5, 2]
    assert stored(mongoengine_db["animal"]) == ANIMALS
    assert ids(puppy.objects) == [2, 6]
    assert ids(dog.objects) == [2, 3, 4, 5, 6]
    assert ids(animal.objects) == [1, 2, 3, 4, 5, 6]


def test_no_sub_classes_is_exact(mongoengine_db):
    """no_sub_classes(), method and context manager, finds old documents of the class alone."""
    mongoengine_db["animal"].insert_many(ANIMALS)
    animal, dog, _ = hierarchy()

    assert dog.objects.no_sub_classes().count() == 3
    with no_sub_classes(dog):
        assert dog.objects.count() == 3
        assert ids(dog.objects) == [3, 4, 5]
    assert ids(animal.objects.no_sub_classes()) == [1]
    assert ids(dog.objects) == [2, 3, 4, 5, 6]


def test_a_legacy_class_that_no_rule_names(mongoengine_db):
    """A former class that only `legacy_classes` names is found through the model that names it."""
    animal, dog, _ = hierarchy()
    fossil = {"_id": 9, "_cls": "Animal.Fossil", "age": 99}
    mongoengine_db["animal"].insert_many([*ANIMALS, fossil])

    assert animal.objects.count() == 7
    assert animal.objects(age=99).count() == 1
    assert dog.objects.count() == 5


def test_a_class_filter_uses_the_index(mongoengine_db):
    """The rewritten condition on `_cls` scans the index on it in every branch."""
    mongoengine_db["animal"].insert_many({"_id": n, "_cls": "Animal.Wolf"} for n in range(50))
    mongoengine_db["animal"].create_index([("_cls", 1), ("name", 1)])
    _, dog, _ = hierarchy()

    plan = str(dog.objects(name="Rex").explain()["queryPlanner"]["winningPlan"])
    assert "IXSCAN" in plan
    assert "COLLSCAN" not in plan


def _handing_over(giver, taker):
    """Two classes, each with a handler: the giver's rule makes documents of it the taker's."""

    class Giving(DocumentMigration):
        def migration01__hand_over(self):
            self.target = {"moved": True}
            self.update = {"$set": {"_cls": taker}, "$unset": {"moved": ""}}

    class Taking(DocumentMigration):
        def migration01__rename(self):
            self.target = {"years": {"$exists": True}}
            self.update = {"$rename": {"years": "age"}}

    handlers = {giver: Giving, taker: Taking}

    class Animal(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        age = IntField()
        meta = {"collection": "animal", "allow_inheritance": True}
        migration_handler = handlers.get("Animal")

    for name in ("Cat", "Dog"):
        handler = handlers.get(f"Animal.{name}")
        type(Document)(name, (Animal,), {"migration_handler": handler, "__module__": __name__})
    return Animal


@pytest.mark.parametrize(
    ("giver", "taker"),
    [("Animal.Cat", "Animal.Dog"), ("Animal.Dog", "Animal.Cat"), ("Animal.Dog", "Animal")],
)
def test_what_is_handed_over_obeys_the_rules_of_its_new_class(mongoengine_db, giver, taker):
    """A query sees through both handlers, in whatever order their classes come."""
    old = {"_id": 1, "_cls": giver, "years": 3, "moved": True}
    mongoengine_db["animal"].insert_one(old)
    objects = _handing_over(giver, taker).objects

    assert objects(age=3).count() == 1
    assert objects.distinct("age") == [3]
    assert list(objects.aggregate([])) == [{"_id": 1, "_cls": taker, "age": 3}]
    assert stored(mongoengine_db["animal"]) == [old]
    assert [(one._class_name, one.age) for one in objects.order_by("age")] == [(taker, 3)]
