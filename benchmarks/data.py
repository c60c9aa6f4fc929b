"""Documents, inserted raw; and the models and rules over them, built by functions."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from bson import ObjectId
from mongoengine import (
    BooleanField,
    DateTimeField,
    Document,
    EmbeddedDocument,
    EmbeddedDocumentField,
    FloatField,
    IntField,
    ListField,
    StringField,
)
from pymongo.collection import Collection

from lazymig import DocumentMigration, LazyMigrationMixin

__all__ = [
    "ALIAS",
    "OLD_SHAPE",
    "PENDING",
    "RuleData",
    "contents",
    "fill",
    "handler",
    "lazy_model",
    "person",
    "plain_model",
    "restore",
    "size",
]

Raw = dict[str, Any]

# The name under which MongoEngine knows the connection of the benchmarks.
ALIAS = "lazymig_benchmarks"

_BEGINNING = datetime(2020, 1, 1)
_NARROW = 10
_numbers = itertools.count(1)


class RuleData(NamedTuple):
    """A rule as data: the query for the old shape, and the update."""

    target: Raw
    update: Raw


# Rules as they are usual. The first five all match a document in OLD_SHAPE, none an up-to-date one.
PENDING: tuple[RuleData, ...] = (
    RuleData({"enabled": {"$exists": False}}, {"$set": {"enabled": True}}),
    RuleData({"nickname": {"$exists": True}}, {"$unset": {"nickname": ""}}),
    RuleData({"status": "new"}, {"$set": {"status": "fresh"}}),
    RuleData({"visits": {"$type": "string"}}, {"$set": {"visits": 0}}),
    RuleData({"address.zip": {"$exists": False}}, {"$set": {"address.zip": ""}}),
    RuleData({"score": {"$exists": False}}, {"$set": {"score": 0.0}}),
    RuleData({"fullname": {"$exists": True}}, {"$rename": {"fullname": "name"}}),
    RuleData({"status": "gone"}, {"$set": {"status": "closed"}}),
    RuleData({"created": {"$type": "string"}}, {"$set": {"created": _BEGINNING}}),
    RuleData({"address.country": {"$exists": True}}, {"$unset": {"address.country": ""}}),
    RuleData({"tags": {"$exists": False}}, {"$set": {"tags": []}}),
    RuleData({"tags": {"$type": "object"}}, {"$set": {"tags": []}}),
    RuleData({"age": -1}, {"$set": {"age": 0}}),
    RuleData({"email": None}, {"$set": {"email": ""}}),
    RuleData({"address.city": "Bombay"}, {"$set": {"address.city": "Mumbai"}}),
    RuleData({"fax": {"$exists": True}}, {"$unset": {"fax": ""}}),
    RuleData({"status": {"$in": ["void", "null"]}}, {"$set": {"status": "closed"}}),
    RuleData({"address": {"$exists": False}}, {"$set": {"address": {}}}),
    RuleData({"name": {"$type": "int"}}, {"$set": {"name": ""}}),
    RuleData({"address.street": {"$type": "array"}}, {"$set": {"address.street": ""}}),
)

# What makes of an up-to-date document one that the first five rules match.
OLD_SHAPE: Raw = {
    "$set": {"nickname": "Jo", "status": "new", "visits": "7"},
    "$unset": {"enabled": "", "address.zip": ""},
}


class Address(EmbeddedDocument):
    street = StringField()
    city = StringField()
    zip = StringField()


def _fields(width: int) -> dict[str, Any]:
    """A model's fields besides `id`: ten, and scalars by turns up to `width`."""
    fields: dict[str, Any] = {
        "name": StringField(required=True),
        "email": StringField(),
        "age": IntField(),
        "score": FloatField(),
        "enabled": BooleanField(),
        "created": DateTimeField(),
        "tags": ListField(StringField()),
        "address": EmbeddedDocumentField(Address),
        "visits": IntField(),
        "status": StringField(),
    }
    kinds = itertools.cycle((StringField, IntField, FloatField, BooleanField, DateTimeField))
    for number, kind in zip(range(_NARROW, width), kinds, strict=False):
        fields[f"more{number}"] = kind()
    return fields


def person(number: int, width: int = _NARROW) -> Raw:
    """The up-to-date document with this number, of `width` fields besides `_id`."""
    day = _BEGINNING + timedelta(hours=number)
    document: Raw = {
        "_id": ObjectId(f"{number:024x}"),
        "name": f"Person {number}",
        "email": f"person{number}@example.org",
        "age": number % 90,
        "score": number / 7,
        "enabled": number % 3 == 0,
        "created": day,
        "tags": ["red", "green", "blue"][: number % 4],
        "address": {"street": f"{number} Long Lane", "city": "Kleve", "zip": f"{number % 99999}"},
        "visits": number * 3,
        "status": "open",
    }
    values = itertools.cycle((f"text {number}", number, number / 3, number % 2 == 0, day))
    for extra, value in zip(range(_NARROW, width), values, strict=False):
        document[f"more{extra}"] = value
    return document


def fill(collection: Collection[Raw], documents: Iterable[Raw]) -> None:
    """Insert raw documents into a fresh collection."""
    collection.drop()
    collection.insert_many(documents)


def restore(template: Collection[Raw], name: str) -> None:
    """Make of the collection `name` a fresh copy of a template."""
    template.aggregate([{"$out": name}])


def handler(rules: Sequence[RuleData], *, prefix: str = "migration") -> type[DocumentMigration]:
    """A handler with these static rules, lazy ones or, by their prefix, bulk ones."""
    body = {f"{prefix}{number:02}__rule": _method(rule) for number, rule in enumerate(rules, 1)}
    return type(f"Migration{next(_numbers)}", (DocumentMigration,), body)


def _method(rule: RuleData) -> Any:
    def method(self: Any) -> None:
        self.target = rule.target
        self.update = rule.update

    return method


def plain_model(collection: Collection[Raw], width: int = _NARROW) -> Any:
    """A plain MongoEngine model of a collection."""
    return _model((Document,), collection, _fields(width))


def lazy_model(
    collection: Collection[Raw],
    handler_class: type[DocumentMigration],
    width: int = _NARROW,
    more: Mapping[str, Any] | None = None,
) -> Any:
    """The same model with the mixin and a handler."""
    body = {**_fields(width), **(more or {}), "migration_handler": handler_class}
    return _model((LazyMigrationMixin, Document), collection, body)


def _model(bases: tuple[type, ...], collection: Collection[Raw], body: dict[str, Any]) -> Any:
    meta = {"collection": collection.name, "db_alias": ALIAS, "auto_create_index": False}
    return type(f"Person{next(_numbers)}", bases, {**body, "meta": meta})


def size(full: int, scale: float) -> int:
    """How many documents a scale leaves of the full number."""
    return max(1, round(full * scale))


def contents(collection: Collection[Raw]) -> list[Raw]:
    """All documents of a collection, by `_id`."""
    return list(collection.find().sort("_id", 1))
