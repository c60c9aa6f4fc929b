"""The assertions: they hold for rules that are right, and say what is wrong with others."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from unittest import mock

import pytest
from mongoengine import (
    BooleanField,
    DateTimeField,
    Document,
    DynamicField,
    IntField,
    ListField,
    StringField,
    ValidationError,
)

from lazymig import ConvergenceWarning, LazyMigrationMixin, MigrationFailed
from lazymig.testing import assert_idempotent, assert_lazy_equals_bulk, assert_migrates
from tests.support.handlers import ADD_ENABLED, copying, copying_in_python, handler, model, rule
from tests.testing.rules import fail

ENABLE = rule(*ADD_ENABLED)
REMOVE_AGE = rule({"age": {"$exists": True}}, {"$unset": {"age": ""}})


def _post(*, rules: Any = None, **more: Any) -> Any:
    rules = {"migration01__enable": ENABLE, "migration02__age": REMOVE_AGE, **(rules or {})}
    return model(handler(**rules), enabled=BooleanField(), name=StringField(), **more)


def _failure(assertion: Any, *args: Any, **options: Any) -> list[str]:
    with pytest.raises(AssertionError) as failure:
        assertion(*args, **options)
    return str(failure.value).splitlines()


# --- assert_migrates ------------------------------------------------------------------------


def test_a_right_result_passes(any_db: Any) -> None:
    """The expected document may name its fields in any order, and leave out the `_id`."""
    assert_migrates(_post(), {"name": "a", "age": 3}, {"enabled": True, "name": "a"})
    assert_migrates(_post(), {"_id": 1, "name": "a"}, {"enabled": True, "name": "a"})
    assert_migrates(_post(), {"name": "a"}, {"_id": 4, "enabled": True, "name": "a"})


def test_every_difference_is_told(any_db: Any) -> None:
    """The message names document, paths, values before, expected and stored, and rules applied."""
    lines = _failure(assert_migrates, _post(), {"_id": 1, "age": 3}, {"enabled": 1, "age": 3})
    assert lines == [
        "Post: what is stored is not what was expected, at 2 paths (_id: 1)",
        "  enabled",
        "    before:   missing",
        "    expected: 1 (int)",
        "    stored:   True (bool)",
        "  age",
        "    before:   3 (int)",
        "    expected: 3 (int)",
        "    stored:   missing",
        "rules applied: migration01__enable, migration02__age",
    ]


def test_another_id_is_a_difference(any_db: Any) -> None:
    """Two `_id`s that are given have to be the same one."""
    lines = _failure(assert_migrates, _post(), {"_id": 1}, {"_id": 2, "enabled": True})
    assert lines[0] == "Post: what is stored is not what was expected, at 1 path (_id: 1)"
    assert lines[1] == "  _id"


def test_only_rules_that_did_something_are_named(any_db: Any) -> None:
    """A document that no rule touched says so, in bulk as well."""
    post = _post(rules={"allmigration01__n": rule({"n": 1}, {"$set": {"n": 2}})}, n=IntField())
    today = {"_id": 1, "enabled": True, "n": 3}
    for scope in ("lazy", "bulk", "all"):
        lines = _failure(assert_migrates, post, today, {"_id": 1}, scope=scope)
        assert lines[-1] == "rules applied: none"
    lines = _failure(assert_migrates, post, {**today, "n": 1}, {"_id": 1}, scope="all")
    assert lines[-1] == "rules applied: allmigration01__n"


def test_the_result_has_to_load(any_db: Any) -> None:
    """A stored document that the model cannot load fails, though it is the expected one."""
    lines = _failure(assert_migrates, _post(), {"_id": 1, "gone": 1}, {"gone": 1, "enabled": True})
    assert lines[0].startswith("Post: what is stored does not load: FieldDoesNotExist: ")
    assert "(_id: 1)" in "".join(lines)


def test_the_result_has_to_be_valid(any_db: Any) -> None:
    """A stored document that does not validate fails; the model's clean() does not correct it."""

    class Named(LazyMigrationMixin, Document):
        name = StringField(required=True)
        migration_handler = handler(migration01__age=REMOVE_AGE)

        def clean(self) -> None:
            self.name = "mended"

    lines = _failure(assert_migrates, Named, {"age": 1}, {})
    assert lines[0].startswith("Named: what is stored is not valid: ValidationError")
    assert "Field is required" in lines[0]


def test_whatever_a_field_raises_is_told(any_db: Any) -> None:
    """Errors of MongoEngine that are no ValidationError are findings as well."""

    class Odd(IntField):
        def to_python(self, value: Any) -> Any:
            if value == 13:
                raise KeyError(value)
            return value

        def validate(self, value: Any) -> None:
            if value == 14:
                raise KeyError(value)

    post = _post(odd=Odd())
    assert "does not load: KeyError: 13" in _failure(assert_migrates, post, {"odd": 13}, {})[-2]
    assert "is not valid: KeyError: 14" in _failure(assert_migrates, post, {"odd": 14}, {})[-2]


def test_expected_values_may_be_left_open(any_db: Any) -> None:
    """An object that is equal to anything stands for a value that a test cannot know."""

    def stamp(self: Any) -> None:
        self.target = {"changed": {"$exists": False}}
        self.update = {"$set": {"changed": datetime.now()}}  # noqa: DTZ005 - as users write it

    post = _post(rules={"migration03__changed": stamp}, changed=DateTimeField())
    assert_migrates(post, {}, {"enabled": True, "changed": mock.ANY})


def test_a_rule_that_fails_is_no_assertion_error(any_db: Any) -> None:
    """The error of a rule comes through as it is."""
    with pytest.raises(MigrationFailed):
        assert_migrates(
            _post(rules={"migration03__tags": fail}, tags=ListField()), {"name": "a"}, {}
        )


# --- assert_idempotent -------------------------------------------------------------------------


def test_rules_that_are_done_pass(any_db: Any) -> None:
    """Converging rules, lazy and bulk, static and computed, are done once they were applied."""
    rules = {
        "migration03__copy": copying("n", "copy"),
        "migration04__again": copying_in_python("copy", "again"),
        "allmigration01__double": rule({"n": {"$gt": 5}}, {"$set": {"n": 0}}),
    }
    post = _post(rules=rules, n=IntField(), copy=IntField(), again=IntField())
    assert_idempotent(post, {"n": 9, "age": 1})
    assert_idempotent(post, {})


def test_a_rule_that_still_matches_is_named(any_db: Any) -> None:
    """A bulk rule whose target goes on to match fails, though it changes nothing any more."""
    again = rule({"enabled": {"$exists": True}}, {"$set": {"n": 1}})
    post = _post(rules={"allmigration01__again": again}, n=IntField())
    assert _failure(assert_idempotent, post, {"_id": 1}) == [
        (
            "Post: Post.allmigration01__again still matches after it was applied; let its update "
            "end the match of its target, or narrow the target (_id: 1)"
        )
    ]
    assert_idempotent(post, {"_id": 1}, scope="lazy")


def test_a_rule_that_needs_the_document_for_its_target_is_asked(any_db: Any) -> None:
    """An undetermined rule counts as matching if it sets a target for the document that matches."""

    def careless(self: Any) -> None:
        if "name" in self.doc:
            self.target = {"name": {"$exists": True}}
            self.update = {"$set": {"enabled": True}}

    post = _post(rules={"migration03__careless": careless})
    assert (
        "migration03__careless matches, and" in _failure(assert_idempotent, post, {"name": "a"})[0]
    )
    assert_idempotent(post, {})


def test_a_second_change_is_told(any_db: Any) -> None:
    """What applying the rules once more changes is told, with the rule that did it."""
    count = rule({"n": {"$gte": 0}}, {"$inc": {"n": 1}})
    post = _post(rules={"allmigration01__count": count}, n=IntField())
    lines = _failure(assert_idempotent, post, {"_id": 1, "n": 5})
    assert lines[1:] == [
        "Post: allmigration01__count changed the document again (_id: 1)",
        "  n",
        "    before: 5 (int)",
        "    once:   6 (int)",
        "    twice:  7 (int)",
    ]


def test_a_match_of_another_class_does_not_count(any_db: Any) -> None:
    """A rule concerns the documents of its own class only."""

    class Animal(LazyMigrationMixin, Document):
        legs = IntField()
        meta = {"allow_inheritance": True}

    class Bird(Animal):
        migration_handler = handler(
            allmigration01__legs=rule({"legs": {"$exists": True}}, {"$set": {"legs": 2}})
        )

    assert_idempotent(Animal, {"_cls": "Animal", "legs": 4})
    assert (
        "still matches"
        in _failure(assert_idempotent, Animal, {"_cls": "Animal.Bird", "legs": 4})[0]
    )


# --- assert_lazy_equals_bulk ---------------------------------------------------------------------


def test_both_ways_store_the_same(any_db: Any) -> None:
    """Static and computed rules, and such that only errors start, do the same on both ways."""

    def rescue(self: Any) -> None:
        if "legacy" in self.doc:
            self.target = {"legacy": {"$exists": True}}
            self.update = {"$set": {"n": self.doc["legacy"]}, "$unset": {"legacy": ""}}

    rules = {
        "migration03__copy": copying("n", "copy"),
        "migration04__again": copying_in_python("copy", "again"),
        "migration05__legacy": rescue,
    }
    post = _post(rules=rules, n=IntField(), copy=IntField(), again=IntField())
    raws = [{"n": 1}, {"legacy": 2}, {"_id": 10, "age": 1}, {"enabled": False, "copy": 1}, {}]
    assert_lazy_equals_bulk(post, raws)


def test_the_bulk_way_is_that_of_users(any_db: Any) -> None:
    """What is compared with the loads is the handler's own migrate_pending."""
    post = _post()
    runs = []

    class Watched(post.migration_handler):  # type: ignore[name-defined, misc]
        def migrate_pending(self, *args: Any, **options: Any) -> Any:
            runs.append(args)
            return super().migrate_pending(*args, **options)

    assert_lazy_equals_bulk(model(Watched, enabled=BooleanField()), [{}])
    assert len(runs) == 1


def test_rules_may_use_the_clock(any_db: Any) -> None:
    """Dates that are taken when the rule runs differ between the two ways and are let through."""

    def stamp(self: Any) -> None:
        self.target = {"changed": {"$exists": False}}
        self.update = {"$set": {"changed": datetime.now()}}  # noqa: DTZ005 - as users write it

    post = _post(rules={"migration03__changed": stamp}, changed=DateTimeField())
    assert_lazy_equals_bulk(post, [{}, {}])


def test_what_differs_is_told(any_db: Any) -> None:
    """A rule that does something else each time fails, with document, path and values."""
    numbers = iter(range(100))

    def counting(self: Any) -> None:
        self.target = {"n": {"$exists": False}}
        self.update = {"$set": {"n": self.doc["_id"] * 100 + next(numbers)}}

    post = _post(rules={"migration03__n": counting}, n=IntField())
    next(numbers)
    lines = _failure(assert_lazy_equals_bulk, post, [{"_id": 3, "n": 1}, {"_id": 4}])
    assert lines[0] == "Post: loads and migrate_pending() store two things (_id: 4)"
    assert lines[1:3] == ["  n", "    before:  missing"]
    assert lines[3].startswith("    loaded:  4")
    assert lines[4].startswith("    in bulk: 4")
    assert len(lines) == 5


def test_a_document_that_is_handed_over_ends_up_the_same(any_db: Any) -> None:
    """A rule that changes the class lets the rules of the new class do their part on both ways."""

    class Animal(LazyMigrationMixin, Document):
        wings = IntField()
        name = StringField()
        meta = {"allow_inheritance": True}
        migration_handler = handler(
            migration01__name=rule({"name": {"$exists": False}}, {"$set": {"name": "?"}})
        )

    class Bird(Animal):
        migration_handler = handler(
            migration01__demote=rule(
                {"wings": 0}, {"$set": {"_cls": "Animal"}, "$unset": {"wings": ""}}
            )
        )

    assert_lazy_equals_bulk(Animal, [{"_cls": "Animal.Bird", "wings": 0}])
    assert_migrates(Animal, {"_cls": "Animal.Bird", "wings": 0}, {"_cls": "Animal", "name": "?"})


def test_a_refused_document_is_an_error(any_db: Any) -> None:
    """A rule that fails raises its error; a pass would hide it."""
    post = _post(rules={"migration03__tags": fail}, tags=ListField(StringField()))
    with pytest.raises(MigrationFailed):
        assert_lazy_equals_bulk(post, [{"name": "a"}])


def test_rules_that_do_not_converge_can_be_checked(any_db: Any) -> None:
    """A rule that only errors start is checked where it is meant to run, and where it is not."""

    def positive(value: int) -> None:
        if value < 0:
            raise ValidationError("negative")

    with pytest.warns(ConvergenceWarning):
        post = _post(
            rules={"migration03__n": rule({"n": {"$exists": True}}, {"$set": {"n": 0}})},
            n=IntField(validation=positive),
            any=DynamicField(),
        )
    assert_migrates(post, {"n": -1}, {"n": 0, "enabled": True})
    assert_migrates(post, {"n": 1}, {"n": 1, "enabled": True})
    # A run is not silent about documents that match, and would go on to match.
    with pytest.raises(MigrationFailed, match="still match"):
        assert_lazy_equals_bulk(post, [{"n": -1}, {"n": 1}])
