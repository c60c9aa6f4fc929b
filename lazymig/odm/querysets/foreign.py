"""Collections that are read besides a model's own: their models, and what their rules make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mongoengine.connection import ConnectionFailure

from lazymig.engines.access import is_mongomock
from lazymig.engines.reading.labelled import labelled
from lazymig.engines.settling import Search
from lazymig.odm.plans import root_of
from lazymig.odm.querysets.rewrites import Need, Rewrites, bring_up, rewrites_in
from lazymig.odm.querysets.rewritten import rewritten_filter
from lazymig.odm.schema import is_concrete
from lazymig.odm.stored import shown_as_stored
from lazymig.odm.versions import known_classes
from lazymig.query.aggregations import Reach, fronted
from lazymig.query.collations import compares_text

__all__ = ["models_of", "with_others_shown"]


def models_of(database: Any, collection_name: str) -> list[Any]:
    """The models with the mixin whose documents a collection holds, each tree by its root."""
    found: dict[int, Any] = {}
    for model in known_classes():
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


def with_others_shown(
    queryset: Any, pipeline: Any, *, collation: Any, max_time_ms: Any, comment: Any
) -> Any:
    """Return a pipeline in which the documents of other collections have today's shape.

    The rules of their models stand, as stages, before what `$lookup` and its kind read. Where no
    stage can stand there, or would be asked again and again for a whole collection, documents are
    settled instead.

    :param queryset: the queryset that is aggregated.
    :param pipeline: the list of its stages.
    :raises SettleLimitExceeded: too many are old in one of the collections; in that one nothing was
        written.
    """
    search = Search(None, max_time_ms, comment)

    def front(reach: Reach) -> list[Any] | None:
        database = queryset._collection.database
        if reach.database is not None:
            database = database.client[reach.database]
        other = labelled(database[reach.collection], comment, max_time_ms)
        met: list[_Met] = []
        for model in _models_reached(queryset, database, reach):
            rewrites = None if shown_as_stored(model) else rewrites_in(model, other)
            rules = None if rewrites is None else rewrites.writing(reach.paths)
            if rewrites is not None and rules:
                met.append(_Met(model, rewrites, rules))
        if len(met) == 1 and reach.opens and not is_mongomock(other):
            stages = met[0].stages(reach)
            if stages is not None and not (collation is not None and compares_text(stages)):
                return stages
        for each in met:
            need = Need(f"aggregate() with {reach.stage} of {reach.collection!r}", each.rules)
            bring_up(each.model, other, [{}], each.rewrites, [need], search)
        return None

    return fronted(pipeline, front)


@dataclass(frozen=True, slots=True)
class _Met:
    """A model of another collection, and the rules that are met there."""

    model: Any
    rewrites: Rewrites
    rules: frozenset[int]

    def stages(self, reach: Reach) -> list[Any] | None:
        """What shows the documents, and asks of them what is asked first; `None`: no stages can."""
        rewrites = self.rewrites
        rules = frozenset(rewrites.with_dependencies(self.rules))
        sought = () if reach.sought is None else (reach.sought,)
        if rules & rewrites.writing(sought):
            # By what is stored, and not by what is shown.
            return None
        shown = rewrites.shown(rules)
        if shown.inexact:
            return None
        stages = shown.stages(reach.paths)
        if reach.matched is None:
            return stages
        rewritten = rewritten_filter(self.model, reach.matched, rewrites, collation=False)
        if rewritten.unseen or (rewritten.query is not reach.matched and _varies(reach.matched)):
            # Asked for each document anew, it has to be as quick as it can be.
            return None
        return [{"$match": rewritten.query}, *stages]


def _varies(query: Any) -> bool:
    """Return whether a query may name a variable."""
    if isinstance(query, Mapping):
        return any(map(_varies, query.values()))
    if isinstance(query, (list, tuple)):
        return any(map(_varies, query))
    return isinstance(query, str) and query.startswith("$$")


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
