"""The mixin itself: how it is inherited, what it refuses, that it costs nothing without rules."""

from __future__ import annotations

import pytest
from mongoengine import (
    BooleanField,
    Document,
    DynamicDocument,
    EmbeddedDocument,
    IntField,
    StringField,
)
from mongoengine.errors import FieldDoesNotExist
from mongoengine.queryset import QuerySet

from lazymig import (
    ConvergenceWarning,
    DocumentMigration,
    LazyMigrationMixin,
    LazyMigrationQuerySet,
    RuleDefinitionError,
)
from tests.support.doors import (
    ALL_DOORS,
    MATCH,
    SINGLE_DOORS,
    as_raw,
    new,
    old_people,
    person_model,
    stored,
)
from tests.support.handlers import ADD_ENABLED, handler, model, rule


@pytest.mark.parametrize("base", [Document, DynamicDocument])
def test_the_wrong_order_of_bases_is_refused(base):
    """Document before the mixin is a TypeError that spells out the right order."""
    remedy = rf"class User\(LazyMigrationMixin, {base.__name__}\)"
    with pytest.raises(TypeError, match=remedy):

        class User(base, LazyMigrationMixin):
            pass


def test_the_wrong_order_is_refused_below_an_abstract_base():
    """The wrong order is found where an abstract base stands between."""

    class Base(Document):
        meta = {"abstract": True}

    with pytest.raises(TypeError, match=r"class User\(LazyMigrationMixin, Base\)"):

        class User(Base, LazyMigrationMixin):
            pass


def test_an_embedded_document_is_refused():
    """An EmbeddedDocument has no collection to migrate in: the error says where the rules go."""
    with pytest.raises(TypeError, match=r"Part.*EmbeddedDocument.*on the Document that embeds it"):

        class Part(LazyMigrationMixin, EmbeddedDocument):
            pass


def an_instance():
    """A handler that somebody has instantiated."""
    return handler()(Document)


@pytest.mark.parametrize(
    "wrong",
    [object, "UserMigration", {"migration01__x": 1}, an_instance],
    ids=["class", "name", "dictionary", "instance"],
)
def test_a_handler_that_is_none_is_refused(wrong):
    """A migration_handler that is no DocumentMigration class is an error with a remedy."""
    not_a_handler = wrong() if wrong is an_instance else wrong
    with pytest.raises(
        RuleDefinitionError, match="User: migration_handler is no DocumentMigration"
    ):

        class User(LazyMigrationMixin, Document):
            migration_handler = not_a_handler


def test_a_rule_is_checked_when_the_model_is_defined():
    """A rule of an unknown path is an error of the class definition, before anything is stored."""
    with pytest.raises(ValueError, match=r"User\.migration01__x.*'missing'"):

        class User(LazyMigrationMixin, Document):
            migration_handler = handler(
                migration01__x=rule({"missing": {"$exists": False}}, {"$set": {"missing": 1}})
            )


def plain_model():
    """The model `Person` without lazymig."""

    class Person(Document):
        id = IntField(primary_key=True)
        name = StringField()
        enabled = BooleanField(required=True)
        meta = {"collection": "person"}

    return Person


WITHOUT_RULES = {
    "no handler": lambda: person_model(None),
    "an empty handler": lambda: person_model(handler()),
    "an empty handler that validates": lambda: person_model(handler(validate_on_load=True)),
    "bulk rules alone": lambda: person_model(handler(allmigration01__enable=rule(*ADD_ENABLED))),
    "a rule taken back": lambda: person_model(
        type("Less", (MATCH.rules(),), {"migration01__enable": None})
    ),
}


@pytest.mark.parametrize("kind", WITHOUT_RULES)
@pytest.mark.parametrize("door", {**ALL_DOORS, **SINGLE_DOORS})
def test_without_rules_the_commands_are_mongoengines(monitored_db, command_log, door, kind):
    """A model without lazy rules sends and gives what plain MongoEngine does."""
    load = {**ALL_DOORS, **SINGLE_DOORS}[door]
    olds = [MATCH.raw(number) for number in (1, 2, 3)]

    def outcome(model):
        monitored_db["person"].delete_many({})
        monitored_db["person"].insert_many(olds)
        model.objects.count()
        command_log.clear()
        loaded = load(model)
        loaded = loaded if isinstance(loaded, list) else [loaded]
        commands = [
            (name, command.get("filter"), command.get("projection"), command.get("updates"))
            for name, command in command_log.commands
        ]
        return [as_raw(document) for document in loaded], commands, stored(monitored_db["person"])

    assert outcome(WITHOUT_RULES[kind]()) == outcome(plain_model())


@pytest.mark.parametrize("kind", WITHOUT_RULES)
def test_without_rules_nothing_stands_in_the_way(mongoengine_db, kind):
    """A model without lazy rules loads through MongoEngine's own queryset and builder."""
    model = WITHOUT_RULES[kind]()

    assert isinstance(model.objects, QuerySet)
    assert not isinstance(model.objects, LazyMigrationQuerySet)
    assert type(model.objects).__next__ is QuerySet.__next__
    assert type(model.objects).__iter__ is QuerySet.__iter__
    assert model._from_son.__func__ is Document._from_son.__func__


@pytest.mark.parametrize("kind", WITHOUT_RULES)
def test_without_rules_an_error_is_mongoengines_own(mongoengine_db, kind):
    """A model without lazy rules raises MongoEngine's exception without a note."""
    mongoengine_db["person"].insert_one({"_id": 1, "stranger": 1})

    with pytest.raises(FieldDoesNotExist) as caught:
        WITHOUT_RULES[kind]().objects.first()

    assert not getattr(caught.value, "__notes__", [])


def test_as_stored_is_there_without_rules(mongoengine_db):
    """as_stored() works on a model whose rules are gone, and changes nothing."""
    model = person_model(None)
    mongoengine_db["person"].insert_one(new(1))

    assert [as_raw(document) for document in model.objects.as_stored()] == [new(1)]


def test_one_handler_may_serve_two_models(any_db):
    """Two models with the same handler migrate each its own collection."""
    rules = MATCH.rules()
    person = old_people(any_db, MATCH)

    class Robot(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        name = StringField()
        enabled = BooleanField()
        migration_handler = rules
        meta = {"collection": "robots"}

    any_db["robots"].insert_one(MATCH.raw(1))

    assert as_raw(Robot.objects.get()) == new(1)
    assert stored(any_db["person"])[0] == MATCH.raw(1)
    assert as_raw(person.objects.first()) == new(1)


def test_a_class_with_its_own_from_son_is_asked(any_db):
    """A model that overrides _from_son sees each raw document, and gets migrated ones."""
    seen = []

    class Person(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        name = StringField()
        enabled = BooleanField()
        migration_handler = MATCH.rules()
        meta = {"collection": "person"}

        @classmethod
        def _from_son(cls, son, *args, **options):
            seen.append(dict(son))
            return super()._from_son(son, *args, **options)

    any_db["person"].insert_many([MATCH.raw(1), MATCH.raw(2)])

    assert [as_raw(document) for document in Person.objects] == [new(1), new(2)]
    assert seen == [new(1), new(2)]


def test_the_handler_is_a_documentmigration(mongoengine_db):
    """A subclass of a handler subclass is a handler with the rules of both."""

    class First(DocumentMigration):
        def migration01__enable(self):
            self.target, self.update = ADD_ENABLED

    class Second(First):
        def migration02__name(self):
            self.target = {"name": {"$exists": False}}
            self.update = {"$set": {"name": "Ada"}}

    mongoengine_db["person"].insert_one({"_id": 1})

    assert as_raw(person_model(Second).objects.get()) == new(1)


def test_a_rule_that_does_not_concern_the_model_opens_no_door(mongoengine_db):
    """A model whose only rules decide that they are for another class loads as any other."""

    def elsewhere(self):
        if self.doc_class.__name__ == "Elsewhere":
            self.target = {"n": {"$exists": False}}
            self.update = {"$set": {"n": 1}}

    post = model(handler(migration01__elsewhere=elsewhere), n=IntField())
    mongoengine_db["post"].insert_one({"_id": 1})
    assert [each.n for each in post.objects] == [None]
    assert post.objects.get(key=1).n is None
    assert post.objects.in_bulk([1])[1].n is None


def test_a_query_explains_itself_without_rules(mongoengine_db):
    """explain_migration() is there while no lazy rule is left: to delete the last breaks nobody."""
    post = model(handler(allmigration01__enable=rule(*ADD_ENABLED)), enabled=BooleanField())
    assert post.objects(enabled=True).explain_migration().startswith("No rule is pending")


def test_the_warning_of_a_rule_points_at_the_class():
    """A rule that no match starts is warned of where the user's class is defined."""
    rules = handler(migration01__count=rule({"n": 1}, {"$set": {"m": 1}}))
    with pytest.warns(ConvergenceWarning) as told:

        class Counted(LazyMigrationMixin, Document):
            n = IntField()
            m = IntField()
            migration_handler = rules

    assert [warning.filename for warning in told] == [__file__]
