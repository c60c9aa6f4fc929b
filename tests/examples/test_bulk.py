"""Example 5: a bulk rule, its report, and lazy and bulk rules side by side."""

from __future__ import annotations

import pytest
from mongoengine.errors import FieldDoesNotExist
from pymongo.database import Database

from lazymig import DocumentMigration
from tests.examples.blog import blog, fields, old_post


class RemoveTags(DocumentMigration):
    """MongoKit's own spelling: one underscore after the number."""

    def allmigration01_remove_tags(self):
        self.target = {"blog_post.tags": {"$exists": True}}
        self.update = {"$unset": {"blog_post.tags": []}}


class Both(RemoveTags):
    def migration01__add_author(self):
        self.target = {"author": {"$exists": False}}
        self.update = {"$set": {"author": "anonymous"}}


def _insert(database: Database) -> None:
    database.blog.insert_many(
        old_post(number, created_at=None, tags=["old"]) for number in range(3)
    )
    database.blog.update_one({"_id": 0}, {"$unset": {"author": True}})


def test_a_bulk_rule_changes_every_matching_document(any_db: Database) -> None:
    """The rule is applied to the whole collection, and the report counts it."""
    _insert(any_db)
    report = RemoveTags(blog(RemoveTags)).migrate_all()
    (rule,) = report.rules
    assert (rule.name, rule.matched, rule.modified) == ("allmigration01_remove_tags", 3, 3)
    assert rule.errors == ()
    assert any_db.blog.count_documents({"blog_post.tags": {"$exists": True}}) == 0


def test_the_report_before_and_after(any_db: Database) -> None:
    """Before the run the rule is active, after it the rule is deprecated."""
    _insert(any_db)
    migration = RemoveTags(blog(RemoveTags))
    name = "allmigration01_remove_tags"
    assert migration.get_deprecated() == {"deprecated": [], "active": [name]}
    migration.migrate_all()
    assert migration.get_deprecated() == {"deprecated": [name], "active": []}


def test_the_report_never_writes(any_db: Database) -> None:
    """Reports leave every document as it is."""
    _insert(any_db)
    before = list(any_db.blog.find(sort=[("_id", 1)]))
    migration = Both(blog(Both))
    migration.get_deprecated()
    migration.get_status()
    assert list(any_db.blog.find(sort=[("_id", 1)])) == before


def test_another_collection_may_be_named(any_db: Database) -> None:
    """A collection that is given takes the place of the model's own."""
    any_db.archive.insert_one(old_post(created_at=None, tags=["old"]))
    _insert(any_db)
    migration = RemoveTags(blog(RemoveTags))
    assert migration.migrate_all(any_db.archive).modified == 1
    assert migration.get_deprecated(any_db.archive)["active"] == []
    assert migration.get_deprecated()["active"] == ["allmigration01_remove_tags"]


def test_a_bulk_run_leaves_lazy_rules_alone(any_db: Database) -> None:
    """`migrate_all` runs the bulk rules, and no lazy one."""
    _insert(any_db)
    report = Both(blog(Both)).migrate_all()
    assert [rule.name for rule in report.rules] == ["allmigration01_remove_tags"]
    assert "author" not in any_db.blog.find_one({"_id": 0})


def test_a_load_and_a_pending_run_leave_bulk_rules_alone(any_db: Database) -> None:
    """Loading and `migrate_pending` run the lazy rules, and no bulk one."""
    _insert(any_db)
    model = blog(Both, **fields("tags"))
    assert model.objects.get(id=0).author == "anonymous"
    any_db.blog.update_one({"_id": 1}, {"$unset": {"author": True}})
    report = Both(model).migrate_pending()
    assert [(rule.name, rule.modified) for rule in report.rules] == [("migration01__add_author", 1)]
    assert any_db.blog.count_documents({"blog_post.tags": {"$exists": True}}) == 3


def test_a_load_error_does_not_start_a_bulk_rule(any_db: Database) -> None:
    """A document that only a bulk rule could help still raises MongoEngine's exception."""
    _insert(any_db)
    with pytest.raises(FieldDoesNotExist):
        blog(Both).objects.get(id=1)
    assert any_db.blog.find_one({"_id": 1})["blog_post"]["tags"] == ["old"]
