"""Collections that are read besides a model's own: their models, and the settling in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mongoengine.base.common import _document_registry
from mongoengine.connection import ConnectionFailure

from lazymig.engines.reading.labelled import labelled
from lazymig.engines.settling import Search
from lazymig.odm.plans import root_of
from lazymig.odm.querysets.rewrites import Need, bring_up, rewrites_in
from lazymig.odm.schema import is_concrete
from lazymig.odm.stored import shown_as_stored
from lazymig.query.aggregations import Reach, reaches

__all__ = ["models_of", "settle_reaches"]


def models_of(database: Any, collection_name: str) -> list[Any]:
    """The models with the mixin whose documents a collection holds, each tree by its root."""
    found: dict[int, Any] = {}
    for model in list(_document_registry.values()):
        if not hasattr(model, "migration_handler") or not is_concrete(model):
            continue
        root = root_of(model)
        if id(root) not in found and _lies_in(root, database, collection_name):
            found[id(root)] = root
    return list(found.values())


def _lies_in(model: Any, database: Any, collection_name: str) -> bool:
    if model._get_collection_name() != collection_name:
        return False
    try:
        return bool(model._get_db() == database)
    except ConnectionFailure:
        # Its alias is not connected, so nothing is read of it.
        return False


def settle_reaches(queryset: Any, pipeline: Any, max_time_ms: Any, comment: Any) -> None:
    """Bring the documents up to date that an aggregation reads by `$lookup` and its kind.

    :param queryset: the queryset that is aggregated.
    :param pipeline: the list of its stages.
    :raises SettleLimitExceeded: too many are old in one of the collections; in that one nothing was
        written.
    """
    collection = queryset._collection
    for reach in reaches(pipeline):
        database = collection.database
        if reach.database is not None:
            database = database.client[reach.database]
        other = labelled(database[reach.collection], comment, max_time_ms)
        for model in _models_reached(queryset, database, reach):
            rewrites = None if shown_as_stored(model) else rewrites_in(model, other)
            if rewrites is None:
                continue
            rules = rewrites.writing(reach.paths)
            if rules:
                need = Need(f"aggregate() with {reach.stage} of {reach.collection!r}", rules)
                search = Search(None, max_time_ms, comment)
                bring_up(model, other, [{}], rewrites, [need], search)


def _models_reached(queryset: Any, database: Any, reach: Reach) -> Iterator[Any]:
    model = queryset._document
    if (database, reach.collection) == (queryset._collection.database, queryset._collection.name):
        # Wherever using() or switch_collection() have led to.
        if hasattr(model, "migration_handler"):
            yield root_of(model)
        return
    found = models_of(database, reach.collection)
    if not found and database == queryset._collection.database:
        # using() moves all collections of the database together.
        found = models_of(model._get_db(), reach.collection)
    yield from found
