"""MongoKit's blog post: the model of today, and the documents of yesterday."""

from __future__ import annotations

from datetime import datetime
from types import SimpleNamespace
from typing import Any

from mongoengine import (
    DateTimeField,
    DictField,
    Document,
    EmbeddedDocument,
    EmbeddedDocumentField,
    IntField,
    ListField,
    StringField,
)

from lazymig import LazyMigrationMixin

CREATED = datetime(2010, 5, 1, 12, 30)


def old_post(document_id: int = 1, **changes: Any) -> dict[str, Any]:
    """A post as the first version of the application stored it; `None` leaves a field out."""
    post = {"title": "Hello", "body": "World", "created_at": CREATED, **changes}
    return {
        "_id": document_id,
        "author": "me",
        "blog_post": {name: value for name, value in post.items() if value is not None},
    }


def blog(handler: Any, **fields: Any) -> Any:
    """Define the model with these further fields in its embedded document."""
    body = {"title": StringField(), "body": StringField(), **fields}
    post = type("BlogPost", (EmbeddedDocument,), body)

    class Blog(LazyMigrationMixin, Document):
        id = IntField(primary_key=True)
        author = StringField()
        blog_post = EmbeddedDocumentField(post)
        migration_handler = handler

    return Blog


def fields(*names: str) -> dict[str, Any]:
    """Make new fields of the embedded document by name."""
    known = SimpleNamespace(
        tags=ListField(StringField()),
        created_at=DateTimeField(),
        creation_date=DateTimeField(),
        update_date=DateTimeField(),
        title=DictField(),
    )
    return {name: getattr(known, name) for name in names}
