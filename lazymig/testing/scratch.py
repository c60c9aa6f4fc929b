"""Old documents and the rules of a model, in a scratch collection of the connected database."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeAlias

from bson import ObjectId
from bson.binary import UuidRepresentation
from bson.codec_options import CodecOptions
from mongoengine.errors import ValidationError

from lazymig import signals
from lazymig.engines.access import is_mongomock, on_primary, writable
from lazymig.errors import LazyMigError
from lazymig.odm.loading import Loading, Source, builder_of
from lazymig.odm.plans import family_of, owner_of, plan_for, root_of
from lazymig.odm.schema import collection_of, document_subclasses, is_concrete
from lazymig.operations.journal import JOURNAL
from lazymig.rules.plan import Family, Plan
from lazymig.testing.fields import fields_of

__all__ = ["Raw", "Scope", "Scratch", "check_model", "migrated", "plans_of", "scratch"]

Raw: TypeAlias = "Mapping[str, Any]"
Scope = Literal["lazy", "bulk", "all"]

_SCOPES: Final[dict[str, tuple[Literal["lazy", "bulk"], ...]]] = {
    "lazy": ("lazy",),
    "bulk": ("bulk",),
    "all": ("lazy", "bulk"),
}


def migrated(model: Any, raw: Raw, *, scope: Scope = "lazy") -> dict[str, Any]:
    """Return what is stored after the rules were applied to a document.

    The document is put into a scratch collection of the model's database and taken out again. The
    model's own collection is neither read nor written.

    :param raw: the document as an earlier version of the application has stored it, in database
        field names. Without an `_id` it is given one, which the result leaves out again.
    :param scope: `"lazy"`: what a load does; `"bulk"`: what `migrate_all()` does; `"all"`: both,
        in this order.
    :raises MigrationError: a rule failed, whatever the handler's `on_error` says.
    :raises TypeError: the model has no rules, or the document has no `_id` and its kind of primary
        key cannot be invented.
    :raises LookupError: a rule has deleted the document.
    """
    with scratch(model) as place:
        place.insert([raw])
        place.apply(scope)
        (stored,) = place.read()
    if "_id" not in raw:
        del stored["_id"]
    return stored


def check_model(model: Any) -> None:
    """See that a model is one whose documents can be migrated.

    :raises TypeError: it is not.
    """
    if not is_concrete(model) or not hasattr(model, "migration_handler"):
        raise TypeError(
            f"{getattr(model, '__name__', model)}: is no Document with LazyMigrationMixin; give "
            "the model whose rules are to be tested"
        )


def plans_of(model: Any) -> list[Plan]:
    """The plans of all handlers that concern documents in a model's collection."""
    root = root_of(model)
    return [
        plan_for(cls.migration_handler, cls)
        for cls in (root, *document_subclasses(root))
        if getattr(cls, "migration_handler", None) is not None and owner_of(cls) is cls
    ]


@contextmanager
def scratch(model: Any) -> Iterator[Scratch]:
    """Give a new collection beside the model's own; it is dropped afterwards.

    :raises TypeError: the model has no rules.
    """
    check_model(model)
    name = f"lazymig_scratch_{uuid.uuid4().hex}"
    database = collection_of(model).database
    place = Scratch(model, writable(on_primary(database[name])), [])
    try:
        yield place
    finally:
        database.drop_collection(name)


@dataclass(frozen=True, slots=True)
class Scratch:
    """Documents of a model in a collection of their own.

    `ids` are the `_id`s of the documents, in the order in which they were inserted.
    """

    model: Any
    collection: Any
    ids: list[Any]

    @property
    def codec_options(self) -> CodecOptions[Any]:
        """How values are encoded on their way to this collection."""
        if is_mongomock(self.collection):
            return CodecOptions(uuid_representation=UuidRepresentation.STANDARD)
        options: CodecOptions[Any] = self.collection.codec_options
        if options.uuid_representation == UuidRepresentation.UNSPECIFIED:
            return options.with_options(uuid_representation=UuidRepresentation.STANDARD)
        return options

    def insert(self, raws: Sequence[Raw]) -> None:
        """Insert documents as they are; one without an `_id` is given one.

        :raises TypeError: no `_id` can be invented for this model.
        """
        for number, raw in enumerate(raws, start=len(self.ids) + 1):
            document = dict(raw)
            if "_id" not in document:
                document = {"_id": _invented_id(self.model, number), **document}
            self.collection.insert_one(document)
            self.ids.append(document["_id"])

    def read(self) -> list[dict[str, Any]]:
        """The stored documents, in the order in which they were inserted.

        :raises LookupError: one of them is gone.
        """
        return [self._read(document_id) for document_id in self.ids]

    def apply(self, scope: Scope) -> list[str]:
        """Apply the rules of a scope to all documents, and name those that were applied.

        :raises MigrationError: a rule failed.
        """
        if scope not in _SCOPES:
            raise ValueError(f"scope is {scope!r}; use 'lazy', 'bulk' or 'all'")
        applied: dict[str, None] = {}

        def note(_sender: Any, *, rules: Sequence[str], modified: int = 1, **_: Any) -> None:
            if modified:
                applied.update(dict.fromkeys(rules))

        with signals.post_migration.connected_to(note):
            for one in _SCOPES[scope]:
                if one == "lazy":
                    self.load()
                else:
                    self.run("bulk")
        return list(applied)

    def load(self, *, in_python: bool = False) -> None:
        """Load each document by itself, as a query for it would.

        A document that does not load although no rule failed is no error here.

        :param in_python: run the methods also of rules that the server can compute.
        :raises MigrationError: a rule failed.
        """
        family = family_of(self.model)
        if family is None:
            return
        family = _outspoken(family, in_python=in_python)
        source = Source(self.collection, lone=True)
        for document_id in self.ids:
            raw = self._read(document_id)
            (item,) = Loading(family, source, builder_of(self.model)).load([raw])
            if isinstance(item, LazyMigError):
                raise item

    def run(self, scope: Literal["lazy", "bulk"]) -> None:
        """Run every handler of the collection in bulk, until they find nothing more to do.

        :raises MigrationError: a document was refused.
        """
        plans = [
            plan for plan in plans_of(self.model) if (plan.lazy if scope == "lazy" else plan.bulk)
        ]
        database = self.collection.database
        journal = f"{self.collection.name}_journal"
        # That is where the lease of a run is, whatever its journal.
        brings_journal = JOURNAL not in database.list_collection_names(filter={"name": JOURNAL})
        try:
            # A rule may hand a document over to the rules of another class.
            for number in range(len(plans)):
                modified = 0
                for plan in plans:
                    handler = plan.handler_class(plan.doc_class)
                    work = handler.migrate_pending if scope == "lazy" else handler.migrate_all
                    # That a rule was applied before is what is to be seen; in one go it is once.
                    report = work(self.collection, journal=journal, again=number == 0)
                    report.raise_for_errors()
                    modified += report.modified
                if not modified:
                    break
        finally:
            database.drop_collection(journal)
            database[JOURNAL].delete_many({"kind": "coverage", "collection": self.collection.name})
            if brings_journal and database[JOURNAL].find_one({}, {"_id": 1}) is None:
                database.drop_collection(JOURNAL)

    def _read(self, document_id: Any) -> dict[str, Any]:
        stored: dict[str, Any] | None = self.collection.find_one({"_id": {"$eq": document_id}})
        if stored is None:
            raise LookupError(
                f"{self.model.__name__}: a rule has deleted the document (_id: {document_id!r})"
            )
        return stored


def _outspoken(family: Family, *, in_python: bool) -> Family:
    """The same plans, but none passes over a document that cannot be migrated."""
    plans = {id(plan): replace(plan, on_error="raise") for plan in family.plans}
    if in_python:
        plans = {
            key: replace(
                plan,
                lazy=tuple(rule.computed for rule in plan.lazy),
                starting=tuple(rule.computed for rule in plan.starting),
            )
            for key, plan in plans.items()
        }
    return Family(
        plans.get(id(family.root)),
        {name: plans.get(id(plan)) for name, plan in family.by_class.items()},
    )


def _invented_id(model: Any, number: int) -> Any:
    """Make an `_id` that the model's primary key accepts."""
    key = next(field for field in fields_of(model).values() if field.db_field == "_id")
    for candidate in (number, str(number), ObjectId(), uuid.UUID(int=number)):
        try:
            key.validate(candidate)
        except (ValidationError, TypeError, ValueError):
            continue
        return key.to_mongo(candidate)
    raise TypeError(
        f"{model.__name__}: no _id can be invented for a {type(key).__name__}; give the document "
        "one"
    )
