"""Saves of documents of which it is not known that they are stored in today's shape.

A document that was loaded whole was migrated by that. One that was loaded partially, or made by
hand with the `_id` of a stored document, may meet an old one when it is saved: a rule that runs
after the save would overwrite what was saved, or would not match any more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mongoengine import Document
from mongoengine.queryset import transform

from lazymig.engines.access import all_of, as_bytes, by_ids, on_primary
from lazymig.engines.loads.lazy import Failure, refresh, rescue
from lazymig.engines.reading.decoding import decode
from lazymig.engines.sessions import given_session
from lazymig.odm.loading import builder_of, is_broken
from lazymig.odm.marks import is_marked, is_rescued, mark, note_rescued
from lazymig.odm.plans import once_per_family
from lazymig.odm.schema import shard_key_of
from lazymig.odm.sealed import family_in
from lazymig.odm.stored import shown_as_stored
from lazymig.odm.unwritten import writes_nothing
from lazymig.query.matching import query_paths
from lazymig.rules.dependencies import Footprint, Paths, footprint_of, meet
from lazymig.rules.plan import Family
from lazymig.updates.update import written_paths

__all__ = ["SavingDocument"]

if TYPE_CHECKING:
    # Only ever used before a MongoEngine document class.
    _Document: Any = Document
else:
    _Document = object


class SavingDocument(_Document):
    """Brings the stored document up to date before a save that meets a pending rule.

    Everything here is called by MongoEngine's own `save()`, after validation and `pre_save`.
    """

    def reload(self, *fields: Any, **options: Any) -> Any:
        """Reload all attributes, or some, from the database, as MongoEngine's `reload` does."""
        reloaded = super().reload(*fields, **options)
        family = family_in(type(self), self._get_collection())
        if family is not None and writes_nothing(family) and _may_rescue(family):
            note_rescued(self)
        return reloaded

    def _save_create(self, doc: Any, force_insert: bool, write_concern: Any) -> Any:
        """Insert the document, or replace the one that is stored under its `_id`.

        What is replaced has no say in what is stored then; it only has to be found.

        :raises MigrationError: as in `_save_update`.
        """
        collection = self._get_collection()
        model = type(self)
        if "_id" in doc and not force_insert and not shown_as_stored(model):
            shard_key = shard_key_of(model)
            family = family_in(model, collection) if shard_key else None
            if family is not None and _rules_of(family).write(shard_key):
                _bring_up(collection, doc["_id"], family, None)
        object_id = super()._save_create(doc, force_insert, write_concern)
        mark(self, collection, object_id)
        return object_id

    def _save_update(self, doc: Any, save_condition: Any, write_concern: Any) -> Any:
        """Send the changes to the stored document, which is migrated before, if need be.

        :raises MigrationError: the stored document could not be brought up to date, and `on_error`
            is `"raise"`; nothing was saved.
        """
        collection = self._get_collection()
        up_to_date = _prepare(self, collection, doc, save_condition)
        saved = super()._save_update(doc, save_condition, write_concern)
        if up_to_date:
            mark(self, collection, doc["_id"])
        return saved


def _prepare(document: Any, collection: Any, doc: Any, save_condition: Any) -> bool:
    """Migrate what is stored, if the save reads or writes what a rule does.

    :return: whether that has been done.
    """
    model, document_id = type(document), doc["_id"]
    family = family_in(model, collection)
    if family is None or shown_as_stored(model):
        return False
    # Beside a version that writes nothing an older one writes: what was known is over soon.
    if is_marked(document, collection, document_id) and not writes_nothing(family):
        return False
    update = document._get_update_doc()
    if not update:
        return False
    condition = None
    if save_condition is not None:
        condition = transform.query(model, **save_condition)
    if is_rescued(document):
        return _bring_up_broken(document, collection, document_id, family)
    rules = _rules_of(family)
    met = (
        rules.touch(written_paths(update))
        or rules.write(query_paths(condition or {}))
        or rules.write(shard_key_of(model))
    )
    return met and _bring_up(collection, document_id, family, condition)


def _bring_up(
    collection: Any, document_id: Any, family: Family, condition: Mapping[str, Any] | None
) -> bool:
    """Migrate one stored document, if it is old.

    :param condition: what the document has to satisfy to be written at all.
    :return: whether it is not old any more.
    :raises MigrationError: it is, and `on_error` is `"raise"`.
    """
    reader = on_primary(collection)
    # A document that is loaded partially may be large: it is read only if it is old.
    stored = as_bytes(reader).find_one(
        all_of(by_ids([document_id]), _rules_of(family).old), **given_session(collection)
    )
    if stored is None:
        return True
    (item,) = refresh(collection, [decode(stored, collection.codec_options)], family)
    if not isinstance(item, Failure):
        return item is not None
    if item.plan.on_error == "raise" and (
        condition is None
        or reader.find_one(
            all_of(by_ids([document_id]), condition), {"_id": 1}, **given_session(collection)
        )
    ):
        raise item.error
    # It stays as it is stored, and is saved as such.
    return False


def _bring_up_broken(document: Any, collection: Any, document_id: Any, family: Family) -> bool:
    """Do to a stored document what a load that writes would have done, be it by any rule.

    :return: whether it is not old any more.
    :raises MigrationError: it could not be done, and `on_error` is `"raise"`.
    """
    stored = as_bytes(on_primary(collection)).find_one(
        by_ids([document_id]), **given_session(collection)
    )
    if stored is None:
        return False
    (item,) = refresh(collection, [decode(stored, collection.codec_options)], family)
    build = builder_of(type(document))
    if isinstance(item, Mapping) and is_broken(item, build):
        (item,) = rescue(collection, [item], family)
    if isinstance(item, Failure) and item.plan.on_error == "raise":
        raise item.error
    return item is not None and not isinstance(item, Failure)


@once_per_family
def _may_rescue(family: Family) -> bool:
    """Return whether a rule is started by errors alone."""
    return any(plan.started_by_errors for plan in family.plans)


@dataclass(frozen=True, slots=True)
class _Rules:
    """The rules of a collection that a match starts; `old` finds the documents that one matches."""

    footprints: tuple[Footprint, ...]
    old: Mapping[str, Any]

    def write(self, paths: Paths) -> bool:
        """Return whether a rule may change what is read at these paths."""
        return any(meet(rule.writes, paths) for rule in self.footprints)

    def touch(self, paths: Paths) -> bool:
        """Return whether a rule may read, or overwrite, what is written to these paths."""
        return any(
            meet(touched, paths)
            for rule in self.footprints
            for touched in (rule.writes, rule.conditions, rule.inputs)
        )


@once_per_family
def _rules_of(family: Family) -> _Rules:
    starting = [(plan, rule) for plan in family.plans for rule in plan.starting]
    return _Rules(
        tuple(footprint_of(rule, plan.class_filter) for plan, rule in starting),
        {"$or": [plan.query_of(rule) for plan, rule in starting]},
    )
