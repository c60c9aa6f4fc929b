"""Querysets as objects: a user's own class and managers, pickles, caches, cursors begun anew."""

from __future__ import annotations

import pickle
from unittest.mock import MagicMock

import pytest
from mongoengine import BooleanField, Document, IntField, StringField, queryset_manager
from mongoengine.queryset import QuerySet, QuerySetManager, QuerySetNoCache
from pymongo.errors import OperationFailure

from lazymig import (
    ConvergenceWarning,
    DocumentMigration,
    LazyMigrationMixin,
    LazyMigrationQuerySet,
)
from lazymig.odm import loading
from tests.support.doors import (
    ALL_DOORS,
    LOAD_ERROR,
    MATCH,
    NAMES,
    as_raw,
    case_id,
    new,
    old_people,
    person_model,
    stored,
)
from tests.support.handlers import ADD_ENABLED, handler, model, rule


class Polite(QuerySet):
    """A user's own class, with a method of its own."""

    def named(self, name):
        return self.filter(name=name)


class Whispering(QuerySet):
    """A user's own class that changes what next() gives."""

    def __next__(self):
        document = super().__next__()
        document.whispered = document.name.lower()
        return document


class WhisperingNoCache(QuerySetNoCache):
    """The same without a cache."""

    def __next__(self):
        document = super().__next__()
        document.whispered = document.name.lower()
        return document


@pytest.mark.parametrize("case", [MATCH, LOAD_ERROR], ids=case_id)
@pytest.mark.parametrize(
    ("own", "door"),
    [
        (own, door)
        for own in (Polite, QuerySetNoCache, Whispering, WhisperingNoCache)
        for door in ALL_DOORS
        # MongoEngine's class without a cache has no such method.
        if not (issubclass(own, QuerySetNoCache) and door.startswith("no_cache"))
    ],
)
def test_lazymig_joins_a_users_own_class(mongoengine_db, own, door, case):
    """Every door of a user's own queryset class migrates, whatever the class's base."""
    model = old_people(mongoengine_db, case, queryset_class=own)
    assert isinstance(model.objects, own)

    loaded = ALL_DOORS[door](model)

    assert [as_raw(document) for document in loaded] == [new(1), new(2), new(3)]
    assert stored(mongoengine_db["person"]) == [new(1), new(2), new(3)]


@pytest.mark.parametrize("case", [MATCH, LOAD_ERROR], ids=case_id)
@pytest.mark.parametrize("own", [Whispering, WhisperingNoCache])
def test_a_users_own_next_is_called(any_db, own, case):
    """A class that overrides __next__ sees each document, migrated, and once."""
    model = old_people(any_db, case, queryset_class=own)

    loaded = list(model.objects)

    assert [document.whispered for document in loaded] == ["ada", "bob", "cy"]
    assert [as_raw(document) for document in loaded] == [new(1), new(2), new(3)]


def test_own_methods_chain(any_db):
    """Methods of a user's own class stay there after every step of a chain."""
    model = old_people(any_db, MATCH, queryset_class=Polite)

    found = model.objects.order_by("id").all().named("Ada").limit(5)[0:3].named("Ada")

    assert isinstance(found, (Polite, LazyMigrationQuerySet))
    assert [as_raw(document) for document in found] == [new(1)]


@pytest.mark.parametrize("case", [MATCH, LOAD_ERROR], ids=case_id)
def test_managers_migrate(any_db, case):
    """Each manager of a model gives migrating querysets of its own class."""
    rules = case.rules()

    class PoliteManager(QuerySetManager):
        default = Polite

    class Person(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        name = StringField()
        enabled = BooleanField(required=True)
        migration_handler = rules
        meta = {"collection": "person"}
        objects = PoliteManager()

        @queryset_manager
        def bobs(doc_cls, queryset):
            return queryset.filter(name="Bob")

    any_db["person"].insert_many([case.raw(number) for number in (1, 2, 3)])

    assert [as_raw(document) for document in Person.bobs] == [new(2)]
    assert stored(any_db["person"]) == [case.raw(1), new(2), case.raw(3)]
    assert isinstance(Person.objects, Polite)
    # A class that a manager names is its own, as in MongoEngine.
    assert not isinstance(Person.bobs, Polite)
    assert [as_raw(document) for document in Person.objects.named("Cy")] == [new(3)]
    assert stored(any_db["person"]) == [case.raw(1), new(2), new(3)]


def test_a_queryset_that_is_made_by_hand_migrates(any_db):
    """Whoever makes a queryset of a model, by whatever constructor, gets one that migrates."""

    class Odd(QuerySet):
        def __new__(cls, *_args):
            return super().__new__(cls)

        def __init__(self, document, collection):
            self.odd = True
            super().__init__(document, collection)

    class OwnManager(QuerySetManager):
        def __get__(self, instance, owner):
            return Odd(owner, owner._get_collection()).filter(name="Bob")

    model = old_people(any_db, MATCH)
    model.bobs = OwnManager()

    assert [as_raw(document) for document in model.bobs] == [new(2)]
    assert model.bobs.odd
    assert stored(any_db["person"]) == [MATCH.raw(1), new(2), MATCH.raw(3)]
    by_hand = QuerySet(model, model._get_collection())
    assert isinstance(by_hand, LazyMigrationQuerySet)
    assert as_raw(by_hand.get(id=1)) == new(1)


def test_the_meta_of_a_model_is_mongoengines_own(any_db):
    """MongoEngine asks a model's meta at each assignment: it is of the kind of a plain model's."""

    class Plain(Document):
        name = StringField()

    model = old_people(any_db, MATCH)

    assert type(model._meta) is type(Plain._meta)
    assert "queryset_class" not in model._meta


def test_a_queryset_class_of_an_abstract_base_is_joined(any_db):
    """A queryset class that an abstract base declares is joined in the model."""
    any_db["person"].insert_one(MATCH.raw(1))

    class Base(Document):
        id = IntField(primary_key=True)
        meta = {"abstract": True, "queryset_class": Polite}

    class Person(LazyMigrationMixin, Base):
        name = StringField()
        enabled = BooleanField()
        migration_handler = MATCH.rules()
        meta = {"collection": "person"}

    assert [as_raw(document) for document in Person.objects.named("Ada")] == [new(1)]


class PickledMigration(DocumentMigration):
    """The rule of a model that a pickle can name."""

    def migration01__enable(self):
        self.target, self.update = ADD_ENABLED


class PickledPerson(LazyMigrationMixin, Document):
    """A model that a pickle can name."""

    id = IntField(primary_key=True)
    name = StringField()
    enabled = BooleanField()
    migration_handler = PickledMigration
    meta = {"collection": "person", "queryset_class": Polite}


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickled_queryset_migrates_again(mongoengine_db, protocol):
    """A queryset survives pickling with its query, its class and its migrations."""
    mongoengine_db["person"].insert_many([MATCH.raw(number) for number in (1, 2, 3)])
    queryset = PickledPerson.objects(name__ne="Bob").order_by("-id")

    copied = pickle.loads(pickle.dumps(queryset, protocol))

    assert isinstance(copied, Polite)
    assert [as_raw(document) for document in copied] == [new(3), new(1)]
    assert stored(mongoengine_db["person"]) == [new(1), MATCH.raw(2), new(3)]


def test_a_queryset_is_pickled_amid_its_iteration(mongoengine_db):
    """Pickling a half-read queryset disturbs neither its iteration nor a clone of the copy."""
    mongoengine_db["person"].insert_many([{"_id": number} for number in range(250)])
    queryset = PickledPerson.objects.order_by("id")
    documents = iter(queryset)
    first = [next(documents) for _ in range(10)]

    copied = pickle.loads(pickle.dumps(queryset))

    assert [document.id for document in [*first, *documents]] == list(range(250))
    assert [document.id for document in copied.clone()] == list(range(250))


def test_a_pickled_as_stored_queryset_stays_so(mongoengine_db):
    """as_stored() survives pickling."""
    mongoengine_db["person"].insert_one(MATCH.raw(1))

    copied = pickle.loads(pickle.dumps(PickledPerson.objects.as_stored()))

    assert [document.enabled for document in copied] == [None]
    assert stored(mongoengine_db["person"]) == [MATCH.raw(1)]


def test_caching_is_mongoengines(monitored_db, command_log):
    """A queryset caches, no_cache() does not, cache() does again: with MongoEngine's finds."""
    monitored_db["person"].insert_many([new(number) for number in (1, 2, 3)])
    model = person_model(MATCH.rules())
    cached, uncached = model.objects, model.objects.no_cache()
    again = uncached.cache()

    assert isinstance(uncached, QuerySetNoCache)
    assert not isinstance(again, QuerySetNoCache)
    for queryset, finds in ((cached, 1), (uncached, 2), (again, 1)):
        assert isinstance(queryset, LazyMigrationQuerySet)
        command_log.clear()
        assert len(list(queryset)) == len(list(queryset)) == 3
        assert command_log.names == ["find"] * finds


def test_a_cached_document_is_the_same_object(mongoengine_db):
    """Iterating a cached queryset twice gives the same instances."""
    model = old_people(mongoengine_db, MATCH)
    queryset = model.objects

    assert all(one is other for one, other in zip(list(queryset), list(queryset), strict=True))
    assert len(queryset) == 3


def test_slices_after_evaluation_are_asked_anew(any_db):
    """Slicing or indexing a queryset that has been read gives the documents at these places."""
    model = old_people(any_db, MATCH)
    queryset = model.objects.order_by("id")
    assert len(queryset) == 3

    any_db["person"].update_one({"_id": 2}, {"$unset": {"enabled": ""}})

    assert [document.id for document in queryset[1:]] == [2, 3]
    assert [document.id for document in queryset[:2]] == [1, 2]
    assert queryset[2].id == 3
    assert stored(any_db["person"]) == [new(1), new(2), new(3)]


def test_rewind_begins_anew(any_db):
    """rewind() begins the iteration anew, also in the middle of a batch."""
    model = old_people(any_db, MATCH)
    for queryset in (model.objects.order_by("id"), model.objects.order_by("id").no_cache()):
        assert next(queryset).id == 1
        assert next(queryset).id == 2
        queryset.rewind()
        assert [next(queryset).id for _ in NAMES] == [1, 2, 3]


def test_explain_works(mongoengine_db):
    """explain() gives the server's plan, before and after the queryset is read."""
    model = old_people(mongoengine_db, MATCH)
    queryset = model.objects(name="Ada")

    assert "queryPlanner" in queryset.explain()
    assert [as_raw(document) for document in queryset] == [new(1)]
    assert "queryPlanner" in queryset.explain()


@pytest.mark.parametrize("cached", [True, False])
def test_count_amid_an_iteration_does_what_it_does_in_mongoengine(mongoengine_db, cached):
    """count() and a clone in the middle of an iteration lose or repeat what MongoEngine does."""
    mongoengine_db["person"].insert_many([{"_id": number} for number in range(230)])

    class Plain(Document):
        id = IntField(primary_key=True)
        name = StringField()
        enabled = BooleanField()
        meta = {"collection": "person"}

    def read(model):
        queryset = model.objects.order_by("id")
        queryset = queryset if cached else queryset.no_cache()
        numbers, counts = [], []
        for document in queryset:
            numbers.append(document.id)
            if len(numbers) in (5, 150):
                counts += [
                    queryset.count(),
                    queryset.clone().count(),
                    queryset.limit(7).count(True),
                ]
            if len(numbers) > 600:
                break
        return numbers, counts

    migrating = read(person_model(MATCH.rules()))

    assert migrating == read(Plain)
    assert mongoengine_db["person"].count_documents({"enabled": True}) > 0


def test_deleting_and_updating_go_through(any_db):
    """Writes of a queryset hit what they match, and an iteration sees what is left."""
    model = old_people(any_db, MATCH)

    assert model.objects(name="Bob").delete() == 1
    assert model.objects(name="Ada").update(set__name="Eve") == 1
    assert model.objects.update_one(set__name="Eve") == 1

    assert [(document.id, document.name, document.enabled) for document in model.objects] == [
        (1, "Eve", True),
        (3, "Cy", True),
    ]


def test_none_is_empty(any_db):
    """none() gives nothing through every door and migrates nothing."""
    model = old_people(any_db, MATCH)
    nothing = model.objects.none()

    assert list(nothing) == []
    assert nothing.first() is None
    assert nothing.count() == 0
    assert list(model.objects.no_cache().none()) == []
    assert list(model.objects[2:2]) == []
    assert stored(any_db["person"]) == [MATCH.raw(number) for number in (1, 2, 3)]


def test_text_scores_survive_a_migration(mongoengine_db):
    """A stale document of a text search keeps its score."""

    class Person(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        name = StringField()
        enabled = BooleanField()
        migration_handler = handler(migration01__enable=rule(*ADD_ENABLED))
        meta = {"collection": "person", "indexes": ["$name"]}

    Person.ensure_indexes()
    mongoengine_db["person"].insert_many([{"_id": 1, "name": "ada bob"}, {"_id": 2, "name": "ada"}])

    found = list(Person.objects.search_text("ada").order_by("$text_score"))

    assert [(document.id, document.enabled) for document in found] == [(2, True), (1, True)]
    assert found[0].get_text_score() > found[1].get_text_score() > 0


class PoliteManager(QuerySetManager):
    """A manager with a queryset class of its own."""

    default = Polite


class OwnManager(QuerySetManager):
    """A manager that makes its querysets by itself, as MongoEngine's does."""

    default = Polite

    def __get__(self, instance, owner):
        if instance is not None:
            return self
        queryset_class = owner._meta.get("queryset_class", self.default)
        return queryset_class(owner, owner._get_collection()).filter(name__ne="Bob")


def bobs_only(manager, queryset):
    """A manager's own get_queryset."""
    return queryset.filter(name="Bob")


MANAGERS = {
    "second": (lambda: {"polite": PoliteManager()}, "polite", [1, 2, 3]),
    "second plain": (
        lambda: {"objects": PoliteManager(), "all": QuerySetManager()},
        "all",
        [1, 2, 3],
    ),
    "with a function": (
        lambda: {"objects": PoliteManager(), "bobs": PoliteManager(bobs_only)},
        "bobs",
        [2],
    ),
    "its own way": (lambda: {"others": OwnManager()}, "others", [1, 3]),
    "get_queryset": (
        lambda: {
            "bobs": type("Bobs", (PoliteManager,), {"get_queryset": staticmethod(bobs_only)})()
        },
        "bobs",
        [2],
    ),
    "a class for all": (
        lambda: {"all": QuerySetManager(), "meta": {"queryset_class": Polite}},
        "all",
        [1, 2, 3],
    ),
}


def managed(managers, bases, base=None, **body):
    """A model, perhaps below an abstract base that brings the managers."""
    own = managers()
    meta = {"collection": "person", **own.pop("meta", {})}
    fields = {"id": IntField(primary_key=True), "name": StringField(), "enabled": BooleanField()}
    if base == "abstract":
        parent = type(Document)("Base", bases, {**own, "meta": {"abstract": True}})
        return type(Document)("Person", (parent,), {**fields, "meta": meta, **body})
    if base == "parent":
        parent_meta = {**meta, "allow_inheritance": True}
        parent = type(Document)("Base", bases, {**fields, **own, "meta": parent_meta})
        return type(Document)("Person", (parent,), body)
    return type(Document)("Person", bases, {**fields, **own, "meta": meta, **body})


@pytest.mark.parametrize("base", [None, "abstract", "parent"])
@pytest.mark.parametrize("rules", [False, True], ids=["no rules", "rules"])
@pytest.mark.parametrize("case", MANAGERS)
def test_a_manager_keeps_its_queryset_class(mongoengine_db, case, rules, base):
    """Each manager gives querysets of the class that MongoEngine gives, which migrate by rules."""
    managers, name, expected = MANAGERS[case]
    plain = managed(managers, (Document,), base)
    body = {"migration_handler": handler(migration01__add=rule(*ADD_ENABLED))} if rules else {}
    model = managed(managers, (LazyMigrationMixin, Document), base, **body)
    extra = {"_cls": "Base.Person"} if base == "parent" else {}
    mongoengine_db["person"].insert_many(
        {"_id": number, "name": NAMES[number - 1], **extra} for number in (1, 2, 3)
    )

    for attribute in (name, "objects"):
        made, wanted = getattr(model, attribute), getattr(plain, attribute)
        assert made._lazymig_plain is type(wanted)
        assert isinstance(made, LazyMigrationQuerySet) is rules
        assert hasattr(made, "as_stored")
    assert sorted(person.id for person in getattr(model, name)) == expected
    assert mongoengine_db["person"].count_documents({"enabled": True}) == len(expected) * rules


def test_a_manager_that_is_added_later_migrates(mongoengine_db):
    """A manager that is put into a model once it is defined gives migrating querysets too."""
    model = old_people(mongoengine_db, MATCH)
    model.polite = PoliteManager()

    assert isinstance(model.polite, Polite)
    assert [as_raw(document) for document in model.polite.named("Cy")] == [new(3)]


def test_querysets_of_documents_migrate(mongoengine_db):
    """What MongoEngine sends for a document of a model with two managers goes through the rules."""
    rules = handler(migration01__add=rule(*ADD_ENABLED))
    model = managed(MANAGERS["second"][0], (LazyMigrationMixin, Document), migration_handler=rules)
    mongoengine_db["person"].insert_one({"_id": 1, "name": "Ada"})

    assert model(id=1).modify(set__name="Eve")

    stored_now = mongoengine_db["person"].find_one()
    assert stored_now == {"_id": 1, "name": "Eve", "enabled": True}


def test_a_queryset_belongs_to_the_model_that_it_is_made_for(mongoengine_db):
    """Made by hand with another model's class, or for no model at all, it is as its own model's."""
    live, quiet = (
        model(rules, name_of_class=name, meta={"collection": name}, enabled=BooleanField())
        for name, rules in (("Live", handler(migration01__add=rule(*ADD_ENABLED))), ("Quiet", None))
    )

    class Plain(Document):
        key = IntField(primary_key=True)
        meta = {"collection": "Plain"}

    for name in ("Live", "Quiet", "Plain"):
        mongoengine_db[name].insert_one({"_id": 1})

    def made(kind, of):
        return list(type(kind.objects)(of, of._get_collection()))

    assert [each.enabled for each in made(quiet, live)] == [True]
    mongoengine_db["Live"].update_one({}, {"$unset": {"enabled": 1}})
    assert [each.enabled for each in made(live, quiet)] == [None]
    assert [each.key for each in made(live, Plain)] == [1]
    assert type(QuerySet(MagicMock(), MagicMock())) is QuerySet


def test_a_pickled_queryset_follows_its_model(mongoengine_db, monkeypatch):
    """Rules that the model has got, or has lost, since a queryset was pickled count."""
    mongoengine_db["person"].insert_one({"_id": 1})
    with_rules = pickle.dumps(PickledPerson.objects(id=1))
    monkeypatch.setattr(PickledPerson, "_lazymig_live", False)
    without_rules = pickle.dumps(PickledPerson.objects(id=1))
    assert [each.enabled for each in pickle.loads(with_rules)] == [None]
    monkeypatch.undo()
    assert [each.enabled for each in pickle.loads(without_rules)] == [True]


def test_a_batch_that_failed_is_rescued_when_it_is_asked_for_again(mongoengine_db, monkeypatch):
    """An error while a batch is rescued ends that try alone: the next one rescues it."""

    class Rules(DocumentMigration):
        validate_on_load = True

        def migration01__text(self):
            self.target = {"name": {"$exists": True}}
            self.update = {"$set": {"name": "repaired"}}

    with pytest.warns(ConvergenceWarning):
        post = model(Rules, name=StringField())
    mongoengine_db["post"].insert_many([{"_id": 1, "name": "ok"}, {"_id": 2, "name": 5}])
    rescue, broken = loading.rescue, [1]

    def fails_once(*given, **named):
        if broken:
            raise OperationFailure(f"broken {broken.pop()}")
        return rescue(*given, **named)

    monkeypatch.setattr(loading, "rescue", fails_once)
    queryset = post.objects.order_by("key")
    with pytest.raises(OperationFailure):
        list(queryset)
    assert [each.name for each in queryset] == ["ok", "repaired"]
