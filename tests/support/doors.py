"""Old people, the rules that renew them, and the doors of a queryset: one law, many ways in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mongoengine
from mongoengine import BooleanField, Document, StringField

from lazymig import DocumentMigration, LazyMigrationMixin
from tests.support.handlers import ADD_ENABLED, handler, rule

NAMES = ("Ada", "Bob", "Cy")


def convert_legacy(self: Any) -> None:
    """A rule that only a failed load starts: its target needs the document."""
    if "legacy" in self.doc:
        self.target = {"legacy": {"$exists": True}}
        self.update = {"$set": {"enabled": self.doc["legacy"]}, "$unset": {"legacy": ""}}


def _enable_the_valid_way(self: Any) -> None:
    if "enabled" not in self.doc:
        self.target = {"enabled": {"$exists": False}}
        self.update = {"$set": {"enabled": True}}


def delete_while_migrating(collection: Any) -> Callable[[Any], None]:
    """A rule during which somebody else deletes the document."""

    def method(self: Any) -> None:
        self.target = {"enabled": {"$exists": False}}
        collection.delete_one({"_id": self.doc["_id"]})
        self.update = {"$set": {"enabled": True, "name": self.doc["name"]}}

    return method


@dataclass(frozen=True)
class Case:
    """One reason for which a load starts a migration.

    `old` is what an old document holds beside `_id` and `name`; afterwards all hold
    `enabled: true` instead.
    """

    reason: str
    body: dict[str, Any]
    old: dict[str, Any]

    def rules(self) -> type[DocumentMigration]:
        """A handler class of its own for each test."""
        return handler(**self.body)

    def raw(self, number: int) -> dict[str, Any]:
        """The old document number 1, 2 or 3."""
        return {"_id": number, "name": NAMES[number - 1], **self.old}


CASES = [
    Case("match", {"migration01__enable": rule(*ADD_ENABLED)}, {}),
    Case("load error", {"migration01__convert": convert_legacy}, {"legacy": True}),
    Case(
        "load error alone",
        {"migration01__convert": convert_legacy, "validate_on_load": False},
        {"legacy": True},
    ),
    Case("invalid", {"migration01__enable": _enable_the_valid_way}, {}),
]
MATCH, LOAD_ERROR = CASES[0], CASES[2]


def case_id(case: Case) -> str:
    """The test id of a case."""
    return case.reason


def new(number: int) -> dict[str, Any]:
    """The up-to-date document number 1, 2 or 3, in today's shape."""
    return {"_id": number, "name": NAMES[number - 1], "enabled": True}


def person_model(rules: Any = None, base: Any = Document, **meta: Any) -> Any:
    """A model `Person` in the collection `person`."""
    options = {"collection": "person", **meta}

    class Person(LazyMigrationMixin, base):
        id = mongoengine.IntField(primary_key=True)
        name = StringField()
        enabled = BooleanField(required=True)
        migration_handler = rules
        meta = options

    return Person


def old_people(database: Any, case: Case, **meta: Any) -> Any:
    """A model with the rules of the case, and its three old documents in the database."""
    database["person"].insert_many([case.raw(number) for number in (1, 2, 3)])
    return person_model(case.rules(), **meta)


def stored(collection: Any) -> list[dict[str, Any]]:
    """All raw documents of a collection, by `_id`."""
    return sorted(collection.find(), key=lambda raw: str(raw["_id"]))


def as_raw(document: Any) -> dict[str, Any]:
    """An instance as it would be stored."""
    return dict(document.to_mongo())


Door = Callable[[Any], Any]


def by_hand(queryset: Any) -> list[Any]:
    """What is left of a queryset; `for` would rewind it, and so would `list`."""
    documents = []
    while True:
        try:
            documents.append(next(queryset))
        except StopIteration:
            return documents


def _used_before(queryset: Any) -> Any:
    assert len(list(queryset)) == 3
    return queryset


# Ways to load all documents of a model.
ALL_DOORS: dict[str, Door] = {
    "iteration": lambda model: list(model.objects),
    "no_cache": lambda model: list(model.objects.no_cache()),
    "no_cache and cache": lambda model: list(model.objects.no_cache().cache()),
    "filter": lambda model: list(model.objects(name__in=NAMES)),
    "order_by": lambda model: list(model.objects.order_by("name")),
    "batch_size": lambda model: list(model.objects.batch_size(2)),
    "limit": lambda model: list(model.objects.limit(3)),
    "slice": lambda model: list(model.objects[0:3]),
    "slice of an evaluated one": lambda model: list(_used_before(model.objects)[:3]),
    "two slices": lambda model: [*model.objects[:2], *model.objects[2:]],
    "next by hand": lambda model: by_hand(model.objects),
    "clone": lambda model: list(model.objects.clone()),
    "all": lambda model: list(model.objects.all()),
    "in_bulk": lambda model: list(model.objects.in_bulk([1, 2, 3]).values()),
    "select_related": lambda model: list(model.objects.select_related()),
    "no_dereference": lambda model: list(model.objects.no_dereference()),
    "every index": lambda model: [model.objects[index] for index in range(3)],
    "get by get": lambda model: [model.objects.get(id=number) for number in (1, 2, 3)],
}


def _reloaded(model: Any) -> Any:
    return model(id=1).reload()


def _modified_itself(model: Any) -> Any:
    document = model(id=1)
    assert document.modify(name="Ada")
    return document


# Ways to load the first document of a model, and no other.
SINGLE_DOORS: dict[str, Door] = {
    "first": lambda model: model.objects.first(),
    "first after order_by": lambda model: model.objects.order_by("id").first(),
    "get": lambda model: model.objects.get(id=1),
    "get by name": lambda model: model.objects(name="Ada").get(),
    "[i]": lambda model: model.objects[0],
    "[i] of no_cache": lambda model: model.objects.no_cache()[0],
    "[i] of a slice": lambda model: model.objects[0:1][0],
    "slice": lambda model: next(model.objects[:1]),
    "with_id": lambda model: model.objects.with_id(1),
    "in_bulk": lambda model: model.objects.in_bulk([1])[1],
    "limit": lambda model: next(iter(model.objects.limit(1))),
    "reload": _reloaded,
    "modify, new image": lambda model: model.objects(id=1).modify(set__name="Ada", new=True),
    "modify, old image": lambda model: model.objects(id=1).modify(set__name="Ada"),
    "modify of a document": _modified_itself,
    "upsert_one": lambda model: model.objects(id=1).upsert_one(set__name="Ada"),
    "no_dereference": lambda model: model.objects.no_dereference().first(),
}
