"""What a read of a written path costs while it is shown: an order, and a group.

All sides read documents of one content by the same keys, with the indexes of the rules.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from mongoengine import Document, IntField, StringField
from pymongo.database import Database

from benchmarks.data import ALIAS, Raw, fill, restore, size
from benchmarks.measure import Benchmark, Comparison, Side
from lazymig import DocumentMigration, LazyMigrationMixin

__all__ = ["grouping", "ordering", "reversing"]

_FULL = 1_000_000
_PLAIN = "migrated copy"
_SHOWN = "shown"

Operation = Callable[[Any], Any]
"""What is done by a model, once."""


class GuestMigration(DocumentMigration):
    """The rule that is pending."""

    def migration01__mail_is_email(self) -> None:
        self.target = {"mail": {"$exists": True}}
        self.update = {"$rename": {"mail": "email"}}


def _guest(number: int) -> Raw:
    return {
        "_id": number,
        "name": f"Guest {number}",
        "email": f"guest{number * 7_919 % 1_000_003:07}@example.org",
        "visits": number % 1_000,
    }


def _model(name: str, *, lazy: bool) -> Any:
    bases: tuple[type, ...] = (LazyMigrationMixin, Document) if lazy else (Document,)
    body: dict[str, Any] = {
        "number": IntField(primary_key=True),
        "name": StringField(),
        "email": StringField(),
        "visits": IntField(),
        "meta": {
            "collection": name,
            "db_alias": ALIAS,
            "indexes": ["email"],
            "auto_create_index": False,
        },
    }
    if lazy:
        body["migration_handler"] = GuestMigration
    return type(Document)(f"Guest_{name.replace('-', '_')}", bases, body)


class _Guests:
    """A migrated collection, and one of which one document of so many is old."""

    def __init__(self, database: Database[Raw], name: str, scale: float, every: int) -> None:
        self.count = size(_FULL, scale)
        self._name = name
        self._every = every
        current, self._old = database[f"{name}-current"], database[f"{name}-old"]
        fill(current, map(_guest, range(self.count)))
        restore(current, self._old.name)
        for collection in (current, self._old):
            collection.create_index("email")
        self._models = {
            _PLAIN: _model(current.name, lazy=False),
            _SHOWN: _model(self._old.name, lazy=True),
        }
        GuestMigration(self._models[_SHOWN]).create_rule_indexes()

    def _age(self) -> None:
        """Let those be old again that were handed out."""
        self._old.update_many(
            {"_id": {"$mod": [self._every, 0]}, "mail": {"$exists": False}},
            [{"$set": {"mail": "$email"}}, {"$unset": ["email"]}],
        )

    def benchmark(self, operations: dict[str, Operation], times: int, limit: float) -> Benchmark:
        """Operations, each so many times, held against those on the migrated copy."""
        sides = []
        for what, operation in operations.items():
            for side, model in self._models.items():
                run = partial(_repeated, operation, model, times)
                sides.append(Side(f"{what}, {side}", run, self._age))
        rows = [
            Comparison(
                f"shown: {what}, {self.count} documents, 1 of {self._every} old",
                f"{what}, {_SHOWN}",
                f"{what}, {_PLAIN}",
                limit,
                called=_PLAIN,
            )
            for what in operations
        ]
        return Benchmark(self._name, tuple(sides), tuple(rows), self._old.estimated_document_count)


def _repeated(operation: Operation, model: Any, times: int) -> Any:
    return [operation(model) for _ in range(times)]


def ordering(database: Database[Raw], scale: float) -> Benchmark:
    """The start of an order by a renamed, indexed field."""
    operation = {"order_by a renamed, indexed field, limit 20": _first_twenty}
    return _Guests(database, "shown-order", scale, 100).benchmark(operation, 10, 3)


def reversing(database: Database[Raw], scale: float) -> Benchmark:
    """The same, descending: documents that lack the field come last."""
    operation = {"order_by a renamed, indexed field, descending, limit 20": _last_twenty}
    return _Guests(database, "shown-reverse", scale, 100).benchmark(operation, 10, 3)


def _first_twenty(model: Any) -> Any:
    return [guest.number for guest in model.objects.order_by("email").limit(20)]


def _last_twenty(model: Any) -> Any:
    return [guest.number for guest in model.objects.order_by("-email").limit(20)]


def grouping(database: Database[Raw], scale: float) -> Benchmark:
    """A group by a renamed field of all documents, half of which are old."""
    return _Guests(database, "shown-group", scale, 2).benchmark(
        {"$group by a renamed field": _hosts}, 1, 2.5
    )


def _hosts(model: Any) -> Any:
    key = {"$substrBytes": ["$email", 5, 2]}
    stages = [{"$group": {"_id": key, "found": {"$sum": 1}}}, {"$sort": {"_id": 1}}]
    return [(one["_id"], one["found"]) for one in model.objects.aggregate(stages)]
