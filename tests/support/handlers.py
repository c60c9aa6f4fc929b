"""Rules, handlers and models in a line each, for tests that are not about how to write them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from mongoengine import Document, IntField

from lazymig import DocumentMigration, LazyMigrationMixin

ADD_ENABLED = ({"enabled": {"$exists": False}}, {"$set": {"enabled": True}})


def rule(target: Any, update: Any, array_filters: Any = None) -> Callable[[Any], None]:
    """A static rule method."""

    def method(self: Any) -> None:
        self.target = target
        self.update = update
        self.array_filters = array_filters

    return method


def copying(source: str, goal: str) -> Callable[[Any], None]:
    """A computed rule method: the field `goal` is made of the field `source` where missing."""

    # Defaults are constants; names of the function around may change.
    def method(self: Any, source: str = source, goal: str = goal) -> None:
        self.target = {goal: {"$exists": False}, source: {"$exists": True}}
        self.update = {"$set": {goal: self.doc[source]}}

    return method


def copying_in_python(source: str, goal: str) -> Callable[[Any], None]:
    """What `copying` gives, as a method that only Python computes."""

    def method(self: Any) -> None:
        self.target = {goal: {"$exists": False}, source: {"$exists": True}}
        self.update = {"$set": {goal: copy.copy(self.doc[source])}}

    return method


def handler(**body: Any) -> type[DocumentMigration]:
    """A handler class with these rules and attributes."""
    return type("Rules", (DocumentMigration,), body)


def quiet_handler(**body: Any) -> type[DocumentMigration]:
    """Make a handler whose loads write nothing."""
    return handler(write_on_load=False, **body)


def model(rules: type[DocumentMigration] | None = None, **body: Any) -> Any:
    """A model `Post`, in the collection `post`, keyed by integers, with this handler."""
    meta: Mapping[str, Any] = {"collection": "post", **body.pop("meta", {})}
    name = body.pop("name_of_class", "Post")
    namespace = {"meta": meta, "migration_handler": rules, "__module__": __name__, **body}
    namespace.setdefault("key", IntField(primary_key=True))
    return type(Document)(name, (LazyMigrationMixin, Document), namespace)
