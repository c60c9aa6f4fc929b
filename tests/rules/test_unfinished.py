"""Rules with a line TODO: they are none, and what comes after them waits."""

from __future__ import annotations

import pytest
from mongoengine import BooleanField, Document, StringField

from lazymig import DocumentMigration, LazyMigrationMixin, UnfinishedRuleWarning
from lazymig.odm.plans import plan_for
from lazymig.rules.discovery import discover
from lazymig.rules.unfinished import UNANSWERED, UNFINISHED, is_unfinished


class Begun(DocumentMigration):
    """A rule before, a skeleton, a rule after it, and a bulk rule."""

    def migration01__add_enabled(self):
        self.target = {"enabled": {"$exists": False}}
        self.update = {"$set": {"enabled": True}}

    def migration02__split_name(self):
        self.target = {"name": {"$exists": True}}
        self.update = {"$set": {"first": self.doc["name"]}, "$unset": {"name": ""}}
        raise NotImplementedError("TODO: write the rule, then delete this line")

    def migration03__no_name(self):
        self.target = {"name": {"$exists": True}}
        self.update = {"$unset": {"name": ""}}

    def allmigration01__drop_draft(self):
        self.target = {"draft": {"$exists": True}}
        self.update = {"$unset": {"draft": ""}}


def begun(**fields):
    """A model with these rules."""
    namespace = {
        "enabled": BooleanField(),
        "first": StringField(),
        "migration_handler": Begun,
        "meta": {"collection": "begun"},
        **fields,
    }
    return type("Begun", (LazyMigrationMixin, Document), namespace)


def test_the_rules_before_it_are_those_of_the_model():
    """An unfinished rule starts nothing, and none that comes after it starts in its place.

    What the third rule takes away, the second one is about to read.
    """
    with pytest.warns(UnfinishedRuleWarning):
        plan = plan_for(Begun, begun())
    assert [rule.name for rule in plan.lazy] == ["migration01__add_enabled"]
    assert plan.bulk == ()


def test_it_is_said_when_the_class_is_defined():
    """The warning names the rule, where it stands, and which others wait for it."""
    with pytest.warns(UnfinishedRuleWarning) as caught:
        begun()
    (warning,) = caught
    line = Begun.migration02__split_name.__code__.co_firstlineno
    assert str(warning.message) == (
        "Begun.migration02__split_name: it is no rule yet, and until then migration03__no_name, "
        "allmigration01__drop_draft will not run; finish it, and delete its line TODO "
        f"({__file__}:{line})"
    )
    assert warning.filename == __file__


def test_what_waits_counts_as_active(any_db):
    """What may be deleted is not all while a rule is unfinished, or waits for one that is."""
    with pytest.warns(UnfinishedRuleWarning):
        model = begun()
    any_db["begun"].insert_one({"enabled": True})
    assert Begun(model).get_deprecated() == {
        "deprecated": ["migration01__add_enabled"],
        "active": ["migration02__split_name", "migration03__no_name", "allmigration01__drop_draft"],
    }


@pytest.mark.parametrize("mark", [UNFINISHED, UNANSWERED])
def test_the_line_counts_wherever_it_stands(mark):
    """Also a line that is not reached without a document is one; the words elsewhere are none."""
    namespace: dict = {}
    source = f"""
class Rules:
    def migration01__a(self):
        self.target = {{"a": 1}}
        if self.doc["b"]:
            raise NotImplementedError({mark!r})
    def migration02__b(self):
        "TODO: remove this in March"
        raise NotImplementedError("TODO: something else")
"""
    exec(source, namespace)
    first, second = discover(namespace["Rules"])
    assert is_unfinished(first)
    assert not is_unfinished(second)
