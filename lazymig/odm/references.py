"""The references: MongoEngine's dereferencing, with the collection that each document comes from.

MongoEngine hands a dereferenced raw document to its class without its collection, which may be
another than the class's own. These wrappers name it; for classes without rules they do nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from functools import partial
from typing import Any

from bson.errors import InvalidBSON
from mongoengine.connection import get_db
from mongoengine.dereference import DeReference
from mongoengine.errors import DoesNotExist
from mongoengine.fields import (
    CachedReferenceField,
    DynamicField,
    GenericReferenceField,
    ReferenceField,
)

from lazymig.engines.access import as_bytes
from lazymig.engines.reading.decoding import take
from lazymig.engines.sessions import given_session
from lazymig.odm.loading import (
    DocumentLeftOut,
    Loading,
    Source,
    builder_of,
    reading_from,
)
from lazymig.odm.marks import marking
from lazymig.odm.plans import family_of
from lazymig.odm.querysets.foreign import models_of
from lazymig.odm.schema import class_name
from lazymig.odm.sealed import family_in
from lazymig.odm.stored import shown_as_stored
from lazymig.odm.versions import class_named

__all__ = ["watch_references"]

# Referenced documents that are judged and migrated at once.
_BATCH = 1000

_WATCHED = "_lazymig_watched"


def _migrates(model: Any) -> bool:
    return (
        isinstance(model, type)
        and hasattr(model, "migration_handler")
        and not shown_as_stored(model)
        and family_of(model) is not None
    )


def _load(database: Any, collection_name: str, load: Callable[[], Any]) -> Any:
    """Call MongoEngine's own loading of one document, with the collection that it reads."""
    try:
        with reading_from(Source(database[collection_name], lone=True)):
            return load()
    except DocumentLeftOut as exc:
        raise DoesNotExist(
            f"the referenced document in {collection_name} was deleted while it was migrated"
        ) from exc


def _load_decoded(
    model: Any, collection_name: str, document_id: Any, load: Callable[[], Any]
) -> Any:
    """As `_load`; a document that cannot be decoded is migrated first, and then built."""
    try:
        return _load(model._get_db(), collection_name, load)
    except InvalidBSON:
        # A rule may yet make it one that can be decoded.
        found = _fetch_batch(model, collection_name, [document_id])
        if not found:
            raise
        return next(iter(found.values()))


def _watch_lazy_load(original: Callable[[Any, Any], Any]) -> Any:
    @functools.wraps(original)
    def _lazy_load_ref(ref_cls: Any, dbref: Any) -> Any:
        if not _migrates(ref_cls):
            return original(ref_cls, dbref)
        return _load_decoded(ref_cls, dbref.collection, dbref.id, lambda: original(ref_cls, dbref))

    return staticmethod(_lazy_load_ref)


def _watch_cached(original: Callable[[Any, Any], Any]) -> Any:
    @functools.wraps(original)
    def to_python(self: Any, value: Any) -> Any:
        if not isinstance(value, dict) or not _migrates(self.document_type):
            return original(self, value)
        model = self.document_type
        document_id = model._fields[model._meta["id_field"]].to_python(value["_id"])
        return _load_decoded(
            model, model._get_collection_name(), document_id, lambda: original(self, value)
        )

    return to_python


def _watch_dynamic(original: Callable[[Any, Any], Any]) -> Any:
    @functools.wraps(original)
    def to_python(self: Any, value: Any) -> Any:
        if not isinstance(value, dict) or "_cls" not in value or "_ref" not in value:
            return original(self, value)
        model = class_named(value["_cls"])
        if not _migrates(model):
            return original(self, value)
        reference = value["_ref"]
        return _load_decoded(
            model, reference.collection, reference.id, lambda: original(self, value)
        )

    return to_python


def _watch_fetch(original: Callable[..., dict[Any, Any]]) -> Any:
    @functools.wraps(original)
    def _fetch_objects(self: Any, doc_type: Any = None) -> dict[Any, Any]:
        by_name = {key for key in self.reference_map if isinstance(key, str)}
        if not by_name or not (doc_type is None or _migrates(doc_type)):
            return original(self, doc_type=doc_type)
        references = self.reference_map
        objects: dict[Any, Any] = {}
        try:
            for key, ids in references.items():
                if doc_type is not None and key in by_name:
                    objects.update(_fetch_batch(doc_type, key, list(ids)))
                    continue
                if doc_type is None and key in by_name and _has_rules(get_db(), key):
                    objects.update(_fetch_unclassed(get_db()[key], list(ids)))
                    continue
                self.reference_map = {key: ids}
                # Without a type, the class of a document shows only in the document.
                source = Source(get_db()[key], lone=True) if key in by_name else None
                with reading_from(source):
                    objects.update(original(self, doc_type=doc_type))
        except DocumentLeftOut as exc:
            raise DoesNotExist("a referenced document was deleted while it was migrated") from exc
        finally:
            self.reference_map = references
        return objects

    return _fetch_objects


def _fetch_batch(model: Any, collection_name: str, ids: list[Any]) -> dict[Any, Any]:
    """All referenced documents of one collection, migrated in a batch."""
    collection = model._get_db()[collection_name]
    family = family_in(model, collection)
    assert family is not None
    cursor = as_bytes(collection).find({"_id": {"$in": ids}}, **given_session(collection))
    build = marking(builder_of(model), collection)
    loading = Loading(family, Source(collection), build, for_read=True)
    objects: dict[Any, Any] = {}
    while raws := take(cursor, collection.codec_options, _BATCH):
        objects.update(((collection_name, key), item) for key, item in loading.loaded(raws))
    return objects


def _has_rules(database: Any, collection_name: str) -> bool:
    return any(map(_migrates, models_of(database, collection_name)))


def _fetch_unclassed(collection: Any, ids: list[Any]) -> dict[Any, Any]:
    """Referenced documents whose class shows in themselves alone, once they are migrated."""
    models = [
        model for model in models_of(collection.database, collection.name) if _migrates(model)
    ]
    cursor = as_bytes(collection).find({"_id": {"$in": ids}}, **given_session(collection))
    objects: dict[Any, Any] = {}
    while raws := take(cursor, collection.codec_options, _BATCH):
        for model in models:
            own = [each for each in raws if _model_of(collection.name, each, models) is model]
            family = family_in(model, collection)
            assert family is not None
            build = partial(_build, collection.name)
            loading = Loading(family, Source(collection), build, for_read=True)
            objects.update(((collection.name, key), item) for key, item in loading.loaded(own))
    return objects


def _model_of(collection_name: str, raw: dict[str, Any], models: list[Any]) -> Any:
    """The model, of those of a collection, that a document belongs to.

    It is the one that knows the document's class, or else the one that MongoEngine would take.
    """
    for model in models:
        family = family_of(model)
        if family is not None and raw.get("_cls") in family.by_class:
            return model
    name = _class_name(collection_name, raw)
    return next((model for model in models if class_name(model) == name), models[0])


def _class_name(collection_name: str, raw: dict[str, Any]) -> Any:
    """The class that MongoEngine takes a document for."""
    return raw.get("_cls") or "".join(part.capitalize() for part in collection_name.split("_"))


def _build(collection_name: str, raw: dict[str, Any]) -> Any:
    return builder_of(class_named(_class_name(collection_name, raw)))(raw)


def watch_references() -> None:
    """Put the wrappers in place, once."""
    watched: list[tuple[Any, str, Callable[[Any], Any]]] = [
        (ReferenceField, "_lazy_load_ref", _watch_lazy_load),
        (GenericReferenceField, "_lazy_load_ref", _watch_lazy_load),
        (CachedReferenceField, "_lazy_load_ref", _watch_lazy_load),
        (CachedReferenceField, "to_python", _watch_cached),
        (DynamicField, "to_python", _watch_dynamic),
        (DeReference, "_fetch_objects", _watch_fetch),
    ]
    for owner, name, watch in watched:
        original = getattr(owner, name)
        if getattr(original, _WATCHED, False):
            continue
        wrapper = watch(original)
        setattr(getattr(wrapper, "__func__", wrapper), _WATCHED, True)
        setattr(owner, name, wrapper)
