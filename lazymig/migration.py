"""DocumentMigration: what users subclass to write rules, and call to run and to watch them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from mongoengine import Document
from mongoengine.errors import DoesNotExist

from lazymig.engines.access import on_primary
from lazymig.engines.bulk import MigrationReport, run_bulk, run_pending
from lazymig.engines.pending import RuleStatus, find_active, status_of
from lazymig.odm.handler import MigrationHandler
from lazymig.odm.loading import Source, builder_of, is_broken, load_batch
from lazymig.odm.plans import family_for, plan_for
from lazymig.odm.schema import collection_of, id_of
from lazymig.rules.plan import Plan

__all__ = ["DocumentMigration"]


class DocumentMigration(MigrationHandler):
    """The rules of a model, and the calls that run them over stored documents.

    A subclass has a method for each change of shape: `migrationNN__words` is applied to documents
    as they are loaded and by `migrate_pending`, `allmigrationNN__words` by `migrate_all` alone. It
    sets `self.target`, a query for the old shape, and `self.update`, in database field names, and
    may set `self.array_filters`; it may read `self.doc`, `self.doc_class`, `self.collection` and
    `self.status`. The vocabulary is that of MongoKit's DocumentMigration.

    :param doc_class: the model: a MongoEngine Document class.

    :cvar validate_on_load: whether loaded documents are validated, so that an invalid one starts
        the rules. `None`: only while there is a rule that no match can start.
    :cvar legacy_classes: former `_cls` values whose documents are documents of this model.
    :cvar on_error: what a load does with an old document that cannot be migrated: `"raise"` a
        `MigrationError`, or `"skip"` it: load it as it is stored if MongoEngine can, otherwise
        leave it out of the iteration.
    :cvar lazy_timeout: seconds that a load may wait for its write; `None` for no limit.
    :cvar see_through: whether queries see through pending rules; otherwise they are answered from
        what is stored.
    :cvar settle_limit: documents that an operation which cannot be rewritten may bring up to date
        before it runs; `None` for no limit, 0 for none. An error that names its remedy is better
        than a wrong answer, or than a request that rewrites a million documents.
    """

    def __init__(self, doc_class: Any) -> None:
        super().__init__(doc_class)

    def migrate(self, doc: Any) -> Any:
        """Apply the lazy rules, in order, to one stored document.

        What a load would do is done: rules that a match must not start are tried if the document
        fails to load or to validate.

        :param doc: an instance, a raw mapping with `_id`, or an `_id`.
        :return: the document as it is then: a new instance for an instance, else the raw mapping.
        :raises DoesNotExist: no such document is stored.
        :raises MigrationError: it could not be migrated.
        """
        model = self._doc_class
        collection = collection_of(model)
        document_id = doc
        if isinstance(doc, Document):
            model, collection, document_id = type(doc), collection_of(doc), id_of(doc)
        elif isinstance(doc, Mapping) and "_id" in doc:
            document_id = doc["_id"]
        query = {"_id": {"$eq": document_id}}
        reader = on_primary(collection)
        raw = reader.find_one(query)
        if raw is not None:
            family = family_for(type(self), self._doc_class)
            source = Source(collection, lone=True)
            (item,) = load_batch(family, source, [raw], builder_of(model))
            if isinstance(doc, Document):
                raw = item
            elif not isinstance(item, Exception):
                raw = reader.find_one(query)
            if isinstance(item, Exception):
                raise item
        if raw is None or (isinstance(doc, Document) and not isinstance(raw, Document)):
            raise DoesNotExist(f"{model.__name__}: no document with _id {document_id!r} is stored")
        return raw

    def migrate_all(self, collection: Any = None) -> MigrationReport:
        """Apply the `allmigrationNN__` rules, in order, to the whole collection.

        A rule that reads no document is one update on the server. A rule that reads `self.doc` is
        computed for each matching document, 1,000 at a time.

        :param collection: a PyMongo collection; the model's own if not given.
        :return: for each rule documents matched and modified, seconds, and an error for each
            document that was refused, which gets no later rule.
        """
        return run_bulk(self._collection_or(collection), self._plan())

    def migrate_pending(self, collection: Any = None) -> MigrationReport:
        """Apply the lazy rules to every document of the collection that needs them.

        What would happen if each document were loaded happens, in bulk.

        :param collection: a PyMongo collection; the model's own if not given.
        :return: as from `migrate_all`.
        """
        broken = partial(is_broken, build=builder_of(self._doc_class))
        return run_pending(self._collection_or(collection), self._plan(), broken)

    def get_deprecated(self, collection: Any = None) -> dict[str, list[str]]:
        """Say which rules may be deleted, because no stored document matches them. Never writes.

        :param collection: a PyMongo collection; the model's own if not given.
        :return: `{"deprecated": [...], "active": [...]}`, names of rules in order, lazy ones
            first. A rule whose target needs a document cannot be asked about and counts as active.
        """
        plan = self._plan()
        active = find_active(self._collection_or(collection), plan)
        names = [rule.name for rule in (*plan.lazy, *plan.bulk)]
        return {
            "deprecated": [name for name in names if name not in active],
            "active": [name for name in names if name in active],
        }

    def get_status(self, collection: Any = None) -> list[RuleStatus]:
        """Count the documents that each rule still matches. Never writes.

        :param collection: a PyMongo collection; the model's own if not given.
        :return: one `RuleStatus` for each rule, lazy ones first, each scope in order.
        """
        return status_of(self._collection_or(collection), self._plan())

    def _plan(self) -> Plan:
        return plan_for(type(self), self._doc_class)

    def _collection_or(self, collection: Any) -> Any:
        return collection_of(self._doc_class) if collection is None else collection
