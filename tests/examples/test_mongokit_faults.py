"""What MongoKit's migrations did wrong, and lazymig does not."""

from __future__ import annotations

import copy
from datetime import datetime

import pytest
from bson.json_util import JSONOptions
from mongoengine import (
    DateTimeField,
    Document,
    DynamicDocument,
    EmbeddedDocument,
    EmbeddedDocumentField,
    IntField,
    ListField,
    StringField,
)
from mongoengine.errors import FieldDoesNotExist
from pymongo.database import Database

from lazymig import ConvergenceWarning, DocumentMigration, LazyMigrationMixin
from tests.support.commands import CommandLog


def test_a_field_that_is_not_required_is_added(any_db: Database) -> None:
    """A new field migrates though nothing about the old document is invalid (mongokit#195)."""

    class PageMigration(DocumentMigration):
        def migration01__add_tags(self):
            self.target = {"tags": {"$exists": False}}
            self.update = {"$set": {"tags": []}}

    class Page(LazyMigrationMixin, Document):
        title = StringField()
        tags = ListField(StringField(), required=False)
        migration_handler = PageMigration

    any_db.page.insert_one({"_id": 1, "title": "a"})
    assert Page.objects.first().tags == []
    assert any_db.page.find_one() == {"_id": 1, "title": "a", "tags": []}


@pytest.mark.parametrize(
    "update", [{"$unset": {"old": True}}, {"$rename": {"old": "new"}}], ids=["unset", "rename"]
)
def test_nothing_old_is_left_in_the_loaded_object(update, any_db: Database) -> None:
    """What `$unset` and `$rename` take away is gone from the loaded object too (mongokit#240)."""

    class PageMigration(DocumentMigration):
        def migration01__drop_old(self):
            self.target = {"old": {"$exists": True}}
            self.update = update

    class Page(LazyMigrationMixin, DynamicDocument):
        new = StringField()
        migration_handler = PageMigration

    any_db.page.insert_one({"old": "value"})
    page = Page.objects.get()
    assert "old" not in page.to_mongo()
    assert not hasattr(page, "old")
    page.save()
    assert any_db.page.count_documents({"old": {"$exists": True}}) == 0


def test_a_projection_without_the_field_starts_nothing(any_db: Database) -> None:
    """A projection that does not carry the field is no old document (mongokit#118)."""

    class PageMigration(DocumentMigration):
        def migration01__add_tags(self):
            self.target = {"tags": {"$exists": False}}
            self.update = {"$set": {"tags": ["none"]}}

    class Page(LazyMigrationMixin, Document):
        title = StringField()
        tags = ListField(StringField())
        migration_handler = PageMigration

    stored = [{"_id": 1, "title": "old"}, {"_id": 2, "title": "new", "tags": ["kept"]}]
    any_db.page.insert_many(copy.deepcopy(stored))
    assert [page.title for page in Page.objects.only("title").order_by("title")] == ["new", "old"]
    assert list(any_db.page.find(sort=[("_id", 1)])) == stored


def test_a_projection_with_the_field_is_not_misled(any_db: Database) -> None:
    """A projection that carries the field shows the new shape, and spoils no document (#118)."""

    class PageMigration(DocumentMigration):
        def migration01__add_tags(self):
            self.target = {"tags": {"$exists": False}}
            self.update = {"$set": {"tags": ["none"]}}

    class Page(LazyMigrationMixin, Document):
        title = StringField()
        tags = ListField(StringField())
        migration_handler = PageMigration

    any_db.page.insert_many([{"_id": 1, "title": "a"}, {"_id": 2, "title": "b", "tags": ["kept"]}])
    assert [page.tags for page in Page.objects.only("tags").order_by("title")] == [
        ["none"],
        ["kept"],
    ]
    assert any_db.page.find_one({"_id": 2})["tags"] == ["kept"]


def test_constructor_data_is_never_treated_as_stored(
    monitored_db: Database, command_log: CommandLog
) -> None:
    """An object that is made by hand in an old shape sends no command (mongokit#1)."""

    class PageMigration(DocumentMigration):
        def migration01__old_to_new(self):
            self.target = {"old": {"$exists": True}}
            self.update = {"$rename": {"old": "new"}}

    class Page(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        new = StringField()
        migration_handler = PageMigration

    monitored_db.page.insert_one({"_id": 1, "old": "stored"})
    Page(id=1, new="by hand")
    with pytest.raises(FieldDoesNotExist):
        Page(id=1, old="by hand")
    with pytest.raises(FieldDoesNotExist):
        Page.from_json('{"_id": 1, "old": "by hand"}', json_options=JSONOptions())
    assert command_log.names == []
    assert monitored_db.page.find_one() == {"_id": 1, "old": "stored"}


def test_rule_ten_runs_after_rule_two(any_db: Database) -> None:
    """The order of rules is that of their numbers, not of their letters."""

    class PageMigration(DocumentMigration):
        def migration10__two_to_three(self):
            self.target = {"version": 2}
            self.update = {"$set": {"version": 3}}

        def migration2__one_to_two(self):
            self.target = {"version": 1}
            self.update = {"$set": {"version": 2}}

    class Page(LazyMigrationMixin, Document):
        version = IntField()
        migration_handler = PageMigration

    any_db.page.insert_one({"version": 1})
    assert Page.objects.get().version == 3
    names = [status.name for status in PageMigration(Page).get_status()]
    assert names == ["migration2__one_to_two", "migration10__two_to_three"]


def test_the_report_works_with_rules_that_read_the_document(mongoengine_db: Database) -> None:
    """`get_deprecated` gives a rule that reads `self.doc` as active before and deprecated after."""

    class PageMigration(DocumentMigration):
        def migration01__title_to_titles(self):
            self.target = {"title": {"$exists": True}}
            self.update = {"$set": {"titles": [self.doc["title"]]}, "$unset": {"title": True}}

        def allmigration01__copy_titles(self):
            self.target = {"titles": {"$exists": True}, "copy": {"$exists": False}}
            self.update = {"$set": {"copy": self.doc["titles"]}}

    class Page(LazyMigrationMixin, Document):
        titles = ListField(StringField())
        copy = ListField(StringField())
        migration_handler = PageMigration

    mongoengine_db.page.insert_many([{"title": "a"}, {"titles": ["b"]}])
    names = ["migration01__title_to_titles", "allmigration01__copy_titles"]
    migration = PageMigration(Page)
    assert migration.get_deprecated() == {"deprecated": [], "active": names}
    migration.migrate_pending()
    migration.migrate_all()
    assert migration.get_deprecated() == {"deprecated": names, "active": []}


def test_each_document_gets_its_own_value_in_bulk(mongoengine_db: Database) -> None:
    """A bulk rule that reads `self.doc` does not give all documents the first one's value."""

    class PageMigration(DocumentMigration):
        def allmigration01__add_changed(self):
            self.target = {"created": {"$exists": True}, "changed": {"$exists": False}}
            self.update = {"$set": {"changed": self.doc["created"]}}

    class Page(LazyMigrationMixin, Document):
        created = DateTimeField()
        changed = DateTimeField()
        migration_handler = PageMigration

    dates = [datetime(2020, 1, day) for day in range(1, 29)]
    mongoengine_db.page.insert_many({"created": date} for date in dates)
    assert PageMigration(Page).migrate_all().modified == len(dates)
    assert [page.changed for page in Page.objects.order_by("created")] == dates


def test_an_up_to_date_document_costs_nothing(
    monitored_db: Database, command_log: CommandLog
) -> None:
    """Loading a document of today's shape sends the same one command as plain MongoEngine."""

    class PageMigration(DocumentMigration):
        def migration01__add_tags(self):
            self.target = {"tags": {"$exists": False}}
            self.update = {"$set": {"tags": []}}

        def migration02__old_to_new(self):
            self.target = {"old": {"$exists": True}}
            self.update = {"$rename": {"old": "new"}}

    class Page(LazyMigrationMixin, Document):
        tags = ListField(StringField())
        new = StringField()
        migration_handler = PageMigration

    monitored_db.page.insert_one({"tags": [], "new": "a"})
    Page.objects.first()
    assert command_log.names == ["find"]


class Inner(EmbeddedDocument):
    """Today's embedded part; `value` was called `v` before."""

    value = IntField()


class RenameInner(DocumentMigration):
    def migration01__v_to_value(self):
        self.target = {"inner.v": {"$exists": True}}
        self.update = {"$rename": {"inner.v": "inner.value"}}


def test_documents_that_are_not_strict_are_migrated(mongoengine_db: Database) -> None:
    """`strict: False`, under which no load ever fails, hides no old document."""

    class Page(LazyMigrationMixin, Document):
        inner = EmbeddedDocumentField(Inner)
        meta = {"strict": False}
        migration_handler = RenameInner

    mongoengine_db.page.insert_one({"_id": 1, "inner": {"v": 7}, "other": "kept"})
    assert Page.objects.get().inner.value == 7
    assert mongoengine_db.page.find_one() == {"_id": 1, "inner": {"value": 7}, "other": "kept"}


def test_dynamic_documents_are_migrated(mongoengine_db: Database) -> None:
    """A `DynamicDocument`, which takes every field, is brought up to date as well."""

    class Page(LazyMigrationMixin, DynamicDocument):
        inner = EmbeddedDocumentField(Inner)
        migration_handler = RenameInner

    mongoengine_db.page.insert_one({"_id": 1, "inner": {"v": 7}, "other": "kept"})
    page = Page.objects.get()
    assert (page.inner.value, page.other) == (7, "kept")
    assert mongoengine_db.page.find_one() == {"_id": 1, "inner": {"value": 7}, "other": "kept"}


def test_the_target_is_never_changed(mongoengine_db: Database) -> None:
    """A query that a rule shares with other code stays as it was written."""
    shared = {"tags": {"$exists": False}, "$or": [{"title": "a"}, {"title": "b"}]}
    before = copy.deepcopy(shared)

    class PageMigration(DocumentMigration):
        def migration01__add_tags(self):
            self.target = shared
            self.update = {"$set": {"tags": []}}

        def allmigration01__copy_title(self):
            self.target = shared
            self.update = {"$set": {"copy": self.doc["title"], "tags": []}}

    class Page(LazyMigrationMixin, Document):
        title = StringField()
        copy = StringField()
        tags = ListField(StringField())
        migration_handler = PageMigration

    mongoengine_db.page.insert_many([{"title": "a"}, {"title": "b"}])
    migration = PageMigration(Page)
    migration.get_deprecated()
    Page.objects.first()
    migration.migrate_all()
    migration.migrate_pending()
    assert shared == before
    assert mongoengine_db.page.count_documents(shared) == 0


def test_a_rule_that_does_not_end_its_match_is_not_repeated(any_db: Database) -> None:
    """MongoKit's own first example, which empties the tags of every post, harms no new post."""

    class PageMigration(DocumentMigration):
        def migration01__add_tags(self):
            self.target = {"title": {"$exists": True}}
            self.update = {"$set": {"tags": []}}

    with pytest.warns(ConvergenceWarning, match="migration01__add_tags"):

        class Page(LazyMigrationMixin, Document):
            title = StringField()
            tags = ListField(StringField())
            migration_handler = PageMigration

    any_db.page.insert_one({"title": "a", "tags": ["kept"]})
    assert Page.objects.get().tags == ["kept"]
    assert any_db.page.find_one()["tags"] == ["kept"]
