"""The demonstration's models, as today's application has them, and the rules for what is older."""

from __future__ import annotations

from mongoengine import (
    BooleanField,
    DateTimeField,
    DictField,
    Document,
    EmbeddedDocument,
    EmbeddedDocumentField,
    IntField,
    ListField,
    ReferenceField,
    StringField,
)

from lazymig import DocumentMigration, LazyMigrationMixin

__all__ = ["BlogPost", "BlogPostMigration", "Content", "User", "UserMigration"]


class UserMigration(DocumentMigration):
    """From `{name, age}` to `{name, enabled}`."""

    def migration01__add_enabled(self) -> None:
        """Every user gets a new field, with a default."""
        self.target = {"enabled": {"$exists": False}}
        self.update = {"$set": {"enabled": True}}

    def migration02__remove_age(self) -> None:
        """A field goes away."""
        self.target = {"age": {"$exists": True}}
        self.update = {"$unset": {"age": True}}


class User(LazyMigrationMixin, Document):
    """A user of today."""

    id = IntField(primary_key=True)
    name = StringField(required=True)
    enabled = BooleanField(default=True)
    migration_handler = UserMigration


class BlogPostMigration(DocumentMigration):
    """Three changes inside the embedded content; one of the post itself, in bulk."""

    def migration01__add_tags(self) -> None:
        """A new field inside the embedded document."""
        self.target = {"content.tags": {"$exists": False}}
        self.update = {"$set": {"content.tags": []}}

    def migration02__rename_created_at(self) -> None:
        """A new name for a field, with the value that each document has."""
        self.target = {"content.created_at": {"$exists": True}}
        self.update = {
            "$set": {"content.creation_date": self.doc["content"]["created_at"]},
            "$unset": {"content.created_at": True},
        }

    def migration03__title_with_language(self) -> None:
        """Text becomes a sub-document."""
        self.target = {"content.title": {"$type": "string"}}
        title = self.doc["content"]["title"]
        self.update = {"$set": {"content.title": {"lang": "en", "value": title}}}

    def allmigration01__add_update_date(self) -> None:
        """A copy of another field's value."""
        self.target = {
            "update_date": {"$exists": False},
            "content.creation_date": {"$exists": True},
        }
        self.update = {"$set": {"update_date": self.doc["content"]["creation_date"]}}


class Content(EmbeddedDocument):
    """The content of a blog post of today."""

    title = DictField()
    creation_date = DateTimeField()
    tags = ListField(StringField())


class BlogPost(LazyMigrationMixin, Document):
    """A blog post of today."""

    id = IntField(primary_key=True)
    author = ReferenceField(User)
    content = EmbeddedDocumentField(Content)
    update_date = DateTimeField()
    migration_handler = BlogPostMigration
