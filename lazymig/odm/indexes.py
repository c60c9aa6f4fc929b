"""The indexes that a model declares against those in the database, without creating any."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mongoengine import Document

from lazymig.odm.schema import document_subclasses

__all__ = ["compare_indexes", "untouched_collection"]

Index = tuple[tuple[str, Any], ...]


def untouched_collection(model: Any) -> Any:
    """The PyMongo collection of a model. MongoEngine's own way to it creates the indexes."""
    return model._get_db()[model._get_collection_name()]


def compare_indexes(model: Any) -> tuple[list[Index], list[Index]]:
    """The declared indexes that the database lacks, and those in it that nobody declares.

    :return: fields and directions of each, as `Document.compare_indexes` gives them.
    :raises pymongo.errors.PyMongoError: the connection, or the right to list indexes.
    """
    with _no_index_created(model):
        compared = model.compare_indexes()
    missing, extra = ([_index(keys) for keys in compared[side]] for side in ("missing", "extra"))
    return list(dict.fromkeys(missing)), list(dict.fromkeys(extra))


def _index(keys: Any) -> Index:
    return tuple((str(name), direction) for name, direction in keys)


@contextmanager
def _no_index_created(model: Any) -> Iterator[None]:
    """Let MongoEngine look up the collections of a model and its kin without creating indexes.

    A class that MongoEngine has used before has its indexes already. The others forget what they
    were asked here, so that their first use creates them as ever.
    """
    tree: list[Any] = [
        cls
        for cls in model.__mro__
        if isinstance(cls, type) and issubclass(cls, Document) and cls is not Document
    ]
    tree.extend(cls for base in tuple(tree) for cls in document_subclasses(base))
    fresh = {
        cls: cls._meta.get("auto_create_index", True)
        for cls in dict.fromkeys(tree)
        if getattr(cls, "_collection", None) is None and not cls._meta.get("abstract")
    }
    for cls in fresh:
        cls._meta["auto_create_index"] = False
    try:
        yield
    finally:
        for cls, creates in fresh.items():
            cls._meta["auto_create_index"] = creates
            cls._collection = None
