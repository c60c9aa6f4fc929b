"""DocumentMigration as users call it: one document, the whole collection, reports, attributes."""

from __future__ import annotations

from typing import Any

import pytest
from mongoengine import BooleanField, DictField, Document, IntField, StringField
from mongoengine.errors import DoesNotExist, FieldDoesNotExist
from pymongo.database import Database

from lazymig import DocumentMigration, LazyMigrationMixin, RuleDefinitionError
from tests.support.handlers import ADD_ENABLED, copying, handler, model, rule

RULES = handler(
    migration01__enable=rule(*ADD_ENABLED),
    migration02__copy=copying("n", "copy"),
    allmigration01__bulk=rule({"done": {"$exists": False}}, {"$set": {"done": 1}}),
)
FRESH = {"_id": 1, "n": 7, "enabled": True, "copy": 7}


def _post(rules: Any = RULES, **more: Any) -> Any:
    numbers = {name: IntField() for name in ("n", "copy", "done")}
    return model(rules, enabled=BooleanField(), **{**numbers, **more})


def test_migrate_takes_an_id(any_db: Any) -> None:
    """Given an `_id`, migrate gives the raw document as it is stored afterwards."""
    any_db["post"].insert_one({"_id": 1, "n": 7})
    assert RULES(_post()).migrate(1) == FRESH
    assert any_db["post"].find_one() == FRESH


def test_migrate_takes_a_raw_document(any_db: Any) -> None:
    """Given a mapping, migrate judges and gives what is stored, not what it was given."""
    any_db["post"].insert_one({"_id": 1, "n": 7})
    given = {"_id": 1, "n": 99, "enabled": True, "other": 1}
    assert RULES(_post()).migrate(given) == FRESH
    assert given == {"_id": 1, "n": 99, "enabled": True, "other": 1}


def test_migrate_takes_an_instance(any_db: Any) -> None:
    """Given an instance, migrate gives a new, migrated one; the old one is unchanged."""
    any_db["post"].insert_one({"_id": 1, "n": 7})
    post = _post()
    old = post(key=1, n=99)
    new = RULES(post).migrate(old)
    assert (type(new), new.key, new.n, new.enabled, new.copy) == (post, 1, 7, True, 7)
    assert new is not old
    assert (old.n, old.enabled) == (99, None)


@pytest.mark.parametrize("form", [lambda key: key, lambda key: {"_id": key, "n": 7}])
def test_migrate_takes_compound_ids(mongoengine_db: Database[Any], form: Any) -> None:
    """An `_id` that is itself a document names a document, as such and inside a raw one."""
    key = {"a": 1, "b": [2]}
    mongoengine_db["post"].insert_many([{"_id": key, "n": 7}, {"_id": {"b": [2], "a": 1}, "n": 8}])
    post = _post(key=DictField(primary_key=True))
    assert RULES(post).migrate(form(key)) == {**FRESH, "_id": key}
    assert mongoengine_db["post"].count_documents({"enabled": True}) == 1


def test_migrate_takes_an_instance_with_a_compound_id(mongoengine_db: Database[Any]) -> None:
    """An instance whose primary key is a document is found by it."""
    mongoengine_db["post"].insert_one({"_id": {"a": 1}, "n": 7})
    post = _post(key=DictField(primary_key=True))
    assert RULES(post).migrate(post(key={"a": 1})).enabled is True


@pytest.mark.parametrize("doc", [5, {"_id": 5}, {"a": 1}])
def test_migrate_of_nothing_does_not_exist(mongoengine_db: Database[Any], doc: Any) -> None:
    """Where no such document is stored, migrate raises DoesNotExist naming model and `_id`."""
    with pytest.raises(DoesNotExist, match="Post"):
        RULES(_post()).migrate(doc)


def test_migrate_of_an_unsaved_instance_does_not_exist(mongoengine_db: Database[Any]) -> None:
    """An instance that was never saved is no stored document."""
    post = _post()
    with pytest.raises(DoesNotExist, match="Post"):
        RULES(post).migrate(post(key=5))
    assert mongoengine_db["post"].count_documents({}) == 0


def test_migrate_leaves_an_up_to_date_document_alone(mongoengine_db: Database[Any]) -> None:
    """Migrating twice changes nothing the second time."""
    mongoengine_db["post"].insert_one({"_id": 1, "n": 7})
    first = RULES(_post()).migrate(1)
    assert RULES(_post()).migrate(1) == first == mongoengine_db["post"].find_one()


def test_migrate_raises_mongoengines_own_error(mongoengine_db: Database[Any]) -> None:
    """A document that no rule makes loadable raises as its load would; what helped is stored."""
    mongoengine_db["post"].insert_one({"_id": 1, "n": 7, "lost": 1})
    with pytest.raises(FieldDoesNotExist, match="lost"):
        RULES(_post()).migrate(1)
    assert mongoengine_db["post"].find_one() == {**FRESH, "lost": 1}


def test_migrate_follows_the_instances_collection(mongoengine_db: Database[Any]) -> None:
    """An instance of a switched collection is migrated there, and nowhere else."""
    mongoengine_db["post"].insert_one({"_id": 1, "n": 7})
    mongoengine_db["archive"].insert_one({"_id": 1, "n": 8})
    post = _post()
    moved = post(key=1)
    moved.switch_collection("archive", keep_created=False)
    assert RULES(post).migrate(moved).n == 8
    assert mongoengine_db["post"].find_one() == {"_id": 1, "n": 7}
    assert mongoengine_db["archive"].find_one() == {**FRESH, "n": 8, "copy": 8}


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("migrate_all", {"_id": 1, "n": 7, "done": 1}),
        ("migrate_pending", FRESH),
    ],
)
def test_a_collection_may_be_named(any_db: Any, call: str, expected: Any) -> None:
    """Bulk runs work on the collection they are given and leave the model's own alone."""
    any_db["post"].insert_one({"_id": 1, "n": 7})
    any_db["archive"].insert_one({"_id": 1, "n": 7})
    report = getattr(RULES(_post()), call)(any_db["archive"])
    assert any_db["archive"].find_one() == expected
    assert any_db["post"].find_one() == {"_id": 1, "n": 7}
    assert report.collection.endswith(".archive")


@pytest.mark.parametrize("empty", ["post", "archive"])
def test_reports_ask_the_collection_that_is_named(
    mongoengine_db: Database[Any], empty: str
) -> None:
    """Reports speak of the named collection, by default of the model's own."""
    full = "post" if empty == "archive" else "archive"
    mongoengine_db[full].insert_one({"_id": 1, "n": 7})
    mongoengine_db.create_collection(empty)
    migration = RULES(_post())
    names = ["migration01__enable", "migration02__copy", "allmigration01__bulk"]
    archive = mongoengine_db["archive"]
    answers = [migration.get_deprecated(), migration.get_deprecated(archive)]
    active = [answer["active"] for answer in answers]
    assert active == ([names, []] if full == "post" else [[], names])
    counts = [
        [each.remaining for each in migration.get_status(*given)] for given in ((), (archive,))
    ]
    assert counts == ([[1, 1, 1], [0, 0, 0]] if full == "post" else [[0, 0, 0], [1, 1, 1]])


def test_pending_documents_are_those_no_one_has_loaded(any_db: Any) -> None:
    """migrate_pending does in bulk what loading each of the remaining documents would do."""
    any_db["post"].insert_many([{"_id": n, "n": n} for n in range(30)])
    post = _post()
    loaded = list(post.objects(key__lt=10))
    report = RULES(post).migrate_pending()
    assert len(loaded) == 10
    assert [each.matched for each in report.rules] == [20, 20]
    assert RULES(post).get_deprecated()["active"] == ["allmigration01__bulk"]
    assert all(doc["copy"] == doc["_id"] for doc in any_db["post"].find())


def test_a_handler_of_another_model_may_be_used_by_hand(mongoengine_db: Database[Any]) -> None:
    """A plain MongoEngine model can be migrated by calls, without the mixin."""

    class Plain(Document):
        key = IntField(primary_key=True)
        n = IntField()
        enabled = BooleanField()
        meta = {"collection": "post"}

    rules = handler(migration01__enable=rule(*ADD_ENABLED))
    mongoengine_db["post"].insert_many([{"_id": 1}, {"_id": 2}])
    assert rules(Plain).migrate(1) == {"_id": 1, "enabled": True}
    assert rules(Plain).migrate_pending().modified == 1
    assert rules(Plain).get_deprecated()["active"] == []


def test_a_handler_without_rules_does_nothing(any_db: Any) -> None:
    """With no rules left, every call is answered, and nothing is changed."""
    any_db["post"].insert_one({"_id": 1, "n": 7})
    rules = handler()
    migration = rules(_post(rules))
    assert migration.migrate(1) == {"_id": 1, "n": 7}
    assert (migration.migrate_all().rules, migration.migrate_pending().rules) == ((), ())
    assert migration.get_deprecated() == {"deprecated": [], "active": []}
    assert migration.get_status() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("on_error", "ignore"),
        ("on_error", None),
        ("validate_on_load", "yes"),
        ("validate_on_load", 2),
        ("legacy_classes", "Human.Jedi"),
        ("legacy_classes", ["Human.Jedi"]),
        ("legacy_classes", (1,)),
        ("lazy_timeout", 0),
        ("lazy_timeout", -1),
        ("lazy_timeout", "5"),
        ("lazy_timeout", True),
    ],
)
def test_a_wrong_attribute_is_an_error_of_definition(name: str, value: Any) -> None:
    """A value that an attribute cannot have is refused, naming handler, attribute, remedy."""
    with pytest.raises(RuleDefinitionError, match=f"Rules: {name} is .*; use ") as caught:
        handler(**{name: value})
    assert caught.value.model == "Rules"


def test_attributes_have_their_defaults_and_are_inherited() -> None:
    """The defaults are those of the documentation; a subclass has its base's settings."""
    assert (
        DocumentMigration.validate_on_load,
        DocumentMigration.legacy_classes,
        DocumentMigration.on_error,
        DocumentMigration.lazy_timeout,
    ) == (None, (), "raise", 5)
    base = handler(on_error="skip", lazy_timeout=None)
    child = type("Child", (base,), {})
    assert (child.on_error, child.lazy_timeout) == ("skip", None)


def test_without_a_limit_a_load_still_works(mongoengine_db: Database[Any]) -> None:
    """`lazy_timeout = None` sets no limit."""
    mongoengine_db["post"].insert_one({"_id": 1, "n": 7})
    rules = handler(migration01__enable=rule(*ADD_ENABLED), lazy_timeout=None)
    assert _post(rules).objects.get().enabled is True


def test_a_subclass_instance_is_migrated_by_its_own_rules(mongoengine_db: Database[Any]) -> None:
    """migrate() of the base's handler applies the rules of the class that `_cls` names."""

    class Human(LazyMigrationMixin, Document):
        name = StringField()
        enabled = BooleanField()
        meta = {"allow_inheritance": True, "collection": "post"}
        migration_handler = handler(migration01__enable=rule(*ADD_ENABLED))

    class Jedi(Human):
        side = StringField()
        migration_handler = handler(migration01__s=rule({"side": None}, {"$set": {"side": "x"}}))

    mongoengine_db["post"].insert_many(
        [{"_id": 1, "_cls": "Human"}, {"_id": 2, "_cls": "Human.Jedi"}]
    )
    assert Human.migration_handler(Human).migrate(1) == {"_id": 1, "_cls": "Human", "enabled": True}
    assert Human.migration_handler(Human).migrate(2) == {
        "_id": 2,
        "_cls": "Human.Jedi",
        "side": "x",
    }
