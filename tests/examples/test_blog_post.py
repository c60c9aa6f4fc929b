"""Example 4: MongoKit's blog post, nested in an EmbeddedDocument."""

from __future__ import annotations

import pytest
from pymongo.database import Database

from lazymig import DocumentMigration
from tests.examples.blog import CREATED, blog, fields, old_post


class AddTags(DocumentMigration):
    def migration01__add_tags(self):
        self.target = {"blog_post": {"$exists": True}, "blog_post.tags": {"$exists": False}}
        self.update = {"$set": {"blog_post.tags": []}}


class RenameByReading(DocumentMigration):
    def migration01__rename_created_at(self):
        self.target = {"blog_post.created_at": {"$exists": True}}
        self.update = {
            "$set": {"blog_post.creation_date": self.doc["blog_post"]["created_at"]},
            "$unset": {"blog_post.created_at": True},
        }


class RenameByOperator(DocumentMigration):
    def migration01__rename_created_at(self):
        self.target = {"blog_post.created_at": {"$exists": True}}
        self.update = {"$rename": {"blog_post.created_at": "blog_post.creation_date"}}


class TitleWithLanguage(DocumentMigration):
    def migration01__title_with_language(self):
        self.target = {"blog_post.title": {"$type": "string"}}
        title = self.doc["blog_post"]["title"]
        self.update = {"$set": {"blog_post.title": {"lang": "en", "value": title}}}


class Chained(DocumentMigration):
    """Each rule reads what the rule before it wrote."""

    def migration01__rename_created_at(self):
        self.target = {"blog_post.created_at": {"$exists": True}}
        self.update = {
            "$set": {"blog_post.creation_date": self.doc["blog_post"]["created_at"]},
            "$unset": {"blog_post.created_at": True},
        }

    def migration02__add_update_date(self):
        self.target = {
            "blog_post.creation_date": {"$exists": True},
            "blog_post.update_date": {"$exists": False},
        }
        self.update = {"$set": {"blog_post.update_date": self.doc["blog_post"]["creation_date"]}}


class AfterError(DocumentMigration):
    """Neither target says what is old, so the failing load starts both rules, in order."""

    def migration01__rename_created_at(self):
        self.target = {"_id": self.doc["_id"]}
        if "created_at" in self.doc["blog_post"]:
            self.update = {
                "$set": {"blog_post.creation_date": self.doc["blog_post"]["created_at"]},
                "$unset": {"blog_post.created_at": True},
            }

    def migration02__add_update_date(self):
        self.target = {"_id": self.doc["_id"]}
        self.update = {"$set": {"blog_post.update_date": self.doc["blog_post"]["creation_date"]}}


def test_tags_are_added_to_the_embedded_post(any_db: Database) -> None:
    """A field that is missing below an embedded document is added there, and nothing else is."""
    any_db.blog.insert_one(old_post(created_at=None))
    post = blog(AddTags, **fields("tags")).objects.get()
    assert post.blog_post.tags == []
    assert any_db.blog.find_one() == old_post(created_at=None, tags=[])


def test_a_fetched_post_saves_again(any_db: Database) -> None:
    """A post that was migrated on load can be changed and saved."""
    any_db.blog.insert_one(old_post(created_at=None))
    post = blog(AddTags, **fields("tags")).objects.get()
    post.blog_post.tags.append("python")
    post.save()
    assert any_db.blog.find_one() == old_post(created_at=None, tags=["python"])


def test_tags_that_are_there_are_kept(any_db: Database) -> None:
    """Loading a post that has tags leaves them alone, however often it is loaded."""
    any_db.blog.insert_one(old_post(created_at=None, tags=["mongodb"]))
    model = blog(AddTags, **fields("tags"))
    for _ in range(2):
        assert model.objects.get().blog_post.tags == ["mongodb"]


@pytest.mark.parametrize("handler", [RenameByReading, RenameByOperator])
def test_a_nested_field_is_renamed(handler, mongoengine_db: Database) -> None:
    """The value moves to the new name, by `$set` and `$unset` and by `$rename` alike."""
    mongoengine_db.blog.insert_one(old_post())
    post = blog(handler, **fields("creation_date")).objects.get()
    assert post.blog_post.creation_date == CREATED
    assert mongoengine_db.blog.find_one() == old_post(created_at=None, creation_date=CREATED)


def test_each_renamed_post_keeps_its_own_value(mongoengine_db: Database) -> None:
    """A rule that reads the document is computed for every document of a batch by itself."""
    dates = [CREATED.replace(day=day) for day in range(1, 29)]
    mongoengine_db.blog.insert_many(
        old_post(number, created_at=date) for number, date in enumerate(dates)
    )
    model = blog(RenameByReading, **fields("creation_date"))
    assert [post.blog_post.creation_date for post in model.objects.order_by("id")] == dates


def test_a_title_becomes_a_sub_document(any_db: Database) -> None:
    """A string becomes `{lang, value}`, once: `$type` keeps the rule from matching again."""
    any_db.blog.insert_one(old_post(created_at=None))
    model = blog(TitleWithLanguage, **fields("title"))
    for _ in range(2):
        assert model.objects.get().blog_post.title == {"lang": "en", "value": "Hello"}
    title = {"lang": "en", "value": "Hello"}
    assert any_db.blog.find_one() == old_post(created_at=None, title=title)


@pytest.mark.parametrize("handler", [Chained, AfterError])
def test_a_rule_builds_on_what_an_earlier_one_wrote(handler, mongoengine_db: Database) -> None:
    """`self.doc` shows what the earlier rules of the same run have written."""
    mongoengine_db.blog.insert_one(old_post())
    post = blog(handler, **fields("creation_date", "update_date")).objects.get()
    assert post.blog_post.update_date == CREATED
    assert mongoengine_db.blog.find_one() == old_post(
        created_at=None, creation_date=CREATED, update_date=CREATED
    )
