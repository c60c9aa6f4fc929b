"""Example 6: `update_date` copied from `creation_date`, each document its own, in three ways."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pymongo.database import Database

from lazymig import DocumentMigration
from tests.examples.blog import CREATED, blog, fields, old_post

OLD = {
    "blog_post.creation_date": {"$exists": True},
    "blog_post.update_date": {"$exists": False},
}


class ByReading(DocumentMigration):
    """(a) The engine streams the matching documents and computes each one's update."""

    def allmigration01__add_update_date(self):
        self.target = OLD
        self.update = {"$set": {"blog_post.update_date": self.doc["blog_post"]["creation_date"]}}


class ByPipeline(DocumentMigration):
    """(b) The server copies the value."""

    def allmigration01__add_update_date(self):
        self.target = OLD
        self.update = [{"$set": {"blog_post.update_date": "$blog_post.creation_date"}}]


class ByHand(DocumentMigration):
    """(c) The rule writes by itself, but not while a report is being made."""

    def allmigration01__add_update_date(self):
        self.target = OLD
        if self.status:
            return
        for document in self.collection.find(self.target):
            self.collection.update_one(
                {"_id": document["_id"]},
                {"$set": {"blog_post.update_date": document["blog_post"]["creation_date"]}},
            )


HANDLERS = [ByReading, ByPipeline, ByHand]
DATES = [CREATED + timedelta(days=number) for number in range(40)]


@pytest.fixture
def posts(mongoengine_db: Database) -> Database:
    """Forty posts, each with a creation date of its own, and no update date."""
    mongoengine_db.blog.insert_many(
        old_post(number, created_at=None, creation_date=date) for number, date in enumerate(DATES)
    )
    return mongoengine_db


def migration_of(handler) -> DocumentMigration:
    """Give the handler for a model of today."""
    return handler(blog(handler, **fields("creation_date", "update_date")))


@pytest.mark.parametrize("handler", HANDLERS)
def test_each_document_gets_its_own_value(handler, posts: Database) -> None:
    """Every document's update date is its own creation date."""
    report = migration_of(handler).migrate_all()
    assert (report.matched, report.modified, report.errors) == (40, 40, ())
    stored = list(posts.blog.find(sort=[("_id", 1)]))
    assert [post["blog_post"]["update_date"] for post in stored] == DATES


@pytest.mark.parametrize("handler", HANDLERS)
def test_reports_do_not_write(handler, posts: Database) -> None:
    """`get_deprecated` and `get_status` say what is left, and leave it."""
    migration = migration_of(handler)
    name = "allmigration01__add_update_date"
    assert migration.get_deprecated() == {"deprecated": [], "active": [name]}
    assert [status.remaining for status in migration.get_status()] == [40]
    assert posts.blog.count_documents({"blog_post.update_date": {"$exists": True}}) == 0


@pytest.mark.parametrize("handler", HANDLERS)
def test_a_second_run_finds_nothing(handler, posts: Database) -> None:
    """After one run the rule is deprecated, and a second run matches no document."""
    migration = migration_of(handler)
    migration.migrate_all()
    assert migration.get_deprecated()["active"] == []
    assert migration.migrate_all().matched == 0
